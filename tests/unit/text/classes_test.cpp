// What the tokenizer class decides, beside a tokenizer.json and without one.
#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;
using util::ErrorCode;

namespace {

/// vocab.json and merges.txt of the small tokenizer.
Files slow_files(const Json& config, const char* model = "{}") {
  return {{"vocab.json", small_vocabulary().dump()},
          {"merges.txt", "#version: 0.2\na b\nab c\n\u0120 a\n"},
          {"tokenizer_config.json", config.dump()},
          {"config.json", model}};
}

Ids slow_ids(const Json& config, const std::string& text, const char* model = "{}") {
  return load_files(slow_files(config, model))->encode(text);
}

Json of_class(const char* name) {
  return {{"tokenizer_class", name}};
}

/// Splits before every "b", which no class does.
Json oddly_split() {
  Json tokenizer = small_tokenizer();
  tokenizer["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"String", "b"}}}, {"behavior", "MergedWithNext"}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  return tokenizer;
}

}  // namespace

TEST_CASE("classes: vocab.json and merges.txt are cut as the class does it") {
  // Qwen 2 puts white space before a line end with it and digits apart, GPT-2 neither.
  const std::string text = "a 11 a\n\nab";
  const Ids gpt2 = {0, 3, 8, 8, 7, 10, 10, 4};
  for (const char* name : {"GPT2Tokenizer", "GPT2TokenizerFast", "CodeGenTokenizer", "GPTNeoXTokenizer"}) {
    INFO(name);
    CHECK(slow_ids(of_class(name), text) == gpt2);
  }
  const std::string word = ".a";  // one word for Qwen 2, two for GPT-2
  Files files = slow_files(of_class("Qwen2Tokenizer"));
  files["merges.txt"] += ". a\n";
  Json vocabulary = small_vocabulary();
  vocabulary[".a"] = 20;
  files["vocab.json"] = vocabulary.dump();
  CHECK(load_files(files)->encode(word) == Ids{20});
  files["tokenizer_config.json"] = of_class("GPT2Tokenizer").dump();
  CHECK(load_files(files)->encode(word) == Ids{9, 0});
  files.erase("tokenizer_config.json");
  files["config.json"] = R"({"model_type": "qwen3"})";
  CHECK(load_files(files)->encode(word) == Ids{20});
}

TEST_CASE("classes: marks go with letters in Qwen 3.5's, not in Qwen 2's") {
  const std::string text = "b\u20dd";  // three bytes, of which the first can be merged with the letter
  Json vocabulary = small_vocabulary();
  vocabulary["\u00e2"] = 20;
  vocabulary["\u0125"] = 21;
  vocabulary["\u013f"] = 22;
  vocabulary["b\u00e2"] = 23;
  const auto ids = [&](const Json& config, const char* model = "{}") {
    Files files = slow_files(config, model);
    files["vocab.json"] = vocabulary.dump();
    files["merges.txt"] += "b \u00e2\n";
    return load_files(files)->encode(text);
  };
  const Ids apart = {1, 20, 21, 22}, together = {23, 21, 22};
  CHECK(ids(of_class("Qwen2Tokenizer")) == apart);
  CHECK(ids(of_class("Qwen3_5Tokenizer")) == together);
  for (const char* type : {"qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text"})
    CHECK(ids(Json::object(), Json{{"model_type", type}}.dump().c_str()) == together);
  for (const char* type : {"qwen3_next", "qwen3_vl_moe"})
    CHECK(ids(Json::object(), Json{{"model_type", type}}.dump().c_str()) == apart);
  // What folders of Qwen 3.5 name is not trusted, but where the text's model is dense and alone.
  CHECK(ids(of_class("Qwen2Tokenizer"), R"({"model_type": "qwen3_5"})") == together);
  CHECK(ids(of_class("Qwen2Tokenizer"), R"({"model_type": "qwen3_5_text"})") == apart);
}

TEST_CASE("classes: NFC is of Qwen 2's and GPT-NeoX's, not of GPT-2's") {
  Json vocabulary = small_vocabulary();
  vocabulary["\u00c3"] = 20;  // the bytes of U+00E9
  vocabulary["\u00a9"] = 21;
  vocabulary["e"] = 22;
  const auto ids = [&](const char* name) {
    Files files = slow_files(of_class(name));
    files["vocab.json"] = vocabulary.dump();
    return load_files(files)->encode("e\u0301");
  };
  CHECK(ids("Qwen2Tokenizer") == Ids{20, 21});
  CHECK(ids("GPTNeoXTokenizer") == Ids{20, 21});
  CHECK(ids("GPT2Tokenizer") == Ids{22});  // the bytes of the mark are in no token
}

TEST_CASE("classes: Cohere's is NFC, digits apart and GPT-2's pattern") {
  Json tokenizer = small_tokenizer();
  tokenizer["model"]["vocab"]["11"] = 20;
  tokenizer["model"]["merges"].push_back("1 1");
  CHECK(load(tokenizer)->encode("11") == Ids{20});
  const Warnings warnings;
  const auto cohere = load(tokenizer, of_class("CohereTokenizerFast"));
  CHECK(cohere->encode("11ab") == Ids{8, 8, 4});
  CHECK(warnings.tell({"tokenizer.json: normalizer and pre_tokenizer are not used", "CohereTokenizer"}));
  CHECK(cohere->token_bytes(*cohere->bos()) == "<BOS_TOKEN>");
  CHECK(cohere->token_bytes(*cohere->eos()) == "<|END_OF_TURN_TOKEN|>");
  CHECK_FALSE(cohere->adds_bos());
}

TEST_CASE("classes: those over characters fall back to bytes, whatever the file says") {
  Json tokenizer = small_tokenizer();
  tokenizer["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
  tokenizer["pre_tokenizer"] = nullptr;
  tokenizer["model"]["vocab"]["<0x7A>"] = 20;
  tokenizer["model"]["vocab"]["<unk>"] = 21;
  tokenizer["model"]["unk_token"] = "<unk>";
  CHECK(load(tokenizer)->encode("azzyy") == Ids{0, 21, 21, 21, 21});
  const Warnings warnings;
  CHECK(load(tokenizer, of_class("GemmaTokenizer"))->encode("azzyy") == Ids{0, 20, 20, 21});
  CHECK(warnings.tell({"byte_fallback and fuse_unk are on", "GemmaTokenizer"}));
}

TEST_CASE("classes: what is unknown is the class's to say, and told where anything may be") {
  Json tokenizer = small_tokenizer();
  tokenizer["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
  tokenizer["pre_tokenizer"] = nullptr;
  tokenizer["model"].update({{"byte_fallback", true}, {"fuse_unk", true}, {"unk_token", "b"}});
  const auto ids = [&](const char* name, const Json& unknown) {
    return load(tokenizer, {{"tokenizer_class", name}, {"unk_token", unknown}, {"add_prefix_space", false}})
        ->encode("azb");
  };
  const Warnings warnings;
  CHECK(ids("LlamaTokenizer", "c") == Ids{4});
  CHECK(warnings.tell({"the unk_token of its model is none, whatever it says", "LlamaTokenizer"}));
  CHECK(ids("CodeLlamaTokenizer", "c") == Ids{0, 2, 1});
  CHECK(warnings.tell({"the unk_token of its model is 'c'", "CodeLlamaTokenizer"}));
  CHECK(ids("GemmaTokenizer", "c") == Ids{0, 2, 1});
  check_error(ErrorCode::kFormat, {"the unk_token '<unk>' is not in the vocabulary"},
              [&] { ids("GemmaTokenizer", "<unk>"); });
  for (int i = 0; i < 256; ++i) {
    constexpr const char* kDigits = "0123456789ABCDEF";
    tokenizer["model"]["vocab"][std::string("<0x") + kDigits[i / 16] + kDigits[i % 16] + ">"] = 20 + i;
  }
  const Warnings quiet;
  CHECK(ids("GemmaTokenizer", "<unk>") == Ids{0, 20 + 'z', 1});
  CHECK_FALSE(quiet.tell({"unk_token"}));
}

TEST_CASE("classes: another normalizer than the class's is reported, whatever probe texts show") {
  Json tokenizer = small_tokenizer();
  tokenizer["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", "``"}}}, {"content", "a"}};
  CHECK(load(tokenizer)->encode("``b") == Ids{4});
  const Warnings warnings;
  CHECK(load(tokenizer, of_class("GPT2Tokenizer"))->encode("``b") == Ids{1});
  CHECK(warnings.tell({"the normalizer is not used", "GPT2Tokenizer"}));
  tokenizer["added_tokens"] = {added_token("<x>", 20, {{"normalized", true}})};
  load(tokenizer, of_class("GPT2Tokenizer"));
  CHECK(warnings.tell({"'<x>' is not looked for behind the file's normalizer"}));
}

