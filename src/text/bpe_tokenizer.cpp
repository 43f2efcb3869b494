// Byte pair encoding of whole texts.
#include "bpe_tokenizer.hpp"

#include <atomic>

#include "byte_alphabet.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "unicode.hpp"

namespace depthlens::text {
namespace {

using util::cat;
using util::in_quotes;

}  // namespace

std::optional<TokenId> Vocabulary::find(std::string_view token) const {
  const auto found = ids.find(token);
  if (found == ids.end()) return std::nullopt;
  return found->second;
}

std::vector<bool> ids_taken(const Vocabulary& vocabulary) {
  std::vector<bool> taken;
  if (vocabulary.ids.size() == static_cast<std::size_t>(vocabulary.size)) return taken;
  taken.resize(static_cast<std::size_t>(vocabulary.size));
  for (const auto& [token, id] : vocabulary.ids) taken[id] = true;
  return taken;
}

Vocabulary read_vocabulary(const util::JsonView& json) {
  if (!json.is_object()) json.fail("an object of tokens and ids");
  if (json.size() > static_cast<std::size_t>(kMaxTokens)) json.fail(cat("at most ", kMaxTokens, " tokens"));
  Vocabulary vocabulary;
  vocabulary.ids.reserve(json.size());
  // Not by JsonView: this runs over hundreds of thousands of tokens.
  const auto& tokens = json.raw().get_ref<const util::Json::object_t&>();
  for (const auto& [token, id] : tokens) {
    const bool in_range =
        id.is_number_unsigned() && id.get<std::uint64_t>() < static_cast<std::uint64_t>(kMaxTokens);
    if (!in_range) {
      util::JsonView(id, cat(json.where(), ": ", in_quotes(token)))
          .fail(cat("an id from 0 to ", kMaxTokens - 1));
    }
    const auto value = static_cast<TokenId>(id.get<std::uint64_t>());
    vocabulary.ids.emplace(token, value);
    vocabulary.size = std::max(vocabulary.size, value + 1);
  }
  std::vector<const std::string*> owners(vocabulary.size, nullptr);
  for (const auto& [token, id] : tokens) {
    const std::string*& owner = owners[id.get<std::uint64_t>()];
    if (owner != nullptr) {
      throw util::format_error({.what = cat("two tokens with the id ", id.get<std::uint64_t>()),
                                .where = json.where(),
                                .found = cat(in_quotes(*owner), " and ", in_quotes(token))});
    }
    owner = &token;
  }
  return vocabulary;
}

BpeModel make_bpe_model(const Vocabulary& vocabulary, const std::vector<MergePair>& merges,
                        const BpeOptions& options, const std::string& where) {
  BpeModel model;
  model.byte_level = options.byte_level;
  model.byte_fallback = options.byte_fallback;
  model.fuse_unknown = options.fuse_unknown;
  model.ignore_merges = options.ignore_merges;
  model.space = options.space;
  model.byte_ids.fill(kNoToken);
  model.token_bytes.resize(vocabulary.size);
  for (const auto& [token, id] : vocabulary.ids) {
    if (options.byte_level) {
      auto bytes = spelled_bytes(token);
      if (bytes && bytes->size() == 1) model.byte_ids[static_cast<unsigned char>((*bytes)[0])] = id;
      if (bytes && options.ignore_merges) model.words.emplace(*bytes, id);
      model.token_bytes[id] = bytes ? std::move(*bytes) : std::string(token);
    } else {
      const char* at = token.data();
      if (!token.empty()) {
        const char32_t c = next_code_point(at);
        if (at == token.data() + token.size()) model.character_ids.set(c, id);
      }
      const int byte = options.byte_fallback ? fallback_byte(token) : -1;
      if (byte >= 0) model.byte_ids[byte] = id;
      model.token_bytes[id] =
          byte >= 0 ? std::string(1, static_cast<char>(byte)) : with_spaces(token, options.space);
      if (options.ignore_merges) model.words.emplace(token, id);
    }
  }
  model.unknown = vocabulary.find(options.unknown_token).value_or(kNoToken);
  if (!options.unknown_token.empty() && model.unknown == kNoToken && !model.knows_all_bytes()) {
    throw util::format_error(
        {.what = cat("the unk_token ", in_quotes(options.unknown_token), " is not in the vocabulary"),
         .where = where});
  }
  model.merges = MergeTable(merges.size());
  std::string merged;
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const auto& [left, right] = merges[i];
    const auto id_of = [&](std::string_view token) {
      const auto id = vocabulary.find(token);
      if (!id) {
        throw util::format_error({.what = cat("merge ", i + 1, " names a token that the vocabulary lacks"),
                                  .where = where,
                                  .found = in_quotes(token)});
      }
      return *id;
    };
    merged.assign(left);
    merged += right;
    model.merges.set(id_of(left), id_of(right), {static_cast<std::uint32_t>(i), id_of(merged)});
  }
  return model;
}

