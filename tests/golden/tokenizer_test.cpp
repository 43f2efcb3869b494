// Every tokenizer against the ids of Hugging Face and SentencePiece (tools/scripts/make_tokenizer_golden.py),
// on texts chosen to be hard; the real tokenizers where the shared data are at hand.
#include "depthlens/text/tokenizer.hpp"

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"
#include "support/warnings.hpp"

namespace depthlens {
namespace {

namespace fs = std::filesystem;
using text::TokenId;
using text::Tokenizer;
using util::Json;

fs::path golden_folder() {
  return fs::path(DEPTHLENS_TEST_DATA) / "tokenizers";
}

Json read_json(const fs::path& path) {
  return util::parse_json(util::read_file(path), path.string());
}

std::vector<std::string> read_corpus() {
  std::vector<std::string> texts;
  for (const Json& entry : read_json(golden_folder() / "corpus.json")) {
    if (entry.is_string()) {
      texts.push_back(entry);
      continue;
    }
    std::string& text = texts.emplace_back();
    for (int i = 0; i < entry.at("times").get<int>(); ++i) text += entry.at("repeat").get<std::string>();
  }
  return texts;
}

/// 64-bit FNV-1a over the ids as four bytes each, lowest first.
std::uint64_t checksum(const std::vector<TokenId>& ids) {
  std::uint64_t value = 0xcbf29ce484222325u;
  for (const TokenId id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      value = (value ^ ((static_cast<std::uint32_t>(id) >> shift) & 0xffu)) * 0x100000001b3u;
    }
  }
  return value;
}

std::string hexadecimal(std::uint64_t value) {
  std::ostringstream out;
  out << std::hex;
  out.width(16);
  out.fill('0');
  out << value;
  return out.str();
}

void check_ids(const std::vector<TokenId>& ids, const Json& expected) {
  if (expected.is_array()) {
    CHECK(ids == expected.get<std::vector<TokenId>>());
    return;
  }
  CHECK(ids.size() == expected.at("count").get<std::size_t>());
  const auto first = expected.at("first").get<std::vector<TokenId>>();
  const auto last = expected.at("last").get<std::vector<TokenId>>();
  REQUIRE(ids.size() >= first.size() + last.size());
  CHECK(std::vector<TokenId>(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(first.size())) == first);
  CHECK(std::vector<TokenId>(ids.end() - static_cast<std::ptrdiff_t>(last.size()), ids.end()) == last);
  CHECK(hexadecimal(checksum(ids)) == expected.at("fnv1a").get<std::string>());
}

std::string bytes_of(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  std::string bytes;
  for (const TokenId id : ids) bytes += tokenizer.token_bytes(id);
  return bytes;
}

void check_special(const std::optional<TokenId>& id, const Json& expected) {
  CHECK(id.has_value() == !expected.is_null());
  if (id && !expected.is_null()) CHECK(*id == expected.get<TokenId>());
}

void check_golden(const Tokenizer& tokenizer, const std::string& name, const std::string& kind) {
  INFO(name);
  const std::vector<std::string> texts = read_corpus();
  const Json golden = read_json(golden_folder() / (name + ".golden.json"));
  CHECK(tokenizer.kind() == kind);
  CHECK(tokenizer.size() == golden.at("size").get<TokenId>());
  CHECK(tokenizer.adds_bos() == golden.at("adds_bos").get<bool>());
  check_special(tokenizer.bos(), golden.at("bos"));
  check_special(tokenizer.eos(), golden.at("eos"));

  const auto changed = golden.at("changed").get<std::set<std::size_t>>();
  const Json& all_ids = golden.at("ids");
  REQUIRE(all_ids.size() == texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (all_ids[i].is_null()) continue;
    INFO("text " << i << ": "
                 << Json(texts[i].substr(0, 100)).dump(-1, ' ', true, Json::error_handler_t::replace));
    const std::vector<TokenId> ids = tokenizer.encode(texts[i]);
    check_ids(ids, all_ids[i]);
    const bool puts_space = kind == "SentencePiece" && !texts[i].empty();
    CHECK((bytes_of(tokenizer, ids) == (puts_space ? " " : "") + texts[i]) == (changed.count(i) == 0));
  }
}

/// Makes a folder of one of the small tokenizers, as tools/scripts/make_tokenizer_golden.py does.
void make_variant(const Json& variant, const test::TemporaryFolder& folder) {
  const Json tokenizer =
      read_json(golden_folder() / variant.at("from").get<std::string>() / "tokenizer.json");
  for (const std::string name : variant.at("take")) {
    if (name == "tokenizer.json") {
      folder.write(name, tokenizer.patch(variant.at("patch")).dump());
    } else if (name == "tokenizer.model") {
      const fs::path own = golden_folder() / variant.at("from").get<std::string>() / name;
      folder.write(name, util::read_file(fs::exists(own) ? own : golden_folder() / "sentencepiece" / name));
    } else if (name == "vocab.json") {
      folder.write(name, tokenizer.at("model").at("vocab").dump());
    } else {
      std::string lines;
      for (const Json& merge : tokenizer.at("model").at("merges"))
        lines += merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>() + "\n";
      folder.write(name, lines);
    }
  }
  for (const auto& [name, content] : variant.at("files").items()) folder.write(name, content.dump());
}

/// The folder of the shared tokenizers, or empty with a warning that says why.
fs::path shared_tokenizers() {
  const char* set = std::getenv("DEPTHLENS_SHARED_DATA");
  const fs::path data =
      set != nullptr ? fs::path(set) : fs::path(DEPTHLENS_SOURCE_DIR) / ".." / "shared" / "data";
  if (fs::is_directory(data / "tokenizers")) return data / "tokenizers";
  WARN("skipped: no folder " << (data / "tokenizers").string() << " (DEPTHLENS_SHARED_DATA names another)");
  return {};
}

/// Loads a tokenizer of the shared folder from a folder made as Hugging Face's are.
std::unique_ptr<Tokenizer> load_shared(const fs::path& tokenizers, const std::string& file,
                                       const std::string& name, const std::string& settings) {
  const test::TemporaryFolder folder;
  fs::create_symlink(fs::canonical(tokenizers / file), folder.path() / name);
  if (!settings.empty()) folder.write("tokenizer_config.json", settings);
  return text::load_tokenizer(folder.path());
}

std::string gpt2_settings(const std::string& tokenizer_class) {
  return R"({"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
             "add_prefix_space": false, "tokenizer_class": ")" +
         tokenizer_class + "\"}";
}

const char* const kLlama2Settings =
    R"({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
  "unk_token": "<unk>", "add_bos_token": true, "add_eos_token": false, "legacy": false})";

