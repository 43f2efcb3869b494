// Manual page and completions.
#include "shell_files.hpp"

#include <algorithm>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "flags.hpp"

namespace depthlens::tool {
namespace {

/// A flag, or an argument without a name, in the parts that the files need.
struct Flag {
  std::vector<std::string> names = {};  ///< "-q", "--quiet"; none for an argument without a name
  std::string argument = {};            ///< the name of such an argument
  std::string value = {};               ///< as help names it; empty for a switch
  std::vector<std::string> choices = {};
  bool lists_choices = false;  ///< the value is several of them, with commas
  std::string standard = {};   ///< the default
  std::string description = {};
  bool takes_paths = false;
  bool repeatable = false;
};

struct CommandText {
  std::string name;
  std::string summary;
  std::string example;
  std::vector<Flag> flags;
};

/// "TEXT:{a,b}" or "NAME,...:{a,b}" into a value and choices.
void read_type(const std::string& type, Flag& flag) {
  const std::size_t open = type.find('{');
  if (open == std::string::npos) {
    flag.value = type;
    return;
  }
  const std::size_t close = type.find('}', open);
  flag.choices = util::split(type.substr(open + 1, close - open - 1), ',');
  flag.lists_choices = type.rfind("NAME,...", 0) == 0;
  flag.value = flag.lists_choices ? "NAME,..." : "WORD";
}

/// Whether the value is a file or a folder, by the word that help has for it: FILE, FILE.html, PATH|ID …
bool names_paths(const std::string& value) {
  static const std::vector<std::string> words = {"FILE", "DIR", "PATH", "RUN", "SHARD", "IN", "OUT", "LENS"};
  const std::string word = value.substr(0, value.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ"));
  return std::find(words.begin(), words.end(), word) != words.end();
}

Flag flag_of(const CLI::Option& option) {
  Flag flag;
  flag.description = option.get_description();
  if (option.get_positional()) {
    flag.argument = option.get_name(true);
  } else {
    for (const std::string& name : option.get_snames()) flag.names.push_back("-" + name);
    for (const std::string& name : option.get_lnames()) flag.names.push_back("--" + name);
  }
  if (option.get_items_expected_max() > 0) {
    read_type(option.get_type_name(), flag);
    flag.takes_paths = names_paths(flag.value);
    flag.standard = option.get_default_str();
    flag.repeatable = option.get_expected_max() > 1;
  }
  return flag;
}

std::vector<CommandText> commands_of(CLI::App& app) {
  std::vector<CommandText> all;
  for (CLI::App* command : app.get_subcommands(nullptr)) {
    CommandText text = {command->get_name(), command->get_description(), command->get_footer(), {}};
    for (const CLI::Option* option : options_of(*command)) {
      Flag flag = flag_of(*option);
      const auto same = [&](const Flag& other) { return !flag.names.empty() && other.names == flag.names; };
      // A group has a --help of its own.
      if (std::none_of(text.flags.begin(), text.flags.end(), same)) text.flags.push_back(std::move(flag));
    }
    all.push_back(std::move(text));
  }
  return all;
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
  return text;
}

/// Completions show one short line: what stands before the first semicolon or bracket, or before the colon
/// where a few words are followed by the meaning of every value or by much else.
std::string short_description(const std::string& text) {
  const std::size_t semicolon = text.find("; ");
  std::string line = text.substr(0, std::min(semicolon, text.find(" (")));
  const std::string head = line.substr(0, line.find(": "));
  const bool some_words = std::count(head.begin(), head.end(), ' ') >= 2;
  return some_words && (line.size() == semicolon || line.size() > 100) ? head : line;
}

// The manual page.

/// Text for roff: no dash becomes a hyphen, and no line begins with a request.
std::string roff(std::string text) {
  text = replaced(replaced(std::move(text), "\\", "\\e"), "-", "\\-");
  text = replaced(std::move(text), "\n.", "\n\\&.");
  text = replaced(std::move(text), "\n'", "\n\\&'");
  return text.empty() || (text[0] != '.' && text[0] != '\'') ? text : "\\&" + text;
}

std::string roff_flag(const Flag& flag) {
  std::string text = ".TP\n";
  if (flag.names.empty()) text += "\\fI" + roff(flag.argument) + "\\fR";
  for (std::size_t i = 0; i < flag.names.size(); ++i)
    text += (i > 0 ? ", \\fB" : "\\fB") + roff(flag.names[i]) + "\\fR";
  if (!flag.names.empty() && !flag.choices.empty() && !flag.lists_choices) {
    text += " \\fI" + roff(util::join(flag.choices, "|")) + "\\fR";
  } else if (!flag.names.empty() && !flag.value.empty()) {
    text += " \\fI" + roff(flag.value) + "\\fR";
  }
  text += "\n" + roff(flag.description) + "\n";
  if (flag.lists_choices) text += "\\- " + roff(util::join(flag.choices, ", ")) + "\n";
  if (!flag.standard.empty()) text += "(default: " + roff(flag.standard) + ")\n";
  return text;
}

std::string man_page(const CLI::App& app, const std::vector<CommandText>& commands,
                     const std::string& version) {
  std::string text = ".\\\" Made by depthlens from its own flags.\n";
  text += ".TH DEPTHLENS 1 \"\" \"" + roff(version) + "\" \"User commands\"\n";
  text += ".SH NAME\ndepthlens \\- shows how a language model arrives at its predictions, layer by layer\n";
  text +=
      ".SH SYNOPSIS\n.B depthlens\n\\fICOMMAND\\fR [\\fIFLAGS\\fR]\n.br\n.B depthlens\n\\fB\\-\\-help\\fR | "
      "\\fB\\-\\-version\\fR\n";
  text +=
      ".SH DESCRIPTION\n" + roff(app.get_description()) +
      "\n.PP\nResults go to a run folder or to standard output, progress and messages to standard error. A "
      "value stands behind its flag as the next word or after an equals sign.\n";
  text += ".SH COMMANDS\n";
  for (const CommandText& command : commands)
    text += ".TP\n.B " + roff(command.name) + "\n" + roff(command.summary) + "\n";
  for (const CommandText& command : commands) {
    text += ".SH " + roff("DEPTHLENS " + command.name) + "\n" + roff(command.summary) + ".\n";
    for (const Flag& flag : command.flags) text += roff_flag(flag);
    const std::string example =
        command.example.substr(std::min(command.example.size(), command.example.find('\n') + 1));
    if (!example.empty()) text += ".PP\nExample:\n.PP\n.nf\n" + roff(example) + "\n.fi\n";
  }
  text += ".SH EXIT STATUS\n";
  static const std::vector<std::pair<util::ErrorCode, std::string>> codes = {
      {util::ErrorCode{0}, "Done."},
      {util::ErrorCode::kUsage, "Wrong usage or configuration."},
      {util::ErrorCode::kInput, "An input or model file, or a run folder, is missing or unreadable."},
      {util::ErrorCode::kFormat, "An unsupported or damaged model, lens, tokenizer or run folder."},
      {util::ErrorCode::kSelfCheck, "A self-check failed, or logits are not finite."},
      {util::ErrorCode::kOutput,
       "The run folder or standard output cannot be written, or the folder holds another run."},
      {util::ErrorCode::kInternal, "A defect of depthlens."},
      {util::ErrorCode{129}, "Interrupted by SIGHUP, as when the terminal closes; else as 130."},
      {util::ErrorCode::kInterrupted, "Interrupted; what was finished is saved, and --resume goes on."},
      {util::ErrorCode{141}, "Nobody reads standard output any more."}};
  for (const auto& [code, words] : codes)
    text += ".TP\n.B " + std::to_string(static_cast<int>(code)) + "\n" + roff(words) + "\n";
  return text;
}

// Completions.

std::string bash_completion(const std::vector<CommandText>& commands) {
  std::string names, cases;
  for (const CommandText& command : commands) {
    names += (names.empty() ? "" : " ") + command.name;
    std::string flags, values;
    for (const Flag& flag : command.flags) {
      for (const std::string& name : flag.names) flags += (flags.empty() ? "" : " ") + name;
      if (flag.names.empty() || flag.value.empty()) continue;
      const std::string action = !flag.choices.empty()
                                     ? "words=\"" + util::join(flag.choices, " ") +
                                           (flag.lists_choices ? "\" kind=list" : "\" kind=words")
                                 : flag.takes_paths ? "kind=files"
                                                    : "kind=none";
      values += "        " + util::join(flag.names, "|") + ") " + action + " ;;\n";
    }
    cases += "    " + command.name + ")\n      flags=\"" + flags + "\"\n      case $before in\n" + values +
             "      esac ;;\n";
  }
  // The line is split at "=" and ":" too, so that the flag may stand two words before.
  return "# Completion of depthlens for bash, made by depthlens from its own flags.\n"
         "_depthlens() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
         "  local kind= words= flags=\n"
         "  COMPREPLY=()\n"
         "  if [[ $COMP_CWORD -eq 1 ]]; then\n"
         "    COMPREPLY=($(compgen -W \"" +
         names +
         " --help --version\" -- \"$current\"))\n"
         "    return\n"
         "  fi\n"
         "  if [[ $current == = ]]; then\n"
         "    current=\n"
         "  elif [[ $before == = ]]; then\n"
         "    before=${COMP_WORDS[COMP_CWORD - 2]}\n"
         "  fi\n"
         "  [[ $current != : ]] || current=\n"
         "  case ${COMP_WORDS[1]} in\n" +
         cases +
         "  esac\n"
         "  if [[ -z $kind && $current == -* ]]; then\n"
         "    words=$flags kind=words\n"
         "  fi\n"
         "  case ${kind:-files} in\n"
         "    words) COMPREPLY=($(compgen -W \"$words\" -- \"$current\")) ;;\n"
         "    list)\n"  // the names that are not there yet, behind those that are
         "      local word before_comma=\n"
         "      [[ $current != *,* ]] || before_comma=${current%,*},\n"
         "      for word in $words; do\n"
         "        if [[ ,$before_comma != *,$word,* && $word == \"${current##*,}\"* ]]; then\n"
         "          COMPREPLY+=(\"$before_comma$word\")\n"
         "        fi\n"
         "      done\n"
         "      compopt -o nospace 2>/dev/null ;;\n"
         "    files)\n"
         "      compopt -o filenames 2>/dev/null\n"
         "      mapfile -t COMPREPLY < <(compgen -f -- \"$current\") ;;\n"
         "  esac\n"
         "}\n"
         "complete -F _depthlens depthlens\n";
}

/// Text in single quotes of a shell that closes them for a quote inside.
std::string single_quoted(const std::string& text) {
  return "'" + replaced(text, "'", "'\\''") + "'";
}

/// A part of a specification of zsh's _arguments, in which brackets and colons mean something.
std::string zsh_part(std::string text) {
  for (const char* special : {"\\", "[", "]", ":"})
    text = replaced(std::move(text), special, std::string("\\") + special);
  return text;
}

std::string zsh_value(const Flag& flag) {
  if (flag.value.empty()) return "";
  const std::string action = flag.lists_choices      ? "_values -s , name " + util::join(flag.choices, " ")
                             : !flag.choices.empty() ? "(" + util::join(flag.choices, " ") + ")"
                             : flag.takes_paths      ? "_files"
                                                     : " ";
  return ":" + zsh_part(flag.value) + ":" + action;
}

std::string zsh_completion(const std::vector<CommandText>& commands) {
  std::string names, cases;
  for (const CommandText& command : commands) {
    names += "        " + single_quoted(zsh_part(command.name) + ":" + command.summary) + "\n";
    cases += "        " + command.name + ")\n          _arguments -S";
    for (const Flag& flag : command.flags) {
      cases += " \\\n            ";
      if (flag.names.empty()) {
        cases += single_quoted((flag.repeatable ? "*" : "") + std::string(":") + zsh_part(flag.argument) +
                               ":_files");
        continue;
      }
      for (std::size_t i = 0; i < flag.names.size(); ++i) {
        const bool is_long = flag.names[i].rfind("--", 0) == 0;
        std::string spec = flag.repeatable ? "*" : "(" + util::join(flag.names, " ") + ")";
        spec += flag.names[i] + (is_long && !flag.value.empty() ? "=" : "");
        spec += "[" + zsh_part(short_description(flag.description)) + "]" + zsh_value(flag);
        cases += (i > 0 ? " " : "") + single_quoted(spec);
      }
    }
    cases += " ;;\n";
  }
  return "#compdef depthlens\n"
         "# Completion of depthlens for zsh, made by depthlens from its own flags.\n"
         "_depthlens() {\n"
         "  local context state state_descr line\n"
         "  typeset -A opt_args\n"
         "  _arguments -C '(- *)'{-h,--help}'[tells what the commands do]' '(- *)--version[tells the "
         "version]' \\\n"
         "    '1:command:->command' '*::argument:->argument'\n"
         "  case $state in\n"
         "    command)\n"
         "      local -a commands\n"
         "      commands=(\n" +
         names +
         "      )\n"
         "      _describe command commands ;;\n"
         "    argument)\n"
         "      case $line[1] in\n" +
         cases +
         "      esac ;;\n"
         "  esac\n"
         "}\n"
         "if [[ $funcstack[1] == _depthlens ]]; then\n"
         "  _depthlens \"$@\"\n"
         "else\n"
         "  compdef _depthlens depthlens\n"
         "fi\n";
}

/// Text in single quotes of fish, where a backslash stands before a quote or another one.
std::string fish_quoted(const std::string& text) {
  return "'" + replaced(replaced(text, "\\", "\\\\"), "'", "\\'") + "'";
}

std::string fish_completion(const std::vector<CommandText>& commands) {
  std::string text =
      "# Completion of depthlens for fish, made by depthlens from its own flags.\n"
      "function __depthlens_list -d 'The names that a list lacks, behind those that it has'\n"
      "  set -l before (string match -r '^(?:--[^=]*=)?(.*,)?' -- (commandline -ct))[2]\n"
      "  for name in $argv\n"
      "    contains -- $name (string split , -- \"$before\"); or printf '%s%s\\t\\n' \"$before\" $name\n"
      "  end\n"
      "end\n"
      "complete -c depthlens -n __fish_use_subcommand -f\n"
      "complete -c depthlens -n __fish_use_subcommand -s h -l help -d 'Tells what the commands do'\n"
      "complete -c depthlens -n __fish_use_subcommand -l version -d 'Tells the version'\n";
  for (const CommandText& command : commands)
    text += "complete -c depthlens -n __fish_use_subcommand -a " + command.name + " -d " +
            fish_quoted(command.summary) + "\n";
  for (const CommandText& command : commands) {
    for (const Flag& flag : command.flags) {
      if (flag.names.empty()) continue;  // files are completed anyway
      text += "complete -c depthlens -n '__fish_seen_subcommand_from " + command.name + "'";
      for (const std::string& name : flag.names)
        text += name.rfind("--", 0) == 0 ? " -l " + name.substr(2) : " -s " + name.substr(1);
      if (flag.lists_choices) {
        text += " -x -a " + fish_quoted("(__depthlens_list " + util::join(flag.choices, " ") + ")");
      } else if (!flag.choices.empty()) {
        // Behind the tab would stand what the word means; without one the words get the flag's description.
        text += " -x -a " + fish_quoted(util::join(flag.choices, "\\t ") + "\\t");
      } else if (!flag.value.empty()) {
        text += flag.takes_paths ? " -r" : " -x";
      }
      text += " -d " + fish_quoted(short_description(flag.description)) + "\n";
    }
  }
  return text;
}

}  // namespace

const std::vector<std::string>& shell_file_kinds() {
  static const std::vector<std::string> kinds = {"man", "bash", "zsh", "fish"};
  return kinds;
}

std::string shell_file(CLI::App& app, const std::string& kind, const std::string& version) {
  const std::vector<CommandText> commands = commands_of(app);
  if (kind == "man") return man_page(app, commands, version);
  if (kind == "bash") return bash_completion(commands);
  if (kind == "zsh") return zsh_completion(commands);
  if (kind == "fish") return fish_completion(commands);
  throw util::usage_error({.what = "unknown kind of file",
                           .where = "--generate",
                           .expected = "one of " + util::join(shell_file_kinds(), ", "),
                           .found = util::in_quotes(kind)});
}

}  // namespace depthlens::tool
