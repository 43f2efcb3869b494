// What a model, a lens or a run folder is, as JSON: objects that begin with `kind` and `path`.
#pragma once

#include <filesystem>
#include <string>

#include "depthlens/util/json.hpp"

namespace depthlens::tool {

/// The value of a key; null where `object` is none or has no such key.
const util::OrderedJson& get(const util::OrderedJson& object, const std::string& key);

/// All throw input and format errors that name the file. The digests are those of run.json; they read all
/// weights that are not named by theirs.
util::OrderedJson describe_model_folder(const std::filesystem::path& folder);
util::OrderedJson describe_lens(const std::filesystem::path& path);
/// run.json.
util::OrderedJson describe_run(const std::filesystem::path& folder);

}  // namespace depthlens::tool