std::unique_ptr<Tokenizer> shared_gpt2(const fs::path& tokenizers) {
  return load_shared(tokenizers, "gpt2-hf-tokenizer.json", "tokenizer.json", gpt2_settings("GPT2Tokenizer"));
}

std::unique_ptr<Tokenizer> shared_llama2(const fs::path& tokenizers) {
  return load_shared(tokenizers, "llama2-tokenizer.model", "tokenizer.model", kLlama2Settings);
}

std::unique_ptr<Tokenizer> shared_llama3(const fs::path& tokenizers) {
  return load_shared(tokenizers, "llama3-tokenizer.model", "tokenizer.model", "");
}

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  for (std::size_t end; (end = text.find(separator, start)) != std::string::npos;
       start = end + separator.size()) {
    parts.push_back(text.substr(start, end - start));
  }
  parts.push_back(text.substr(start));
  return parts;
}

/// The texts and ids of `NAME.inp` and `NAME.out`: a line of ids for each text.
void check_published(const Tokenizer& tokenizer, const fs::path& tokenizers, const std::string& name) {
  const std::vector<std::string> texts =
      split(util::read_file(tokenizers / "golden" / (name + ".inp")), "\n__ggml_vocab_test__\n");
  const std::vector<std::string> lines =
      split(util::read_file(tokenizers / "golden" / (name + ".out")), "\n");
  constexpr std::size_t kTexts = 47;  // the last one, behind the last separator, is empty
  REQUIRE(texts.size() == kTexts);
  REQUIRE(lines.size() == kTexts);
  for (std::size_t i = 0; i < kTexts; ++i) {
    INFO(name << " text " << i << ": " << Json(texts[i]).dump(-1, ' ', true, Json::error_handler_t::replace));
    std::vector<TokenId> expected;
    std::istringstream line(lines[i]);
    for (TokenId id; line >> id;) expected.push_back(id);
    CHECK(tokenizer.encode(texts[i]) == expected);
  }
}

}  // namespace

