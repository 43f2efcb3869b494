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
  // Nor is there another token where nothing is left of it.
  const auto spaces = with_added({added_token("\t", 20, {{"lstrip", true}, {"rstrip", true}})});
  CHECK(spaces->encode("a\t \ta\t") == Ids{0, 20, 0, 20});
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

TEST_CASE("added tokens: ids are the vocabulary's or the next ones, whatever the file says, and told") {
  const Warnings warnings;
  const auto known = with_added({added_token("abc", 30)});
  CHECK(known->encode("abc") == Ids{5});
  CHECK(known->size() == 20);
  CHECK(warnings.tell({"added_tokens gives the token 'abc' the id 30; 5 is used, which it has already"}));
  const auto hole = with_added({added_token("<x>", 25), added_token("<y>", 26)});
  CHECK(hole->encode("<x><y>") == Ids{20, 21});
  CHECK(hole->size() == 22);
  CHECK(warnings.tell({"'<x>' the id 25; 20 is used, the next one", "(one of 2)"}));
  const auto collision = with_added({added_token("<x>", 4)});
  CHECK(collision->encode("<x>ab") == Ids{20, 4});
  CHECK(warnings.tell({"'<x>' the id 4; 20 is used"}));
  CHECK(warnings.count() == 3);
}

TEST_CASE(
    "added tokens: behind a vocabulary with holes the next id is its number of tokens, if that is free") {
  Json json = small_tokenizer();
  json["model"]["vocab"]["\u0101\u0101"] = 30;
  json["added_tokens"] = {added_token("<x>", 31)};
  CHECK(load(json)->encode("<x>") == Ids{20});
  json["model"]["vocab"]["\u0102\u0102"] = 20;
  check_error(util::ErrorCode::kFormat, {"no id for the added token '<x>'", "without holes", "the id 20"},
              [&] { load(json); });
}

TEST_CASE("added tokens: with split_special_tokens special ones are text") {
  Json json = small_tokenizer();
  json["added_tokens"] = {added_token("ab", 4, {{"special", true}}), added_token("bc", 6)};
  CHECK(load(json)->encode("abc") == Ids{4, 2});
  const Json split = {{"split_special_tokens", true}};
  CHECK(load(json, split)->encode("bc") == Ids{6});
  CHECK(load(json, split)->encode("abc") == Ids{5});  // nor is another token looked for in one that is text
  Json listed = split;                                // what was special stays special
  listed["added_tokens_decoder"] = {{"4", added_token("ab", 4)}};
  const Warnings warnings;
  CHECK(load(json, listed)->encode("abc") == Ids{5});
  CHECK(warnings.tell({"added_tokens of", "'ab' has other flags"}));
  const auto extra = [&](const char* key, const Json& tokens) {
    Json config = split;
    config[key] = tokens;
    return load(small_tokenizer(), config)->encode("a<x>b");
  };
  // Expected as transformers 5.24 makes them of these files.
  const Json flags = {{"__type", "AddedToken"}, {"content", "<x>"}, {"normalized", false}};
  for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
    CHECK(extra(key, {"<x>"}) == Ids{0, 1});
    CHECK(extra(key, Json::array({flags})) == Ids{0, 20, 1});
  }
  CHECK(extra("extra_special_tokens", {{"x", flags}}) == Ids{0, 1});
  CHECK(load(json, {{"split_special_tokens", true}, {"pad_token", "bc"}})->encode("bbc") == Ids{1, 1, 2});
}

TEST_CASE("added tokens: normalized ones are looked for after normalization") {
  Json json = small_tokenizer();
  json["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", "c"}}}, {"content", "b"}};
  json["added_tokens"] = Json::array({added_token("bc", 20, {{"normalized", true}})});
  json["model"]["vocab"].erase("bc");
  json["model"]["vocab"]["\u0111\u0111"] = 6;
  CHECK(load(json)->encode("bc") == Ids{20});
  CHECK(load(json)->encode("cb") == Ids{20});  // both become bb
  json["added_tokens"][0]["normalized"] = false;
  CHECK(load(json)->encode("bc") == Ids{20});
  CHECK(load(json)->encode("cb") == Ids{1, 1});
}

