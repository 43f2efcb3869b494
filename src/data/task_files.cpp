// Facts and questions out of the formats they are found in.
#include "depthlens/data/task_files.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "depthlens/data/input_text.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"
#include "exact_number.hpp"
#include "prompt.hpp"
#include "tally.hpp"
#include "task_text.hpp"

namespace depthlens::data {
namespace {

using util::JsonView;

constexpr std::size_t kMaxOptions = 26;

/// One line of JSON lines, which is not blank.
util::Json parse_line(std::string_view line, const std::string& where) {
  try {
    return util::parse_json(line, where);
  } catch (const util::Error& error) {
    util::ErrorText text = error.text();
    if (util::trimmed(line).back() != '}')
      text.hint = "an object must not go on in the next line, unless the file is one array";
    throw util::input_error(std::move(text));
  }
}

/// Calls `use` with each object of a JSON array or of JSON lines, and its place in the file as an id.
void for_each_object(const TaskText& file,
                     const std::function<void(const JsonView&, const std::string&)>& use) {
  constexpr const char* kExpected = "an object a line, or one array";
  try {
    const std::string_view text = file.text;
    const std::size_t start = text.find_first_not_of(" \t\r\n");
    if (start == std::string_view::npos) return;
    if (text[start] == '[') {
      const util::Json document = util::parse_json(text, file.name);
      const JsonView array(document, file.name);
      for (std::size_t i = 0; i < array.size(); ++i) {
        const JsonView object = array.at(i);
        if (!object.is_object()) object.fail("an object");
        use(object, std::to_string(i));
      }
      return;
    }
    if (text[start] != '{') {
      throw util::input_error(
          {.what = "not a task file",
           .where = util::cat(file.name, ", line ", 1 + std::count(text.begin(), text.begin() + start, '\n')),
           .expected = util::cat("JSON (", kExpected, "), or CoNLL-U with --experiment pos"),
           .found = util::in_quotes(util::trimmed(text.substr(start, text.find('\n', start) - start)))});
    }
    std::int64_t number = 0;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view line = text.substr(begin, end - begin);
      begin = end + 1;
      ++number;
      if (util::trimmed(line).empty()) continue;
      const std::string where = util::cat(file.name, ", line ", number);
      const util::Json document = parse_line(line, where);
      const JsonView object(document, where);
      if (!object.is_object()) object.fail(kExpected);
      use(object, std::to_string(number - 1));
    }
  } catch (const util::Error& error) {
    util::ErrorText told = error.text();
    if (told.hint.empty() && told.what.find("missing key") != std::string::npos)
      told.hint =
          "facts have prompt and answer, questions options too; pairs a source and a target, each a fact";
    throw util::input_error(std::move(told));  // a fault of an input, not of a model
  }
}

std::string text_of(const JsonView& value) {
  std::string text = value.as_string();
  refuse_wide_text(text, value.where());
  return text;
}

/// A text that must say something.
std::string filled(const JsonView& object, const std::string& key) {
  std::string text = text_of(object.at(key));
  if (util::trimmed(text).empty()) object.at(key).fail("a text that is not blank");
  return text;
}

ItemId id_of(const JsonView& object, const std::string& place) {
  for (const char* key : {"id", "case_id", "doc_id"}) {
    if (!object.has(key)) continue;
    const JsonView id = object.at(key);
    if (!id.is_string() && !is_exact_number(id)) id.fail("a text, or a number of at most 19 digits");
    return id.is_string() ? ItemId(id.as_string()) : ItemId(util::json_text(id.raw()), /*is_number=*/true);
  }
  return place;
}

std::vector<std::string> texts(const JsonView& array) {
  std::vector<std::string> all;
  if (!array.is_array()) array.fail("an array of texts");
  for (std::size_t i = 0; i < array.size(); ++i) all.push_back(text_of(array.at(i)));
  return all;
}

std::vector<std::string> aliases_of(const JsonView& object) {
  std::vector<std::string> aliases;
  for (const char* key : {"aliases", "answer_alias"}) {
    if (!object.has(key)) continue;
    for (std::string& alias : texts(object.at(key))) {
      if (!util::trimmed(alias).empty()) aliases.push_back(std::move(alias));
    }
  }
  return aliases;
}

/// The prompt; with a subject beside it, in the place of "{}", as CounterFact has it.
std::string prompt_of(const JsonView& object) {
  std::string prompt = filled(object, object.has("cloze") ? "cloze" : "prompt");
  const std::size_t place = prompt.find("{}");
  if (place == std::string::npos || !object.has("subject") || !object.at("subject").is_string())
    return prompt;
  return prompt.replace(place, 2, text_of(object.at("subject")));
}

Fact fact_of(const JsonView& object, ItemId id) {
  return {.id = std::move(id),
          .prompt = prompt_of(object),
          .answer = filled(object, "answer"),
          .aliases = aliases_of(object),
          .distractor = object.has("distractor") ? filled(object, "distractor") : ""};
}

/// A template with the subject in the place of "{}".
std::string with_subject(const JsonView& rewrite) {
  if (filled(rewrite, "prompt").find("{}") == std::string::npos)
    rewrite.at("prompt").fail("a text with {} for the subject");
  return rewrite.at("subject").is_string() ? prompt_of(rewrite) : rewrite.at("subject").as_string();
}

/// The options that lm-evaluation-harness compared: the continuations of one context.
struct LoggedRequests {
  std::string context;
  std::vector<std::string> continuations;
};

LoggedRequests logged_requests(const JsonView& arguments) {
  LoggedRequests requests;
  const auto add = [&](const JsonView& context, const JsonView& continuation) {
    std::string text = text_of(context);
    if (!requests.continuations.empty() && text != requests.context)
      context.fail("the context of the other options: a task of multiple choice");
    requests.context = std::move(text);
    requests.continuations.push_back(text_of(continuation));
  };
  if (arguments.is_array()) {
    for (std::size_t i = 0; i < arguments.size(); ++i) add(arguments.at(i).at(0), arguments.at(i).at(1));
  } else {  // {"gen_args_0": {"arg_0", "arg_1"}, …}
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      const JsonView request = arguments.at(util::cat("gen_args_", i));
      add(request.at("arg_0"), request.at("arg_1"));
    }
  }
  return requests;
}

