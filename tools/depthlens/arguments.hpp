// What a command was asked for: the words behind its name, and the file that --config names.
//
// CLI11's own reading of the command line guesses: an empty value takes the next word, a flag is taken for
// the value of the one before it, brackets and braces in values mean lists. Here a word is what it says.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "depthlens/util/error.hpp"

namespace depthlens::tool {

class Arguments {
 public:
  /// Reads the words and the settings file, checks the values, and puts them where the options of `command`
  /// say. A flag given by hand wins over the file, also over the file's opposite of it. Throws usage errors,
  /// and an input error for a file that cannot be read. Where --help is among the words nothing else is
  /// looked at.
  Arguments(CLI::App& command, const std::vector<std::string>& words);

  bool asks_for_help() const { return help_; }

  /// The error, with the file, line and key in place of a flag that it blames and that the file gave.
  util::Error located(const util::Error& error) const;

 private:
  struct Given {
    CLI::Option* option;
    std::vector<std::string> values;
    std::string where;  ///< the flag, or file, line and key
    bool by_hand;
  };
  void read_words(const std::vector<std::string>& words);
  /// The option of `--name` or `-n`.
  CLI::Option* called(const std::string& flag) const;
  /// Words that belong to no flag go to the arguments without a name.
  void place(const std::vector<std::string>& loose);
  void read_file();
  void refuse_contradictions() const;
  void apply();
  void add_by_hand(CLI::Option* option, const std::string& value);
  const Given* given(const CLI::Option* option) const;

  CLI::App& command_;
  std::vector<CLI::Option*> options_;
  std::vector<Given> given_;  ///< by hand first
  bool help_ = false;
};

}  // namespace depthlens::tool