TEST_CASE("added tokens: from added_tokens.json and named tokens") {
  const auto tokenizer = load_files(
      {{"tokenizer.json", small_tokenizer().dump()},
       {"tokenizer_config.json", R"({"pad_token": "<pad>", "extra_special_tokens": {"image": "<img>"}})"},
       {"added_tokens.json", R"({"<n>": 20, "<m>": 21})"}});
  CHECK(tokenizer->encode("a <m><n>") == Ids{0, 3, 21, 20});
  // Tokens without an id get the next free ones.
  CHECK(tokenizer->encode("<pad><img>") == Ids{22, 23});
  CHECK(tokenizer->size() == 24);
}

TEST_CASE("added tokens: keys that end in _token name special ones, in the order of the file") {
  const auto load_with = [](const std::string& config, const std::string& map = "{}") {
    return load_files({{"tokenizer.json", small_tokenizer().dump()},
                       {"tokenizer_config.json", config},
                       {"special_tokens_map.json", map}});
  };
  // Expected as transformers 5.24 makes them of these files.
  CHECK(load_with(R"({"pad_token": "<p>", "video_token": "<v>", "audio_token": "<a>", "add_bos_token": false,
                      "image_token": null, "extra_special_tokens": ["<x>"]})")
            ->encode("<p><v><a><x>") == Ids{20, 21, 22, 23});
  const auto spaced = load_with(R"({"boi_token": {"__type": "AddedToken", "content": "<b>", "lstrip": true,
                                    "rstrip": true, "normalized": false, "single_word": false, "special": true}})");
  CHECK(spaced->encode("a <b> a") == Ids{0, 20, 0});
  CHECK(load_with(R"({"model_specific_special_tokens": {"z_token": "<z>", "y": "<y>"}})")->encode("<z><y>") ==
        Ids{20, 21});
  // The keys before it take its place.
  CHECK(load_with(R"({"z_token": "<z>", "model_specific_special_tokens": {"y": "<y>"}})")->size() == 21);
  CHECK(load_with(R"({"z_token": "<z>"})", R"({"y_token": "<y>"})")->encode("<y><z>") == Ids{20, 21});
  // Of the two lists the later one's name counts, unless it is empty or names its tokens.
  const std::string both = R"({"additional_special_tokens": ["<x>"], "extra_special_tokens": )";
  CHECK(load_with(both + R"(["<y>"]})")->encode("<y>") == Ids{20});
  CHECK(load_with(both + R"(["<y>"]})")->size() == 21);
  CHECK(load_with(both + "[]}")->encode("<x>") == Ids{20});
  CHECK(load_with(both + R"({"y": "<y>"}})")->encode("<y><x>") == Ids{20, 21});
  check_error(util::ErrorCode::kFormat, {"model_specific_special_tokens", "an object"},
              [&] { load_with(R"({"model_specific_special_tokens": ["<z>"]})"); });
}

TEST_CASE("added tokens: of one under several names the last spelling counts, unless files list it") {
  const auto flagged = [](const char* flag) -> Json {
    return {{"__type", "AddedToken"}, {"content", "<x>"}, {"normalized", false}, {flag, true}};
  };
  const auto ids = [](const Json& config) { return load(small_tokenizer(), config)->encode("a <x> a"); };
  // Expected as transformers 5.24 makes them of these files.
  const Ids plain = {0, 3, 20, 3, 0}, left = {0, 20, 3, 0}, right = {0, 3, 20, 0};
  CHECK(ids({{"eos_token", flagged("lstrip")}, {"pad_token", "<x>"}}) == plain);
  CHECK(ids({{"bos_token", "<x>"}, {"pad_token", flagged("lstrip")}, {"mask_token", "<x>"}}) == left);
  CHECK(ids({{"eos_token", flagged("lstrip")}, {"extra_special_tokens", {"<x>"}}}) == plain);
  CHECK(ids({{"eos_token", "<x>"}, {"image_token", flagged("rstrip")}}) == right);
  CHECK(ids({{"extra_special_tokens", {flagged("lstrip"), flagged("rstrip")}}}) == right);
  Json listed = small_tokenizer();
  listed["added_tokens"] = {added_token("<x>", 20)};
  CHECK(load(listed, {{"eos_token", flagged("lstrip")}})->encode("a <x> a") == plain);
}