TEST_CASE("classes: without tokenizer.json flags and names are the class's where the file has none") {
  const auto gpt2 = load_files(slow_files(of_class("GPT2Tokenizer")));
  CHECK(gpt2->bos() == 20);  // <|endoftext|> is added
  CHECK(gpt2->eos() == 20);
  CHECK_FALSE(gpt2->adds_bos());
  CHECK(load_files(slow_files({{"tokenizer_class", "GPT2Tokenizer"}, {"add_bos_token", true}}))->adds_bos());
  CHECK_FALSE(
      load_files(slow_files({{"tokenizer_class", "GPT2Tokenizer"}, {"add_bos_token", nullptr}}))->adds_bos());
  const Warnings of_flag;
  const auto qwen = load_files(slow_files({{"tokenizer_class", "Qwen2Tokenizer"}, {"add_bos_token", true}}));
  CHECK_FALSE(qwen->bos().has_value());
  CHECK(of_flag.tell({"add_bos_token true is not heeded; there is no BOS token"}));
  CHECK_FALSE(qwen->adds_bos());
  CHECK(slow_ids({{"tokenizer_class", "GPT2Tokenizer"}, {"add_prefix_space", true}}, "a") == Ids{7});
  CHECK(slow_ids({{"tokenizer_class", "GPT2Tokenizer"}, {"add_prefix_space", nullptr}}, "a") == Ids{0});
  const Warnings warnings;
  load_files(slow_files({{"tokenizer_class", "GPT2Tokenizer"}, {"add_eos_token", true}}));
  CHECK(warnings.tell({"tokenizer_config.json asks for a token behind every text"}));
}

