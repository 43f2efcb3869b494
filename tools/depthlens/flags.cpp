// Checks of flags.
#include "flags.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tool {
namespace {

util::Error unusable(const std::string& expected, const std::string& text, const std::string& hint = "") {
  return util::usage_error({.what = "unusable value",
                            .where = {},
                            .expected = expected,
                            .found = util::in_quotes(text),
                            .hint = hint});
}

/// Whether a number begins with a zero that other programs read as the sign of octal digits.
bool has_leading_zero(std::string_view text) {
  if (!text.empty() && text.front() == '-') text.remove_prefix(1);
  return text.size() > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9';
}

/// Where digits were written that are no number here.
std::string digits_hint(const std::string& text) {
  if (text.find_first_of("0123456789") == std::string::npos) return "";
  return "plain decimal digits, without a leading zero, a plus sign or separators";
}

/// The bounds as help shows them, and as messages do.
std::string bounds(std::int64_t least, std::int64_t most, bool in_words) {
  using Limits = std::numeric_limits<std::int64_t>;
  if (least == Limits::min() && most == Limits::max()) return in_words ? " of 64 bits" : "64 bits";
  if (!in_words) return most == Limits::max() ? util::cat(">=", least) : util::cat(least, "-", most);
  return util::cat(" from ", least, " to ", most == Limits::max() ? "2^63 - 1" : std::to_string(most));
}

}  // namespace

CLI::Validator integer(std::int64_t least, std::int64_t most) {
  const auto check = [least, most](const std::string& text) -> std::string {
    std::int64_t value = 0;
    const bool is_one = !has_leading_zero(text) && util::parse_int(text, value);
    if (!is_one || value < least || value > most)
      throw unusable("an integer" + bounds(least, most, true), text, is_one ? "" : digits_hint(text));
    return "";
  };
  return {check, bounds(least, most, false)};
}

bool parse_number(std::string_view text, double& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(value) &&
         !has_leading_zero(text);
}

CLI::Validator number(const std::string& range, std::function<bool(double)> allowed) {
  const auto check = [range, allowed = std::move(allowed)](const std::string& text) -> std::string {
    double value = 0;
    const bool is_one = parse_number(text, value);
    if (!is_one || !allowed(value))
      throw unusable("a number " + range, text, is_one ? "" : digits_hint(text));
    return "";
  };
  return {check, range};
}

CLI::Validator one_of(std::vector<std::string> names) {
  const std::string listed = "{" + util::join(names, ",") + "}";
  const auto check = [names = std::move(names)](const std::string& text) -> std::string {
    if (std::find(names.begin(), names.end(), text) == names.end())
      throw unusable("one of " + util::join(names, ", "), text, util::did_you_mean(text, names));
    return "";
  };
  return {check, listed};
}

CLI::Option* add_repeatable(CLI::App& app, const std::string& name, std::vector<std::string>& values,
                            const std::string& description, bool lists) {
  const auto take = [&values](const CLI::results_t& given) {
    values = given;
    return true;
  };
  return app.add_option(name, take, description)->expected(1, -1)->take_all()->allow_extra_args(lists);
}

std::vector<CLI::Option*> options_of(CLI::App& app) {
  std::vector<CLI::Option*> all = app.get_options();
  for (CLI::App* group : app.get_subcommands(nullptr)) {  // option groups count as such
    for (CLI::Option* option : group->get_options()) all.push_back(option);
  }
  return all;
}

std::vector<std::string> all_flags_but(const CLI::App& app, const std::vector<std::string>& names) {
  std::vector<std::string> others;
  for (const CLI::Option* option : app.get_options()) {
    const std::string name = option->get_name();
    if (option != app.get_help_ptr() && std::find(names.begin(), names.end(), name) == names.end())
      others.push_back(name);
  }
  return others;
}

namespace {

/// A default that is given by hand asks for nothing that does not happen.
bool gives_default(const CLI::Option& option) {
  return !option.get_default_str().empty() &&
         option.results() == std::vector<std::string>{option.get_default_str()};
}

}  // namespace

void check_effects(const CLI::App& app, const std::vector<Condition>& conditions) {
  for (const Condition& condition : conditions) {
    if (condition.holds) continue;
    for (const std::string& flag : condition.flags) {
      if (app.count(flag) == 0 || gives_default(*app.get_option(flag))) continue;
      throw util::usage_error({.what = "this flag has no effect in this run",
                               .where = flag,
                               .expected = condition.needs,
                               .found = condition.found,
                               .hint = "leave it out"});
    }
  }
}

}  // namespace depthlens::tool
