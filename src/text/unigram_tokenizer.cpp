// The search for the best pieces: one pass over the code points of a word, as in `encode_optimized` of
// Hugging Face's package, with its order of sums and comparisons, so that ties end alike.
#include "unigram_tokenizer.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "json_steps.hpp"
#include "unicode.hpp"

namespace depthlens::text {
namespace {

using util::cat;
using util::in_quotes;

constexpr double kUnknownPenalty = 10;
constexpr std::size_t kMaxWord = std::size_t{1} << 27;  // 16 bytes are taken for each of it

/// A score as Hugging Face's package has it, whose reader of JSON (serde_json) rounds twice: the digits to a
/// number, and that in shifting its point. The last bit decides which of two ways, through the same pieces in
/// another order, has the larger sum.
double rounded_twice(double score) {
  std::array<char, 32> text;
  const auto end =
      std::to_chars(text.data(), text.data() + text.size(), std::abs(score), std::chars_format::scientific)
          .ptr;
  const std::string_view shortest(text.data(), static_cast<std::size_t>(end - text.data()));
  const std::size_t mark = shortest.find('e');
  std::uint64_t digits = 0;
  int exponent = 0;
  for (const char c : shortest.substr(0, mark)) {
    if (c == '.') continue;
    digits = digits * 10 + static_cast<std::uint64_t>(c - '0');
    --exponent;
  }
  int power = 0;
  const char* begin = shortest.data() + mark + 1;
  std::from_chars(*begin == '+' ? begin + 1 : begin, end, power);
  exponent += power + 1;
  double shift = 0;
  const std::string factor = cat("1e", std::abs(exponent));
  const auto read = std::from_chars(factor.data(), factor.data() + factor.size(), shift);
  if (read.ec != std::errc()) return score;  // too small or too large to matter
  const double size =
      exponent < 0 ? static_cast<double>(digits) / shift : static_cast<double>(digits) * shift;
  return std::copysign(size, score);
}

TokenBytes bytes_of(const UnigramModel& model) {
  TokenBytes bytes{.space = std::string(kSpaceMark), .vocabulary_counts = true};
  for (const std::string& piece : model.pieces) bytes.by_id.push_back(with_spaces(piece, kSpaceMark));
  for (int byte = 0; byte < 256; ++byte) {
    if (const TokenId id = model.byte_ids[static_cast<std::size_t>(byte)]; id != kNoToken)
      bytes.by_id[static_cast<std::size_t>(id)] = std::string(1, static_cast<char>(byte));
  }
  return bytes;
}

}  // namespace

UnigramModel read_unigram(const util::JsonView& model) {
  refuse_other_settings(model, {"type", "unk_id", "vocab", "byte_fallback"});
  const util::JsonView vocab = model.at("vocab");
  if (!vocab.is_array()) vocab.fail("a list of pieces and scores");
  if (vocab.size() > static_cast<std::size_t>(kMaxTokens)) vocab.fail(cat("at most ", kMaxTokens, " pieces"));
  UnigramModel read;
  read.byte_ids.fill(kNoToken);
  const bool byte_fallback = model.get_bool("byte_fallback", false);
  double least = std::numeric_limits<double>::infinity();
  // Not by JsonView: this runs over hundreds of thousands of pieces.
  for (const util::Json& item : vocab.raw()) {
    const auto id = static_cast<TokenId>(read.pieces.size());
    const bool is_piece = item.is_array() && item.size() == 2 && item[0].is_string() && item[1].is_number();
    if (!is_piece) util::JsonView(item, cat(vocab.where(), "[", id, "]")).fail("a piece and its score");
    const std::string& piece = read.pieces.emplace_back(item[0].get<std::string>());
    if (const int other = read.ids.find(piece); other != PrefixTree::kNone) {
      throw util::format_error({.what = cat("the piece ", in_quotes(piece), " twice"),
                                .where = vocab.where(),
                                .found = cat("with the ids ", other, " and ", id)});
    }
    read.ids.add(piece, id);
    const auto score = item[1].get<double>();
    read.scores.push_back(item[1].is_number_float() ? rounded_twice(score) : score);
    least = std::min(least, read.scores.back());
    if (const int byte = byte_fallback ? fallback_byte(piece) : -1; byte >= 0)
      read.byte_ids[static_cast<std::size_t>(byte)] = id;
  }
  if (model.raw().value("unk_id", util::Json()).is_null()) refuse(model, "a Unigram model without unk_id");
  read.unknown = static_cast<TokenId>(
      model.at("unk_id").as_integer(0, static_cast<std::int64_t>(read.pieces.size()) - 1));
  read.unknown_score = least - kUnknownPenalty;
  return read;
}

UnigramTokenizer::UnigramTokenizer(UnigramModel model, const AddedTokens& added, TextSteps steps,
                                   const SpecialIds& special)
    : WordTokenizer(bytes_of(model), added, std::move(steps), special), model_(std::move(model)) {}

void UnigramTokenizer::encode_words(std::span<const std::string_view> words,
                                    std::vector<TokenId>& ids) const {
  std::vector<Node> nodes;
  for (const std::string_view word : words) encode_word(word, nodes, ids);
}

void UnigramTokenizer::encode_word(std::string_view word, std::vector<Node>& nodes,
                                   std::vector<TokenId>& ids) const {
  if (word.size() > kMaxWord) {
    throw util::input_error({.what = "a text that is too long to be tokenized at once",
                             .expected = cat("at most ", util::as_bytes(kMaxWord)),
                             .found = util::as_bytes(word.size())});
  }
  nodes.assign(word.size() + 1, Node());
  const auto reach = [&](std::size_t start, std::size_t end, TokenId id, double score) {
    Node& node = nodes[end];
    const double sum = score + nodes[start].score;
    if (node.start < 0 || sum > node.score) node = {sum, static_cast<std::int32_t>(start), id};
  };
  for (std::size_t start = 0; start < word.size();) {
    const char* at = word.data() + start;
    next_code_point(at);
    const std::size_t next = static_cast<std::size_t>(at - word.data());
    bool is_known = false;
    model_.ids.for_each_prefix(word.substr(start), [&](std::size_t length, int id) {
      reach(start, start + length, id, model_.scores[static_cast<std::size_t>(id)]);
      is_known |= start + length == next;
    });
    if (!is_known) reach(start, next, model_.unknown, model_.unknown_score);
    start = next;
  }
  // Unknown text that stands together is one token, or the bytes of all.
  std::vector<TokenId> reversed;
  std::size_t unknown_end = 0;  // 0: none is pending
  const auto settle = [&](std::size_t start) {
    if (unknown_end > 0) append_unknown(word.substr(start, unknown_end - start), reversed);
    unknown_end = 0;
  };
  for (std::size_t end = word.size(); end > 0;) {
    const Node& node = nodes[end];
    if (node.id == model_.unknown) {
      if (unknown_end == 0) unknown_end = end;
    } else {
      settle(end);
      reversed.push_back(node.id);
    }
    end = static_cast<std::size_t>(node.start);
  }
  settle(0);
  ids.insert(ids.end(), reversed.rbegin(), reversed.rend());
}

void UnigramTokenizer::append_unknown(std::string_view text, std::vector<TokenId>& reversed) const {
  const auto id_of = [&](char byte) { return model_.byte_ids[static_cast<unsigned char>(byte)]; };
  if (const int id = model_.ids.find(text); id != PrefixTree::kNone) {  // the unknown token, spelled out
    reversed.push_back(id);
  } else if (std::all_of(text.begin(), text.end(), [&](char byte) { return id_of(byte) != kNoToken; })) {
    for (auto byte = text.rbegin(); byte != text.rend(); ++byte) reversed.push_back(id_of(*byte));
  } else {
    reversed.push_back(model_.unknown);
  }
}

}  // namespace depthlens::text