namespace {

TokenBytes bytes_of(BpeModel& model) {
  // An added token that the vocabulary has over characters, such as a run of spaces, is read as it is there.
  return {
      .by_id = std::move(model.token_bytes), .space = model.space, .vocabulary_counts = !model.byte_level};
}

}  // namespace

BpeTokenizer::BpeTokenizer(BpeModel model, const AddedTokens& added, TextSteps steps,
                           const SpecialIds& special)
    : WordTokenizer(bytes_of(model), added, std::move(steps), special), model_(std::move(model)) {
  static std::atomic<std::uint64_t> next_owner{1};
  cache_owner_ = next_owner++;
}

void BpeTokenizer::encode_words(std::span<const std::string_view> words, std::vector<TokenId>& ids) const {
  WordCache& cache = WordCache::of_this_thread(cache_owner_);
  std::vector<TokenId> symbols;
  for (const std::string_view word : words) encode_word(word, cache, symbols, ids);
}

void BpeTokenizer::encode_word(std::string_view word, WordCache& cache, std::vector<TokenId>& symbols,
                               std::vector<TokenId>& ids) const {
  if (word.empty()) return;
  const bool cached = word.size() <= WordCache::kMaxWord;
  const std::uint64_t hash = cached ? WordCache::hash(word) : 0;
  if (cached && cache.append(word, hash, ids)) return;
  symbols.clear();
  const auto whole = model_.ignore_merges ? model_.words.find(std::string(word)) : model_.words.end();
  if (whole != model_.words.end()) {
    symbols.push_back(whole->second);
  } else {
    to_symbols(word, symbols);
    merge_symbols(model_.merges, symbols);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.end());
  if (cached) cache.insert(word, hash, symbols.data(), symbols.size());
}

void BpeTokenizer::to_symbols(std::string_view word, std::vector<TokenId>& symbols) const {
  if (model_.byte_level) {
    for (const char c : word) {
      const TokenId id = model_.byte_ids[static_cast<unsigned char>(c)];
      if (id != kNoToken) {
        symbols.push_back(id);
      } else if (model_.unknown != kNoToken &&
                 !(model_.fuse_unknown && !symbols.empty() && symbols.back() == model_.unknown)) {
        symbols.push_back(model_.unknown);
      }
    }
    return;
  }
  const char* const end = word.data() + word.size();
  bool unknown_pending = false;  // set down with the next known code point, behind bytes that come between
  for (const char* at = word.data(); at < end;) {
    const char* const start = at;
    const char32_t c = next_code_point(at);
    if (const TokenId* id = model_.character_ids.find(c)) {
      if (unknown_pending) symbols.push_back(model_.unknown);
      unknown_pending = false;
      symbols.push_back(*id);
      continue;
    }
    if (model_.byte_fallback) {
      bool all_known = true;
      for (const char* b = start; b < at; ++b)
        all_known &= model_.byte_ids[static_cast<unsigned char>(*b)] != kNoToken;
      if (all_known) {
        for (const char* b = start; b < at; ++b)
          symbols.push_back(model_.byte_ids[static_cast<unsigned char>(*b)]);
        continue;
      }
    }
    if (model_.unknown == kNoToken) continue;
    if (unknown_pending && !model_.fuse_unknown) symbols.push_back(model_.unknown);
    unknown_pending = true;
  }
  if (unknown_pending) symbols.push_back(model_.unknown);
}

}  // namespace depthlens::text
