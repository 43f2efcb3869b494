// Two tokenizer files in one folder that say different things.
#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;

namespace {

const char* const kMerges = "#version: 0.2\na b\nab c\n";

Files with_vocab_files(const Json& vocabulary, const std::string& merges) {
  return {{"tokenizer.json", small_tokenizer().dump()},
          {"vocab.json", vocabulary.dump()},
          {"merges.txt", merges}};
}

}  // namespace

TEST_CASE("agreement: vocab.json and merges.txt beside tokenizer.json that say the same are no matter") {
  const Warnings warnings;
  CHECK(load_files(with_vocab_files(small_vocabulary(), kMerges))->encode("abc") == Ids{5});
  // Added tokens may be in either.
  Json vocabulary = small_vocabulary();
  vocabulary["<x>"] = 20;
  Files files = with_vocab_files(vocabulary, kMerges);
  Json json = small_tokenizer();
  json["added_tokens"] = {added_token("<x>", 20)};
  files["tokenizer.json"] = json.dump();
  CHECK(load_files(files)->encode("<x>") == Ids{20});
  CHECK(warnings.count() == 0);
}

TEST_CASE("agreement: vocab.json and merges.txt that differ from tokenizer.json are reported and ignored") {
  const auto told = [](const Json& vocabulary, const std::string& merges, const std::string& difference) {
    INFO(difference);
    const Warnings warnings;
    CHECK(load_files(with_vocab_files(vocabulary, merges))->encode("abc") == Ids{5});
    CHECK(warnings.count() == 1);
    CHECK(warnings.tell({"tokenizer.json is used; vocab.json and merges.txt beside it differ", difference}));
  };
  Json vocabulary = small_vocabulary();
  vocabulary["new"] = 20;
  told(vocabulary, kMerges, "'new' has the id 20 and is not there");
  vocabulary = small_vocabulary();
  std::swap(vocabulary["a"], vocabulary["b"]);
  told(vocabulary, kMerges, ", not ");
  vocabulary = small_vocabulary();
  vocabulary.erase("\u0110\u0110");
  told(vocabulary, kMerges, "19, is not there");
  told(small_vocabulary(), "a b\n", "1 merges, not 2");
  told(small_vocabulary(), "ab c\na b\n", "merge 1 is 'ab c', not 'a b'");
  told(small_vocabulary(), "ab\n", "not a merge");
}

TEST_CASE("agreement: ranks beside tokenizer.json are compared") {
  const auto load_with = [](const char* ranks) {
    return load_files({{"tokenizer.json", small_tokenizer().dump()}, {"tokenizer.model", ranks}});
  };
  const Warnings warnings;
  load_with("YQ== 0\nYg== 1\n");
  CHECK(warnings.count() == 0);
  CHECK(load_with("YQ== 1\nYg== 0\n")->encode("a") == Ids{0});
  CHECK(warnings.tell(
      {"tokenizer.json is used", "tokenizer.model beside it differs", "token 1 is 'a', not 'b'"}));
}

TEST_CASE(
    "agreement: tekken.json is read before the files of older kinds, and compared with tokenizer.json") {
  const std::string tekken = small_tekken().dump();
  const Warnings warnings;
  const auto tokenizer = load_files({{"tekken.json", tekken}});
  CHECK(tokenizer->size() == 262);
  // What looks like a special token is text.
  CHECK(tokenizer->encode("abc ab<s>") == Ids{261, 36, 260, 64, 119, 66});
  CHECK(tokenizer->bos() == text::TokenId{1});
  CHECK(tokenizer->eos() == text::TokenId{2});
  CHECK(tokenizer->adds_bos());
  CHECK(tokenizer->token_bytes(3) == "<SPECIAL_3>");
  CHECK(warnings.count() == 0);

  CHECK(load_files({{"tekken.json", tekken},
                    {"tokenizer.model", "x"},
                    {"tiktoken.model", "x"},
                    {"vocab.json", "x"},
                    {"merges.txt", "x"}})
            ->size() == 262);
  for (const char* name : {"tokenizer.model", "tiktoken.model", "vocab.json and merges.txt"})
    CHECK(warnings.tell({"tekken.json is used; ignored beside it: ", name}));

  const auto other = load_files({{"tokenizer.json", small_tokenizer().dump()}, {"tekken.json", tekken}});
  CHECK(other->encode("a") == Ids{0});
  CHECK(warnings.tell(
      {"tokenizer.json is used", "tekken.json beside it differs", "token 0 is '<unk>', not 'a'"}));

  load_files({{"tekken.json", tekken},
              {"tokenizer_config.json", R"({"added_tokens_decoder": {"262": {"content": "<new>"}}})"}});
  CHECK(warnings.tell({"'<new>'", "is not in", "tekken.json", "is ignored"}));
}

TEST_CASE(
    "agreement: a tokenizer.model that is damaged is reported and ignored where there is a tokenizer.json") {
  const Warnings warnings;
  const auto tokenizer =
      load_files({{"tokenizer.json", small_tokenizer().dump()}, {"tokenizer.model", "not a model"}});
  CHECK(tokenizer->encode("abc") == Ids{5});
  CHECK(warnings.tell({"tokenizer.model beside it differs and is ignored", "not a SentencePiece model"}));
}
