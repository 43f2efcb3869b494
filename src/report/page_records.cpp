// Packs records for the page.
#include "depthlens/report/page_records.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "depthlens/report/page.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::report {
namespace {

/// Digits: printable ASCII without the space and what JSON or HTML reads as a sign. decoded in page/data.js.
constexpr std::string_view kDigits =
    "!#$%'()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~";
constexpr std::int64_t kBase = static_cast<std::int64_t>(kDigits.size());
static_assert(kBase == 89);
constexpr std::int64_t kNone = kBase * kBase * kBase - 1;
constexpr std::size_t kPredictionDigits = 6;  ///< of its token and its −log p
constexpr double kPerNat = 1000;
/// A tooltip shows no more.
constexpr std::size_t kMaxPredictions = 10;
/// What is tried, in this order, where the first window does not fit with all of them.
constexpr std::array<std::size_t, 3> kFewerPredictions = {5, 3, 1};
/// With one prediction a record is less than half as large, with its tokens.
constexpr std::size_t kLargestFirstWindow = 3;
/// Of a prompt its end is kept: examples, where it has some, come first.
constexpr std::size_t kMaxPrompt = 1200;

void append_number(std::string& out, std::int64_t number) {
  for (const std::int64_t place : {kBase * kBase, kBase, std::int64_t{1}}) {
    out += kDigits[static_cast<std::size_t>(number / place % kBase)];
  }
}

/// The number at `index` of an array of counts or ranks.
std::int64_t rank_at(const util::JsonView& ranks, std::size_t index) {
  return std::min(ranks.at(index).as_integer(0, INT64_MAX), kNone - 1);
}

/// Thousandths of a nat; null, as records have it for what is not finite, is none.
std::int64_t nats_at(const util::JsonView& values, std::size_t index, double sign) {
  const util::JsonView value = values.at(index);
  if (value.is_null()) return kNone;
  const double thousandths = std::clamp(sign * value.as_number() * kPerNat, 0.0, double(kNone - 1));
  return std::llround(thousandths);
}

void check_size(const util::JsonView& array, std::size_t size) {
  if (!array.is_array() || array.size() != size) array.fail(util::cat("an array of ", size, " values"));
}

std::string quoted(const std::string& text) {
  return safe_in_script(util::json_text(util::Json(text)));
}

/// Lists of tokens that a lens follows, in the order in which they are packed.
constexpr std::array<const char*, 2> kWatchedLists = {"options", "watched"};

std::size_t num_watched_tokens(const util::JsonView& readout) {
  std::size_t count = 0;
  for (const char* key : kWatchedLists) count += readout.has(key) ? readout.at(key).size() : 0;
  return count;
}

/// The last `most` bytes of `text`, less where a character would break, behind an ellipsis.
std::string end_of(const std::string& text, std::size_t most) {
  if (text.size() <= most) return text;
  std::size_t begin = text.size() - most;
  while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) ++begin;
  return "…" + text.substr(begin);
}

}  // namespace

PageRecords::PageRecords(std::vector<std::string> lenses, std::int64_t num_rows, std::size_t max_bytes,
                         RecordFields fields)
    : lenses_(std::move(lenses)),
      num_rows_(static_cast<std::size_t>(num_rows)),
      max_bytes_(max_bytes),
      fields_(fields) {}

std::size_t PageRecords::token_index(std::int64_t id, const std::string& text) {
  const auto [place, added] = index_of_token_.try_emplace(id, token_ids_.size());
  if (added) {
    token_ids_.push_back(std::to_string(id));
    token_texts_.push_back(quoted(text));
    bytes_ += token_ids_.back().size() + token_texts_.back().size() + 2;
  }
  return place->second;
}

std::string PageRecords::packed_token(const util::JsonView& token) {
  return std::to_string(token_index(token.at("id").as_integer(0, INT32_MAX), token.at("text").as_string()));
}

