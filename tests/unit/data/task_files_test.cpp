// Task files in all their formats: what is read, what is dropped, and what is refused with which words.
#include "depthlens/data/task_files.hpp"

#include <map>
#include <string>
#include <vector>

#include "support/check_error.hpp"
#include "support/compressed.hpp"
#include "support/temporary_folder.hpp"
#include "support/warnings.hpp"

using namespace depthlens;
using data::Fact;
using data::ItemId;
using data::Question;
using test::check_error;
using util::ErrorCode;

namespace {

using Texts = std::vector<std::string>;

std::string written(const test::TemporaryFolder& folder, const std::string& bytes,
                    const std::string& name = "task.jsonl") {
  return folder.write(name, bytes).string();
}

data::TaskFile<Fact> facts_of(const std::string& bytes) {
  const test::TemporaryFolder folder;
  return data::read_facts(written(folder, bytes));
}

data::TaskFile<Question> questions_of(const std::string& bytes, const Texts& options = {}) {
  const test::TemporaryFolder folder;
  return data::read_questions(written(folder, bytes), options);
}

void check_facts_refused(const std::string& bytes, const Texts& parts) {
  INFO(bytes);
  check_error(ErrorCode::kInput, parts, [&] { facts_of(bytes); });
}

void check_questions_refused(const std::string& bytes, const Texts& parts, const Texts& options = {}) {
  INFO(bytes);
  check_error(ErrorCode::kInput, parts, [&] { questions_of(bytes, options); });
}

/// An id that is a number.
ItemId numbered(int id) {
  return {std::to_string(id), /*number=*/true};
}

void check_fact(const Fact& fact, const ItemId& id, const std::string& prompt, const std::string& answer,
                const Texts& aliases = {}) {
  CHECK(fact.id == id);
  CHECK(fact.prompt == prompt);
  CHECK(fact.answer == answer);
  CHECK(fact.aliases == aliases);
}

void check_question(const Question& question, const ItemId& id, const std::string& prompt,
                    const Texts& options, std::size_t answer) {
  CHECK(question.id == id);
  CHECK(question.prompt == prompt);
  CHECK(question.options == options);
  CHECK(question.answer == answer);
}

}  // namespace

TEST_CASE("facts: JSON lines, with their names of keys, ids and aliases") {
  const auto file = facts_of(
      R"({"id": "paris", "prompt": "The capital of France is", "answer": "Paris", "aliases": ["Lutetia", "Paname"]})"
      "\n\n   \r\n"
      R"({"id": 7, "cloze": "Water is", "answer": "wet", "question": "How is water?", "answer_alias": ["humid"]})"
      "\r\n"
      R"({"prompt": "No id", "answer": "x", "aliases": null, "id": null})"
      "\n"
      R"({"prompt": "{} speaks", "subject": "Ada", "answer": "French"})");
  REQUIRE(file.items.size() == 4);
  check_fact(file.items[3], "5", "Ada speaks", "French");
  check_fact(file.items[0], "paris", "The capital of France is", "Paris", {"Lutetia", "Paname"});
  check_fact(file.items[1], numbered(7), "Water is", "wet", {"humid"});
  check_fact(file.items[2], "4", "No id", "x");  // the line's place in the file
}

TEST_CASE("facts: the SHA-256 is that of the file on the disk") {
  const std::string line = R"({"prompt": "a", "answer": "b"})";
  // As sha256sum tells it.
  CHECK(facts_of(line).sha256 == "c306044fc91934fd3203623fdf66e17dce077766dbf19a829f8aec7efbd87a1e");
  CHECK(facts_of("\xEF\xBB\xBF" + line).sha256 != facts_of(line).sha256);
}

TEST_CASE("facts: an array, as the paper publishes them") {
  const auto file = facts_of(
      "\n [{\"prompt\": \"a b\", \"answer\": \"c\"},\n  {\"prompt\": \"d\", \"answer\": \"e\", \"id\": "
      "0}]\n");
  REQUIRE(file.items.size() == 2);
  check_fact(file.items[0], "0", "a b", "c");
  check_fact(file.items[1], numbered(0), "d", "e");
}