/// A number, or the first one in nested arrays; in quotes too. So log-likelihoods and metrics are logged.
std::optional<double> logged_number(const util::Json& value) {
  if (value.is_array() && !value.empty()) return logged_number(value.front());
  if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
  if (value.is_number()) return value.get<double>();
  if (!value.is_string()) return {};
  const std::string& text = value.get_ref<const std::string&>();
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (text.empty() || end != text.c_str() + text.size() || std::isnan(number)) return {};
  return number;
}

/// What a log tells of the outcome, where it does: the option found most likely, and whether it was right.
struct LoggedOutcome {
  std::optional<std::size_t> most_likely;
  std::optional<bool> was_right;

  /// Whether `answer` cannot have been the right option.
  bool contradicts(std::size_t answer) const {
    return most_likely && was_right && (*most_likely == answer) != *was_right;
  }
};

LoggedOutcome logged_outcome(const JsonView& sample, std::size_t num_options) {
  LoggedOutcome outcome;
  if (sample.has("acc")) {
    const std::optional<double> accuracy = logged_number(sample.at("acc").raw());
    if (accuracy == 0 || accuracy == 1) outcome.was_right = accuracy == 1;
  }
  for (const char* key : {"filtered_resps", "resps"}) {
    if (!sample.has(key)) continue;
    const util::Json& responses = sample.at(key).raw();
    if (!responses.is_array() || responses.size() != num_options) continue;
    std::vector<double> scores;
    for (const util::Json& response : responses) {
      if (const auto score = logged_number(response)) scores.push_back(*score);
    }
    if (scores.empty() || scores.size() != num_options) continue;
    outcome.most_likely =
        static_cast<std::size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
    break;
  }
  return outcome;
}

