// The tokenizer.model of Meta's Llama 3: one token a line, in base64, with its rank, which is its id.
#include <array>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "formats.hpp"

namespace depthlens::text {
namespace {

using util::cat;
using util::in_quotes;

/// The models of Meta that come with such a file and with Llama 3's pattern and special tokens.
constexpr std::size_t kLlama3Ranks = 128'000;
constexpr int kLlama3SpecialTokens = 256;

bool decode_base64(std::string_view text, std::string& bytes) {
  if (text.empty() || text.size() % 4 != 0) return false;
  bytes.clear();
  std::uint32_t bits = 0;
  int held = 0;
  std::size_t end = text.size();
  while (end > text.size() - 2 && text[end - 1] == '=') --end;
  for (const char c : text.substr(0, end)) {
    std::uint32_t value;
    if (c >= 'A' && c <= 'Z')
      value = static_cast<std::uint32_t>(c - 'A');
    else if (c >= 'a' && c <= 'z')
      value = static_cast<std::uint32_t>(c - 'a' + 26);
    else if (c >= '0' && c <= '9')
      value = static_cast<std::uint32_t>(c - '0' + 52);
    else if (c == '+')
      value = 62;
    else if (c == '/')
      value = 63;
    else
      return false;
    bits = bits << 6 | value;
    held += 6;
    if (held >= 8) {
      held -= 8;
      bytes += static_cast<char>(bits >> held & 0xff);
    }
  }
  return true;
}

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
    const bool there = rank < tokenizer.size();
    if (there && tokenizer.token_bytes(static_cast<TokenId>(rank)) == bytes) continue;
    return cat("token ", rank, " is ", in_quotes(bytes),
               there ? cat(", not ", in_quotes(tokenizer.token_bytes(static_cast<TokenId>(rank))))
                     : std::string(" and is not there"));
  }
  return "";
}

std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(std::string_view content, const std::string& where,
                                                   const TokenizerSettings& settings) {
  BpeModel model;
  model.ignore_merges = true;
  model.byte_ids.fill(kNoToken);
  std::string bytes;
  std::int64_t rank;
  std::size_t line_number = 0;
  for (std::string_view rest = content, line; !rest.empty();) {
    ++line_number;
    if (!next_line(rest, bytes, rank, line)) {
      throw util::format_error({.what = "a line that is not a token with its rank",
                                .where = cat(where, ", line ", line_number),
                                .expected = "base64, a space, a number",
                                .found = in_quotes(line)});
    }
    if (static_cast<std::size_t>(rank) != model.token_bytes.size()) {
      throw util::format_error({.what = "ranks out of order",
                                .where = cat(where, ", line ", line_number),
                                .expected = cat(model.token_bytes.size()),
                                .found = cat(rank)});
    }
    const auto id = static_cast<TokenId>(rank);
    if (!model.words.emplace(bytes, id).second) {
      throw util::format_error(
          {.what = "a token twice", .where = cat(where, ", line ", line_number), .found = in_quotes(bytes)});
    }
    if (bytes.size() == 1) model.byte_ids[static_cast<unsigned char>(bytes[0])] = id;
    model.token_bytes.push_back(bytes);
    if (model.token_bytes.size() > kLlama3Ranks) break;
  }
  if (model.token_bytes.size() != kLlama3Ranks) {
    throw util::format_error({.what = "a list of ranks that is not Llama 3's",
                              .where = where,
                              .expected = cat(kLlama3Ranks, " tokens"),
                              .found = model.token_bytes.size() > kLlama3Ranks
                                           ? std::string("more")
                                           : cat(model.token_bytes.size()),
                              .hint = "with a tokenizer.json in the folder, depthlens reads that one"});
  }
  // Any two tokens that make up a third may merge, at the rank of the third.
  model.merges = MergeTable(kLlama3Ranks * 3);
  for (std::size_t id = 0; id < model.token_bytes.size(); ++id) {
    const std::string& token = model.token_bytes[id];
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = model.words.find(token.substr(0, cut));
      if (left == model.words.end()) continue;
      const auto right = model.words.find(token.substr(cut));
      if (right == model.words.end()) continue;
      model.merges.set(left->second, right->second,
                       {static_cast<std::uint32_t>(id), static_cast<TokenId>(id)});
    }
  }
  AddedTokens tokens([](const std::string&) { return std::nullopt; }, static_cast<TokenId>(kLlama3Ranks));
  // Later releases gave some reserved tokens a name: tokenizer_config.json tells.
  std::vector<AddedToken> special = llama3_special_tokens();
  for (const AddedToken& token : settings.added) {
    if (token.id >= special.front().id && token.id <= special.back().id) {
      special[static_cast<std::size_t>(token.id - special.front().id)] = token;
    }
  }
  for (const AddedToken& token : special) tokens.add(token, where);
  add_tokens_of(settings, tokens);
  // Meta's own code puts BOS before every text.
  SpecialIds ids = special_ids(settings, class_of(settings, false), tokens, nullptr);
  if (!ids.bos) ids.bos = special[0].id;
  if (!ids.eos) ids.eos = special[1].id;
  ids.adds_bos = settings.add_bos.value_or(true);
  PreTokenizer pre_tokenizer;
  pre_tokenizer.add(llama3_splitter(3));
  return std::make_unique<BpeTokenizer>(std::move(model), tokens, Normalizer(), std::move(pre_tokenizer),
                                        ids);
}

}  // namespace depthlens::text