void PageRecords::open_window(const util::JsonView& record) {
  util::OrderedJson window;
  window["document"] = record.at("document").as_integer(0, INT64_MAX);
  window["window"] = record.at("window").as_integer(0, INT64_MAX);
  window["item"] = nullptr;
  if (record.has("item")) {
    const util::JsonView item = record.at("item");
    if (!item.is_string() && !item.is_number()) item.fail("a string, a number or null");
    // A text in any case: numbers beyond 2^53 would be others in a browser.
    window["item"] = item.is_string() ? item.as_string() : util::json_text(item.raw());
  }
  for (const char* key : {"input", "input_document", "window_start", "answer_length"}) {
    if (record.has(key)) window[key] = record.at(key).as_integer(0, INT64_MAX);
  }
  if (record.has("prompt")) window["prompt"] = end_of(record.at("prompt").as_string(), kMaxPrompt);
  for (const char* key : {"answer", "class"}) {
    if (record.has(key)) window[key] = record.at(key).as_string();
  }
  if (!lenses_.empty()) {
    const util::JsonView readout = record.at("lenses").at(lenses_.front());
    for (const char* key : kWatchedLists) {
      if (!readout.has(key)) continue;
      const util::JsonView list = readout.at(key);
      window[key] = util::OrderedJson::array();
      for (std::size_t w = 0; w < list.size(); ++w) window[key].push_back(list.at(w).at("text").as_string());
    }
  }
  std::string opening = safe_in_script(util::json_text(window));
  opening.replace(opening.size() - 1, 1, ",\"records\":[");
  if (!windows_.empty() && windows_.back().opening == opening) return;
  bytes_ += opening.size() + 3;
  windows_.push_back({std::move(opening), records_.size()});
}

std::string PageRecords::packed_lens(const util::JsonView& readout, std::size_t num_watched) {
  // What the records were to have must be there.
  using Rows = std::optional<util::JsonView>;
  const auto rows_of = [&](RecordField field) -> Rows {
    if (!fields_.has(field)) return std::nullopt;
    const util::JsonView rows = readout.at(kRecordFieldNames[static_cast<std::size_t>(field)]);
    check_size(rows, num_rows_);
    return rows;
  };
  const Rows ids = rows_of(RecordField::kTopIds), texts = rows_of(RecordField::kTopTokens),
             logprobs = rows_of(RecordField::kTopLogprobs), final_rank = rows_of(RecordField::kFinalRank),
             entropy = rows_of(RecordField::kEntropy), kl_final = rows_of(RecordField::kKlFinal);
  const Rows target_rank = readout.has("target_rank") ? rows_of(RecordField::kTargetRank) : std::nullopt;
  const bool has_predictions = ids && texts;
  if (top_k_ == 0 && has_predictions)
    top_k_ = std::clamp<std::size_t>(ids->at(std::size_t{0}).size(), 1, kMaxPredictions);

  // Ranks and log-probabilities; nothing where the position has no such token.
  std::vector<std::optional<std::pair<util::JsonView, util::JsonView>>> watched;
  for (const char* key : kWatchedLists) {
    for (std::size_t w = 0; readout.has(key) && w < readout.at(key).size(); ++w) {
      const util::JsonView token = readout.at(key).at(w);
      if (!token.has("rank")) {
        watched.emplace_back();
        continue;
      }
      watched.emplace_back(std::in_place, token.at("rank"), token.at("logprob"));
      check_size(watched.back()->first, num_rows_);
      check_size(watched.back()->second, num_rows_);
    }
  }
  if (watched.size() != num_watched)
    readout.fail("the options and watched tokens of the record's first lens");

  std::string packed;
  for (std::size_t row = 0; row < num_rows_; ++row) {
    if (has_predictions) {
      const util::JsonView row_ids = ids->at(row), row_texts = texts->at(row);
      const Rows row_logprobs = logprobs ? Rows(logprobs->at(row)) : std::nullopt;
      check_size(row_texts, row_ids.size());
      if (row_logprobs) check_size(*row_logprobs, row_ids.size());
      for (std::size_t k = 0; k < top_k_; ++k) {
        const std::size_t token =
            token_index(row_ids.at(k).as_integer(0, INT32_MAX), row_texts.at(k).as_string());
        append_number(packed, static_cast<std::int64_t>(token));
        append_number(packed, row_logprobs ? nats_at(*row_logprobs, k, -1) : kNone);
      }
    }
    append_number(packed, final_rank ? rank_at(*final_rank, row) : kNone);
    append_number(packed, target_rank ? rank_at(*target_rank, row) : kNone);
    append_number(packed, entropy ? nats_at(*entropy, row, 1) : kNone);
    append_number(packed, kl_final ? nats_at(*kl_final, row, 1) : kNone);
    for (const auto& token : watched) {
      append_number(packed, token ? rank_at(token->first, row) : kNone);
      append_number(packed, token ? nats_at(token->second, row, -1) : kNone);
    }
  }
  return packed;
}

