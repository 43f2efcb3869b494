// What results may replace: results of the same kind, and never what the command reads.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace depthlens::tool {

/// Throws an output error where a file stands at `file` and is none that `is_one` knows by its first bytes;
/// `kind` names those: "a frequency table".
void check_replaceable(const std::filesystem::path& file, const std::string& kind,
                       const std::function<bool(std::string_view head)>& is_one);

/// Throws a usage error where one of `inputs`, of `flag`, is `out` itself, or a file that a run, a training
/// or a lens in the folder `out` would have. Of what is no file, such as "-", nothing is said.
void check_not_replaced(const std::string& flag, const std::vector<std::string>& inputs,
                        const std::filesystem::path& out);

/// Throws a usage error where `folder`, of `flag`, lies among those that the run in `out` keeps for itself,
/// and whose contents may go with it.
void check_place(const std::string& flag, const std::filesystem::path& folder,
                 const std::filesystem::path& out);

}  // namespace depthlens::tool
