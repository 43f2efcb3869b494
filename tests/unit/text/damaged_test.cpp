// Damaged and unsupported tokenizer files: each is an error with status 4 that names file and place.
#include <functional>
#include <random>

#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;
using util::ErrorCode;

namespace {

/// Loads the small tokenizer.json after `change`, and expects a format error with `parts`.
template <typename Change>
void check_refused(const std::vector<std::string>& parts, Change change) {
  Json tokenizer = small_tokenizer();
  change(tokenizer);
  std::vector<std::string> all = parts;
  all.push_back("tokenizer.json");
  check_error(ErrorCode::kFormat, all, [&] { load(tokenizer); });
}

void check_files_refused(const Files& files, const std::vector<std::string>& parts) {
  check_error(ErrorCode::kFormat, parts, [&] { load_files(files); });
}

const std::string kVocab = R"({"a": 0, "b": 1, "ab": 2})";

}  // namespace

TEST_CASE("damaged: a folder without a tokenizer is an input error that tells what was looked for") {
  check_error(ErrorCode::kInput,
              {"no tokenizer",
               "tokenizer.json, tekken.json, tokenizer.model, tiktoken.model, or "
               "vocab.json with merges.txt"},
              [] {
                load_files(Files{{"config.json", "{}"}});
              });
  check_error(ErrorCode::kInput, {"no tokenizer"}, [] { load_files(Files{{"vocab.json", kVocab}}); });
}

TEST_CASE("damaged: tokenizer.json cut or not JSON") {
  const std::string whole = small_tokenizer().dump();
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, whole.size() / 2, whole.size() - 1})
    check_files_refused({{"tokenizer.json", whole.substr(0, size)}}, {"not valid JSON", "tokenizer.json"});
  check_files_refused({{"tokenizer.json", "[]"}}, {"tokenizer.json", "the key 'model'"});
  check_files_refused({{"tokenizer.json", "{}"}}, {"missing key 'model'"});
}

TEST_CASE("damaged: the vocabulary") {
  check_refused({"model: vocab", "an object of tokens and ids"},
                [](Json& t) { t["model"]["vocab"] = Json::array(); });
  check_refused({"missing key 'vocab'"}, [](Json& t) { t["model"].erase("vocab"); });
  check_refused({"two tokens with the id 1", "model: vocab"}, [](Json& t) { t["model"]["vocab"]["zz"] = 1; });
  for (const Json& id : std::vector<Json>{-1, 1 << 22, 1.5, "7", nullptr, 1e30}) {
    INFO(id.dump());
    check_refused({"model: vocab: 'zz'", "an id from 0 to 4194303"},
                  [&](Json& t) { t["model"]["vocab"]["zz"] = id; });
  }
}

TEST_CASE("damaged: the merges") {
  check_refused({"missing key 'merges'"}, [](Json& t) { t["model"].erase("merges"); });
  check_refused({"model: merges", "a list of merges"},
                [](Json& t) { t["model"]["merges"] = Json::object(); });
  check_refused({"merge 2 names a token that the vocabulary lacks", "found 'z'"}, [](Json& t) {
    t["model"]["vocab"]["az"] = 20;
    t["model"]["merges"] = {"a b", "a z"};
  });
  check_refused({"merge 1 names", "found 'ca'"}, [](Json& t) { t["model"]["merges"] = {"c a"}; });
  for (const Json& merge :
       std::vector<Json>{"ab", "a b c", "", 5, {"a"}, {"a", "b", "c"}, {"a", 1}, nullptr}) {
    INFO(merge.dump());
    check_refused({"model: merges[1]", "two tokens"}, [&](Json& t) {
      t["model"]["merges"] = {"a b", merge};
    });
  }
}

TEST_CASE("unsupported: models") {
  check_refused({"the model 'WordPiece'"}, [](Json& t) { t["model"]["type"] = "WordPiece"; });
  check_refused({"Unigram with ByteLevel"}, [](Json& t) { t["model"]["type"] = "Unigram"; });
  check_refused({"dropout"}, [](Json& t) { t["model"]["dropout"] = 0.1; });
  check_refused({"continuing_subword_prefix"},
                [](Json& t) { t["model"]["continuing_subword_prefix"] = "##"; });
  check_refused({"end_of_word_suffix"}, [](Json& t) { t["model"]["end_of_word_suffix"] = "</w>"; });
  check_refused({"byte_fallback with ByteLevel"}, [](Json& t) { t["model"]["byte_fallback"] = true; });
  check_refused({"unk_token '<u>' is not in the vocabulary"},
                [](Json& t) { t["model"]["unk_token"] = "<u>"; });
  check_refused({"neither mapped from bytes nor SentencePiece"},
                [](Json& t) { t["pre_tokenizer"] = nullptr; });
}

