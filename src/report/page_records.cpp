// Packs records for the page.
#include "depthlens/report/page_records.hpp"

#include <algorithm>
#include <cmath>

#include "depthlens/report/page.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::report {
namespace {

/// Digits: printable ASCII without the space and what JSON or HTML reads as a sign. decoded in page/data.js.
constexpr std::string_view kDigits =
    "!#$%'()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~";
constexpr std::int64_t kBase = static_cast<std::int64_t>(kDigits.size());
static_assert(kBase == 89);
constexpr std::int64_t kNone = kBase * kBase * kBase - 1;
constexpr double kPerNat = 1000;
/// A tooltip shows no more.
constexpr std::size_t kMostPredictions = 10;

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
  return safe_in_script(util::Json(text).dump());
}

}  // namespace

PageRecords::PageRecords(std::vector<std::string> lenses, std::int64_t num_layers)
    : lenses_(std::move(lenses)), num_rows_(static_cast<std::size_t>(num_layers) + 1) {}

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
  const std::string item = record.has("item") ? safe_in_script(record.at("item").raw().dump()) : "null";
  std::string opening = util::cat("{\"document\":", record.at("document").as_integer(0, INT64_MAX),
                                  ",\"window\":", record.at("window").as_integer(0, INT64_MAX),
                                  ",\"item\":", item, ",\"records\":[");
  if (!windows_.empty() && windows_.back().opening == opening) return;
  bytes_ += opening.size() + 3;
  windows_.push_back({std::move(opening), records_.size()});
}

std::string PageRecords::packed_lens(const util::JsonView& readout) {
  const util::JsonView ids = readout.at("top_ids"), texts = readout.at("top_tokens"),
                       logprobs = readout.at("top_logprobs"), final_rank = readout.at("final_rank"),
                       entropy = readout.at("entropy"), kl_final = readout.at("kl_final");
  for (const util::JsonView& rows : {ids, texts, logprobs, final_rank, entropy, kl_final}) {
    check_size(rows, num_rows_);
  }
  const bool has_target = readout.has("target_rank");
  if (has_target) check_size(readout.at("target_rank"), num_rows_);
  if (top_k_ == 0) top_k_ = std::clamp<std::size_t>(ids.at(std::size_t{0}).size(), 1, kMostPredictions);

  std::string packed;
  for (std::size_t row = 0; row < num_rows_; ++row) {
    const util::JsonView row_ids = ids.at(row), row_texts = texts.at(row), row_logprobs = logprobs.at(row);
    check_size(row_texts, row_ids.size());
    check_size(row_logprobs, row_ids.size());
    for (std::size_t k = 0; k < top_k_; ++k) {
      const std::size_t token =
          token_index(row_ids.at(k).as_integer(0, INT32_MAX), row_texts.at(k).as_string());
      append_number(packed, static_cast<std::int64_t>(token));
      append_number(packed, nats_at(row_logprobs, k, -1));
    }
    append_number(packed, rank_at(final_rank, row));
    append_number(packed, has_target ? rank_at(readout.at("target_rank"), row) : kNone);
    append_number(packed, nats_at(entropy, row, 1));
    append_number(packed, nats_at(kl_final, row, 1));
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
  for (const std::string& lens : lenses_) json += packed_lens(lenses.at(lens));
  json += "\"]";
  bytes_ += json.size() + 1;
  records_.push_back({std::move(json), token_ids_.size(), bytes_});
  full_ = bytes_ > kMostPageBytes;
}

std::size_t PageRecords::end_of_window(std::size_t window) const {
  return window + 1 < windows_.size() ? windows_[window + 1].begin : records_.size();
}

std::string PageRecords::json(std::size_t budget) const {
  const std::string names = util::cat("{\"lenses\":", safe_in_script(util::Json(lenses_).dump()),
                                      ",\"rows\":", num_rows_, ",\"predictions\":", top_k_);
  constexpr std::size_t kOtherKeys = 64;
  const std::size_t room = budget - std::min(budget, names.size() + kOtherKeys);
  const auto fits = [&](std::size_t count) { return count == 0 || records_[count - 1].bytes <= room; };
  std::size_t num_windows = 0;
  // A page that is full has seen only a part of its last window.
  const std::size_t num_whole = windows_.size() - (full_ ? 1 : 0);
  while (num_windows < num_whole && fits(end_of_window(num_windows))) ++num_windows;
  std::size_t num_records = num_windows > 0 ? end_of_window(num_windows - 1) : 0;
  if (num_windows == 0 && !windows_.empty()) {
    num_windows = 1;
    const std::size_t end = end_of_window(0);
    while (num_records < end && fits(num_records + 1)) ++num_records;
  }

  const auto list = [](const std::vector<std::string>& parts, std::size_t count) {
    return util::join({parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(count)}, ",");
  };
  const std::size_t num_tokens = num_records > 0 ? records_[num_records - 1].num_tokens : 0;
  std::string out = names + ",\"ids\":[" + list(token_ids_, num_tokens) + "],\"texts\":[" +
                    list(token_texts_, num_tokens) + "],\"windows\":[";
  for (std::size_t w = 0; w < num_windows; ++w) {
    out += (w > 0 ? "," : "") + windows_[w].opening;
    for (std::size_t r = windows_[w].begin; r < std::min(end_of_window(w), num_records); ++r) {
      out += (r > windows_[w].begin ? "," : "") + records_[r].json;
    }
    out += "]}";
  }
  return out + "]}";
}

}  // namespace depthlens::report
