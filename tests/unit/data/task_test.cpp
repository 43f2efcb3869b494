// Items in tokens: contexts and answers, windows, options, the draw of words, and the second question.
#include "depthlens/data/task.hpp"

#include <algorithm>
#include <set>

#include "support/byte_tokenizer.hpp"
#include "support/check_error.hpp"
#include "support/greedy_tokenizer.hpp"

using namespace depthlens;
using data::Fact;
using data::Question;
using data::TaggedWord;
using data::Task;
using data::TaskBuilder;
using data::TaskItem;
using data::TaskKind;
using data::TokenId;
using test::ByteTokenizer;
using test::check_error;
using test::GreedyTokenizer;

namespace {

using Ids = std::vector<TokenId>;
using Dropped = std::map<std::string, std::int64_t>;

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
  TaskBuilder builder(TaskKind::kWords, tokenizer, std::nullopt, 100);
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
  for (const TaskItem& item : task.items) ids.insert(item.id);
  return ids;
}

}  // namespace

TEST_CASE("facts: context, answer, and where each of its tokens is predicted") {
  const ByteTokenizer tokenizer;
  TaskBuilder builder(TaskKind::kFacts, tokenizer, 2, 100);
  builder.add(Fact{.id = "f", .prompt = "ab \n", .answer = " cd\t"});
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
    TaskBuilder builder(TaskKind::kFacts, tokenizer, 2, length);
    builder.add(fact);
    const Task task = std::move(builder).finish();
    INFO(length);
    CHECK(task.items.size() == (length >= 6 ? 1 : 0));
    CHECK(task.dropped == (length >= 6 ? Dropped{} : Dropped{{"longer_than_window", 1}}));
  }
}

TEST_CASE("items without tokens are dropped, and the others keep their place in the input") {
  const GreedyTokenizer tokenizer({" a", " b"});
  TaskBuilder builder(TaskKind::kFacts, tokenizer, std::nullopt, 100);
  builder.add(Fact{.id = "no answer", .prompt = "a", .answer = "z"});
  builder.add(Fact{.id = "no prompt", .prompt = "z", .answer = "a"});
  builder.add(Fact{.id = "both", .prompt = "a", .answer = "b"});
  builder.drop({{"repeated_fact", 3}, {"no_tokens", 1}});
  const Task task = std::move(builder).finish();
  REQUIRE(task.items.size() == 1);
  CHECK(task.items[0].id == "both");
  CHECK(task.items[0].document == 2);
  CHECK(task.dropped == Dropped{{"no_tokens", 3}, {"repeated_fact", 3}});
}

TEST_CASE("questions: options are their last tokens, the answer is one of them") {
  const ByteTokenizer tokenizer;
  TaskBuilder builder(TaskKind::kQuestions, tokenizer, std::nullopt, 100);
  builder.add(Question{.id = "q", .prompt = "ab: ", .options = {"yes", "no", "B"}, .answer = 1});
  const TaskItem item = only_item(std::move(builder));
  CHECK(item.context == bytes("ab: "));  // as it stands
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
  TaskBuilder builder(TaskKind::kQuestions, tokenizer, std::nullopt, 100);
  check_error(
      util::ErrorCode::kInput,
      {"the options 'east' and 'west' have the same token", "item q7", "token 116, 't'"}, [&] {
        builder.add(Question{.id = "q7", .prompt = "p", .options = {"east", "south", "west"}, .answer = 0});
      });
  const GreedyTokenizer few({" a", " b"});
  TaskBuilder of_few(TaskKind::kQuestions, few, std::nullopt, 100);
  check_error(util::ErrorCode::kInput, {"the option 'z' has no token", "item q8"}, [&] {
    of_few.add(Question{.id = "q8", .prompt = "a", .options = {"b", "z"}, .answer = 0});
  });
}

TEST_CASE("words: the first token, and that of the other form") {
  const GreedyTokenizer tokenizer({" The", " tide", "tide", " turns", "turns", " tur", " /", ".", " ."});
  TaskBuilder builder(TaskKind::kWords, tokenizer, std::nullopt, 100);
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
  TaskBuilder builder(TaskKind::kWords, tokenizer, std::nullopt, 100);
  builder.add(TaggedWord{.id = "w", .prompt = "ab", .separator = "", .word = ".", .tag = "PUNCT"}, 0);
  const TaskItem item = only_item(std::move(builder));
  CHECK(item.answer == Ids{'.'});
  CHECK(item.other_form == -1);
  CHECK_FALSE(item.is_right(0, ' '));
}

TEST_CASE("words: at most so many of each class") {
  const Task all = words({"NOUN", "VERB", "ADJ"}, 0, 1);
  CHECK(all.items.size() == 60);
  CHECK(all.dropped.empty());
  const Task some = words({"NOUN", "VERB", "ADJ"}, 5, 1);
  CHECK(some.items.size() == 15);
  CHECK(some.dropped == Dropped{{"beyond_per_class", 45}});
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
    TaskBuilder builder(TaskKind::kFacts, tokenizer, std::nullopt, 100);
    for (const char* id : {"a", "b", "c"}) builder.add(Fact{.id = id, .prompt = "p", .answer = "q"});
    builder.keep_first(most);
    const Task task = std::move(builder).finish();
    CHECK(task.items.size() == (most == 2 ? 2 : 3));
    CHECK(task.items[1].id == "b");
    CHECK(task.dropped.empty());
  }
}

TEST_CASE("asked again: a space after the prompt, none before the answer") {
  const ByteTokenizer tokenizer;
  TaskBuilder builder(TaskKind::kFacts, tokenizer, 2, 100);
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
  CHECK(again->other_form == -1);
  // Context and answer less the last token: 5.
  CHECK(data::with_space_after_prompt(item, tokenizer, 2, 5).has_value());
  CHECK_FALSE(data::with_space_after_prompt(item, tokenizer, 2, 4).has_value());
}

TEST_CASE("asked again: of a word only its first token, and the form with a space counts too") {
  const ByteTokenizer tokenizer;
  TaskBuilder builder(TaskKind::kWords, tokenizer, std::nullopt, 100);
  builder.add(TaggedWord{.id = "w", .prompt = "ab", .separator = " ", .word = "cd", .tag = "NOUN"}, 0);
  const auto again =
      data::with_space_after_prompt(only_item(std::move(builder)), tokenizer, std::nullopt, 100);
  REQUIRE(again.has_value());
  CHECK(again->context == bytes("ab "));
  CHECK(again->answer == Ids{'c'});
  CHECK(again->other_form == -1);  // " cd" begins with a space alone, which is not the word

  const GreedyTokenizer merging({" ab", " cd", "cd", " /"});
  TaskBuilder of_merged(TaskKind::kWords, merging, std::nullopt, 100);
  of_merged.add(TaggedWord{.id = "w", .prompt = "ab", .separator = " ", .word = "cd", .tag = "NOUN"}, 0);
  const auto merged =
      data::with_space_after_prompt(only_item(std::move(of_merged)), merging, std::nullopt, 100);
  REQUIRE(merged.has_value());
  CHECK(merged->answer == Ids{2});
  CHECK(merged->other_form == 1);
}

TEST_CASE("asked again: nothing where the answer has no token of its own") {
  const GreedyTokenizer tokenizer({" a", " b", " /"});
  TaskBuilder builder(TaskKind::kFacts, tokenizer, std::nullopt, 100);
  builder.add(Fact{.id = "f", .prompt = "a", .answer = "b"});
  CHECK_FALSE(
      data::with_space_after_prompt(only_item(std::move(builder)), tokenizer, std::nullopt, 100).has_value());
}