void PageRecords::add(std::string_view line, const std::string& where) {
  if (full_) return;
  const util::Json document = util::parse_json(line, where);
  const util::JsonView record(document, where);
  open_window(record);
  std::string json = util::cat("[", record.at("position").as_integer(0, INT64_MAX), ",",
                               packed_token(record.at("token")), ",");
  json += record.has("target") ? packed_token(record.at("target")) : "null";
  json += "," + packed_token(record.at("final")) + ",\"";
  const util::JsonView lenses = record.at("lenses");
  if (lenses.size() != lenses_.size()) lenses.fail("the lenses that run.json names");
  const std::size_t num_watched = lenses_.empty() ? 0 : num_watched_tokens(lenses.at(lenses_.front()));
  for (const std::string& lens : lenses_) json += packed_lens(lenses.at(lens), num_watched);
  json += "\"";
  if (record.has("answer_position"))
    json += util::cat(",", record.at("answer_position").as_integer(1, INT64_MAX));
  json += "]";
  bytes_ += json.size() + 1;
  records_.push_back({std::move(json), token_ids_.size(), bytes_});
  // The first window may be larger: it can be kept with fewer predictions.
  full_ = bytes_ > (windows_.size() > 1 ? max_bytes_ : kLargestFirstWindow * max_bytes_);
}

std::string PageRecords::with_predictions(const std::string& record, std::size_t top_k) const {
  if (top_k == top_k_) return record;
  // The packed text is the only one of a record.
  const std::size_t begin = record.find('"') + 1, end = record.rfind('"');
  const std::size_t block = (end - begin) / (lenses_.size() * num_rows_);
  std::string out = record.substr(0, begin);
  for (std::size_t place = begin; place < end; place += block) {
    const std::size_t all = top_k_ * kPredictionDigits;
    out.append(record, place, top_k * kPredictionDigits).append(record, place + all, block - all);
  }
  return out.append(record, end);
}

std::size_t PageRecords::end_of_window(std::size_t window) const {
  return window + 1 < windows_.size() ? windows_[window + 1].begin : records_.size();
}

std::optional<std::string> PageRecords::json(std::size_t budget) const {
  const std::string names = util::cat("{\"lenses\":", safe_in_script(util::json_text(util::Json(lenses_))),
                                      ",\"rows\":", num_rows_);
  constexpr std::size_t kOtherKeys = 80;
  const std::size_t room = budget - std::min(budget, names.size() + kOtherKeys);
  std::size_t top_k = top_k_;
  const auto fits = [&](std::size_t count) {
    const std::size_t dropped = count * lenses_.size() * num_rows_ * (top_k_ - top_k) * kPredictionDigits;
    return count == 0 || records_[count - 1].bytes - dropped <= room;
  };
  std::size_t num_windows = 0;
  // A page that is full has seen only a part of its last window.
  const std::size_t num_whole = windows_.size() - (full_ ? 1 : 0);
  if (num_whole > 0 && !fits(end_of_window(0))) {
    for (const std::size_t fewer : kFewerPredictions) {
      if (!fits(end_of_window(0))) top_k = std::min(fewer, top_k_);
    }
    if (!fits(end_of_window(0))) top_k = top_k_;
  }
  while (num_windows < num_whole && fits(end_of_window(num_windows))) ++num_windows;
  std::size_t num_records = num_windows > 0 ? end_of_window(num_windows - 1) : 0;
  if (num_windows == 0 && !windows_.empty()) {
    num_windows = 1;
    const std::size_t end = end_of_window(0);
    while (num_records < end && fits(num_records + 1)) ++num_records;
  }
  if (num_records == 0) return std::nullopt;

  const auto list = [](const std::vector<std::string>& parts, std::size_t count) {
    return util::join({parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(count)}, ",");
  };
  const std::size_t num_tokens = records_[num_records - 1].num_tokens;
  std::string out = names + util::cat(",\"predictions\":", top_k);
  if (top_k < top_k_) out += util::cat(",\"predictions_left_out\":", top_k_ - top_k);
  out += ",\"ids\":[" + list(token_ids_, num_tokens) + "],\"texts\":[" + list(token_texts_, num_tokens) +
         "],\"windows\":[";
  for (std::size_t w = 0; w < num_windows; ++w) {
    out += (w > 0 ? "," : "") + windows_[w].opening;
    for (std::size_t r = windows_[w].begin; r < std::min(end_of_window(w), num_records); ++r) {
      out += (r > windows_[w].begin ? "," : "") + with_predictions(records_[r].json, top_k);
    }
    out += "]}";
  }
  return out + "]}";
}

}  // namespace depthlens::report