TEST_CASE("Byte-level tokenizers give the ids of Hugging Face") {
  for (const char* name : {"gpt2", "gpt2-merges", "neox", "llama3", "qwen2"}) {
    check_golden(*text::load_tokenizer(golden_folder() / name), name, "byte-level BPE");
  }
}

TEST_CASE("Ranks alone give the ids of tiktoken and of mistral-common") {
  for (const char* name : {"tekken", "moonshot"}) {
    check_golden(*text::load_tokenizer(golden_folder() / name), name, "byte-level BPE");
  }
}

TEST_CASE("SentencePiece tokenizers give the ids of the SentencePiece library and of Hugging Face") {
  for (const char* name : {"sentencepiece", "sentencepiece-json", "metaspace-json"}) {
    check_golden(*text::load_tokenizer(golden_folder() / name), name, "SentencePiece");
  }
  check_golden(*text::load_tokenizer(fs::path(DEPTHLENS_SOURCE_DIR) / "data" / "demo"), "demo",
               "SentencePiece");
}

TEST_CASE("Unigram models in tokenizer.json alone give the ids of Hugging Face") {
  for (const char* name : {"unigram-bytes", "unigram-words"}) {
    check_golden(*text::load_tokenizer(golden_folder() / name), name, "SentencePiece");
  }
}

TEST_CASE(
    "A Unigram tokenizer.json that can be read is, also beside the tokenizer.model that it was made from") {
  Json tokenizer = read_json(golden_folder() / "unigram" / "tokenizer.json");
  tokenizer["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "always"}, {"split", true}};
  const test::TemporaryFolder alone, both;
  for (const test::TemporaryFolder* folder : {&alone, &both})
    folder->write("tokenizer.json", tokenizer.dump());
  both.write("tokenizer.model", util::read_file(golden_folder() / "unigram" / "tokenizer.model"));
  const test::Warnings warnings;
  const auto of_json = text::load_tokenizer(alone.path()), of_both = text::load_tokenizer(both.path());
  CHECK(warnings.count() == 0);
  for (const std::string& text : read_corpus()) CHECK(of_both->encode(text) == of_json->encode(text));
  // Words apart, as Metaspace has it; the library does not cut.
  CHECK(of_both->encode("a  b").size() > 2);
  tokenizer["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", ""}};
  both.write("tokenizer.json", tokenizer.dump());
  text::load_tokenizer(both.path());
  CHECK(warnings.tell({"tokenizer.model is used", "Unigram model, normalizer and pre_tokenizer"}));
}

