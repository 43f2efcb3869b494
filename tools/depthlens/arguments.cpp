// Words and settings into options.
#include "arguments.hpp"

#include <algorithm>

#include "depthlens/util/text.hpp"
#include "flags.hpp"
#include "settings_file.hpp"

namespace depthlens::tool {
namespace {

bool is_switch(const CLI::Option& option) {
  return option.get_items_expected_max() == 0;
}

/// "-" is stdin, and a number may be negative.
bool looks_like_flag(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && word[1] != '.' && !(word[1] >= '0' && word[1] <= '9');
}

/// Whether a word begins with a flag of the command, perhaps with a value behind it.
bool is_flag(const std::string& word, const std::vector<CLI::Option*>& options) {
  const std::string name = word.substr(0, word.find('='));
  return std::any_of(options.begin(), options.end(),
                     [&](const CLI::Option* option) { return option->check_name(name); });
}

/// True for a switch that is switched off.
bool is_off(const CLI::Option& option, const std::vector<std::string>& values) {
  return is_switch(option) && values.back() == "false";
}

}  // namespace

Arguments::Arguments(CLI::App& command, const std::vector<std::string>& words)
    : command_(command), options_(options_of(command)) {
  read_words(words);
  if (help_) return;
  read_file();
  refuse_contradictions();
  apply();
}

const Arguments::Given* Arguments::given(const CLI::Option* option) const {
  const auto found =
      std::find_if(given_.begin(), given_.end(), [&](const Given& one) { return one.option == option; });
  return found == given_.end() ? nullptr : &*found;
}

void Arguments::add_by_hand(CLI::Option* option, const std::string& value) {
  const auto found =
      std::find_if(given_.begin(), given_.end(), [&](const Given& one) { return one.option == option; });
  if (found == given_.end()) {
    given_.push_back({option, {value}, option->get_name(), true});
    return;
  }
  if (!is_switch(*option) && option->get_items_expected_max() <= 1) {
    throw util::usage_error(
        {.what = "given twice",
         .where = option->get_name(),
         .expected = "one value",
         .found = util::in_quotes(found->values.front()) + " and " + util::in_quotes(value)});
  }
  found->values.push_back(value);
}

CLI::Option* Arguments::called(const std::string& flag) const {
  const auto found = std::find_if(options_.begin(), options_.end(),
                                  [&](const CLI::Option* option) { return option->check_name(flag); });
  if (found != options_.end()) return *found;
  std::vector<std::string> flags;
  for (const CLI::Option* option : options_) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  const std::string hint = util::did_you_mean(flag, flags);
  throw util::usage_error(
      {.what = "unknown flag " + util::in_quotes(flag),
       .where = command_.get_name(),
       .hint = hint.empty() ? "depthlens " + command_.get_name() + " --help tells the flags" : hint});
}

void Arguments::read_words(const std::vector<std::string>& words) {
  std::vector<std::string> loose;
  for (std::size_t i = 0; i < words.size() && !help_; ++i) {
    const std::string& word = words[i];
    if (word == "--") {  // what follows are no flags
      loose.insert(loose.end(), words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
      break;
    }
    if (!looks_like_flag(word)) {
      loose.push_back(word);
      continue;
    }
    const std::size_t equals = word.rfind("--", 0) == 0 ? word.find('=') : std::string::npos;
    const bool joined = equals != std::string::npos;  // --flag=value
    const std::string flag = word.substr(0, equals), value = joined ? word.substr(equals + 1) : "";
    CLI::Option* option = called(flag);
    if (option == command_.get_help_ptr()) {
      help_ = true;
    } else if (is_switch(*option)) {
      if (joined && value != "true" && value != "false") {
        throw util::usage_error({.what = "a switch takes no value",
                                 .where = flag,
                                 .expected = "the flag alone, or =true or =false behind it",
                                 .found = util::in_quotes(value)});
      }
      add_by_hand(option, joined ? value : "true");
    } else if (joined) {
      add_by_hand(option, value);
    } else {
      const std::string next = i + 1 < words.size() ? words[i + 1] : "--";
      if (looks_like_flag(next)) {
        throw util::usage_error({.what = "a value is missing",
                                 .where = flag,
                                 .found = next == "--" ? "nothing" : util::in_quotes(next),
                                 .hint = next == "--" || is_flag(next, options_)
                                             ? ""
                                             : "a value that begins with a dash: " + flag + "=" + next});
      }
      add_by_hand(option, words[++i]);
      while (option->get_allow_extra_args() && i + 1 < words.size() && !looks_like_flag(words[i + 1]))
        add_by_hand(option, words[++i]);
    }
  }
  if (!help_) place(loose);
}

void Arguments::place(const std::vector<std::string>& loose) {
  std::size_t next = 0;
  for (CLI::Option* option : options_) {
    if (!option->get_positional()) continue;
    // One that may be given several times takes all that are left.
    const bool takes_all = option->get_expected_max() > 1;
    while (next < loose.size()) {
      add_by_hand(option, loose[next++]);
      if (!takes_all) break;
    }
  }
  if (next == loose.size()) return;
  std::vector<std::string> quoted;
  for (; next < loose.size(); ++next) quoted.push_back(util::in_quotes(loose[next]));
  throw util::usage_error({.what = quoted.size() == 1 ? "an unexpected argument" : "unexpected arguments",
                           .where = command_.get_name(),
                           .found = util::join(quoted, ", "),
                           .hint = "depthlens " + command_.get_name() + " --help tells what it takes"});
}

void Arguments::read_file() {
  const Given* config = given(command_.get_option("--config"));
  if (config == nullptr || config->values.front().empty()) return;  // `apply` refuses the latter
  for (Setting& setting : read_settings(config->values.front(), options_)) {
    const auto& opposites = setting.option->get_excludes();
    const bool overruled =
        given(setting.option) != nullptr || std::any_of(given_.begin(), given_.end(), [&](const Given& one) {
          return one.by_hand && !is_off(*one.option, one.values) && opposites.count(one.option) > 0;
        });
    if (!overruled)
      given_.push_back({setting.option, std::move(setting.values), std::move(setting.where), false});
  }
}

void Arguments::refuse_contradictions() const {
  for (const Given& one : given_) {
    if (is_off(*one.option, one.values)) continue;
    for (const CLI::Option* opposite : one.option->get_excludes()) {
      const Given* other = given(opposite);
      if (other == nullptr || is_off(*other->option, other->values)) continue;
      throw util::usage_error({.what = one.where + " and " + other->where + " contradict each other"});
    }
  }
}

void Arguments::apply() {
  for (const Given& one : given_) {
    const auto refuse = [&](util::ErrorText text) {
      text.where = one.where;
      return util::usage_error(std::move(text));
    };
    for (const std::string& value : one.values) {
      if (value.empty()) {
        throw refuse({.what = "an empty value",
                      .hint = one.by_hand ? "an unset variable of the shell leaves one; without the flag its "
                                            "default holds"
                                          : "without the key the default holds"});
      }
      if (value.find('\0') != std::string::npos) throw refuse({.what = "a value with a NUL character"});
    }
    if (is_off(*one.option, one.values)) continue;
    // Values are to stay as they are: no lists in brackets, no splitting.
    one.option->allow_extra_args(false)->delimiter('\0');
    try {
      one.option->add_result(is_switch(*one.option) ? std::vector<std::string>{"true"} : one.values);
      one.option->run_callback();
    } catch (const util::Error& error) {
      throw refuse(error.text());
    } catch (const CLI::Error& error) {
      throw refuse({.what = error.what()});
    }
  }
}

namespace {

/// Whether an error is about a file, folder or name that one of the values gives, perhaps behind "TYPE:".
bool is_about(const util::ErrorText& text, const std::vector<std::string>& values) {
  const std::string place = text.where.rfind('\'', 0) == 0 ? text.where.substr(1) : text.where;
  return std::any_of(values.begin(), values.end(), [&](const std::string& value) {
    const std::string name = value.substr(value.find(':') + 1);  // all of it where there is no colon
    if (name.empty()) return false;
    if (text.what.find(util::in_quotes(name)) != std::string::npos) return true;
    if (place.rfind(name, 0) != 0) return false;
    const std::string rest = place.substr(name.size());
    return rest.empty() || std::string_view("'/,:").find(rest.front()) != std::string_view::npos;
  });
}

}  // namespace

util::Error Arguments::located(const util::Error& error) const {
  util::ErrorText text = error.text();
  for (const Given& one : given_) {
    const std::string flag = one.option->get_name();
    if (one.by_hand || text.where.rfind(flag, 0) != 0) continue;
    const std::string rest = text.where.substr(flag.size());
    if (!rest.empty() && rest.front() != ' ') continue;
    text.where = one.where + rest;
    return {error.code(), text};
  }
  // Several may give the same name, such as a model's and its lens': then the one that the error speaks of.
  const Given* about = nullptr;
  std::size_t first = std::string::npos;
  for (const Given& one : given_) {
    if (!is_about(text, one.values)) continue;
    const std::size_t found = text.what.find(one.option->get_single_name());
    if (about == nullptr || found < first) {
      about = &one;
      first = found;
    }
  }
  if (about != nullptr && !about->by_hand)
    text.where = about->where + (text.where.empty() ? "" : ": " + text.where);
  return {error.code(), text};
}

}  // namespace depthlens::tool
