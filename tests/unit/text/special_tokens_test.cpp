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
  CHECK((bos_of(with_post_processor(template_of({kBos, kText}))) == Bos{20, 22, true}));
  CHECK((bos_of(with_post_processor(template_of({kText}))) == Bos{22, 22, false}));
  CHECK((bos_of(with_post_processor(template_of({kText, kEos}))) == Bos{22, 22, false}));
  CHECK((bos_of(with_post_processor(template_of({kBos, kText, kEos}))) == Bos{20, 22, true}));
  const Json sequence = {{"type", "Sequence"},
                         {"processors", {{{"type", "ByteLevel"}}, template_of({kBos, kText})}}};
  CHECK((bos_of(with_post_processor(sequence)) == Bos{20, 22, true}));
  CHECK((bos_of(with_post_processor({{"type", "ByteLevel"}})) == Bos{22, 22, false}));
}

TEST_CASE("bos: add_bos_token of tokenizer_config.json wins over the template") {
  const Json with_template = with_post_processor(template_of({kBos, kText})),
             without = with_post_processor(nullptr);
  const Json names = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  const auto config = [&](const char* key, bool value) {
    Json json = names;
    json[key] = value;
    return json;
  };
  CHECK((bos_of(with_template, names) == Bos{20, 21, true}));
  CHECK((bos_of(without, names) == Bos{20, 21, false}));
  CHECK((bos_of(with_template, config("add_bos_token", false)) == Bos{20, 21, false}));
  CHECK((bos_of(without, config("add_bos_token", true)) == Bos{20, 21, true}));
  // With add_eos_token alone the template is made anew, and has no BOS.
  CHECK((bos_of(with_template, config("add_eos_token", false)) == Bos{20, 21, false}));
}

TEST_CASE("bos: add_bos_token without a token to add adds none") {
  Json tokenizer = small_tokenizer();
  CHECK((bos_of(tokenizer, {{"add_bos_token", true}}) == Bos{-1, -1, false}));
  CHECK((bos_of(tokenizer, {{"add_bos_token", true}, {"bos_token", nullptr}}) == Bos{-1, -1, false}));
}

TEST_CASE("bos: without any name <|endoftext|> is both, with bos_token null there is none") {
  const Json tokenizer = with_post_processor(nullptr);
  CHECK((bos_of(tokenizer) == Bos{22, 22, false}));
  CHECK((bos_of(tokenizer, {{"bos_token", nullptr}, {"eos_token", "</s>"}}) == Bos{-1, 21, false}));
}

TEST_CASE("bos: a name may be an object, and special_tokens_map.json may tell it") {
  const Json tokenizer = with_post_processor(nullptr);
  CHECK((bos_of(tokenizer, {{"bos_token", {{"content", "<s>"}, {"lstrip", false}}}}) == Bos{20, -1, false}));
  const auto loaded =
      load_files({{"tokenizer.json", tokenizer.dump()},
                  {"tokenizer_config.json", R"({"bos_token": "<s>"})"},
                  {"special_tokens_map.json", R"({"bos_token": "</s>", "eos_token": "</s>"})"}});
  CHECK(loaded->bos() == 20);  // tokenizer_config.json comes first
  CHECK(loaded->eos() == 21);
}

TEST_CASE("bos: a post-processor that does more is refused") {
  const auto refused = [](const Json& post_processor, const std::vector<std::string>& parts) {
    check_error(util::ErrorCode::kFormat, parts, [&] { load(with_post_processor(post_processor)); });
  };
  refused(template_of({kBos, kBos, kText}), {"several tokens before a text", "post_processor: single[1]"});
  refused({{"type", "BertProcessing"}}, {"the post-processor 'BertProcessing'", "post_processor"});
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
