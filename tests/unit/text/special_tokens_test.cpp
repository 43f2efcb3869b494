// BOS and EOS: which file tells them, and whether the model's tokenizer puts BOS before a text.
#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;

namespace {

Json template_of(const std::vector<Json>& single) {
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"special_tokens",
           {{"<s>", {{"id", "<s>"}, {"ids", {20}}}}, {"</s>", {{"id", "</s>"}, {"ids", {21}}}}}}};
}

const Json kText = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
const Json kBos = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
const Json kEos = {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}};

Json with_post_processor(const Json& post_processor) {
  Json tokenizer = small_tokenizer();
  tokenizer["added_tokens"] = {added_token("<s>", 20), added_token("</s>", 21),
                               added_token("<|endoftext|>", 22)};
  tokenizer["post_processor"] = post_processor;
  return tokenizer;
}

struct Bos {
  int bos;  // -1: none
  int eos;
  bool adds;
  bool operator==(const Bos&) const = default;
};

Bos bos_of(const Json& tokenizer, const Json& config = nullptr) {
  const auto loaded = load(tokenizer, config);
  return {loaded->bos().value_or(-1), loaded->eos().value_or(-1), loaded->adds_bos()};
}

}  // namespace

TEST_CASE("bos: the template of the post-processor decides where nothing else does") {
  CHECK((bos_of(with_post_processor(template_of({kBos, kText}))) == Bos{20, -1, true}));
  CHECK((bos_of(with_post_processor(template_of({kText}))) == Bos{-1, -1, false}));
  CHECK((bos_of(with_post_processor(template_of({kText, kEos}))) == Bos{-1, -1, false}));
  CHECK((bos_of(with_post_processor(template_of({kBos, kText, kEos}))) == Bos{20, -1, true}));
  const Json sequence = {{"type", "Sequence"},
                         {"processors", {{{"type", "ByteLevel"}}, template_of({kBos, kText})}}};
  CHECK((bos_of(with_post_processor(sequence)) == Bos{20, -1, true}));
  CHECK((bos_of(with_post_processor({{"type", "ByteLevel"}})) == Bos{-1, -1, false}));
  for (const char* type : {"RobertaProcessing", "BertProcessing"}) {
    const Warnings warnings;
    const Json around = {{"type", type}, {"sep", {"</s>", 21}}, {"cls", {"<s>", 20}}};
    CHECK((bos_of(with_post_processor(around)) == Bos{20, -1, true}));
    CHECK(warnings.tell({"asks for a token behind every text"}));
  }
}

TEST_CASE("bos: flags of tokenizer_config.json are not heeded beside a tokenizer.json, and told") {
  const Json with_template = with_post_processor(template_of({kBos, kText})),
             without = with_post_processor(nullptr);
  const Json names = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  const auto config = [&](const char* key, const Json& value) {
    Json json = names;
    json[key] = value;
    return json;
  };
  const Warnings quiet;
  CHECK((bos_of(with_template, names) == Bos{20, 21, true}));
  CHECK((bos_of(without, names) == Bos{20, 21, false}));
  CHECK((bos_of(with_template, config("add_eos_token", false)) == Bos{20, 21, true}));
  CHECK((bos_of(with_template, config("add_bos_token", nullptr)) == Bos{20, 21, true}));
  CHECK((bos_of(with_template, config("add_bos_token", true)) == Bos{20, 21, true}));
  CHECK((bos_of(without, config("add_bos_token", false)) == Bos{20, 21, false}));
  CHECK(quiet.count() == 0);
  {
    const Warnings warnings;
    CHECK((bos_of(with_template, config("add_bos_token", false)) == Bos{20, 21, true}));
    CHECK(warnings.tell({"tokenizer_config.json: add_bos_token false is not heeded", "the post_processor of",
                         "BOS is put before texts"}));
  }
  const Warnings warnings;
  CHECK((bos_of(without, config("add_bos_token", true)) == Bos{20, 21, false}));
  CHECK(warnings.tell({"add_bos_token true is not heeded", "no BOS is put before texts"}));
}

TEST_CASE("bos: GPT-NeoX's class makes its own post-processor, without BOS") {
  const Json with_template = with_post_processor(template_of({kBos, kText}));
  const Json config = {
      {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"tokenizer_class", "GPTNeoXTokenizerFast"}};
  const Warnings warnings;
  CHECK((bos_of(with_template, config) == Bos{20, 21, false}));
  CHECK(warnings.tell({"tokenizer.json: the post_processor is not heeded", "GPTNeoXTokenizer",
                       "no BOS is put before texts"}));
  Json flagged = config;
  flagged["add_bos_token"] = true;
  CHECK((bos_of(with_template, flagged) == Bos{20, 21, false}));
  CHECK(warnings.tell({"add_bos_token true is not heeded", "GPTNeoXTokenizer"}));
}

TEST_CASE("bos: what differs between versions of transformers, or is left out, is reported") {
  const Json names = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"tokenizer_class", "LlamaTokenizerFast"}};
  const Warnings warnings;
  CHECK((bos_of(with_post_processor(nullptr), names) == Bos{20, 21, false}));
  CHECK(warnings.tell({"no add_bos_token", "transformers 4 put one there"}));
  CHECK((bos_of(with_post_processor(template_of({kBos, kText, kEos})), names) == Bos{20, 21, true}));
  CHECK(warnings.tell({"tokenizer.json", "asks for a token behind every text"}));
  const Json other = {{"bos_token", "</s>"}};
  CHECK((bos_of(with_post_processor(template_of({kBos, kText})), other) == Bos{20, -1, true}));
  CHECK(warnings.tell({"puts the token 20 before texts, bos_token is 21"}));
}

