// Frequency tables of tokens.
#include "depthlens/data/token_counts.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <numeric>
#include <string_view>
#include <utility>

#include "depthlens/data/input_text.hpp"
#include "depthlens/util/csv.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/input_file.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::data {
namespace {

constexpr std::int64_t kMaxOccurrences = std::int64_t{1} << 53;

double ratio(std::int64_t count, std::int64_t total) {
  return total > 0 ? static_cast<double>(count) / static_cast<double>(total) : 0.0;
}

double number_or(double otherwise, const std::string& text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && std::isfinite(number) ? number : otherwise;
}

/// One entry of a file: what must be there, and what may be.
struct Entry {
  std::string id;
  std::int64_t count = 0;
  std::string token = {};  ///< "": not given
  double ratio = -1;       ///< negative: not given
  std::string where;
};

/// What is left of a token's text however it is written: files have it decoded (" the"), as the vocabulary
/// spells it ("Ġthe", "▁the") or stripped. All of these agree in the visible characters of ASCII.
std::string skeleton(std::string_view text) {
  std::string kept;
  std::copy_if(text.begin(), text.end(), std::back_inserter(kept),
               [](char c) { return c > ' ' && c <= '~'; });
  return kept;
}

class CountReader {
 public:
  CountReader(std::string name, std::int64_t vocab_size, const text::Tokenizer& tokenizer)
      : name_(std::move(name)),
        tokenizer_(tokenizer),
        counts_(vocab_size, 0),
        ratios_(vocab_size, -1),
        seen_(vocab_size) {}

  void read_json(const std::string& content) {
    const util::Json document = util::parse_json(content, name_);
    const util::JsonView table(document, name_);
    if (!table.is_object()) table.fail("an object {id: {\"token\", \"count\", \"ratio\"}}");
    for (const auto& item : document.items()) {
      const util::JsonView view(item.value(), name_ + ": " + item.key());
      Entry entry{
          .id = item.key(), .count = view.at("count").as_integer(0, kMaxOccurrences), .where = view.where()};
      if (view.has("token") && view.at("token").is_string()) entry.token = view.at("token").as_string();
      if (view.has("ratio") && view.at("ratio").is_number()) entry.ratio = view.at("ratio").as_number();
      add(entry);
    }
  }

  void read_csv(const std::string& content) {
    const auto records = util::parse_csv(content, name_);
    if (records.empty()) throw util::input_error({.what = "an empty frequency table", .where = name_});
    const std::vector<std::string>& header = records.front();
    const auto column = [&](const std::string& name) {
      return static_cast<std::size_t>(std::find(header.begin(), header.end(), name) - header.begin());
    };
    const std::size_t id = column("id"), count = column("count"), token = column("token"),
                      ratio = column("ratio");
    if (std::max(id, count) == header.size()) {
      throw util::input_error({.what = "not a frequency table",
                               .where = name_,
                               .expected = util::cat("a column '", id == header.size() ? "id" : "count", "'"),
                               .found = util::in_quotes(util::join(header, ","))});
    }
    for (std::size_t r = 1; r < records.size(); ++r) {
      const auto& record = records[r];
      Entry entry{.id = {}, .where = util::cat(name_, ", record ", r + 1)};
      if (record.size() != header.size() || !util::parse_int(record[count], entry.count) || entry.count < 0 ||
          entry.count > kMaxOccurrences) {
        throw util::input_error(
            {.what = "unusable record in the frequency table",
             .where = entry.where,
             .expected = util::cat(header.size(), " fields with a count that is not negative")});
      }
      entry.id = record[id];
      if (token < header.size()) entry.token = record[token];
      if (ratio < header.size()) entry.ratio = number_or(-1, record[ratio]);
      add(entry);
    }
  }

  TokenCounts result() && {
    if (total_ == 0) throw util::input_error({.what = "the frequency table counts nothing", .where = name_});
    check_tokens();
    check_ratios();
    return TokenCounts(std::move(counts_));
  }

