// Items in tokens: contexts and answers, windows, options, the draw of words, and the second question.
#include "depthlens/data/task.hpp"

#include <algorithm>
#include <set>

#include "support/byte_tokenizer.hpp"
#include "support/check_error.hpp"
#include "support/greedy_tokenizer.hpp"
#include "support/letter_tokenizer.hpp"
#include "support/warnings.hpp"

using namespace depthlens;
using data::Drop;
using data::Dropped;
using data::Fact;
using data::InputKind;
using data::Question;
using data::TaggedWord;
using data::Task;
using data::TaskBuilder;
using data::TaskItem;
using data::TokenId;
using test::ByteTokenizer;
using test::check_error;
using test::GreedyTokenizer;
using test::LetterTokenizer;

namespace {

using Ids = std::vector<TokenId>;
using Texts = std::vector<std::string>;

Ids bytes(const std::string& text) {
  return ByteTokenizer().encode(text);
}

TaskItem only_item(TaskBuilder&& builder) {
  Task task = std::move(builder).finish();
  REQUIRE(task.items.size() == 1);
  return task.items[0];
}

/// Words of several classes, twenty of each, in the given order of classes.
Task words(const std::vector<std::string>& classes, std::int64_t per_class, std::uint64_t seed) {
  const ByteTokenizer tokenizer;
  TaskBuilder builder(InputKind::kWords, tokenizer, std::nullopt, 100);
  builder.set_classes(classes);
  for (const std::string& name : classes) {
    for (int i = 0; i < 20; ++i) {
      builder.add(
          TaggedWord{
              .id = name + std::to_string(i), .prompt = "x", .separator = " ", .word = "y", .tag = name},
          0);
    }
  }
  builder.keep_per_class(per_class, seed);
  return std::move(builder).finish();
}

std::set<std::string> ids_of(const Task& task) {
  std::set<std::string> ids;
  for (const TaskItem& item : task.items) ids.insert(item.id.text);
  return ids;
}

}  // namespace

TEST_CASE("facts: context, answer, and where each of its tokens is predicted") {
  const ByteTokenizer tokenizer;
  TaskBuilder builder(InputKind::kFacts, tokenizer, 2, 100);
  builder.add(Fact{.id = "f", .prompt = "ab \v\f\r\n", .answer = " cd\t"});
  const TaskItem item = only_item(std::move(builder));
  CHECK(item.id == "f");
  CHECK(item.context == Ids{2, 'a', 'b'});  // BOS, no space at the end
  CHECK(item.answer == Ids{' ', 'c', 'd'});
  CHECK(item.tokens() == Ids{2, 'a', 'b', ' ', 'c'});  // the last one need not be there
  CHECK(item.first_position() == 2);
  CHECK(item.prompt_text == "ab");
  CHECK(item.answer_text == "cd");
  CHECK(item.is_right(0, ' '));
  CHECK(item.is_right(2, 'd'));
  CHECK_FALSE(item.is_right(1, 'd'));
}

TEST_CASE("windows: an item fits as long as all but its last token do") {
  const ByteTokenizer tokenizer;
  const Fact fact{.id = "f", .prompt = "abc", .answer = "de"};  // 1 + 3 + 3 tokens
  for (const std::int64_t length : {5, 6, 7}) {
    TaskBuilder builder(InputKind::kFacts, tokenizer, 2, length);
    builder.add(fact);
    const Task task = std::move(builder).finish();
    INFO(length);
    CHECK(task.items.size() == (length >= 6 ? 1 : 0));
    CHECK(task.dropped == (length >= 6 ? Dropped{} : Dropped{{Drop::kLongerThanWindow, 1}}));
  }
}

TEST_CASE("items without tokens are dropped, and the others keep their place in the input") {
  const GreedyTokenizer tokenizer({" a", " b"});
  TaskBuilder builder(InputKind::kFacts, tokenizer, std::nullopt, 100);
  builder.add(Fact{.id = "no answer", .prompt = "a", .answer = "z"});
  builder.add(Fact{.id = "no prompt", .prompt = "z", .answer = "a"});
  builder.add(Fact{.id = "both", .prompt = "a", .answer = "b"});
  builder.drop({{Drop::kRepeatedFact, 3}, {Drop::kNoTokens, 1}});
  const Task task = std::move(builder).finish();
  REQUIRE(task.items.size() == 1);
  CHECK(task.items[0].id == "both");
  CHECK(task.items[0].document == 2);
  CHECK(task.dropped == Dropped{{Drop::kNoTokens, 3}, {Drop::kRepeatedFact, 3}});
}