TEST_CASE("Folders that say little, or whose files disagree, give the ids of AutoTokenizer") {
  const Json variants = read_json(golden_folder() / "variants.json");
  for (const Json& variant : variants.at("cases")) {
    const test::TemporaryFolder folder;
    make_variant(variant, folder);
    INFO(variant.at("name").get<std::string>()
         << ": " << variant.at("files").dump() << variant.at("patch").dump());
    const test::Warnings warnings;
    const auto tokenizer = text::load_tokenizer(folder.path());
    if (variant.at("told").get<bool>()) CHECK(warnings.count() > 0);
    const auto texts = variant.at("texts").get<std::vector<std::string>>();
    for (std::size_t i = 0; i < texts.size(); ++i) {
      INFO(texts[i]);
      CHECK(tokenizer->encode(texts[i]) == variant.at("ids").at(i).get<std::vector<TokenId>>());
    }
    const Json& bos = variant.at("bos");
    CHECK(tokenizer->adds_bos() == !bos.is_null());
    if (!bos.is_null()) CHECK(tokenizer->bos() == bos.get<TokenId>());
  }
}

TEST_CASE("The pipelines of families of models give the ids of AutoTokenizer") {
  const Json families = read_json(golden_folder() / "families.json");
  std::vector<std::string> texts = read_corpus();
  for (const Json& text : families.at("texts")) texts.push_back(text);
  for (const Json& family : families.at("cases")) {
    const auto name = family.at("name").get<std::string>();
    INFO(name);
    const test::TemporaryFolder folder;
    make_variant(family, folder);
    const test::Warnings warnings;
    const auto tokenizer = text::load_tokenizer(folder.path());
    CHECK(tokenizer->kind() == (family.at("from") == "bytes" ? "byte-level BPE" : "SentencePiece"));
    CHECK(tokenizer->size() == family.at("size").get<TokenId>());
    CHECK(tokenizer->adds_bos() == family.at("adds_bos").get<bool>());
    check_special(tokenizer->bos(), family.at("bos"));
    check_special(tokenizer->eos(), family.at("eos"));
    // Of each text the last four digits of the checksum.
    constexpr std::size_t kDigits = 4;
    const auto sums = family.at("sums").get<std::string>();
    REQUIRE(sums.size() == texts.size() * kDigits);
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const std::vector<TokenId> ids = tokenizer->encode(texts[i]);
      INFO("text " << i << ": "
                   << Json(texts[i].substr(0, 100)).dump(-1, ' ', true, Json::error_handler_t::replace)
                   << " is " << Json(ids).dump());
      CHECK(hexadecimal(checksum(ids)).substr(16 - kDigits) == sums.substr(i * kDigits, kDigits));
    }
  }
}

TEST_CASE(
    "A tokenizer.model beside the tokenizer.json that was converted from it is reported where they differ") {
  for (const char* name : {"sentencepiece-json", "metaspace-json"}) {
    const test::TemporaryFolder folder;
    Json tokenizer = read_json(golden_folder() / name / "tokenizer.json");
    const test::Warnings warnings;
    const auto load = [&]() {
      folder.write("tokenizer.json", tokenizer.dump());
      return text::load_tokenizer(folder.path());
    };
    folder.write("tokenizer.model", util::read_file(golden_folder() / "sentencepiece" / "tokenizer.model"));
    load();
    CHECK(warnings.count() == 0);
    tokenizer["model"]["vocab"]["\u2581mill"] = 900;
    CHECK(load()->size() == 901);
    CHECK(warnings.tell(
        {"tokenizer.json is used", "tokenizer.model beside it differs", "900 tokens, not 901"}));
    tokenizer["model"]["vocab"].erase("\u2581mill");
    std::swap(tokenizer["model"]["merges"][0], tokenizer["model"]["merges"][1]);
    tokenizer["model"]["merges"].erase(tokenizer["model"]["merges"].end() - 300,
                                       tokenizer["model"]["merges"].end());
    load();
    CHECK(warnings.tell({"tokenizer.model beside it differs", "the text '", "has the ids"}));
    CHECK(warnings.count() == 2);
  }
}