 private:
  void add(const Entry& entry) {
    std::int64_t id;
    if (!util::parse_int(entry.id, id) || id < 0 || id >= static_cast<std::int64_t>(counts_.size())) {
      throw util::input_error({.what = "unusable token id in the frequency table",
                               .where = entry.where,
                               .expected = util::cat("an id from 0 to ", counts_.size() - 1),
                               .found = util::in_quotes(entry.id),
                               .hint = "the table must be counted with the model's own tokenizer"});
    }
    const auto at = static_cast<std::size_t>(id);
    if (seen_[at]) {
      throw util::input_error(
          {.what = util::cat("token ", id, " twice in the frequency table"), .where = entry.where});
    }
    seen_[at] = true;
    total_ += entry.count;  // cannot wrap around: both are at most kMaxOccurrences
    if (total_ > kMaxOccurrences) {
      throw util::input_error({.what = "the frequency table counts more than depthlens can add up",
                               .where = entry.where,
                               .expected = util::cat("at most ", kMaxOccurrences, " in all")});
    }
    counts_[at] = entry.count;
    ratios_[at] = entry.ratio;
    compare_token(static_cast<text::TokenId>(id), entry);
  }

  void compare_token(text::TokenId id, const Entry& entry) {
    const std::string known = id < tokenizer_.size() ? tokenizer_.token_bytes(id) : "";
    const bool is_byte = known.size() == 1 && entry.token.rfind("<0x", 0) == 0;
    const std::string given = skeleton(entry.token), own = skeleton(known);
    if (entry.token.empty() || is_byte || (given.empty() && own.empty())) return;  // nothing to be told from
    ++compared_;
    if (given == own) return;
    if (++different_ == 1)
      difference_ =
          util::cat(util::in_quotes(entry.token), " for ", id, ", which is ", util::in_quotes(known));
  }

  /// Ids alone fit any vocabulary that is large enough.
  void check_tokens() const {
    if (different_ * 2 > compared_) {
      throw util::input_error(
          {.what = "the frequency table was counted with another tokenizer",
           .where = name_,
           .expected = "tokens of the model's vocabulary",
           .found = util::cat(different_, " of ", compared_, " that are others; first ", difference_),
           .hint = "count with the model's own: depthlens count-tokens --model …"});
    }
    if (different_ > 0) {
      util::log_warning(
          util::cat(name_, ": ", different_, " of ", compared_,
                    " tokens have another text in the model's tokenizer; ids and counts are used; "
                    "first ",
                    difference_));
    }
  }

  void check_ratios() const {
    std::int64_t given = 0, wrong = 0;
    for (std::size_t id = 0; id < counts_.size(); ++id) {
      if (ratios_[id] < 0) continue;
      ++given;
      const double share = ratio(counts_[id], total_);
      constexpr double kRounding = 1e-4;  // tables are made with few decimals too
      wrong += std::abs(ratios_[id] - share) > 0.01 * share + kRounding ? 1 : 0;
    }
    if (wrong == 0) return;
    util::log_warning(
        util::cat(name_, ": of ", given, " ratios ", wrong,
                  " are not what the counts give, as in a table that was cut; counts are used"));
  }

  std::string name_;
  const text::Tokenizer& tokenizer_;
  std::vector<std::int64_t> counts_;
  std::vector<double> ratios_;
  std::vector<bool> seen_;
  std::int64_t total_ = 0, compared_ = 0, different_ = 0;
  std::string difference_;  // the first
};

}  // namespace

TokenCounts TokenCounts::read(const std::string& path, std::int64_t vocab_size,
                              const text::Tokenizer& tokenizer) {
  const InputText file = read_input_text(path, std::uint64_t{1} << 30);
  CountReader reader(path, vocab_size, tokenizer);
  try {
    if (util::content_extension(path) == ".csv") {
      reader.read_csv(file.text);
    } else {
      reader.read_json(file.text);
    }
  } catch (const util::Error& error) {
    throw util::input_error(error.text());
  }
  TokenCounts counts = std::move(reader).result();
  counts.sha256_ = file.sha256;
  return counts;
}

void TokenCounts::add(text::TokenId id, std::int64_t count) {
  DEPTHLENS_ASSERT(id >= 0);
  if (static_cast<std::size_t>(id) >= counts_.size()) counts_.resize(static_cast<std::size_t>(id) + 1, 0);
  counts_[static_cast<std::size_t>(id)] += count;
}