bool same_but_case(const std::string& a, const std::string& b) {
  return util::lower_case(a) == util::lower_case(b);
}

/// `text` as `names` spell it: to the letter where they do, else the only one that differs in case alone.
template <typename Names>
std::optional<std::string> spelling_of(const std::string& text, const Names& names) {
  std::optional<std::string> found;
  for (const std::string& name : names) {
    if (name == text) return name;
    if (!same_but_case(name, text)) continue;
    if (found) return std::nullopt;
    found = name;
  }
  return found;
}

/// A question whose options may come from the file as a whole.
struct Draft {
  Question question;
  std::vector<std::string> given;    ///< the options to the letter
  std::optional<std::string> text;   ///< the answer as the text of an option
  std::optional<std::size_t> index;  ///< the answer as the number of an option
  LoggedOutcome outcome;
  std::string where;

  /// The option that the answer names, by its text or by its number.
  std::optional<std::size_t> by_text() const;
  std::optional<std::size_t> by_index() const;
};

std::optional<std::size_t> Draft::by_text() const {
  const std::vector<std::string>& options = question.options;
  const std::optional<std::string> name = text ? spelling_of(*text, options) : std::nullopt;
  if (!name) return {};
  return static_cast<std::size_t>(std::find(options.begin(), options.end(), *name) - options.begin());
}

std::optional<std::size_t> Draft::by_index() const {
  return index && *index < question.options.size() ? index : std::nullopt;
}

void set_answer(Draft& draft, const JsonView& answer, bool logged) {
  if (answer.is_number()) {
    const double number = answer.as_number();
    if (number < 0 || number >= kMaxOptions || number != std::floor(number))
      answer.fail(util::cat("an option's number from 0 to ", kMaxOptions - 1));
    draft.index = static_cast<std::size_t>(number);
    return;
  }
  if (!answer.is_string()) answer.fail("a string or a number");
  draft.text = std::string(util::trimmed(text_of(answer)));
  std::int64_t number = 0;
  // Logged targets are often numbers in quotes.
  if (logged && util::parse_int(*draft.text, number) && number >= 0)
    draft.index = static_cast<std::size_t>(number);
}

void check_options(const Draft& draft) {
  const std::vector<std::string>&options = draft.question.options, &given = draft.given;
  const auto fail = [&](const std::string& what, const std::string& expected, const std::string& found) {
    throw util::input_error({.what = what, .where = draft.where, .expected = expected, .found = found});
  };
  if (options.size() < 2 || options.size() > kMaxOptions) {
    fail("unusable options", util::cat("2 to ", kMaxOptions),
         util::cat(options.size(),
                   draft.question.has_own_options ? "" : ", which are the answers of the whole file"));
  }
  for (std::size_t i = 0; i < options.size(); ++i) {
    if (options[i].empty()) fail("an option is blank", "texts", util::in_quotes(given[i]));
    for (std::size_t j = 0; j < i; ++j) {
      if (options[i] != options[j]) continue;
      const bool equal = given[i] == given[j];
      fail(equal ? "an option stands twice" : "options that differ in white space only", "different options",
           equal ? util::in_quotes(given[i])
                 : util::cat(util::in_quotes(given[j]), " and ", util::in_quotes(given[i])));
    }
  }
}

void set_options(Draft& draft, std::vector<std::string> given) {
  draft.given = std::move(given);
  for (const std::string& option : draft.given) draft.question.options.emplace_back(util::trimmed(option));
  check_options(draft);
}

Draft draft_of(const JsonView& object, const std::string& place) {
  Draft draft{.question = {.id = id_of(object, place), .prompt = {}, .options = {}},
              .given = {},
              .text = {},
              .index = {},
              .outcome = {},
              .where = object.where()};
  const bool logged = object.has("arguments");
  if (logged) {
    LoggedRequests requests = logged_requests(object.at("arguments"));
    draft.question.prompt = std::move(requests.context);
    draft.question.continuations = requests.continuations;
    draft.outcome = logged_outcome(object, requests.continuations.size());
    set_options(draft, std::move(requests.continuations));
  } else {
    draft.question.prompt = filled(object, "prompt");
    draft.question.has_own_options = object.has("options");
    if (draft.question.has_own_options) set_options(draft, texts(object.at("options")));
  }
  set_answer(draft, object.at(logged ? "target" : "answer"), logged);
  return draft;
}