TEST_CASE("bos: add_bos_token without a token to add adds none") {
  Json tokenizer = small_tokenizer();
  CHECK((bos_of(tokenizer, {{"add_bos_token", true}}) == Bos{-1, -1, false}));
  CHECK((bos_of(tokenizer, {{"add_bos_token", true}, {"bos_token", nullptr}}) == Bos{-1, -1, false}));
}

TEST_CASE("bos: without any name it is the class's, with bos_token null there is none") {
  const Json tokenizer = with_post_processor(nullptr);
  CHECK((bos_of(tokenizer) == Bos{-1, -1, false}));
  CHECK((bos_of(tokenizer, {{"tokenizer_class", "GPT2Tokenizer"}}) == Bos{22, 22, false}));
  CHECK((bos_of(tokenizer, {{"tokenizer_class", "Qwen2Tokenizer"}}) == Bos{-1, 22, false}));
  CHECK((bos_of(tokenizer,
                {{"tokenizer_class", "GPT2Tokenizer"}, {"bos_token", nullptr}, {"eos_token", "</s>"}}) ==
         Bos{-1, 21, false}));
  const auto of_model = load_files(
      {{"tokenizer.json", tokenizer.dump()}, {"config.json", R"({"architectures": ["GPT2LMHeadModel"]})"}});
  CHECK(of_model->bos() == 22);
}

TEST_CASE("bos: ids of config.json and generation_config.json that are others are reported") {
  const Json config = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  const auto load_with = [&](const char* model, const char* generation) {
    load_files({{"tokenizer.json", with_post_processor(nullptr).dump()},
                {"tokenizer_config.json", config.dump()},
                {"config.json", model},
                {"generation_config.json", generation}});
  };
  const Warnings warnings;
  load_with(R"({"bos_token_id": 20, "eos_token_id": [22, 21]})", R"({"eos_token_id": 21})");
  load_with(R"({"bos_token_id": null})", "{}");
  CHECK(warnings.count() == 0);
  load_with(R"({"bos_token_id": 1, "eos_token_id": 21})", R"({"eos_token_id": [2, 22]})");
  CHECK(warnings.count() == 2);
  CHECK(
      warnings.tell({"/config.json: bos_token_id is 1", "the tokenizer's BOS, which is used, is 20 '<s>'"}));
  CHECK(warnings.tell({"generation_config.json: eos_token_id is 2", "EOS", "21 '</s>'"}));
}

TEST_CASE("bos: a name may be an object, and special_tokens_map.json may tell it") {
  const Json tokenizer = with_post_processor(nullptr);
  CHECK((bos_of(tokenizer, {{"bos_token", {{"content", "<s>"}, {"lstrip", false}}}}) == Bos{20, -1, false}));
}

TEST_CASE("bos: special_tokens_map.json counts unless tokenizer_config.json lists the added tokens") {
  const auto load_with = [](const char* config) {
    return load_files({{"tokenizer.json", with_post_processor(nullptr).dump()},
                       {"tokenizer_config.json", config},
                       {"special_tokens_map.json", R"({"bos_token": "</s>", "eos_token": "</s>"})"}});
  };
  const Warnings warnings;
  const auto map = load_with(R"({"bos_token": "<s>"})");
  CHECK(map->bos() == 21);
  CHECK(map->eos() == 21);
  CHECK(warnings.tell({"special_tokens_map.json gives the bos_token '</s>'", "'<s>'", "the former counts"}));
  const auto config = load_with(
      R"({"bos_token": "<s>", "added_tokens_decoder": {"20": {"content": "<s>"}, "21": {"content": "</s>"}}})");
  CHECK(config->bos() == 20);
  CHECK(warnings.tell({"special_tokens_map.json gives the bos_token '</s>'", "'<s>'", "the latter counts"}));
}

TEST_CASE("bos: a post-processor that does more is refused") {
  const auto refused = [](const Json& post_processor, const std::vector<std::string>& parts) {
    check_error(util::ErrorCode::kFormat, parts, [&] { load(with_post_processor(post_processor)); });
  };
  refused(template_of({kBos, kBos, kText}), {"several tokens before a text", "post_processor: single[1]"});
  refused({{"type", "BertProcessing"}}, {"missing key 'cls'", "post_processor"});
  refused({{"type", "OtherProcessing"}}, {"the post-processor 'OtherProcessing'", "post_processor"});
  refused({{"type", "TemplateProcessing"}, {"single", {kBos, kText}}, {"special_tokens", Json::object()}},
          {"missing key '<s>'", "special_tokens"});
  refused({{"type", "TemplateProcessing"}, {"single", "<s> $A"}}, {"post_processor: single", "a list"});
}

TEST_CASE("settings: values of a wrong kind are refused with file and key") {
  const auto refused = [](const Json& config, const std::vector<std::string>& parts) {
    check_error(util::ErrorCode::kFormat, parts, [&] { load(small_tokenizer(), config); });
  };
  refused({{"add_bos_token", "yes"}}, {"tokenizer_config.json: add_bos_token", "true or false", "\"yes\""});
  refused({{"bos_token", 5}}, {"tokenizer_config.json: bos_token", "a string, found 5"});
  refused({{"bos_token", Json::object()}}, {"missing key 'content'", "bos_token"});
  refused({{"additional_special_tokens", "x"}}, {"additional_special_tokens", "a list of tokens"});
  refused(Json::array(), {"tokenizer_config.json", "an object"});
  check_error(util::ErrorCode::kFormat, {"not valid JSON", "tokenizer_config.json"}, [] {
    load_files({{"tokenizer.json", small_tokenizer().dump()}, {"tokenizer_config.json", "{"}});
  });
}