TEST_CASE("questions: options are their last tokens, the answer is one of them") {
  const ByteTokenizer tokenizer;
  TaskBuilder builder(InputKind::kQuestions, tokenizer, std::nullopt, 100);
  builder.add(Question{.id = "q", .prompt = "ab:", .options = {"yes", "no", "B"}, .answer = 1});
  const TaskItem item = only_item(std::move(builder));
  CHECK(item.context == bytes("ab:"));
  REQUIRE(item.options.size() == 3);
  CHECK(item.options[0].id == 's');
  CHECK(item.options[1].id == 'o');
  CHECK(item.options[2].id == 'B');
  CHECK(item.options[2].text == "B");
  CHECK(item.gold_option == 1);
  CHECK(item.answer == Ids{'o'});
  CHECK(item.tokens() == item.context);
}

TEST_CASE("questions: options that share a token or have none") {
  const ByteTokenizer tokenizer;
  TaskBuilder builder(InputKind::kQuestions, tokenizer, std::nullopt, 100);
  check_error(
      util::ErrorCode::kInput,
      {"the options 'east' and 'west' have the same token", "item q7", "token 116, 't'"}, [&] {
        builder.add(Question{.id = "q7", .prompt = "p", .options = {"east", "south", "west"}, .answer = 0});
      });
  const GreedyTokenizer few({" a", " b"});
  TaskBuilder of_few(InputKind::kQuestions, few, std::nullopt, 100);
  check_error(util::ErrorCode::kInput, {"the option 'z' has no token", "item q8"}, [&] {
    of_few.add(Question{.id = "q8", .prompt = "a", .options = {"b", "z"}, .answer = 0});
  });
}

TEST_CASE("words: the first token, and that of the other form") {
  const GreedyTokenizer tokenizer({" The", " tide", "tide", " turns", "turns", " tur", " /", ".", " ."});
  TaskBuilder builder(InputKind::kWords, tokenizer, std::nullopt, 100);
  builder.set_classes({"NOUN", "PUNCT"});
  builder.add(
      TaggedWord{
          .id = "s.2", .sentence = 3, .prompt = "The", .separator = " ", .word = "tide", .tag = "NOUN"},
      10);
  builder.add(
      TaggedWord{
          .id = "s.3", .sentence = 3, .prompt = "The tide", .separator = "", .word = ".", .tag = "PUNCT"},
      10);
  builder.add(
      TaggedWord{
          .id = "s.4", .sentence = 4, .prompt = "The", .separator = " ", .word = "turns tide", .tag = "NOUN"},
      10);
  const Task task = std::move(builder).finish();
  CHECK(task.classes == std::vector<std::string>{"NOUN", "PUNCT"});
  REQUIRE(task.items.size() == 3);
  const TaskItem& tide = task.items[0];
  CHECK(tide.document == 13);
  CHECK(tide.word_class == "NOUN");
  CHECK(tide.context == Ids{0});
  CHECK(tide.answer == Ids{1});  // " tide"
  CHECK(tide.other_form == 2);   // "tide"
  CHECK(tide.is_right(0, 1));
  CHECK(tide.is_right(0, 2));
  CHECK_FALSE(tide.is_right(0, 3));
  const TaskItem& stop = task.items[1];
  CHECK(stop.answer == Ids{7});           // "."
  CHECK(stop.other_form == 8);            // " ."
  CHECK(task.items[2].answer == Ids{3});  // " turns" of two tokens
  CHECK(task.items[2].document == 14);
}

TEST_CASE("words: a space alone is not the other form") {
  const ByteTokenizer tokenizer;
  TaskBuilder builder(InputKind::kWords, tokenizer, std::nullopt, 100);
  builder.add(TaggedWord{.id = "w", .prompt = "ab", .separator = "", .word = ".", .tag = "PUNCT"}, 0);
  const TaskItem item = only_item(std::move(builder));
  CHECK(item.answer == Ids{'.'});
  CHECK(item.other_form == text::kNoToken);
  CHECK_FALSE(item.is_right(0, ' '));
}