TEST_CASE("classes: vocab.json and merges.txt of another class, or of none, are refused by name") {
  const auto refused = [](const Json& config, const char* model, const std::vector<std::string>& parts) {
    check_error(ErrorCode::kFormat, parts, [&] { load_files(slow_files(config, model)); });
  };
  for (const char* name :
       {"RobertaTokenizer", "WhisperTokenizer", "LlamaTokenizer", "MyTokenizer", "PreTrainedTokenizerFast"}) {
    refused(of_class(name), R"({"model_type": "llama"})",
            {"vocab.json", "tokenizer_config.json", std::string(name).substr(0, 9), "tokenizer.json"});
  }
  refused(Json::object(), R"({"model_type": "llama"})", {"without a tokenizer_class", "vocab.json"});
  refused({{"tokenizer_class", nullptr}}, "{}", {"without a tokenizer_class"});
  // transformers does not trust what folders of Qwen 2 say.
  const Warnings warnings;
  CHECK(load_files(slow_files(of_class("GPT2Tokenizer"), R"({"model_type": "qwen2"})"))->bos() ==
        std::nullopt);
  CHECK(warnings.tell({"Qwen2Tokenizer (for the model_type 'qwen2'", "GPT2Tokenizer", "is ignored"}));
}

TEST_CASE("classes: one that cuts otherwise than tokenizer.json does is reported, and decides") {
  const Ids as_file = {0, 1}, as_gpt2 = {4};
  const auto ids = [&](const Json& config, const char* model) {
    return load_files({{"tokenizer.json", oddly_split().dump()},
                       {"tokenizer_config.json", config.dump()},
                       {"config.json", model}})
        ->encode("ab");
  };
  const char* const llama = R"({"model_type": "llama"})";
  {
    const Warnings warnings;
    CHECK(ids(of_class("PreTrainedTokenizerFast"), llama) == as_file);
    CHECK(ids(of_class("LlamaTokenizerFast"), llama) == as_file);  // over bytes: nobody means Llama's
    CHECK(ids(of_class("MyTokenizer"), llama) == as_file);
    CHECK(ids(Json::object(), llama) == as_file);
    for (const char* type : {"mistral", "mistral3", "llava", "llava_next", "vipllava", "smolvlm", "got_ocr2",
                             "kimi_k25", "glm4v", "paddleocr_vl", "glm4v_moe"})
      CHECK(ids(of_class("GPT2Tokenizer"), Json{{"model_type", type}}.dump().c_str()) == as_file);
    CHECK_FALSE(warnings.tell({"tokenizer.json", "in transformers 5;"}));
    CHECK_FALSE(warnings.tell({"pre_tokenizer"}));
  }
  const Warnings warnings;
  CHECK(ids(of_class("GPT2TokenizerFast"), llama) == as_gpt2);
  CHECK(warnings.tell(
      {"tokenizer.json: normalizer and pre_tokenizer are not used", "the class GPT2Tokenizer"}));
  CHECK(ids(of_class("PreTrainedTokenizerFast"), R"({"model_type": "qwen2"})") == as_gpt2);
  CHECK(warnings.tell({"the class Qwen2Tokenizer (for the model_type 'qwen2'"}));
  for (const char* type : {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "lighton_ocr", "ovis2",
                           "qwen2_5_omni", "qwen3_omni_moe"})
    CHECK(ids(Json::object(), Json{{"model_type", type}}.dump().c_str()) == as_gpt2);
  CHECK(ids(of_class("GemmaTokenizer"), llama) == as_file);
  CHECK(warnings.tell({"read as it stands, not as the class GemmaTokenizer", "tokens of characters"}));
  CHECK(ids(of_class("WhisperTokenizerFast"), llama) == as_file);
  CHECK(warnings.tell({"read as it stands, not as the class WhisperTokenizer"}));
}

