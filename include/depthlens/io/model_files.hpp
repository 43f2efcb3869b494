// Which files of a folder in Hugging Face layout make the model.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace depthlens::io {

/// Names of the files in `folder` that a model is read from: `config.json` and the weights that
/// `open_checkpoint` takes, with their index where there is one. Reads the index only. Throws as
/// `open_checkpoint` does where there are no weights or the index is damaged.
std::vector<std::string> model_files(const std::filesystem::path& folder);

}  // namespace depthlens::io