/// Whether targets that are the text of one option and the number of another are meant as numbers. A task
/// logs all its targets in one way; that which fewer of the outcomes contradict is taken.
bool targets_are_numbers(const std::vector<Draft>& drafts, const std::string& file) {
  Tally ambiguous;
  std::int64_t against_texts = 0, against_numbers = 0;
  for (const Draft& draft : drafts) {
    const std::optional<std::size_t> text = draft.by_text(), number = draft.by_index();
    if (!text || !number || *text == *number) continue;
    ambiguous.add(draft.where);
    against_texts += draft.outcome.contradicts(*text) ? 1 : 0;
    against_numbers += draft.outcome.contradicts(*number) ? 1 : 0;
  }
  if (against_texts == against_numbers)
    ambiguous.warn(file, "targets that are the text of one option and the number of another",
                   "they are read as texts, and the log does not tell");
  return against_numbers < against_texts;
}

Question finished(Draft draft, bool prefer_numbers) {
  const std::optional<std::size_t> text = draft.by_text(), number = draft.by_index();
  const std::optional<std::size_t> answer = text && number ? (prefer_numbers ? number : text)
                                            : text         ? text
                                                           : number;
  if (!answer) {
    throw util::input_error(
        {.what = "the answer is none of the options",
         .where = draft.where,
         .expected = util::join(draft.question.options, ", "),
         .found = draft.text ? util::in_quotes(*draft.text) : std::to_string(*draft.index)});
  }
  draft.question.answer = *answer;
  return std::move(draft.question);
}

/// The answers of a file as its options.
std::vector<std::string> distinct_options(const std::set<std::string>& answers, const std::string& file) {
  if (answers.size() > kMaxOptions) return {answers.begin(), answers.end()};  // an error
  for (auto a = answers.begin(); a != answers.end(); ++a) {
    for (auto b = std::next(a); b != answers.end(); ++b) {
      if (!same_but_case(*a, *b)) continue;
      util::log_warning(
          util::cat(file, ": the answers ", util::in_quotes(*a), " and ", util::in_quotes(*b),
                    " differ in case only; each is an option of its own (--options names one)"));
    }
  }
  return {answers.begin(), answers.end()};
}

/// Options from outside, as the answers of the file spell them: so do the examples in its prompts.
std::vector<std::string> as_spelled(std::vector<std::string> options, const std::set<std::string>& answers,
                                    const std::string& file) {
  for (std::string& option : options) {
    const std::string spelling = spelling_of(option, answers).value_or(option);
    if (spelling == option || std::find(options.begin(), options.end(), spelling) != options.end()) continue;
    util::log_warning(util::cat(file, ": the answers say ", util::in_quotes(spelling),
                                " where --options says ", util::in_quotes(option),
                                "; the file's spelling is used"));
    option = spelling;
  }
  return options;
}

}  // namespace

std::string ItemId::json() const {
  return is_number ? text : util::json_string(text);
}

std::string Fact::text() const {
  return util::cat(without_space_at_end(prompt), " ", util::trimmed(answer));
}

std::string Question::text() const {
  if (!continuations.empty()) return prompt + continuations[answer];
  return util::cat(without_space_at_end(prompt, " "), " ", options[answer]);
}

