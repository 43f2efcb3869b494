// The manual page and the completions of shells, made from the flags as the commands register them: what
// --help prints is where they come from.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace depthlens::tool {

/// What `shell_file` makes.
const std::vector<std::string>& shell_file_kinds();

/// The text of one file of `kind`: man, bash, zsh or fish. `app` has the commands as its subcommands. Throws
/// a usage error for another kind.
std::string shell_file(CLI::App& app, const std::string& kind, const std::string& version);

}  // namespace depthlens::tool
