// Flags that every command has, and configuration files.
#include "command.hpp"

#include <algorithm>
#include <sstream>
#include <thread>

#include "depthlens/decode/runtime.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tool {
namespace {

bool names_flag(const std::string& argument, const std::string& flag) {
  return argument == flag || argument.rfind(flag + "=", 0) == 0;
}

std::string config_path(const std::vector<std::string>& arguments) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--") break;
    if (arguments[i] == "--config" && i + 1 < arguments.size()) return arguments[i + 1];
    if (arguments[i].rfind("--config=", 0) == 0) return arguments[i].substr(9);
  }
  return "";
}

}  // namespace

void add_common_options(CLI::App& app, CommonOptions& options) {
  auto* group = app.add_option_group("Every command");
  auto* quiet = group->add_flag("-q,--quiet", options.quiet, "Warnings and errors only");
  group->add_flag("-v,--verbose", options.verbose, "Details, and where an error came from")->excludes(quiet);
  group
      ->add_option("--threads", options.threads,
                   "Threads of the computation (default: one for each processor)")
      ->check(CLI::Range(1, 4096));
  group->add_option("--seed", options.seed, "Seed of everything drawn at random")->capture_default_str();
  group
      ->add_option("--config", options.config,
                   "TOML file whose keys are long flag names; flags given by hand win")
      ->type_name("FILE");
}

void apply_common_options(const CommonOptions& options) {
  util::set_verbosity(options.quiet     ? util::Verbosity::kQuiet
                      : options.verbose ? util::Verbosity::kVerbose
                                        : util::Verbosity::kNormal);
  decode::set_threads(options.threads > 0
                          ? options.threads
                          : static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
}

std::vector<std::string> with_config_file(const CLI::App& app, std::vector<std::string> arguments) {
  const std::string path = config_path(arguments);
  if (path.empty()) return arguments;
  std::istringstream content(util::read_file(path, 1 << 20));
  std::vector<std::string> names;
  std::vector<const CLI::App*> groups = app.get_subcommands(nullptr);  // option groups count as such
  groups.insert(groups.begin(), &app);
  for (const CLI::App* group : groups) {
    for (const CLI::Option* option : group->get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back(name);
    }
  }
  std::vector<std::string> settings;
  const auto fail = [&](const std::string& what, const std::string& hint) -> util::Error {
    return util::usage_error({.what = what,
                              .where = path,
                              .expected = "keys that are long flag names of " + app.get_name(),
                              .hint = hint});
  };
  for (const CLI::ConfigItem& item : CLI::ConfigTOML().from_config(content)) {
    if (!item.parents.empty()) throw fail("a section or dotted key " + util::in_quotes(item.fullname()), "");
    if (std::find(names.begin(), names.end(), item.name) == names.end() || item.name == "config") {
      throw fail("unknown key " + util::in_quotes(item.name), util::did_you_mean(item.name, names));
    }
    const std::string flag = "--" + item.name;
    if (std::any_of(arguments.begin(), arguments.end(),
                    [&](const std::string& given) { return names_flag(given, flag); })) {
      continue;
    }
    for (const std::string& value : item.inputs) settings.push_back(flag + "=" + value);
  }
  arguments.insert(arguments.begin(), settings.begin(), settings.end());
  return arguments;
}

}  // namespace depthlens::tool
