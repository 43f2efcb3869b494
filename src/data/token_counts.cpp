// Frequency tables of tokens.
#include "depthlens/data/token_counts.hpp"

#include <algorithm>
#include <numeric>

#include "depthlens/util/csv.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::data {
namespace {

constexpr std::int64_t kMostOccurrences = std::int64_t{1} << 53;

class Reader {
 public:
  Reader(const std::filesystem::path& path, std::int64_t vocab_size)
      : path_(path), counts_(vocab_size, 0), seen_(vocab_size) {}

  void add(const std::string& id_text, std::int64_t count, const std::string& where) {
    std::int64_t id;
    if (!util::parse_int(id_text, id) || id < 0 || id >= static_cast<std::int64_t>(counts_.size())) {
      throw util::input_error({.what = "unusable token id in the frequency table",
                               .where = where,
                               .expected = util::cat("an id from 0 to ", counts_.size() - 1),
                               .found = util::in_quotes(id_text),
                               .hint = "the table must be counted with the model's own tokenizer"});
    }
    if (seen_[static_cast<std::size_t>(id)]) {
      throw util::input_error(
          {.what = util::cat("token ", id, " twice in the frequency table"), .where = where});
    }
    seen_[static_cast<std::size_t>(id)] = true;
    total_ += count;  // cannot wrap around: both are at most kMostOccurrences
    if (total_ > kMostOccurrences) {
      throw util::input_error({.what = "the frequency table counts more than depthlens can add up",
                               .where = where,
                               .expected = util::cat("at most ", kMostOccurrences, " in all")});
    }
    counts_[static_cast<std::size_t>(id)] = count;
  }

  void read_json(const std::string& content) {
    const util::Json document = util::parse_json(content, path_.string());
    const util::JsonView table(document, path_.string());
    if (!table.is_object()) table.fail("an object {id: {\"token\", \"count\", \"ratio\"}}");
    for (const auto& item : document.items()) {
      const util::JsonView entry(item.value(), path_.string() + ": " + item.key());
      add(item.key(), entry.at("count").as_integer(0, kMostOccurrences), entry.where());
    }
  }

  void read_csv(const std::string& content) {
    const auto records = util::parse_csv(content, path_.string());
    const auto column = [&](const std::string& name) {
      const auto& header = records.front();
      const auto found = std::find(header.begin(), header.end(), name);
      if (found == header.end()) {
        throw util::input_error({.what = "not a frequency table",
                                 .where = path_.string(),
                                 .expected = "a column '" + name + "'"});
      }
      return static_cast<std::size_t>(found - header.begin());
    };
    if (records.empty())
      throw util::input_error({.what = "an empty frequency table", .where = path_.string()});
    const std::size_t id_column = column("id"), count_column = column("count");
    for (std::size_t r = 1; r < records.size(); ++r) {
      const auto& record = records[r];
      const std::string where = util::cat(path_.string(), ", record ", r + 1);
      std::int64_t count = -1;
      if (record.size() != records.front().size() || !util::parse_int(record[count_column], count) ||
          count < 0 || count > kMostOccurrences) {
        throw util::input_error(
            {.what = "unusable record in the frequency table",
             .where = where,
             .expected = util::cat(records.front().size(), " fields with a count that is not negative")});
      }
      add(record[id_column], count, where);
    }
  }

  TokenCounts result() && { return TokenCounts(std::move(counts_)); }

 private:
  std::filesystem::path path_;
  std::vector<std::int64_t> counts_;
  std::vector<bool> seen_;
  std::int64_t total_ = 0;
};

double ratio(std::int64_t count, std::int64_t total) {
  return total > 0 ? static_cast<double>(count) / static_cast<double>(total) : 0.0;
}

}  // namespace

TokenCounts TokenCounts::read(const std::filesystem::path& path, std::int64_t vocab_size) {
  const std::string content = util::read_file(path, std::uint64_t{1} << 30);
  Reader reader(path, vocab_size);
  try {
    if (path.extension() == ".csv") {
      reader.read_csv(content);
    } else {
      reader.read_json(content);
    }
  } catch (const util::Error& error) {
    throw util::input_error(error.text());
  }
  TokenCounts counts = std::move(reader).result();
  if (counts.total() == 0)
    throw util::input_error({.what = "the frequency table counts nothing", .where = path.string()});
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
    out += util::cat(first ? "\n" : ",\n", "\"", id, "\": ", entry.dump());
    first = false;
  }
  return out + "\n}\n";
}

std::string TokenCounts::to_csv(const text::Tokenizer& tokenizer) const {
  const std::int64_t all = total();
  std::string out = "id,token,count,ratio\n";
  for (const text::TokenId id : by_frequency()) {
    out += util::cat(id, ",", util::csv_field(tokenizer.token_text(id)), ",", count(id), ",",
                     util::Json(ratio(count(id), all)).dump(), "\n");
  }
  return out;
}

std::vector<std::int64_t> parse_bucket_edges(const std::string& text) {
  std::vector<std::int64_t> edges;
  for (const std::string& part : util::split(text, ',')) {
    std::int64_t edge = 0;
    if (!util::parse_int(util::trimmed(part), edge) || edge <= (edges.empty() ? 0 : edges.back()) ||
        edges.size() >= 200) {
      throw util::usage_error({.what = "unusable bucket edges",
                               .where = "--buckets",
                               .expected = "rising positive integers such as 10,100,1000",
                               .found = util::in_quotes(text)});
    }
    edges.push_back(edge);
  }
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