TEST_CASE("words: one that takes letters of the prompt along has no other form, which begins elsewhere") {
  const GreedyTokenizer tokenizer({"ab", ".", "\"", ".\"", " \"", " /"});
  const auto added = [&](const std::string& prompt) {
    TaskBuilder builder(InputKind::kWords, tokenizer, std::nullopt, 100);
    builder.add(TaggedWord{.id = "w", .prompt = prompt, .separator = "", .word = "\"", .tag = "PUNCT"}, 0);
    return only_item(std::move(builder));
  };
  const TaskItem alone = added("ab");
  CHECK(alone.context == Ids{0});
  CHECK(alone.answer == Ids{2});
  CHECK(alone.other_form == 4);
  const TaskItem taken = added("ab.");
  CHECK(taken.context == Ids{0});
  CHECK(taken.answer == Ids{3});  // the full stop, too
  CHECK(taken.other_form == text::kNoToken);
  CHECK_FALSE(taken.is_right(0, 4));
  // Behind a space all of the prompt stands in the context again.
  const auto again = data::with_space_after_prompt(taken, tokenizer, std::nullopt, 100);
  REQUIRE(again.has_value());
  CHECK(again->answer == Ids{2});
  CHECK(again->other_form == 4);
}

TEST_CASE("words: asked again behind a space, the other form is the one with a space") {
  const GreedyTokenizer tokenizer({"ab", " ", ".", " .", "tide", " tide", " /"});
  const auto again = [&](const std::string& separator, const std::string& word) {
    TaskBuilder builder(InputKind::kWords, tokenizer, std::nullopt, 100);
    builder.add(TaggedWord{.id = "w", .prompt = "ab", .separator = separator, .word = word, .tag = "X"}, 0);
    return data::with_space_after_prompt(only_item(std::move(builder)), tokenizer, std::nullopt, 100);
  };
  const auto stop = again("", ".");
  REQUIRE(stop.has_value());
  CHECK(stop->answer == Ids{2});
  CHECK(stop->other_form == 3);
  const auto tide = again(" ", "tide");
  REQUIRE(tide.has_value());
  CHECK(tide->answer == Ids{4});
  CHECK(tide->other_form == 5);

  const ByteTokenizer bytes;  // the form with a space begins with a space alone
  TaskBuilder builder(InputKind::kWords, bytes, std::nullopt, 100);
  builder.add(TaggedWord{.id = "w", .prompt = "ab", .separator = "", .word = ".", .tag = "PUNCT"}, 0);
  const auto item = data::with_space_after_prompt(only_item(std::move(builder)), bytes, std::nullopt, 100);
  REQUIRE(item.has_value());
  CHECK(item->answer == Ids{'.'});
  CHECK(item->other_form == text::kNoToken);
}

TEST_CASE("words: at most so many of each class") {
  const Task all = words({"NOUN", "VERB", "ADJ"}, 0, 1);
  CHECK(all.items.size() == 60);
  CHECK(all.dropped.empty());
  const Task some = words({"NOUN", "VERB", "ADJ"}, 5, 1);
  CHECK(some.items.size() == 15);
  CHECK(some.dropped == Dropped{{Drop::kBeyondPerClass, 45}});
  for (const char* name : {"NOUN", "VERB", "ADJ"}) {
    CHECK(std::count_if(some.items.begin(), some.items.end(),
                        [&](const TaskItem& item) { return item.word_class == name; }) == 5);
  }
  // The order of the input stays.
  std::size_t last = 0;
  for (const TaskItem& item : some.items) {
    const auto place =
        static_cast<std::size_t>(std::find_if(all.items.begin(), all.items.end(),
                                              [&](const TaskItem& one) { return one.id == item.id; }) -
                                 all.items.begin());
    CHECK(place >= last);
    last = place;
  }
  CHECK(ids_of(words({"NOUN", "VERB", "ADJ"}, 5, 1)) == ids_of(some));
  CHECK(ids_of(words({"ADJ", "NOUN", "VERB"}, 5, 1)) == ids_of(some));
  CHECK(ids_of(words({"NOUN", "VERB", "ADJ"}, 5, 2)) != ids_of(some));
  // A greater draw of the same seed holds the smaller one.
  const auto smaller = ids_of(some), greater = ids_of(words({"NOUN", "VERB", "ADJ"}, 6, 1));
  CHECK(std::includes(greater.begin(), greater.end(), smaller.begin(), smaller.end()));
  CHECK(words({"NOUN"}, 30, 1).items.size() == 20);
}