TEST_CASE("facts: MQuAKE's array gives its single hops") {
  const std::string paris = R"({"question": "?", "cloze": "The capital of France is", "answer": "Paris",
                               "answer_alias": ["Paname", " "]})";
  const auto file = facts_of(
      R"([{"case_id": 12, "single_hops": [)" + paris +
      R"(, {"cloze": "The river of Paris is", "answer": "Seine"}], "new_single_hops": []},
                 {"case_id": 13, "single_hops": [)" +
      paris + R"(, {"cloze": "The capital of France is", "answer": "Lyon"}]}, {"single_hops": []}])");
  REQUIRE(file.items.size() == 4);
  check_fact(file.items[0], "12.0", "The capital of France is", "Paris", {"Paname"});
  check_fact(file.items[1], "12.1", "The river of Paris is", "Seine");
  check_fact(file.items[2], "13.0", "The capital of France is", "Paris", {"Paname"});
  check_fact(file.items[3], "13.1", "The capital of France is", "Lyon");
}

TEST_CASE("facts: CounterFact's array, the subject put in its place") {
  const auto file = facts_of(R"([{"case_id": 0, "pararel_idx": 2796, "requested_rewrite": {
      "prompt": "The mother tongue of {} is", "relation_id": "P103", "subject": "Danielle Darrieux",
      "target_new": {"str": "English"}, "target_true": {"str": "French"}}}])");
  REQUIRE(file.items.size() == 1);
  check_fact(file.items[0], numbered(0), "The mother tongue of Danielle Darrieux is", "French");
  check_facts_refused(
      R"([{"requested_rewrite": {"prompt": "of whom", "subject": "x", "target_true": {"str": "y"}}}])",
      {"task.jsonl[0]: requested_rewrite: prompt", "{}", "of whom"});
  check_facts_refused(R"([{"requested_rewrite": {"prompt": "of {}", "subject": "x"}}])",
                      {"missing key 'target_true'", "task.jsonl[0]: requested_rewrite"});
}

TEST_CASE("facts: byte order mark, gzip, and both") {
  const std::string line = R"({"prompt": "a", "answer": "b"})";
  const std::vector<std::string> files = {"\xEF\xBB\xBF" + line, test::gzip(line),
                                          test::gzip("\xEF\xBB\xBF" + line),
                                          test::gzip(line + "\n") + test::gzip("\n")};
  for (const std::string& bytes : files) {
    const auto file = facts_of(bytes);
    REQUIRE(file.items.size() == 1);
    check_fact(file.items[0], "0", "a", "b");
  }
  const std::string cut = test::gzip(line).substr(0, 20);
  check_facts_refused(cut, {"damaged gzip file", "task.jsonl", "an end in the middle"});
}

TEST_CASE("facts: files without any") {
  for (const char* bytes : {"", "\n \r\n\t\n", "[]", "\xEF\xBB\xBF", " [ ] "}) {
    INFO(bytes);
    CHECK(facts_of(bytes).items.empty());
  }
}

