// Files for --config: TOML whose keys are long flag names.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace depthlens::tool {

struct Setting {
  CLI::Option* option;
  std::vector<std::string> values;  ///< as they would be given by hand; of a switch "true" or "false"
  std::string where;                ///< file, line and key
};

/// The settings of a file in the order of its lines, none twice. A value has the type of its flag: `true` or
/// `false` for a switch, an integer or a number, a string; a list for flags that may be given several times
/// or take several values in one. `options` are those of the command. Throws an input error where the file
/// cannot be read, a usage error that names file, line and key for all else.
std::vector<Setting> read_settings(const std::string& path, const std::vector<CLI::Option*>& options);

}  // namespace depthlens::tool
