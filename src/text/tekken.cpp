// Mistral's tekken.json: a pattern, special tokens that have the first ids, and ranks in base64 behind them.
#include <algorithm>
#include <array>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "formats.hpp"
#include "ranks.hpp"

namespace depthlens::text {
namespace {

using util::cat;
using util::in_quotes;
using util::JsonView;

/// Of files of 2024, which do not list them; the library of Mistral has the list.
constexpr std::array<std::string_view, 20> kFirstSpecialTokens = {"<unk>",
                                                                  "<s>",
                                                                  "</s>",
                                                                  "[INST]",
                                                                  "[/INST]",
                                                                  "[AVAILABLE_TOOLS]",
                                                                  "[/AVAILABLE_TOOLS]",
                                                                  "[TOOL_RESULTS]",
                                                                  "[/TOOL_RESULTS]",
                                                                  "[TOOL_CALLS]",
                                                                  "[IMG]",
                                                                  "<pad>",
                                                                  "[IMG_BREAK]",
                                                                  "[IMG_END]",
                                                                  "[PREFIX]",
                                                                  "[MIDDLE]",
                                                                  "[SUFFIX]",
                                                                  "[SYSTEM_PROMPT]",
                                                                  "[/SYSTEM_PROMPT]",
                                                                  "[TOOL_CONTENT]"};
constexpr std::array<std::string_view, 2> kVersionsWithoutList = {"v3", "v7"};

/// The vocabulary of a file as it counts: what is listed beyond `num_tokens` does not.
struct Layout {
  std::int64_t num_special, num_tokens;
};

Layout layout_of(const JsonView& root) {
  const JsonView config = root.at("config");
  const std::int64_t num_special = config.at("default_num_special_tokens").as_integer(1, kMaxTokens),
                     size = config.at("default_vocab_size").as_integer(num_special + 1, kMaxTokens);
  return {num_special, size - num_special};
}

std::vector<std::string> special_tokens(const JsonView& root, std::int64_t count) {
  std::vector<std::string> names;
  if (root.has("special_tokens")) {
    const JsonView list = root.at("special_tokens");
    if (!list.is_array() || static_cast<std::int64_t>(list.size()) > count)
      list.fail(cat("a list of at most ", count, " tokens"));
    names.resize(list.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
      const JsonView token = list.at(i);
      const std::int64_t rank = token.at("rank").as_integer(0, static_cast<std::int64_t>(names.size()) - 1);
      std::string& name = names[static_cast<std::size_t>(rank)];
      if (!name.empty()) token.fail("ranks that stand there once");
      name = token.at("token_str").as_string();
      if (name.empty()) token.fail("a special token that is not empty");
    }
  } else {
    const JsonView version = root.at("config").at("version");
    if (std::count(kVersionsWithoutList.begin(), kVersionsWithoutList.end(), version.as_string()) == 0)
      root.fail("the key 'special_tokens', which versions after v7 have");
    names.assign(kFirstSpecialTokens.begin(), kFirstSpecialTokens.end());
    if (static_cast<std::int64_t>(names.size()) > count)
      root.at("config").fail(cat("at least ", names.size(), " special tokens"));
  }
  for (auto i = static_cast<std::int64_t>(names.size()); i < count; ++i)
    names.push_back(cat("<SPECIAL_", i, ">"));
  return names;
}

/// The bytes of the token of a rank.
std::string token_of(const JsonView& vocab, std::int64_t rank) {
  const JsonView token = vocab.at(static_cast<std::size_t>(rank));
  token.at("rank").as_integer(rank, rank);
  std::string bytes;
  if (!decode_base64(token.at("token_bytes").as_string(), bytes)) token.at("token_bytes").fail("base64");
  return bytes;
}

}  // namespace

std::unique_ptr<Tokenizer> make_tekken_tokenizer(const JsonView& root, const TokenizerSettings& settings) {
  const Layout layout = layout_of(root);
  const JsonView vocab = root.at("vocab");
  if (!vocab.is_array() || static_cast<std::int64_t>(vocab.size()) < layout.num_tokens)
    vocab.fail(cat("a list of at least ", layout.num_tokens, " tokens"));
  Ranks ranks;
  for (std::int64_t rank = 0; rank < layout.num_tokens; ++rank)
    ranks.add(token_of(vocab, rank), [&] { return cat(vocab.where(), ", rank ", rank); });
  const auto first = static_cast<TokenId>(layout.num_special);
  AddedTokens tokens([](const std::string&) { return std::nullopt; }, 0);
  for (const std::string& name : special_tokens(root, layout.num_special)) {
    if (tokens.id_of(name)) {
      throw util::format_error(
          {.what = "a special token twice", .where = root.where(), .found = in_quotes(name)});
    }
    tokens.add({.content = name, .special = true}, root.where());
  }
  // As Mistral reads them: what a text says is text.
  tokens.leave_special_as_text();
  for (const AddedToken& token : settings.added) {
    if (tokens.id_of(token.content) == token.id) continue;
    util::log_warning(cat(settings.where, ": the added token ", in_quotes(token.content), " is not in ",
                          root.where(), " and is ignored, as by mistral-common"));
    break;
  }
  const SpecialIds ids = {.bos = tokens.id_of("<s>"), .eos = tokens.id_of("</s>"), .adds_bos = true};
  const JsonView pattern = root.at("config").at("pattern");
  PreTokenizer pre_tokenizer;
  pre_tokenizer.add(
      regex_splitter(pattern.as_string(), SplitBehavior::kIsolated, /*invert=*/false, pattern.where()));
  return std::make_unique<BpeTokenizer>(std::move(ranks).model(first, vocab.where()), tokens,
                                        TextSteps{Normalizer(), std::move(pre_tokenizer)}, ids);
}

std::string tekken_difference(const JsonView& root, const Tokenizer& tokenizer) {
  const Layout layout = layout_of(root);
  const JsonView vocab = root.at("vocab");
  const std::vector<std::string> special = special_tokens(root, layout.num_special);
  for (std::int64_t id = 0; id < layout.num_special + layout.num_tokens; ++id) {
    const std::string bytes = id < layout.num_special ? special[static_cast<std::size_t>(id)]
                                                      : token_of(vocab, id - layout.num_special);
    if (std::string difference = token_difference(tokenizer, id, bytes); !difference.empty())
      return difference;
  }
  return "";
}

}  // namespace depthlens::text
