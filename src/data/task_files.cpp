// Facts and questions out of the formats they are found in.
#include "depthlens/data/task_files.hpp"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"
#include "task_text.hpp"

namespace depthlens::data {
namespace {

using util::JsonView;

constexpr std::size_t kMostOptions = 26;

/// Calls `use` with each object of a JSON array or of JSON lines, and its place in the file as an id.
void for_each_object(const TaskText& file,
                     const std::function<void(const JsonView&, const std::string&)>& use) {
  try {
    const std::string_view text = file.text;
    const std::size_t start = text.find_first_not_of(" \t\r\n");
    if (start != std::string_view::npos && text[start] == '[') {
      const util::Json document = util::parse_json(text, file.name);
      const JsonView array(document, file.name);
      for (std::size_t i = 0; i < array.size(); ++i) {
        const JsonView object = array.at(i);
        if (!object.is_object()) object.fail("an object");
        use(object, std::to_string(i));
      }
      return;
    }
    std::int64_t number = 0;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view line = text.substr(begin, end - begin);
      begin = end + 1;
      ++number;
      if (util::trimmed(line).empty()) continue;
      const std::string where = util::cat(file.name, ", line ", number);
      const util::Json document = util::parse_json(line, where);
      const JsonView object(document, where);
      if (!object.is_object()) object.fail("an object a line, or one array");
      use(object, std::to_string(number - 1));
    }
  } catch (const util::Error& error) {
    throw util::input_error(error.text());  // a fault of an input, not of a model
  }
}

/// A text that must say something.
std::string filled(const JsonView& object, const std::string& key) {
  std::string text = object.at(key).as_string();
  if (util::trimmed(text).empty()) object.at(key).fail("a text that is not blank");
  return text;
}

std::string id_of(const JsonView& object, const std::string& place) {
  for (const char* key : {"id", "case_id", "doc_id"}) {
    if (!object.has(key)) continue;
    return object.at(key).is_string() ? object.at(key).as_string() : object.at(key).raw().dump();
  }
  return place;
}

std::vector<std::string> texts(const JsonView& array) {
  std::vector<std::string> all;
  if (!array.is_array()) array.fail("an array of texts");
  for (std::size_t i = 0; i < array.size(); ++i) all.push_back(array.at(i).as_string());
  return all;
}

std::vector<std::string> aliases_of(const JsonView& object) {
  for (const char* key : {"aliases", "answer_alias"}) {
    if (object.has(key)) return texts(object.at(key));
  }
  return {};
}

Fact fact_of(const JsonView& object, std::string id) {
  return {.id = std::move(id),
          .prompt = filled(object, object.has("cloze") ? "cloze" : "prompt"),
          .answer = filled(object, "answer"),
          .aliases = aliases_of(object)};
}

/// A template with the subject in the place of "{}".
std::string with_subject(const JsonView& rewrite) {
  std::string prompt = filled(rewrite, "prompt");
  const std::size_t place = prompt.find("{}");
  if (place == std::string::npos) rewrite.at("prompt").fail("a text with {} for the subject");
  return prompt.replace(place, 2, rewrite.at("subject").as_string());
}

/// The options that lm-evaluation-harness compared: the continuations of one context.
struct LoggedRequests {
  std::string context;
  std::vector<std::string> continuations;
};

LoggedRequests logged_requests(const JsonView& arguments) {
  LoggedRequests requests;
  const auto add = [&](const JsonView& context, const JsonView& continuation) {
    std::string text = context.as_string();
    if (!requests.continuations.empty() && text != requests.context)
      context.fail("the context of the other options: a task of multiple choice");
    requests.context = std::move(text);
    requests.continuations.push_back(continuation.as_string());
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

/// A question whose options may come from the file as a whole.
struct Draft {
  Question question;
  std::string answer;  ///< a text to be found among the options; used where `index` is nothing
  std::optional<std::size_t> index;
  std::string where;
};

Draft draft_of(const JsonView& object, const std::string& place) {
  Draft draft{.question = {.id = id_of(object, place), .prompt = {}, .options = {}},
              .answer = {},
              .index = {},
              .where = object.where()};
  const bool logged = object.has("arguments");
  if (logged) {
    LoggedRequests requests = logged_requests(object.at("arguments"));
    draft.question.prompt = std::move(requests.context);
    for (const std::string& continuation : requests.continuations)
      draft.question.options.emplace_back(util::trimmed(continuation));
  } else {
    draft.question.prompt = filled(object, "prompt");
    if (object.has("options")) draft.question.options = texts(object.at("options"));
  }
  const JsonView answer = object.at(logged ? "target" : "answer");
  if (answer.is_integer()) {
    draft.index = static_cast<std::size_t>(answer.as_integer(0, kMostOptions - 1));
    return draft;
  }
  draft.answer = answer.as_string();
  std::int64_t number = 0;
  const std::vector<std::string>& options = draft.question.options;
  const auto named = [&](const std::string& option) { return option == util::trimmed(draft.answer); };
  const bool is_option = std::any_of(options.begin(), options.end(), named);
  // Logged targets are often numbers in quotes.
  if (logged && !is_option && util::parse_int(draft.answer, number) && number >= 0)
    draft.index = static_cast<std::size_t>(number);
  return draft;
}

void check_options(const Draft& draft) {
  const std::vector<std::string>& options = draft.question.options;
  const auto fail = [&](const std::string& what, const std::string& expected, const std::string& found) {
    throw util::input_error({.what = what, .where = draft.where, .expected = expected, .found = found});
  };
  if (options.size() < 2 || options.size() > kMostOptions)
    fail("unusable options", util::cat("2 to ", kMostOptions), std::to_string(options.size()));
  for (std::size_t i = 0; i < options.size(); ++i) {
    if (util::trimmed(options[i]).empty()) fail("an option is blank", "texts", util::in_quotes(options[i]));
    for (std::size_t j = 0; j < i; ++j) {
      if (options[i] == options[j])
        fail("an option stands twice", "different options", util::in_quotes(options[i]));
    }
  }
}

Question finished(Draft draft) {
  check_options(draft);
  const std::vector<std::string>& options = draft.question.options;
  if (draft.index) {
    draft.question.answer = *draft.index;
  } else {
    const std::string answer(util::trimmed(draft.answer));
    draft.question.answer =
        static_cast<std::size_t>(std::find(options.begin(), options.end(), answer) - options.begin());
  }
  if (draft.question.answer >= options.size()) {
    throw util::input_error(
        {.what = "the answer is none of the options",
         .where = draft.where,
         .expected = util::join(options, ", "),
         .found = draft.index ? std::to_string(*draft.index) : util::in_quotes(draft.answer)});
  }
  return std::move(draft.question);
}

}  // namespace

TaskFile<Fact> read_facts(const std::string& path) {
  const TaskText text = read_task_text(path);
  TaskFile<Fact> file{.sha256 = text.sha256, .items = {}, .dropped = {}};
  std::set<std::pair<std::string, std::string>> seen;
  for_each_object(text, [&](const JsonView& object, const std::string& place) {
    if (object.has("single_hops")) {  // MQuAKE: the same hop serves many chains
      const JsonView hops = object.at("single_hops");
      for (std::size_t i = 0; i < hops.size(); ++i) {
        Fact fact = fact_of(hops.at(i), util::cat(id_of(object, place), ".", i));
        if (seen.emplace(fact.prompt, fact.answer).second) {
          file.items.push_back(std::move(fact));
        } else {
          ++file.dropped["repeated_fact"];
        }
      }
    } else if (object.has("requested_rewrite")) {  // CounterFact
      const JsonView rewrite = object.at("requested_rewrite");
      file.items.push_back({.id = id_of(object, place),
                            .prompt = with_subject(rewrite),
                            .answer = filled(rewrite.at("target_true"), "str"),
                            .aliases = {}});
    } else {
      file.items.push_back(fact_of(object, id_of(object, place)));
    }
  });
  return file;
}

TaskFile<Question> read_questions(const std::string& path, const std::vector<std::string>& options) {
  const TaskText text = read_task_text(path);
  std::vector<Draft> drafts;
  std::set<std::string> answers;
  for_each_object(text, [&](const JsonView& object, const std::string& place) {
    drafts.push_back(draft_of(object, place));
    const Draft& draft = drafts.back();
    if (draft.question.options.empty() && !draft.index) answers.emplace(util::trimmed(draft.answer));
  });
  const std::vector<std::string> shared =
      options.empty() ? std::vector<std::string>(answers.begin(), answers.end()) : options;
  TaskFile<Question> file{.sha256 = text.sha256, .items = {}, .dropped = {}};
  for (Draft& draft : drafts) {
    if (draft.question.options.empty()) draft.question.options = shared;
    file.items.push_back(finished(std::move(draft)));
  }
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
  TaskFile<PromptPair> file{.sha256 = text.sha256, .items = {}, .dropped = {}};
  for_each_object(text, [&](const JsonView& object, const std::string& place) {
    const std::string id = id_of(object, place);
    file.items.push_back(
        {.id = id, .source = fact_of(object.at("source"), id), .target = fact_of(object.at("target"), id)});
  });
  return file;
}

}  // namespace depthlens::data