TEST_CASE("words: every word has the same chance") {
  std::map<std::string, int> drawn;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    for (const std::string& id : ids_of(words({"NOUN"}, 5, seed))) ++drawn[id];
  }
  CHECK(drawn.size() == 20);
  for (const auto& [id, times] : drawn) {
    INFO(id);
    CHECK(times == Approx(500).margin(100));  // five standard deviations
  }
}

TEST_CASE("the first items of an input") {
  const ByteTokenizer tokenizer;
  for (const std::int64_t most : {0, 2, 5}) {
    TaskBuilder builder(InputKind::kFacts, tokenizer, std::nullopt, 100);
    for (const char* id : {"a", "b", "c"}) builder.add(Fact{.id = id, .prompt = id, .answer = "q"});
    builder.keep_first(most);
    const Task task = std::move(builder).finish();
    CHECK(task.items.size() == (most == 2 ? 2 : 3));
    CHECK(task.items[1].id == "b");
    CHECK(task.dropped == (most == 2 ? Dropped{{Drop::kBeyondLimit, 1}} : Dropped{}));
  }
}

TEST_CASE("asked again: a space after the prompt, none before the answer") {
  const ByteTokenizer tokenizer;
  TaskBuilder builder(InputKind::kFacts, tokenizer, 2, 100);
  builder.add(Fact{.id = "f", .prompt = "ab", .answer = "cd"});
  const TaskItem item = only_item(std::move(builder));
  const auto again = data::with_space_after_prompt(item, tokenizer, 2, 100);
  REQUIRE(again.has_value());
  CHECK(again->retried);
  CHECK_FALSE(item.retried);
  CHECK(again->id == "f");
  CHECK(again->context == Ids{2, 'a', 'b', ' '});
  CHECK(again->answer == Ids{'c', 'd'});
  CHECK(again->first_position() == 3);
  CHECK(again->other_form == text::kNoToken);
  // Context and answer less the last token: 5.
  CHECK(data::with_space_after_prompt(item, tokenizer, 2, 5).has_value());
  CHECK_FALSE(data::with_space_after_prompt(item, tokenizer, 2, 4).has_value());
}

TEST_CASE("asked again: of a word only its first token, and the form with a space counts too") {
  const ByteTokenizer tokenizer;
  TaskBuilder builder(InputKind::kWords, tokenizer, std::nullopt, 100);
  builder.add(TaggedWord{.id = "w", .prompt = "ab", .separator = " ", .word = "cd", .tag = "NOUN"}, 0);
  const auto again =
      data::with_space_after_prompt(only_item(std::move(builder)), tokenizer, std::nullopt, 100);
  REQUIRE(again.has_value());
  CHECK(again->context == bytes("ab "));
  CHECK(again->answer == Ids{'c'});
  CHECK(again->other_form == text::kNoToken);  // " cd" begins with a space alone, which is not the word

  const GreedyTokenizer merging({" ab", " cd", "cd", " /"});
  TaskBuilder of_merged(InputKind::kWords, merging, std::nullopt, 100);
  of_merged.add(TaggedWord{.id = "w", .prompt = "ab", .separator = " ", .word = "cd", .tag = "NOUN"}, 0);
  const auto merged =
      data::with_space_after_prompt(only_item(std::move(of_merged)), merging, std::nullopt, 100);
  REQUIRE(merged.has_value());
  CHECK(merged->answer == Ids{2});
  CHECK(merged->other_form == 1);
}

TEST_CASE("asked again: nothing where the answer has no token of its own") {
  const GreedyTokenizer tokenizer({" a", " b", " /"});
  TaskBuilder builder(InputKind::kFacts, tokenizer, std::nullopt, 100);
  builder.add(Fact{.id = "f", .prompt = "a", .answer = "b"});
  CHECK_FALSE(
      data::with_space_after_prompt(only_item(std::move(builder)), tokenizer, std::nullopt, 100).has_value());
}