TEST_CASE("SentencePiece's space before a text that begins with one is reported") {
  const test::TemporaryFolder folder;
  folder.write("tokenizer.model", util::read_file(golden_folder() / "sentencepiece" / "tokenizer.model"));
  folder.write("tokenizer_config.json", kLlama2Settings);
  const auto tokenizer = text::load_tokenizer(folder.path());
  const test::Warnings warnings;
  tokenizer->encode("The river </s>");
  CHECK(warnings.count() == 0);
  tokenizer->encode(" The river");
  tokenizer->encode("  The river");
  CHECK(warnings.count() == 1);
  CHECK(warnings.tell({"tokenizer.model", "begin with a space", "transformers"}));
}

TEST_CASE("What transformers does with a tokenizer.model otherwise is reported") {
  const Json names = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  const auto load = [&](const char* from, const Json& config, std::string_view more = "") {
    const test::TemporaryFolder folder;
    folder.write("tokenizer.model", util::read_file(golden_folder() / from / "tokenizer.model").append(more));
    Json all = names;
    all.update(config);
    folder.write("tokenizer_config.json", all.dump());
    text::load_tokenizer(folder.path());
  };
  const Json llama = {{"tokenizer_class", "LlamaTokenizer"}, {"add_bos_token", true}};
  const Json gemma = {{"tokenizer_class", "GemmaTokenizer"}, {"add_bos_token", true}};
  const test::Warnings quiet;
  load("sentencepiece", llama);
  load("unigram", {{"tokenizer_class", "PreTrainedTokenizerFast"}});
  CHECK(quiet.count() == 0);
  const test::Warnings warnings;
  load("unigram", llama);
  CHECK(warnings.tell({"makes its unknown token of characters", "LlamaTokenizer", "leaves them out"}));
  // normalizer_spec once more, with remove_extra_whitespaces
  load("sentencepiece", llama, std::string_view("\x1a\x02\x20\x01", 4));
  CHECK(warnings.tell({"changes texts before it cuts them", "LlamaTokenizer"}));
  CHECK(warnings.count() == 2);
  Json end = {{"__type", "AddedToken"}, {"content", "<|end|>"}, {"normalized", true}, {"rstrip", true}};
  const std::string tells = "'<|end|>' is looked for in texts as they are";
  const auto with_end = [&](Json config) {
    config["pad_token"] = end;
    const test::Warnings of_end;
    load("sentencepiece", config);
    return of_end.tell({tells});
  };
  CHECK(with_end(gemma));
  CHECK(with_end({{"tokenizer_class", "PreTrainedTokenizerFast"}}));
  CHECK_FALSE(with_end(llama));
  end["rstrip"] = false;
  CHECK_FALSE(with_end(gemma));
  CHECK_FALSE(
      with_end({{"tokenizer_class", "PreTrainedTokenizerFast"},
                {"added_tokens_decoder", {{"900", {{"content", "<|end|>"}, {"normalized", true}}}}}}));
}

TEST_CASE("Real tokenizers give the ids of Hugging Face") {
  const fs::path tokenizers = shared_tokenizers();
  if (tokenizers.empty()) return;
  check_golden(*shared_gpt2(tokenizers), "shared-gpt2", "byte-level BPE");
  check_golden(*load_shared(tokenizers, "gpt-neox-20B_tokenizer.json", "tokenizer.json",
                            gpt2_settings("GPTNeoXTokenizer")),
               "shared-neox", "byte-level BPE");
  check_golden(*shared_llama2(tokenizers), "shared-llama2", "SentencePiece");
  check_golden(*shared_llama3(tokenizers), "shared-llama3", "byte-level BPE");
}

TEST_CASE("Real tokenizers give published ids") {
  const fs::path tokenizers = shared_tokenizers();
  if (tokenizers.empty()) return;
  check_published(*shared_gpt2(tokenizers), tokenizers, "ggml-vocab-gpt-2.gguf");
  check_published(*shared_llama2(tokenizers), tokenizers, "ggml-vocab-llama-spm.gguf");
  check_published(*shared_llama3(tokenizers), tokenizers, "ggml-vocab-llama-bpe.gguf");
}

}  // namespace depthlens