TEST_CASE("facts: what is refused, with its place") {
  check_facts_refused("{\"prompt\": \"a\", \"answer\": \"b\"}\n{\"prompt\": \"a\"}\n",
                      {"missing key 'answer'", "task.jsonl, line 2"});
  check_facts_refused(R"({"answer": "b"})", {"missing key 'prompt'", "line 1"});
  check_facts_refused(R"({"prompt": 5, "answer": "b"})", {"line 1: prompt", "a string", "found 5"});
  check_facts_refused(R"({"prompt": "a", "answer": ["b"]})", {"line 1: answer", "a string"});
  check_facts_refused(R"({"prompt": "a", "answer": " \t"})", {"line 1: answer", "not blank"});
  check_facts_refused(R"({"prompt": "", "answer": "b"})", {"line 1: prompt", "not blank"});
  check_facts_refused(R"({"prompt": "a", "answer": "b", "aliases": "c"})",
                      {"line 1: aliases", "an array of texts", "\"c\""});
  check_facts_refused(R"({"prompt": "a", "answer": "b", "aliases": ["c", 1]})", {"aliases[1]", "a string"});
  std::string wide;
  for (const char c : std::string("The capital of France is")) wide += std::string(1, c) + "\\u0000";
  check_facts_refused(R"({"prompt": ")" + wide + R"(", "answer": "b"})",
                      {"NULs between its letters", "line 1: prompt", "UTF-16LE"});
  check_facts_refused(R"({"prompt": "a", "answer": "b", "aliases": [")" + wide + R"("]})",
                      {"NULs between its letters", "aliases[0]"});
  check_facts_refused(R"("text")", {"line 1", "an object a line, or one array"});
  check_facts_refused("[1]", {"task.jsonl[0]", "an object"});
  check_facts_refused(
      "\n The capital of France is Paris.\n",
      {"not a task file", "task.jsonl, line 2", "CoNLL-U", "found 'The capital of France is Paris.'"});
  check_facts_refused("{\n\"prompt\": \"a\", \"answer\": \"b\"\n}\n",
                      {"not valid JSON", "task.jsonl, line 1", "must not go on in the next line"});
  for (const char* id : {"true", "{}", "[1]", "100000000000000000001", "1e20"}) {
    check_facts_refused(std::string(R"({"prompt": "a", "answer": "b", "id": )") + id + "}",
                        {"line 1: id", "a text, or a number of at most 19 digits"});
  }
  check_facts_refused("[{\"prompt\": \"a\", \"answer\": \"b\"}", {"not valid JSON", "task.jsonl"});
  check_facts_refused("{\"prompt\": \"a\",\n\"answer\": \"b\"}", {"not valid JSON", "line 1"});
  check_facts_refused(R"({"prompt": "a", "prompt": "c", "answer": "b"})", {"'prompt' twice", "line 1"});
  check_facts_refused(R"([{"single_hops": {"cloze": "a", "answer": "b"}}])",
                      {"task.jsonl[0]: single_hops", "an array"});
  check_facts_refused(R"([{"single_hops": "a"}])", {"task.jsonl[0]: single_hops", "an array"});
  check_facts_refused("{\"prompt\": \"a\", \"answer\": \"\xC3\"}", {"not UTF-8 text", "byte 28"});
  check_error(ErrorCode::kInput, {"cannot read '/nowhere/at/all.jsonl'"},
              [] { data::read_facts("/nowhere/at/all.jsonl"); });
}

TEST_CASE("questions: JSON lines, the answer as text or index") {
  const auto file = questions_of(R"({"id": "q", "prompt": "Which?", "options": ["A", "B", "C"], "answer": "C"}
{"prompt": "Which?", "options": ["yes", "no"], "answer": 0}
{"prompt": "How many?", "options": ["1", "2"], "answer": "1"}
{"prompt": "Which?", "options": ["A", "B"], "answer": " B\n"}
{"prompt": "Which?", "options": ["A", "B"], "answer": 1.0}
{"prompt": "Which?", "options": [" A", "B"], "answer": " A"})");
  REQUIRE(file.items.size() == 6);
  check_question(file.items[0], "q", "Which?", {"A", "B", "C"}, 2);
  check_question(file.items[1], "1", "Which?", {"yes", "no"}, 0);
  check_question(file.items[2], "2", "How many?", {"1", "2"}, 0);  // a text, not an index
  check_question(file.items[3], "3", "Which?", {"A", "B"}, 1);
  check_question(file.items[4], "4", "Which?", {"A", "B"}, 1);
  check_question(file.items[5], "5", "Which?", {"A", "B"}, 0);
  CHECK(file.items[5].continuations.empty());
  CHECK(file.items[5].has_own_options);
  CHECK(file.items[5].text() == "Which? A");
}

TEST_CASE("questions: an array without options takes those given, or the answers of the file") {
  const std::string array = R"([{"prompt": "p", "answer": "positive"}, {"prompt": "q", "answer": "negative"},
                               {"prompt": "r", "answer": "positive "}])";
  const auto sorted = questions_of(array);
  REQUIRE(sorted.items.size() == 3);
  check_question(sorted.items[0], "0", "p", {"negative", "positive"}, 1);
  check_question(sorted.items[1], "1", "q", {"negative", "positive"}, 0);
  check_question(sorted.items[2], "2", "r", {"negative", "positive"}, 1);
  const auto given = questions_of(array, {"positive", "neutral", "negative"});
  check_question(given.items[1], "1", "q", {"positive", "neutral", "negative"}, 2);
  // Options of its own come before those of the file.
  const auto mixed = questions_of(R"([{"prompt": "p", "answer": "x"}, {"prompt": "q", "answer": "y"},
                                      {"prompt": "r", "answer": "n", "options": ["n", "m"]}])");
  check_question(mixed.items[0], "0", "p", {"x", "y"}, 0);
  check_question(mixed.items[2], "2", "r", {"n", "m"}, 0);
  CHECK_FALSE(mixed.items[0].has_own_options);
  CHECK(mixed.items[2].has_own_options);
  check_questions_refused(array,
                          {"the answer is none of the options", "task.jsonl[1]", "A, positive", "'negative'"},
                          {"A", "positive"});
  check_questions_refused(R"([{"prompt": "p", "answer": "x"}])", {"unusable options", "2 to 26", "found 1"});
}

