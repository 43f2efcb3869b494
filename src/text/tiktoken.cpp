// Lists of ranks: one token a line, in base64, with its rank, which is its id. The tokenizer.model of Meta's
// Llama 3, and the tiktoken.model of Moonshot's Kimi and Moonlight.
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "formats.hpp"
#include "ranks.hpp"

namespace depthlens::text {
namespace {

using util::cat;
using util::in_quotes;

/// The models of Meta that come with such a file and with Llama 3's pattern and special tokens.
constexpr std::size_t kLlama3Ranks = 128'000;
constexpr int kLlama3SpecialTokens = 256;

/// What tokenizer_config.json calls Moonshot's, its pattern, and how many special tokens it has.
constexpr std::string_view kMoonshotClass = "TikTokenTokenizer";
constexpr const char* kMoonshotPattern =
    R"([\p{Han}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr int kMoonshotSpecialTokens = 256;

/// Splits off the first line of `rest`: its token and rank. False where it is not of that form.
bool next_line(std::string_view& rest, std::string& bytes, std::int64_t& rank, std::string_view& line) {
  const std::size_t end = rest.find('\n');
  line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  const std::size_t space = line.find(' ');
  return space != std::string_view::npos && decode_base64(line.substr(0, space), bytes) &&
         util::parse_int(line.substr(space + 1), rank) && rank >= 0;
}

std::vector<AddedToken> llama3_special_tokens() {
  std::vector<std::string> names = {"<|begin_of_text|>",
                                    "<|end_of_text|>",
                                    "<|reserved_special_token_0|>",
                                    "<|reserved_special_token_1|>",
                                    "<|reserved_special_token_2|>",
                                    "<|reserved_special_token_3|>",
                                    "<|start_header_id|>",
                                    "<|end_header_id|>",
                                    "<|reserved_special_token_4|>",
                                    "<|eot_id|>"};
  for (int i = 5; static_cast<int>(names.size()) < kLlama3SpecialTokens; ++i) {
    names.push_back(cat("<|reserved_special_token_", i, "|>"));
  }
  std::vector<AddedToken> tokens;
  for (auto& name : names) {
    const auto id = static_cast<TokenId>(kLlama3Ranks + tokens.size());
    tokens.push_back({.content = std::move(name), .id = id, .special = true});
  }
  return tokens;
}

}  // namespace

bool is_tiktoken(std::string_view content) {
  constexpr std::size_t kMaxFirstLine = 4096;
  std::string bytes;
  std::int64_t rank;
  std::string_view rest = content.substr(0, kMaxFirstLine), line;
  return next_line(rest, bytes, rank, line);
}

std::string tiktoken_difference(std::string_view content, const std::string& where,
                                const Tokenizer& tokenizer) {
  std::string bytes;
  std::int64_t rank;
  std::size_t line_number = 0;
  for (std::string_view rest = content, line; !rest.empty();) {
    ++line_number;
    if (!next_line(rest, bytes, rank, line))
      return cat("line ", line_number, " of ", where, " is not a token with its rank");
    if (std::string difference = token_difference(tokenizer, rank, bytes); !difference.empty())
      return difference;
  }
  return "";
}

namespace {

/// All ranks of a file, which stand in order. At most `most` are read, and one more.
Ranks read_ranks(std::string_view content, const std::string& where, std::size_t most) {
  Ranks ranks;
  std::string bytes;
  std::int64_t rank;
  std::size_t line_number = 0;
  const auto place = [&] { return cat(where, ", line ", line_number); };
  for (std::string_view rest = content, line; !rest.empty() && ranks.size() <= most;) {
    ++line_number;
    if (!next_line(rest, bytes, rank, line)) {
      throw util::format_error({.what = "a line that is not a token with its rank",
                                .where = place(),
                                .expected = "base64, a space, a number",
                                .found = in_quotes(line)});
    }
    if (static_cast<std::size_t>(rank) != ranks.size()) {
      throw util::format_error({.what = "ranks out of order",
                                .where = place(),
                                .expected = cat(ranks.size()),
                                .found = cat(rank)});
    }
    ranks.add(bytes, place);
  }
  return ranks;
}

/// Special tokens behind the ranks, of which tokenizer_config.json names some.
AddedTokens tokens_behind(std::vector<AddedToken> special, const TokenizerSettings& settings,
                          const std::string& where) {
  const TokenId first = special.front().id, last = special.back().id;
  AddedTokens tokens([](const std::string&) { return std::nullopt; }, first);
  for (const AddedToken& token : settings.added) {
    if (token.id >= first && token.id <= last) special[static_cast<std::size_t>(token.id - first)] = token;
  }
  for (const AddedToken& token : special) tokens.add(token, where);
  add_tokens_of(settings, tokens);
  return tokens;
}

}  // namespace

std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(std::string_view content, const std::string& where,
                                                   const TokenizerSettings& settings) {
  Ranks ranks = read_ranks(content, where, kLlama3Ranks);
  if (ranks.size() != kLlama3Ranks) {
    throw util::format_error({.what = "a list of ranks that is not Llama 3's",
                              .where = where,
                              .expected = cat(kLlama3Ranks, " tokens"),
                              .found = ranks.size() > kLlama3Ranks ? std::string("more") : cat(ranks.size()),
                              .hint = "with a tokenizer.json in the folder, depthlens reads that one"});
  }
  const std::vector<AddedToken> special = llama3_special_tokens();
  const AddedTokens tokens = tokens_behind(special, settings, where);
  // Meta's own code puts BOS before every text.
  SpecialIds ids = special_ids(settings, class_of(settings, false), tokens, nullptr);
  if (!ids.bos) ids.bos = special[0].id;
  if (!ids.eos) ids.eos = special[1].id;
  ids.adds_bos = settings.add_bos.value_or(true);
  PreTokenizer pre_tokenizer;
  pre_tokenizer.add(llama3_splitter(3));
  return std::make_unique<BpeTokenizer>(std::move(ranks).model(0, where), tokens,
                                        TextSteps{Normalizer(), std::move(pre_tokenizer)}, ids);
}

std::unique_ptr<Tokenizer> make_moonshot_tokenizer(std::string_view content, const std::string& where,
                                                   const TokenizerSettings& settings) {
  // The file has no pattern: it stands in the folder's Python, which is not run.
  if (settings.tokenizer_class != kMoonshotClass) {
    throw util::format_error(
        {.what = "ranks whose tokenizer depthlens does not know",
         .where = where,
         .expected = cat("tokenizer_class ", kMoonshotClass, ", Moonshot's"),
         .found = settings.tokenizer_class.empty() ? std::string("none") : settings.tokenizer_class,
         .hint = "with a tokenizer.json in the folder, depthlens reads that one"});
  }
  Ranks ranks = read_ranks(content, where, kMaxTokens);
  std::vector<AddedToken> special;
  for (int i = 0; i < kMoonshotSpecialTokens; ++i) {
    const auto id = static_cast<TokenId>(ranks.size()) + i;
    special.push_back({.content = cat("<|reserved_token_", id, "|>"), .id = id, .special = true});
  }
  const AddedTokens tokens = tokens_behind(std::move(special), settings, where);
  SpecialIds ids = special_ids(settings, generic_class(), tokens, nullptr);
  ids.adds_bos = false;  // as in Moonshot's own code
  PreTokenizer pre_tokenizer;
  pre_tokenizer.add(regex_splitter(kMoonshotPattern, SplitBehavior::kIsolated, false, where));
  return std::make_unique<BpeTokenizer>(std::move(ranks).model(0, where), tokens,
                                        TextSteps{Normalizer(), std::move(pre_tokenizer)}, ids);
}

}  // namespace depthlens::text