TEST_CASE("classes: add_prefix_space is of tokenizer_config.json where the class decides, else of the file") {
  Json with_space = small_tokenizer();
  with_space["pre_tokenizer"]["add_prefix_space"] = true;
  with_space["model"]["merges"].push_back("\u0120 a");
  const Warnings warnings;
  CHECK(load(with_space)->encode("a") == Ids{7});
  CHECK(load(with_space, {{"add_prefix_space", false}})->encode("a") == Ids{7});
  CHECK(warnings.count() == 0);
  CHECK(load(with_space, of_class("GPT2Tokenizer"))->encode("a") == Ids{0});
  CHECK(warnings.tell({"normalizer and pre_tokenizer are not used"}));
  CHECK(load(with_space, {{"tokenizer_class", "GPT2Tokenizer"}, {"add_prefix_space", true}})->encode("a") ==
        Ids{7});
}

TEST_CASE("classes: what transformers does not heed is reported") {
  const Warnings warnings;
  CHECK(load(small_tokenizer(), {{"do_lower_case", true}})->encode("A") == Ids{});
  CHECK(warnings.tell({"do_lower_case"}));
  load(small_tokenizer(), {{"fix_mistral_regex", true}});
  CHECK(warnings.tell({"fix_mistral_regex", "the pattern of tokenizer.json"}));
  load(small_tokenizer(), {{"sp_model_kwargs", {{"enable_sampling", true}}}});
  CHECK(warnings.tell({"enable_sampling"}));
  load(small_tokenizer(), Json::parse(R"({"auto_map": {"AutoTokenizer": ["code.MyTokenizer", null]}})"));
  CHECK(warnings.tell({"auto_map", "not run"}));
  load(small_tokenizer(),
       Json::parse(R"({"fast_tokenizer_files": ["tokenizer.json", "tokenizer.4.0.json"]})"));
  CHECK(warnings.tell({"fast_tokenizer_files"}));
  CHECK(warnings.count() == 5);
  // A truncation of tokenizer.json is undone whenever transformers encodes a text.
  Json cut = small_tokenizer();
  cut["truncation"] = {
      {"max_length", 1}, {"strategy", "LongestFirst"}, {"stride", 0}, {"direction", "Right"}};
  CHECK(load(cut)->encode("abcab") == Ids{5, 4});
  CHECK(warnings.count() == 5);
}
