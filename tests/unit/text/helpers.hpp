// Small tokenizers made by hand: a byte-level one over a few letters, whose parts a test can replace.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/text/tokenizer.hpp"
#include "depthlens/util/json.hpp"
#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"
#include "support/warnings.hpp"

namespace depthlens::test {

using Ids = std::vector<text::TokenId>;
using util::Json;

/// a 0, b 1, c 2, space 3, ab 4, abc 5, bc 6, " a" 7, digit 1 8, "." 9, newline 10; nothing makes 11 to 19 of
/// a text.
inline Json small_vocabulary() {
  return {{"a", 0},
          {"b", 1},
          {"c", 2},
          {"\u0120", 3},
          {"ab", 4},
          {"abc", 5},
          {"bc", 6},
          {"\u0120"
           "a",
           7},
          {"1", 8},
          {".", 9},
          {"\u010a", 10},
          {"\u0101\u0101", 11},
          {"\u0102\u0102", 12},
          {"\u0103\u0103", 13},
          {"\u0104\u0104", 14},
          {"\u0105\u0105", 15},
          {"\u0106\u0106", 16},
          {"\u0107\u0107", 17},
          {"\u0108\u0108", 18},
          {"\u0110\u0110", 19}};
}

/// A byte-level tokenizer.json: GPT-2's splitting, merges "a b", "ab c".
inline Json small_tokenizer() {
  return {{"added_tokens", Json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"post_processor", nullptr},
          {"model", {{"type", "BPE"}, {"vocab", small_vocabulary()}, {"merges", {"a b", "ab c"}}}}};
}

/// A tekken.json: four special tokens, of which three are named, all bytes, "ab" and "abc".
inline Json small_tekken() {
  constexpr const char* kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  Json vocab = Json::array();
  const auto add = [&](const std::string& base64) {
    vocab.push_back({{"rank", vocab.size()}, {"token_bytes", base64}, {"token_str", nullptr}});
  };
  for (int byte = 0; byte < 256; ++byte) add({kBase64[byte >> 2], kBase64[(byte & 3) << 4], '=', '='});
  add("YWI=");
  add("YWJj");
  return {{"config",
           {{"pattern", R"( ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+)"},
            {"default_vocab_size", 262},
            {"default_num_special_tokens", 4},
            {"version", "v11"}}},
          {"vocab", std::move(vocab)},
          {"special_tokens",
           {{{"rank", 0}, {"token_str", "<unk>"}, {"is_control", true}},
            {{"rank", 1}, {"token_str", "<s>"}, {"is_control", true}},
            {{"rank", 2}, {"token_str", "</s>"}, {"is_control", true}}}}};
}

inline Json added_token(const std::string& content, int id, const Json& more = Json::object()) {
  Json token = {{"id", id}, {"content", content}, {"special", false}, {"normalized", false}};
  token.update(more);
  return token;
}

/// Files by name, loaded as a folder.
using Files = std::map<std::string, std::string>;

inline std::unique_ptr<text::Tokenizer> load_files(const Files& files) {
  const TemporaryFolder folder;
  for (const auto& [name, content] : files) folder.write(name, content);
  return text::load_tokenizer(folder.path());
}

inline std::unique_ptr<text::Tokenizer> load(const Json& tokenizer, const Json& config = nullptr) {
  Files files = {{"tokenizer.json", tokenizer.dump()}};
  if (!config.is_null()) files["tokenizer_config.json"] = config.dump();
  return load_files(files);
}

}  // namespace depthlens::test