TEST_CASE("added tokens: the pad token of tokenizer.json is one where nothing else names it") {
  Json json = small_tokenizer();
  json["padding"] = {{"pad_id", 1}, {"pad_token", "<p>"}};
  const auto ids = [&](const Json& config) { return load(json, config)->encode("a<p>b"); };
  // Expected as transformers 5.24 makes them of these files.
  CHECK(ids(Json::object()) == Ids{0, 20, 1});
  CHECK(ids({{"pad_token", nullptr}}) == Ids{0, 1});
  CHECK(ids({{"pad_token", "<q>"}}) == Ids{0, 1});
  CHECK(ids({{"tokenizer_class", "GPT2Tokenizer"}}) == Ids{0, 1});
}

TEST_CASE(
    "added tokens: added_tokens_decoder decides on flags, and added_tokens.json is not read beside it") {
  Json json = small_tokenizer();
  json["added_tokens"] = {added_token("<m>", 20), added_token("<k>", 21)};
  const Files files = {{"tokenizer.json", json.dump()}, {"added_tokens.json", R"({"<n>": 22, "<m>": 20})"}};
  const auto load_with = [&](const std::string& more) {
    Files all = files;
    all["tokenizer_config.json"] =
        R"({"added_tokens_decoder": {"20": {"content": "<m>", "lstrip": true, "normalized": false}})" + more +
        "}";
    return load_files(all);
  };
  const Warnings warnings;
  const auto tokenizer = load_with("");
  CHECK(tokenizer->encode("a <m><k>") == Ids{0, 20, 21});
  CHECK(tokenizer->size() == 22);
  CHECK(warnings.tell({"added_tokens.json gives '<n>' the id 22", "tokenizer_config.json none"}));
  CHECK(
      warnings.tell({"added_tokens of", "added_tokens_decoder of", "'<m>' has other flags", "counts first"}));
  // A class that makes its own tokenizer takes the added tokens of tokenizer_config.json alone.
  const auto of_class =
      load_with(R"(, "tokenizer_class": "GPT2Tokenizer", "bos_token": null, "eos_token": null,
                                      "unk_token": null)");
  CHECK(of_class->encode("a <m><k>") == Ids{0, 20});
  CHECK(warnings.tell({"(one of 2)", "the former does not"}));
}

TEST_CASE("added tokens: an id of added_tokens_decoder that tokenizer.json gives to another is reported") {
  Json json = small_tokenizer();
  json["added_tokens"] = {added_token("<x>", 20), added_token("<y>", 21)};
  const Json config = {
      {"added_tokens_decoder", {{"20", added_token("<y>", 20)}, {"21", added_token("<x>", 21)}}}};
  const Warnings warnings;
  CHECK(load(json, config)->encode("<x><y>") == Ids{20, 21});
  CHECK(warnings.tell({"gives the token '<y>' the id 20; 21 is used", "(one of 2)"}));
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

TEST_CASE(
    "added tokens: over characters a mark in one is a space, and one of the vocabulary is what it is there") {
  Json json = small_tokenizer();
  json["pre_tokenizer"] = {{"type", "Metaspace"}, {"prepend_scheme", "never"}, {"split", false}};
  json["model"]["byte_fallback"] = true;
  json["model"]["vocab"]["\u2581\u2581"] = 20;
  json["model"]["vocab"]["<0x0A>"] = 21;
  json["added_tokens"] = {added_token("\u2581\u2581", 20), added_token("<0x0A>", 21),
                          added_token("\u2581<x>", 22)};
  const auto tokenizer = load(json);
  CHECK(tokenizer->encode("a\u2581\u2581\u2581<x>") == Ids{0, 20, 22});
  CHECK(tokenizer->token_bytes(20) == "  ");
  CHECK(tokenizer->token_bytes(21) == "\n");
  CHECK(tokenizer->token_bytes(22) == " <x>");
}