TaskFile<Fact> read_facts(const std::string& path) {
  const TaskText text = read_task_text(path);
  TaskFile<Fact> file{.sha256 = text.sha256, .items = {}};
  Tally with_options;
  for_each_object(text, [&](const JsonView& object, const std::string& place) {
    if (object.has("single_hops")) {  // MQuAKE
      const JsonView hops = object.at("single_hops");
      for (std::size_t i = 0; i < hops.size(); ++i)
        file.items.push_back(fact_of(hops.at(i), util::cat(id_of(object, place).text, ".", i)));
    } else if (object.has("requested_rewrite")) {  // CounterFact
      const JsonView rewrite = object.at("requested_rewrite");
      file.items.push_back(
          {.id = id_of(object, place),
           .prompt = with_subject(rewrite),
           .answer = filled(rewrite.at("target_true"), "str"),
           .aliases = {},
           .distractor = rewrite.has("target_new") ? filled(rewrite.at("target_new"), "str") : ""});
    } else {
      if (object.has("options")) with_options.add(object.where());
      file.items.push_back(fact_of(object, id_of(object, place)));
    }
  });
  with_options.warn(text.name, "facts with options", "these are not used: --experiment choices does");
  return file;
}

TaskFile<Question> read_questions(const std::string& path, const std::vector<std::string>& options) {
  const TaskText text = read_task_text(path);
  std::vector<Draft> drafts;
  std::set<std::string> answers;
  for_each_object(text, [&](const JsonView& object, const std::string& place) {
    drafts.push_back(draft_of(object, place));
    const Draft& draft = drafts.back();
    if (!draft.question.has_own_options && draft.text) answers.insert(*draft.text);
  });
  const bool are_needed = std::any_of(drafts.begin(), drafts.end(),
                                      [](const Draft& draft) { return !draft.question.has_own_options; });
  if (options.empty() && are_needed && !answers.empty() && answers.size() <= kMaxOptions) {
    util::log_info(util::cat(text.name, ": options are the answers of the file: ",
                             util::join({answers.begin(), answers.end()}, ", ")));
  }
  const std::vector<std::string> shared =
      options.empty() ? distinct_options(answers, text.name) : as_spelled(options, answers, text.name);
  for (Draft& draft : drafts) {
    if (!draft.question.has_own_options) set_options(draft, shared);
  }
  const bool prefer_numbers = targets_are_numbers(drafts, text.name);
  TaskFile<Question> file{.sha256 = text.sha256, .items = {}};
  Tally contradicted, other_case;
  for (Draft& draft : drafts) {
    const LoggedOutcome outcome = draft.outcome;
    const std::string where = draft.where;
    const std::optional<std::string> answer = draft.text;
    file.items.push_back(finished(std::move(draft), prefer_numbers));
    if (const std::string& option = file.items.back().options[file.items.back().answer];
        answer && *answer != option && same_but_case(*answer, option))
      other_case.add(where);
    if (outcome.contradicts(file.items.back().answer)) contradicted.add(where);
  }
  other_case.warn(text.name, "answers that differ from their option in case only",
                  "the option is used as it is spelt");
  contradicted.warn(text.name, "samples whose 'acc' contradicts 'target' and 'resps'",
                    "the target is used as it stands");
  return file;
}

bool has_options(const std::string& path) {
  bool first = true, found = false;
  for_each_object(read_task_text(path), [&](const JsonView& object, const std::string& /*place*/) {
    if (std::exchange(first, false)) found = object.has("options") || object.has("arguments");
  });
  return found;
}

TaskFile<PromptPair> read_prompt_pairs(const std::string& path) {
  const TaskText text = read_task_text(path);
  TaskFile<PromptPair> file{.sha256 = text.sha256, .items = {}};
  Tally with_more;
  for_each_object(text, [&](const JsonView& object, const std::string& place) {
    const ItemId id = id_of(object, place);
    file.items.push_back(
        {.id = id, .source = fact_of(object.at("source"), id), .target = fact_of(object.at("target"), id)});
    const PromptPair& pair = file.items.back();
    for (const Fact* side : {&pair.source, &pair.target}) {
      if (side->aliases.empty() && side->distractor.empty()) continue;
      with_more.add(object.where());
      break;
    }
  });
  with_more.warn(text.name, "pairs with aliases or distractors", "patching follows the answers only");
  return file;
}

}  // namespace depthlens::data