TEST_CASE("questions: an answer that differs from one option in case only is that option, and is reported") {
  const std::string array = R"([{"prompt": "p", "answer": "Yes"}, {"prompt": "q", "answer": "No"}])";
  const auto read = [&](const std::string& text, const std::vector<std::string>& options,
                        const std::vector<std::vector<std::string>>& warnings) {
    const test::Warnings told;
    auto file = questions_of(text, options);
    CHECK(told.count() == warnings.size());
    for (const std::vector<std::string>& parts : warnings) CHECK(told.tell(parts));
    return file;
  };
  // Of given options and answers the file's spelling counts: its prompts have it, too.
  const auto given = read(array, {"yes", "no"},
                          {{"the answers say 'Yes' where --options says 'yes'"},
                           {"the answers say 'No' where --options says 'no'"}});
  check_question(given.items[0], "0", "p", {"Yes", "No"}, 0);
  check_question(given.items[1], "1", "q", {"Yes", "No"}, 1);
  // Of a question's own options their spelling does.
  const auto own = read(R"([{"prompt": "p", "options": ["A", "B"], "answer": "b"}])", {},
                        {{"differ from their option in case only: 1", "[0]"}});
  check_question(own.items[0], "0", "p", {"A", "B"}, 1);
  // Where two could be meant, none is.
  check_questions_refused(R"([{"prompt": "p", "options": ["YES", "Yes"], "answer": "yes"}])",
                          {"the answer is none of the options", "YES, Yes", "'yes'"});
  const std::string both = R"([{"prompt": "p", "answer": "Yes"}, {"prompt": "q", "answer": "yes"}])";
  const auto distinct = read(both, {}, {{"'Yes' and 'yes' differ in case only", "--options"}});
  check_question(distinct.items[1], "1", "q", {"Yes", "yes"}, 1);
  const auto one = read(both, {"yes", "no"}, {{"differ from their option in case only: 1"}});
  check_question(one.items[0], "0", "p", {"yes", "no"}, 0);
}

TEST_CASE("questions: samples of lm-evaluation-harness, in both spellings") {
  const std::string list =
      R"({"doc_id": 3, "doc": {"any": 1}, "target": 1, "arguments": [["Q:\nAnswer:", " A"], ["Q:\nAnswer:", " B"]],
          "resps": [], "acc": 1.0})";
  const std::string object =
      R"({"doc_id": 4, "target": "0", "arguments": {"gen_args_0": {"arg_0": "Q:", "arg_1": " no"},
          "gen_args_1": {"arg_0": "Q:", "arg_1": " yes"}}})";
  const std::string text =
      R"({"doc_id": "x", "target": " yes", "arguments": [["Q:", " no"], ["Q:", " yes"]]})";
  // An option that is a number is meant as such.
  const std::string number = R"({"doc_id": 6, "target": "1", "arguments": [["Q:", " 1"], ["Q:", " 0"]]})";
  const auto file = questions_of("[" + list + "," + object + "," + text + "," + number + "]");
  REQUIRE(file.items.size() == 4);
  check_question(file.items[0], numbered(3), "Q:\nAnswer:", {"A", "B"}, 1);
  check_question(file.items[1], numbered(4), "Q:", {"no", "yes"}, 0);
  check_question(file.items[2], "x", "Q:", {"no", "yes"}, 1);
  check_question(file.items[3], numbered(6), "Q:", {"1", "0"}, 0);
  CHECK(file.items[0].continuations == Texts{" A", " B"});  // to the letter
  CHECK(file.items[0].text() == "Q:\nAnswer: B");
}