TEST_CASE("facts: one that says the same as another is counted once, in all inputs") {
  const ByteTokenizer tokenizer;
  Task task;
  const Texts told = test::warnings_of([&] {
    TaskBuilder builder(InputKind::kFacts, tokenizer, std::nullopt, 100);
    builder.begin_input("a.json");
    CHECK(builder.add(Fact{.id = "0", .prompt = "The fare was cut in", .answer = "summer"}));
    CHECK_FALSE(builder.add(Fact{.id = "1", .prompt = "The fare was cut in ", .answer = " summer"}));
    CHECK(builder.add(Fact{.id = "2", .prompt = "The fare was cut in", .answer = "winter"}));
    CHECK(builder.add(Fact{.id = "2", .prompt = "The fare was cut by", .answer = "half"}));
    builder.begin_input("b.json");
    CHECK_FALSE(builder.add(Fact{.id = "9", .prompt = "The fare was cut by", .answer = "half"}));
    CHECK(builder.add(Fact{.id = "2", .prompt = "x", .answer = "y"}));  // another file has ids of its own
    task = std::move(builder).finish();
  });
  CHECK(task.dropped == Dropped{{Drop::kRepeatedFact, 2}});
  REQUIRE(task.items.size() == 4);
  // Their places in the files, repeated ones counted, so that results can be joined to them.
  const std::int64_t places[4][3] = {{0, 0, 0}, {2, 0, 2}, {3, 0, 3}, {5, 1, 1}};
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(task.items[i].document == places[i][0]);
    CHECK(task.items[i].input == places[i][1]);
    CHECK(task.items[i].input_document == places[i][2]);
  }
  CHECK(told ==
        Texts{"a.json: repeated facts: 1 (first: '1'); each is counted once",
              "a.json: prompts that stand twice with different answers: 1 (first: '2' and '0'); both are "
              "asked",
              "a.json: ids of facts that differ: 1 (first: '2'); records tell these by 'document' only",
              "b.json: repeated facts: 1 (first: '9'); each is counted once"});
}

TEST_CASE("questions: repeated ones, by prompt, options and answer") {
  const LetterTokenizer tokenizer;
  Task task;
  const Texts told = test::warnings_of([&] {
    TaskBuilder builder(InputKind::kQuestions, tokenizer, std::nullopt, 100);
    builder.begin_input("q.jsonl");
    Question question{.id = "0", .prompt = "p:", .options = {"A", "B"}, .answer = 0};
    CHECK(builder.add(question));
    CHECK_FALSE(builder.add(question));
    question.answer = 1;
    CHECK(builder.add(question));
    question.options = {"A", "C"};
    CHECK(builder.add(question));
    question.continuations = {"A", "C"};  // scored without a space
    CHECK(builder.add(question));
    task = std::move(builder).finish();
  });
  CHECK(task.items.size() == 4);
  CHECK(task.dropped == Dropped{{Drop::kRepeatedItem, 1}});
  REQUIRE(told.size() == 3);
  CHECK(told[0] == "q.jsonl: repeated items: 1 (first: '0'); each is counted once");
  CHECK(told[1].find("different answers: 1 (first: '0' and '0')") != std::string::npos);
  CHECK(told[2].find("ids of items that differ: 3") != std::string::npos);
}