std::int64_t TokenCounts::count(text::TokenId id) const {
  return id >= 0 && static_cast<std::size_t>(id) < counts_.size() ? counts_[static_cast<std::size_t>(id)] : 0;
}

std::int64_t TokenCounts::total() const {
  return std::accumulate(counts_.begin(), counts_.end(), std::int64_t{0});
}

std::int64_t TokenCounts::num_distinct() const {
  return std::count_if(counts_.begin(), counts_.end(), [](std::int64_t count) { return count > 0; });
}

std::vector<text::TokenId> TokenCounts::by_frequency() const {
  std::vector<text::TokenId> ids;
  for (std::size_t id = 0; id < counts_.size(); ++id) {
    if (counts_[id] > 0) ids.push_back(static_cast<text::TokenId>(id));
  }
  std::stable_sort(ids.begin(), ids.end(),
                   [&](text::TokenId a, text::TokenId b) { return count(a) > count(b); });
  return ids;
}

std::string TokenCounts::to_json(const text::Tokenizer& tokenizer) const {
  const std::int64_t all = total();
  std::string out = "{";
  bool first = true;
  for (const text::TokenId id : by_frequency()) {
    const util::OrderedJson entry = {
        {"token", tokenizer.token_text(id)}, {"count", count(id)}, {"ratio", ratio(count(id), all)}};
    out += util::cat(first ? "\n" : ",\n", "\"", id, "\": ", util::json_text(entry));
    first = false;
  }
  return out + "\n}\n";
}

std::string TokenCounts::to_csv(const text::Tokenizer& tokenizer) const {
  const std::int64_t all = total();
  std::string out = "id,token,count,ratio\n";
  for (const text::TokenId id : by_frequency()) {
    out += util::cat(id, ",", util::csv_field(tokenizer.token_text(id)), ",", count(id), ",",
                     util::json_text(util::Json(ratio(count(id), all))), "\n");
  }
  return out;
}

namespace {

constexpr std::size_t kMaxEdges = 200;

}  // namespace

bool are_bucket_edges(const std::vector<std::int64_t>& edges) {
  std::int64_t before = 0;
  for (const std::int64_t edge : edges) {
    if (edge <= before) return false;
    before = edge;
  }
  return edges.size() <= kMaxEdges;
}

std::vector<std::int64_t> parse_bucket_edges(const std::string& text) {
  std::vector<std::int64_t> edges;
  const auto fail = [&](const std::string& expected, const std::string& found) {
    throw util::usage_error(
        {.what = "unusable bucket edges", .where = "--buckets", .expected = expected, .found = found});
  };
  const std::vector<std::string> parts = util::split(text, ',');
  if (parts.size() > kMaxEdges)
    fail(util::cat("at most ", kMaxEdges, " edges"), std::to_string(parts.size()));
  for (const std::string& part : parts) {
    std::int64_t edge = 0;
    edges.push_back(util::parse_int(util::trimmed(part), edge) ? edge : 0);
  }
  if (!are_bucket_edges(edges)) fail("rising positive integers such as 10,100,1000", util::in_quotes(text));
  return edges;
}

TokenBuckets make_buckets(const TokenCounts& counts, const std::vector<std::int64_t>& edges,
                          std::int64_t vocab_size) {
  TokenBuckets buckets;
  std::int64_t before = 0;
  for (const std::int64_t edge : edges) {
    buckets.names.push_back(util::cat("top_", before + 1, "_", edge));
    before = edge;
  }
  buckets.names.push_back("rest");
  buckets.bucket_of.assign(static_cast<std::size_t>(vocab_size), static_cast<std::uint8_t>(edges.size()));
  buckets.corpus_counts.assign(buckets.names.size(), 0);
  std::int64_t rank = 0;
  std::size_t bucket = 0;
  for (const text::TokenId id : counts.by_frequency()) {
    ++rank;
    while (bucket < edges.size() && rank > edges[bucket]) ++bucket;
    if (id < vocab_size) buckets.bucket_of[static_cast<std::size_t>(id)] = static_cast<std::uint8_t>(bucket);
    buckets.corpus_counts[bucket] += counts.count(id);
  }
  return buckets;
}

}  // namespace depthlens::data