TEST_CASE("questions: a logged target is held against the scores in the log") {
  const auto sample = [](const std::string& target, const std::string& scores, const std::string& acc) {
    return R"({"doc_id": 1, "target": )" + target +
           R"(, "arguments": [["Q:", " 1"], ["Q:", " 0"]], "acc": )" + acc + R"(, "resps": )" + scores +
           "}\n";
  };
  // As strings, as the harness writes them, and as numbers; the first option is the likelier one.
  const std::string quoted = R"([[["-1.5", "True"]], [["-2.5", "False"]]])",
                    plain = "[[-1.5, true], [-2, false]]";
  std::vector<std::size_t> answers;
  const auto told = [&](const std::string& bytes) {
    return test::warnings_of([&] {
      answers.clear();
      for (const Question& question : questions_of(bytes).items) answers.push_back(question.answer);
    });
  };
  using Answers = std::vector<std::size_t>;
  CHECK(told(sample("0", quoted, "1.0") + sample("1", plain, "0.0")).empty());
  CHECK(answers == Answers{0, 1});
  // Read from 1, each number is one too high.
  const Texts off = told(sample("1", quoted, "1.0") + sample("1", plain, "1") + sample("0", plain, "1"));
  REQUIRE(off.size() == 1);
  CHECK(off[0].find("samples whose 'acc' contradicts 'target' and 'resps': 2 (first: ") != std::string::npos);
  CHECK(off[0].find("task.jsonl, line 1)") != std::string::npos);
  // "1" is the text of option 0 and the number of option 1: the log tells which is meant.
  CHECK(told(sample("\"1\"", quoted, "1.0")).empty());
  CHECK(answers == Answers{0});
  CHECK(told(sample("\"1\"", quoted, "0.0") + sample("\"0\"", "[]", "0")).empty());
  CHECK(answers == Answers{1, 0});  // all targets of a file are of one kind
  const Texts unknown = told(sample("\"1\"", "[]", "0.0"));
  CHECK(answers == Answers{0});
  REQUIRE(unknown.size() == 1);
  CHECK(unknown[0].find("targets that are the text of one option and the number of another: 1") !=
        std::string::npos);
  // What cannot be compared is not: other counts, no numbers, a metric that is no accuracy.
  CHECK(told(sample("1", "[[-1, true]]", "1") + sample("1", R"([["x"], ["nan"]])", "1") +
             sample("1", quoted, "0.5"))
            .empty());
}

TEST_CASE("questions: samples that are no multiple choice") {
  check_questions_refused(R"({"target": 0, "arguments": [["a", " x"], ["b", " y"]]})",
                          {"arguments[1][0]", "multiple choice", "\"b\""});
  check_questions_refused(R"({"target": 0, "arguments": [["a", {"until": ["\n"]}]]})",
                          {"arguments[0][1]", "a string"});
  check_questions_refused(R"({"target": 0, "arguments": [["a"], ["a"]]})", {"arguments[0]", "more than 1"});
  check_questions_refused(R"({"target": 0, "arguments": {"args": {"arg_0": "a", "arg_1": "b"}}})",
                          {"missing key 'gen_args_0'"});
  check_questions_refused(R"({"target": 0, "arguments": "abc"})", {"line 1: arguments"});
  check_questions_refused(R"({"target": 2, "arguments": [["a", " x"], ["a", " y"]]})",
                          {"none of the options", "x, y", "found 2"});
  check_questions_refused(R"({"target": "2", "arguments": [["a", " x"], ["a", " y"]]})",
                          {"none of the options"});
  check_questions_refused(R"({"target": "99999999999999999999", "arguments": [["a", " x"], ["a", " y"]]})",
                          {"none of the options", "99999999999999999999"});
  check_questions_refused(R"({"target": "-1", "arguments": [["a", " x"], ["a", " y"]]})",
                          {"none of the options", "'-1'"});
  check_questions_refused(R"({"arguments": [["a", " x"], ["a", " y"]]})", {"missing key 'target'"});
}