TEST_CASE("questions: a logged one has the tokens of its continuations behind its context") {
  const LetterTokenizer tokenizer;
  const auto item_of = [&](const std::string& context, const Texts& continuations) {
    TaskBuilder builder(InputKind::kQuestions, tokenizer, std::nullopt, 100);
    Question question{.id = "q", .prompt = context, .options = {}, .answer = 1};
    question.continuations = continuations;
    for (const std::string& continuation : continuations)
      question.options.push_back(continuation.substr(continuation.find_first_not_of(' ')));
    builder.add(question);
    return only_item(std::move(builder));
  };
  const auto ids = [](const TaskItem& item) {
    Ids all;
    for (const TaskItem::Option& option : item.options) all.push_back(option.id);
    return all;
  };
  const TokenId a = LetterTokenizer::spaced('A'), b = LetterTokenizer::spaced('B');
  const TaskItem spaced = item_of("Q:", {" A", " B"});
  CHECK(spaced.context == Ids{'Q', ':'});
  CHECK(ids(spaced) == Ids{a, b});
  CHECK(spaced.answer == Ids{b});
  // A delimiter of nothing, as chat templates have it.
  const TaskItem bare = item_of("Q\n", {"A", "B"});
  CHECK(bare.context == Ids{'Q', '\n'});
  CHECK(ids(bare) == Ids{'A', 'B'});
  // The space at the end of the context is the continuation's.
  const TaskItem moved = item_of("Q: ", {"A", "B"});
  CHECK(moved.context == Ids{'Q', ':'});
  CHECK(ids(moved) == Ids{a, b});
  CHECK(moved.prompt_text == "Q:");
  // All are read at one place, where the first of them parts from the context.
  const TaskItem mixed = item_of("Q: ", {"A", " B"});
  CHECK(mixed.context == Ids{'Q', ':'});
  CHECK(ids(mixed) == Ids{a, b});
  CHECK(mixed.options[1].text == "B");
}

TEST_CASE("facts: a line break at the end of a prompt is left out and reported, a space is not") {
  const LetterTokenizer tokenizer;
  const Texts told = test::warnings_of([&] {
    TaskBuilder builder(InputKind::kFacts, tokenizer, std::nullopt, 100);
    builder.begin_input("f.jsonl");
    builder.add(Fact{.id = "0", .prompt = "a: ", .answer = "b"});
    builder.add(Fact{.id = "1", .prompt = "c:\n", .answer = "d"});
    const Task task = std::move(builder).finish();
    REQUIRE(task.items.size() == 2);
    CHECK(task.items[1].context == Ids{'c', ':'});
  });
  CHECK(told ==
        Texts{"f.jsonl: prompts that end in a line break or a tab: 1 (first: item '1'); it is left out: "
              "an answer follows behind a space"});
}

TEST_CASE("questions: a space at the end of a prompt is left out, options of several tokens are reported") {
  const LetterTokenizer tokenizer;
  Task task;
  const Texts told = test::warnings_of([&] {
    TaskBuilder builder(InputKind::kQuestions, tokenizer, 'Q', 100);
    builder.begin_input("q.jsonl");
    builder.add(Question{.id = "0", .prompt = "a:  ", .options = {"A", "B"}});
    builder.add(Question{.id = "1", .prompt = "a\n", .options = {"A", "B"}});
    builder.add(Question{.id = "2", .prompt = "a:", .options = {"A", "no", "Bc"}});
    Question logged{.id = "3", .prompt = "Q: ", .options = {"x", "yz"}};
    logged.continuations = {"x", "yz"};
    builder.add(logged);
    task = std::move(builder).finish();
  });
  REQUIRE(task.items.size() == 4);
  CHECK(task.items[0].context == Ids{'Q', 'a', ':'});
  CHECK(task.items[0].options[1].id == LetterTokenizer::spaced('B'));
  CHECK(task.items[1].context == Ids{'Q', 'a', '\n'});
  CHECK(task.items[2].options[1].id == 'o');
  CHECK(task.items[3].context == Ids{'Q', ':'});  // BOS is there already
  CHECK(task.items[3].options[1].id == 'z');
  CHECK(
      told ==
      Texts{
          "q.jsonl: prompts that begin with BOS themselves: 1 (first: item '3'); no second one is put before "
          "them",
          "q.jsonl: prompts that end in a space: 1 (first: item '0'); it is left out: every option is read "
          "with "
          "a space before it",
          "q.jsonl: prompts that end in a line break or a tab: 1 (first: item '1'); an option is read with a "
          "space before it even so",
          "q.jsonl: 3 options of several tokens, items: 2 (first: '2'); only the last token of an option is "
          "ranked, at the place of its first"});
}

TEST_CASE("options are told by their text, or by their place, which is not taken for a text") {
  const auto labels = [](const std::vector<Texts>& questions) {
    std::vector<TaskItem> items;
    for (const Texts& options : questions) {
      items.emplace_back();
      for (const std::string& option : options) items.back().options.push_back({.text = option, .id = 0});
    }
    return data::option_labels(items);
  };
  CHECK(labels({{"yes", "no"}, {"yes", "no"}}) == Texts{"yes", "no"});
  CHECK(labels({{"yes", "no"}, {"no", "yes"}}) == Texts{"A", "B"});
  CHECK(labels({{"yes", "no"}, {"yes", "no", "C"}}) == Texts{"#1", "#2", "#3"});
  CHECK(labels({{"A", "B"}, {"B", "A"}}) == Texts{"#1", "#2"});
  CHECK(labels({{"yes", "D"}, {"no", "yes"}}) == Texts{"A", "B"});  // there is no fourth place
}