TEST_CASE("unsupported: pre-tokenizers and normalizers") {
  const auto pre_tokenizer = [](const Json& json, const std::vector<std::string>& parts) {
    check_refused(parts, [&](Json& t) { t["pre_tokenizer"] = json; });
  };
  const Json byte_level = {{"type", "ByteLevel"}};
  pre_tokenizer({{"type", "BertPreTokenizer"}}, {"the pre-tokenizer 'BertPreTokenizer'", "pre_tokenizer"});
  pre_tokenizer(Json::object(), {"missing key 'type'", "pre_tokenizer"});
  pre_tokenizer({{"type", "Sequence"}}, {"missing key 'pretokenizers'"});
  pre_tokenizer({{"type", "Sequence"}, {"pretokenizers", {byte_level, byte_level}}},
                {"ByteLevel twice", "pretokenizers[1]"});
  pre_tokenizer({{"type", "Sequence"}, {"pretokenizers", {byte_level, {{"type", "Metaspace"}}}}},
                {"Metaspace behind ByteLevel", "pretokenizers[1]"});
  check_refused({"the added token '~~', of which the normalizer leaves nothing"}, [](Json& t) {
    t["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", "~"}}}, {"content", ""}};
    t["added_tokens"] = {added_token("~~", 20, {{"normalized", true}})};
  });
  check_refused({"Metaspace 'first' behind a normalizer Replace that changes the length", "pre_tokenizer"},
                [](Json& t) {
                  t["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", "~"}}}, {"content", ""}};
                  t["pre_tokenizer"] = {{"type", "Metaspace"}, {"prepend_scheme", "first"}};
                });
  check_refused({"Metaspace 'first' behind a normalizer Prepend", "pre_tokenizer"}, [](Json& t) {
    t["normalizer"] = {{"type", "Prepend"}, {"prepend", "x"}};
    t["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers", {{{"type", "Digits"}}, {{"type", "Metaspace"}, {"prepend_scheme", "first"}}}}};
  });
  pre_tokenizer({{"type", "Punctuation"}, {"behavior", "Sideways"}}, {"behavior", "Isolated, Removed"});
  pre_tokenizer({{"type", "Split"}, {"pattern", {{"String", "x"}}}, {"behavior", "Sideways"}},
                {"behavior", "Isolated, Removed"});
  pre_tokenizer({{"type", "Split"}, {"pattern", {{"String", ""}}}, {"behavior", "Removed"}}, {"not empty"});
  pre_tokenizer({{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Removed"}},
                {"does not compile", "pattern"});
  pre_tokenizer({{"type", "Metaspace"}, {"replacement", "_"}}, {"replacement"});
  pre_tokenizer({{"type", "Metaspace"}, {"prepend_scheme", "sometimes"}},
                {"prepend_scheme", "always, first or never"});
  const auto normalizer = [](const Json& json, const std::vector<std::string>& parts) {
    check_refused(parts, [&](Json& t) { t["normalizer"] = json; });
  };
  normalizer({{"type", "Lowercase"}}, {"the normalizer 'Lowercase'"});
  normalizer({{"type", "Replace"}, {"pattern", {{"Regex", "x+"}}}, {"content", ""}}, {"regular expression"});
  normalizer({{"type", "Replace"}, {"pattern", Json::object()}, {"content", ""}}, {"missing key 'Regex'"});
  normalizer({{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "x"}}, {"not empty"});
  normalizer({{"type", "Prepend"}}, {"missing key 'prepend'"});
}

TEST_CASE("unsupported: decoders") {
  const auto decoder = [](const Json& json, const std::vector<std::string>& parts) {
    check_refused(parts, [&](Json& t) { t["decoder"] = json; });
  };
  decoder({{"type", "WordPiece"}, {"prefix", "##"}}, {"the decoder 'WordPiece'", "decoder"});
  decoder({{"type", "Sequence"}, {"decoders", {{{"type", "ByteLevel"}}, {{"type", "CTC"}}}}},
          {"the decoder 'CTC'", "decoders[1]"});
  decoder({{"type", "Fuse"}}, {"a decoder without ByteLevel for tokens of bytes"});
  const auto of_characters = [](const Json& json, const std::vector<std::string>& parts) {
    check_refused(parts, [&](Json& t) {
      t["pre_tokenizer"] = {{"type", "Metaspace"}};
      t["decoder"] = json;
    });
  };
  of_characters({{"type", "ByteLevel"}}, {"the decoder 'ByteLevel' for tokens of characters"});
  of_characters({{"type", "Replace"}, {"pattern", {{"String", "_"}}}, {"content", " "}},
                {"a decoder 'Replace'"});
  of_characters({{"type", "Replace"}, {"pattern", {{"Regex", "x"}}}, {"content", " "}},
                {"a decoder 'Replace'"});
}

TEST_CASE("unsupported: settings that are not known, unless they are off") {
  const auto refused = [](const std::string& where, const std::function<void(Json&)>& change) {
    check_refused({"the setting 'novel'", where}, change);
  };
  refused("tokenizer.json", [](Json& t) { t["novel"] = 1; });
  refused("model", [](Json& t) { t["model"]["novel"] = true; });
  refused("pre_tokenizer", [](Json& t) { t["pre_tokenizer"]["novel"] = "x"; });
  refused("normalizer", [](Json& t) { t["normalizer"] = {{"type", "NFC"}, {"novel", 2}}; });
  refused("added_tokens", [](Json& t) {
    t["added_tokens"] = Json::array({added_token("<s>", 20, {{"novel", true}})});
  });
  check_refused({"the version '2.0'"}, [](Json& t) { t["version"] = "2.0"; });
  Json tokenizer = small_tokenizer();
  tokenizer["version"] = "1.0";
  tokenizer["model"]["novel"] = false;
  tokenizer["pre_tokenizer"]["novel"] = nullptr;
  CHECK(load(tokenizer)->encode("ab") == Ids{4});
}

TEST_CASE("damaged: vocab.json and merges.txt") {
  const auto good = load_files(Files{{"vocab.json", kVocab},
                                     {"merges.txt", "#version: 0.2\r\na b\r\n\r\n"},
                                     {"config.json", R"({"model_type": "gpt2"})"}});
  CHECK(good->encode("aab") == Ids{0, 2});
  check_files_refused({{"vocab.json", kVocab}, {"merges.txt", "#version: 0.2\na b\nab\n"}},
                      {"merges.txt, line 3", "two tokens", "found 'ab'"});
  check_files_refused({{"vocab.json", kVocab}, {"merges.txt", "a b c\n"}}, {"merges.txt, line 1"});
  check_files_refused({{"vocab.json", kVocab},
                       {"merges.txt", "a b\nb a\n"},
                       {"tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer"})"}},
                      {"merge 2", "merges.txt", "found 'ba'"});
  check_files_refused({{"vocab.json", kVocab}, {"merges.txt", "a \xff\n"}},
                      {"not valid UTF-8", "merges.txt"});
  check_files_refused({{"vocab.json", R"({"a": "0"})"}, {"merges.txt", ""}}, {"vocab.json: 'a'"});
  check_files_refused({{"vocab.json", "{"}, {"merges.txt", ""}}, {"not valid JSON", "vocab.json"});
}

TEST_CASE("damaged: tokenizer.model") {
  check_files_refused({{"tokenizer.model", "this is no model"}},
                      {"not a SentencePiece model", "tokenizer.model"});
  check_files_refused({{"tokenizer.model", ""}}, {"tokenizer.model"});
  // Base64 and ranks: Meta's format, but not its list.
  check_files_refused({{"tokenizer.model", "YQ== 0\nYg== 1\n"}},
                      {"not Llama 3's", "128000 tokens", "found 2"});
  check_files_refused({{"tokenizer.model", "YQ== 0\nYg==\n"}},
                      {"tokenizer.model, line 2", "base64, a space, a number"});
  check_files_refused({{"tokenizer.model", "YQ== 0\nYg== 2\n"}},
                      {"ranks out of order", "line 2", "expected 1, found 2"});
  check_files_refused({{"tokenizer.model", "YQ== 0\nYQ== 1\n"}}, {"a token twice", "line 2"});
}

TEST_CASE("damaged: tiktoken.model") {
  const std::string moonshot = R"({"tokenizer_class": "TikTokenTokenizer"})";
  const auto refused = [&](const std::string& ranks, const std::vector<std::string>& parts) {
    check_files_refused({{"tiktoken.model", ranks}, {"tokenizer_config.json", moonshot}}, parts);
  };
  refused("", {"a token for every byte", "tiktoken.model", "byte 0"});
  refused("AA== 0\nAQ== 1\n", {"a token for every byte", "none for byte 2"});
  refused("AA== 0\nAQ==\n", {"tiktoken.model, line 2", "base64, a space, a number"});
  refused("AA== 1\n", {"ranks out of order", "line 1", "expected 0, found 1"});
  // The pattern is another class's, which nothing tells.
  check_files_refused({{"tiktoken.model", "AA== 0\n"}},
                      {"does not know", "tiktoken.model", "TikTokenTokenizer", "found none"});
  check_files_refused(
      {{"tiktoken.model", "AA== 0\n"}, {"tokenizer_config.json", R"({"tokenizer_class": "XTokenizer"})"}},
      {"does not know", "found XTokenizer"});
}

TEST_CASE("damaged: tekken.json") {
  const auto refused = [](const std::vector<std::string>& parts, const std::function<void(Json&)>& change) {
    Json tekken = small_tekken();
    change(tekken);
    std::vector<std::string> all = parts;
    all.push_back("tekken.json");
    check_files_refused({{"tekken.json", tekken.dump()}}, all);
  };
  refused({"missing key 'config'"}, [](Json& t) { t.erase("config"); });
  refused({"missing key 'pattern'"}, [](Json& t) { t["config"].erase("pattern"); });
  refused({"pattern", "does not compile"}, [](Json& t) { t["config"]["pattern"] = "("; });
  refused({"missing key 'vocab'"}, [](Json& t) { t.erase("vocab"); });
  refused({"vocab", "a list of at least 258 tokens"}, [](Json& t) { t["vocab"].erase(257); });
  for (const Json& size : std::vector<Json>{3, 1 << 23, 1.5, "7", -1})
    refused({"default_vocab_size"}, [&](Json& t) { t["config"]["default_vocab_size"] = size; });
  refused({"vocab", "a list of at least"}, [](Json& t) { t["config"]["default_vocab_size"] = 1 << 21; });
  refused({"default_num_special_tokens"}, [](Json& t) { t["config"]["default_num_special_tokens"] = 0; });
  refused({"rank", "7"}, [](Json& t) { t["vocab"][7]["rank"] = 8; });
  refused({"token_bytes", "base64"}, [](Json& t) { t["vocab"][7]["token_bytes"] = "B"; });
  refused({"a token twice", "rank 257"}, [](Json& t) { t["vocab"][257]["token_bytes"] = "YWI="; });
  refused({"a token for every byte", "byte 97"}, [](Json& t) { t["vocab"][97]["token_bytes"] = "YWFh"; });
  refused({"special_tokens", "at most 4"}, [](Json& t) {
    for (int i = 3; i < 6; ++i)
      t["special_tokens"].push_back({{"rank", i}, {"token_str", std::to_string(i)}});
  });
  refused({"special_tokens", "rank"}, [](Json& t) { t["special_tokens"][1]["rank"] = 5; });
  refused({"ranks that stand there once"}, [](Json& t) { t["special_tokens"][1]["rank"] = 2; });
  refused({"a special token twice", "'<unk>'"},
          [](Json& t) { t["special_tokens"][1]["token_str"] = "<unk>"; });
  refused({"special_tokens", "after v7"}, [](Json& t) { t.erase("special_tokens"); });
}

TEST_CASE("damaged: a byte changed anywhere gives a tokenizer or an error, nothing else") {
  Json tokenizer = small_tokenizer();
  tokenizer["added_tokens"] = Json::array({added_token("<s>", 20, {{"lstrip", true}})});
  tokenizer["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", R"(\p{N}{1,3}|[^\s]+)"}}}, {"behavior", "Isolated"}},
        {{"type", "ByteLevel"}, {"use_regex", false}}}}};
  const std::string whole = tokenizer.dump();
  const TemporaryFolder folder;
  std::mt19937 random(4);
  int loaded = 0, refused = 0;
  for (int round = 0; round < 400; ++round) {
    std::string bytes = whole;
    bytes[random() % bytes.size()] =
        static_cast<char>(random() % 3 == 0 ? random() % 256 : "0\"{}[],:aZ\\"[random() % 11]);
    const auto path = folder.write("tokenizer.json", bytes);
    try {
      const auto found = text::load_tokenizer(folder.path());
      found->encode("abc <s> 12 ab\n.");
      ++loaded;
    } catch (const util::Error& error) {
      CHECK((error.code() == ErrorCode::kFormat || error.code() == ErrorCode::kInput));
      ++refused;
    }
    std::filesystem::remove(path);  // replacing a file would write it to disk each time
  }
  CHECK(loaded > 0);
  CHECK(refused > 0);
}