TEST_CASE("questions: options and answers that cannot be used") {
  const auto with = [](const std::string& options, const std::string& answer) {
    return R"({"prompt": "p", "options": )" + options + R"(, "answer": )" + answer + "}";
  };
  check_questions_refused(with(R"(["A", "B", "A"])", "0"),
                          {"an option stands twice", "line 1", "different options", "'A'"});
  check_questions_refused(with(R"(["A"])", "0"), {"unusable options", "2 to 26", "found 1"});
  check_questions_refused(with(R"(["A", " "])", "0"), {"an option is blank"});
  check_questions_refused(with(R"(["A", 2])", "0"), {"options[1]", "a string"});
  check_questions_refused(with(R"("AB")", "0"), {"line 1: options", "an array of texts"});
  check_questions_refused(with(R"(["A", "B"])", "2"),
                          {"the answer is none of the options", "A, B", "found 2"});
  check_questions_refused(with(R"(["A", "B"])", "-1"), {"line 1: answer", "-1"});
  check_questions_refused(with(R"(["A", "B"])", "26"), {"line 1: answer", "26"});
  check_questions_refused(with(R"(["A", "B"])", "\"C\""), {"none of the options", "'C'"});
  check_questions_refused(with(R"(["A", "B"])", "\"1\""), {"none of the options", "'1'"});
  check_questions_refused(with(R"(["A", "B"])", "0.5"), {"line 1: answer", "an option's number", "0.5"});
  check_questions_refused(with("[]", "0"), {"unusable options", "line 1", "2 to 26", "found 0"});
  check_questions_refused(with(R"(["A", "B", " A"])", "0"),
                          {"differ in white space only", "line 1", "'A' and ' A'"});
  check_questions_refused(with(R"(["A", "B"])", "true"), {"line 1: answer", "a string"});
  check_questions_refused(R"({"prompt": "p", "options": ["A", "B"]})", {"missing key 'answer'"});
  check_questions_refused(R"({"options": ["A", "B"], "answer": 0})", {"missing key 'prompt'"});
  std::string many = "[";
  for (int i = 0; i < 27; ++i) many += (i > 0 ? ", \"o" : "\"o") + std::to_string(i) + "\"";
  check_questions_refused(with(many + "]", "0"), {"unusable options", "found 27"});
}

TEST_CASE("a file of questions is known by the options of its first item") {
  const test::TemporaryFolder folder;
  const auto has_options = [&](const std::string& bytes) {
    return data::has_options(written(folder, bytes));
  };
  CHECK(has_options(R"({"prompt": "p", "options": ["A", "B"], "answer": 0})"));
  CHECK(has_options(R"([{"target": 0, "arguments": []}])"));
  CHECK_FALSE(has_options(R"({"prompt": "p", "answer": "x"})"));
  CHECK_FALSE(has_options("{\"prompt\": \"p\", \"answer\": \"x\"}\n{\"options\": []}"));
  CHECK_FALSE(has_options(""));
}

TEST_CASE("keys that are there and not used are reported") {
  const Texts facts =
      test::warnings_of([] { facts_of(R"({"prompt": "p", "options": ["A", "B"], "answer": "A"})"); });
  REQUIRE(facts.size() == 1);
  CHECK(facts[0].find("task.jsonl: facts with options: 1 (first: ") != std::string::npos);
  const test::TemporaryFolder folder;
  const Texts pairs = test::warnings_of([&] {
    data::read_prompt_pairs(written(folder, R"([{"source": {"prompt": "a", "answer": "b", "aliases": ["x"]},
                                                 "target": {"prompt": "c", "answer": "d"}}])"));
  });
  REQUIRE(pairs.size() == 1);
  CHECK(pairs[0].find("task.jsonl: pairs with aliases or distractors: 1 (first: ") != std::string::npos);
}

TEST_CASE("pairs of prompts") {
  const test::TemporaryFolder folder;
  const auto pairs_of = [&](const std::string& bytes) {
    return data::read_prompt_pairs(written(folder, bytes)).items;
  };
  const auto pairs = pairs_of(R"([{"id": "p", "source": {"prompt": "a", "answer": "b"},
                                   "target": {"cloze": "c", "answer": "d"}}])");
  REQUIRE(pairs.size() == 1);
  CHECK(pairs[0].id == "p");
  check_fact(pairs[0].source, "p", "a", "b");
  check_fact(pairs[0].target, "p", "c", "d");
  check_error(ErrorCode::kInput, {"missing key 'target'", "line 1"},
              [&] { pairs_of(R"({"source": {"prompt": "a", "answer": "b"}})"); });
  check_error(ErrorCode::kInput, {"line 1: source", "an object"},
              [&] { pairs_of(R"({"source": "a", "target": {"prompt": "a", "answer": "b"}})"); });
}