TEST_CASE("an alias that the model says takes the answer's place") {
  const LetterTokenizer tokenizer;
  TaskBuilder builder(InputKind::kFacts, tokenizer, 2, 10);
  builder.add(
      Fact{.id = "f", .prompt = "ab", .answer = "cd", .aliases = {"ef", " gh ", "gi", "fits not in"}});
  const TaskItem item = only_item(std::move(builder));
  CHECK(item.aliases == Texts{"fits not in", "ef", "gh", "gi"});  // the longest first
  const auto said = [&](const TaskItem& asked, TokenId id) {
    return data::with_alias(asked, id, tokenizer, 2, 10);
  };
  const auto other = said(item, LetterTokenizer::spaced('g'));
  REQUIRE(other.has_value());
  CHECK(other->context == item.context);
  CHECK(other->answer == Ids{LetterTokenizer::spaced('g'), 'h'});  // the first that begins so
  CHECK(other->answer_text == "gh");
  CHECK(other->by_alias);
  CHECK(other->aliases == Texts{"gi"});  // those that are left
  const auto next = said(*other, LetterTokenizer::spaced('g'));
  REQUIRE(next.has_value());
  CHECK(next->answer_text == "gi");
  CHECK_FALSE(said(*next, LetterTokenizer::spaced('g')).has_value());
  TaskItem tried = item;
  tried.aliases_tried = true;
  CHECK_FALSE(said(tried, LetterTokenizer::spaced('g')).has_value());
  CHECK_FALSE(data::with_space_after_prompt(tried, tokenizer, 2, 10)->aliases_tried);
  CHECK_FALSE(item.by_alias);
  CHECK_FALSE(said(item, 'g').has_value());
  CHECK_FALSE(said(item, LetterTokenizer::spaced('i')).has_value());
  CHECK_FALSE(said(item, LetterTokenizer::spaced('f')).has_value());  // longer than the window
  // Asked again behind a space, an alias stands without its own.
  const auto retried = data::with_space_after_prompt(item, tokenizer, 2, 10);
  REQUIRE(retried.has_value());
  const auto bare = said(*retried, 'e');
  REQUIRE(bare.has_value());
  CHECK(bare->context == Ids{2, 'a', 'b', ' '});
  CHECK(bare->answer == Ids{'e', 'f'});
  CHECK(bare->retried);
  CHECK_FALSE(said(*retried, LetterTokenizer::spaced('e')).has_value());
  // A distractor that begins as the answer does is none: an alias is an answer, too.
  TaskBuilder with_distractor(InputKind::kFacts, tokenizer, 2, 10);
  with_distractor.add(
      Fact{.id = "f", .prompt = "ab", .answer = "cd", .aliases = {"ef", "gh"}, .distractor = "ex"});
  const TaskItem wrong = only_item(std::move(with_distractor));
  CHECK(wrong.distractor == LetterTokenizer::spaced('e'));
  CHECK(said(wrong, LetterTokenizer::spaced('e'))->distractor == text::kNoToken);
  CHECK(said(wrong, LetterTokenizer::spaced('g'))->distractor == LetterTokenizer::spaced('e'));
}

TEST_CASE("asked again: options lose their space, too") {
  const LetterTokenizer tokenizer;
  TaskBuilder builder(InputKind::kQuestions, tokenizer, std::nullopt, 100);
  builder.add(Question{.id = "q", .prompt = "p:", .options = {"A", "B"}, .answer = 1});
  const auto again =
      data::with_space_after_prompt(only_item(std::move(builder)), tokenizer, std::nullopt, 100);
  REQUIRE(again.has_value());
  CHECK(again->context == bytes("p: "));
  CHECK(again->options[0].id == 'A');
  CHECK(again->options[1].id == 'B');
  CHECK(again->answer == Ids{'B'});
}
