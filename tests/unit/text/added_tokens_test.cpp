// Added tokens in a text: which one is found, and what white space goes with it.
#include "depthlens/util/error.hpp"
#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;

namespace {

std::unique_ptr<text::Tokenizer> with_added(const std::vector<Json>& tokens) {
  Json tokenizer = small_tokenizer();
  tokenizer["added_tokens"] = tokens;
  return load(tokenizer);
}

}  // namespace

TEST_CASE("added tokens: found before anything else, white space around them stays text") {
  const auto tokenizer = with_added({added_token("<x>", 20)});
  CHECK(tokenizer->encode("<x>") == Ids{20});
  CHECK(tokenizer->encode("ab<x>c") == Ids{4, 20, 2});
  CHECK(tokenizer->encode("a <x> a") == Ids{0, 3, 20, 3, 0});
  CHECK(tokenizer->encode("<x><x>") == Ids{20, 20});
  CHECK(tokenizer->encode("<x") == Ids{});  // no byte of it is in the vocabulary
  CHECK(tokenizer->token_bytes(20) == "<x>");
  CHECK(tokenizer->size() == 21);
}

TEST_CASE("added tokens: lstrip and rstrip take the white space before and behind") {
  const auto left = with_added({added_token("<x>", 20, {{"lstrip", true}})});
  CHECK(left->encode("a  \n<x> a") == Ids{0, 20, 3, 0});
  CHECK(left->encode("  <x>") == Ids{20});
  const auto right = with_added({added_token("<x>", 20, {{"rstrip", true}})});
  CHECK(right->encode("a <x>  \n a") == Ids{0, 3, 20, 0});
  CHECK(right->encode("<x>  ") == Ids{20});
  const auto both = with_added({added_token("<x>", 20, {{"lstrip", true}, {"rstrip", true}})});
  CHECK(both->encode("a <x> a") == Ids{0, 20, 0});
  CHECK(both->encode(" <x> <x> ") == Ids{20, 20});
  CHECK(both->encode("a\u3000<x>\u00a0"
                     "a") == Ids{0, 20, 0});  // white space beyond ASCII counts
}

TEST_CASE("added tokens: lstrip takes nothing that a token before it took") {
  const auto tokenizer =
      with_added({added_token("<x>", 20, {{"rstrip", true}}), added_token("<y>", 21, {{"lstrip", true}})});
  CHECK(tokenizer->encode("<x>  <y>") == Ids{20, 21});
}

TEST_CASE("added tokens: the leftmost, and of those that begin there the longest") {
  const auto tokenizer =
      with_added({added_token("<a>", 20), added_token("<a><b>", 21), added_token("a><", 22)});
  CHECK(tokenizer->encode("<a>") == Ids{20});
  CHECK(tokenizer->encode("<a><b>") == Ids{21});
  CHECK(tokenizer->encode("<a><a><b>") == Ids{20, 21});
  CHECK(tokenizer->encode("ba><") == Ids{1, 22});
}

TEST_CASE("added tokens: single_word stands only where no letter or digit touches it") {
  const auto tokenizer = with_added({added_token("<w>", 20), added_token("bb", 21, {{"single_word", true}})});
  CHECK(tokenizer->encode("bb") == Ids{21});
  CHECK(tokenizer->encode("a bb a") == Ids{0, 3, 21, 3, 0});
  CHECK(tokenizer->encode("bb.") == Ids{21, 9});
  CHECK(tokenizer->encode("abb") == Ids{4, 1});
  CHECK(tokenizer->encode("bba") == Ids{1, 1, 0});
  CHECK(tokenizer->encode("bb1") == Ids{1, 1, 8});
}

TEST_CASE("added tokens: the vocabulary's id wins over the file's") {
  const auto tokenizer = with_added({added_token("abc", 30)});
  CHECK(tokenizer->encode("abc") == Ids{5});
  CHECK(tokenizer->size() == 11);
}

TEST_CASE("added tokens: normalized ones are looked for after normalization") {
  Json json = small_tokenizer();
  json["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", "c"}}}, {"content", "b"}};
  json["added_tokens"] = Json::array({added_token("bc", 20, {{"normalized", true}})});
  json["model"]["vocab"].erase("bc");
  CHECK(load(json)->encode("bc") == Ids{20});
  CHECK(load(json)->encode("cb") == Ids{20});  // both become bb
  json["added_tokens"][0]["normalized"] = false;
  CHECK(load(json)->encode("bc") == Ids{20});
  CHECK(load(json)->encode("cb") == Ids{1, 1});
}

TEST_CASE("added tokens: from added_tokens_decoder, added_tokens.json and named tokens") {
  const auto tokenizer = load_files({{"tokenizer.json", small_tokenizer().dump()},
                                     {"tokenizer_config.json",
                                      R"({"added_tokens_decoder": {"30": {"content": "<m>", "lstrip": true}},
                                    "pad_token": "<pad>", "extra_special_tokens": {"image": "<img>"}})"},
                                     {"added_tokens.json", R"({"<n>": 25, "<m>": 30})"}});
  CHECK(tokenizer->encode("a <m><n>") == Ids{0, 30, 25});
  // Tokens without an id get the next free ones.
  CHECK(tokenizer->encode("<pad><img>") == Ids{31, 32});
  CHECK(tokenizer->size() == 33);
}

TEST_CASE("added tokens: impossible ids and two tokens with one id are refused") {
  const auto refused = [](const std::vector<Json>& tokens, const std::vector<std::string>& parts) {
    check_error(util::ErrorCode::kFormat, parts, [&] { with_added(tokens); });
  };
  refused({added_token("<x>", 20), added_token("<y>", 20)},
          {"two added tokens with the id 20", "'<x>' and '<y>'"});
  refused({added_token("<x>", -1)}, {"added_tokens[0]: id", "found -1"});
  refused({added_token("<x>", 1 << 22)}, {"added_tokens[0]: id"});
  refused({{{"content", "<x>"}}}, {"missing key 'id'", "added_tokens[0]"});
  refused({{{"id", 20}}}, {"missing key 'content'", "added_tokens[0]"});
  refused({{{"id", 20}, {"content", "<x>"}, {"lstrip", "yes"}}},
          {"added_tokens[0]: lstrip", "true or false"});
  Json tokenizer = small_tokenizer();
  tokenizer["added_tokens"] = {{"<x>", 20}};
  check_error(util::ErrorCode::kFormat, {"added_tokens", "a list of added tokens"}, [&] { load(tokenizer); });
  check_error(util::ErrorCode::kFormat, {"tokenizer_config.json", "impossible id", "found 'x'"}, [] {
    load(small_tokenizer(), Json::parse(R"({"added_tokens_decoder": {"x": {"content": "<m>"}}})"));
  });
  check_error(util::ErrorCode::kFormat, {"added_tokens.json: <n>", "found \"1\""}, [] {
    load_files({{"tokenizer.json", small_tokenizer().dump()}, {"added_tokens.json", R"({"<n>": "1"})"}});
  });
}
