// What the flags of all commands share: how values are checked, and which flags have an effect in a run.
// CLI11 keeps the flags of a command and writes its help.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "depthlens/run/choices.hpp"

namespace depthlens::tool {

/// Checks for `CLI::Option::check`. Each throws a usage error that says what is expected and what was found;
/// whoever reads the arguments adds where it stands.
///
/// Numbers are decimal digits, with a minus, a fraction or an exponent where the kind has one. CLI11 alone
/// would read "010" as octal, take what does not fit for the nearest number, and know nothing of NaN.
CLI::Validator integer(std::int64_t least = std::numeric_limits<std::int64_t>::min(),
                       std::int64_t most = std::numeric_limits<std::int64_t>::max());
/// A finite number for which `allowed` holds; `range` says so in words, such as "from 0 to 1".
CLI::Validator number(const std::string& range, std::function<bool(double)> allowed);
CLI::Validator one_of(std::vector<std::string> names);

/// Adds a flag that sets `value` to what a table names.
template <class Value, std::size_t N>
CLI::Option* add_choice(CLI::App& app, const std::string& flag, Value& value,
                        const run::Choice<Value> (&choices)[N], const std::string& description) {
  std::vector<std::string> names;
  for (const run::Choice<Value>& choice : choices) names.emplace_back(choice.name);
  const auto take = [&](const std::string& name) { value = run::value_of(choices, name); };
  return app.add_option_function<std::string>(flag, take, description)
      ->check(one_of(std::move(names)))
      ->default_str(run::name_of(choices, value));
}

/// `text` as `number` reads it; false where it is none.
bool parse_number(std::string_view text, double& value);

/// Adds a flag that may be given several times. Values are taken as they are: CLI11 alone would read brackets
/// and braces in them. With `lists` all words that follow the flag are values, up to the next flag.
CLI::Option* add_repeatable(CLI::App& app, const std::string& name, std::vector<std::string>& values,
                            const std::string& description, bool lists = true);

/// Every flag and argument of a command, those of its groups included.
std::vector<CLI::Option*> options_of(CLI::App& app);
/// The flags of a command itself that are not in `names`.
std::vector<std::string> all_flags_but(const CLI::App& app, const std::vector<std::string>& names);

/// Flags that bear on some runs of a command only.
struct Condition {
  std::vector<std::string> flags = {};
  bool holds = true;       ///< in this run
  std::string needs = {};  ///< what the flags need to have an effect
  std::string found = {};  ///< what this run is instead
};

/// Throws a usage error for the first flag that was given, by hand or in a file, with another value than its
/// default, and has no effect in this run.
void check_effects(const CLI::App& app, const std::vector<Condition>& conditions);

}  // namespace depthlens::tool
