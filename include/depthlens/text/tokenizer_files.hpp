// Which files of a folder in Hugging Face layout make the tokenizer.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace depthlens::text {

/// Names of the files in `folder` that `load_tokenizer` reads, or compares with what it has read; those of
/// the model (config.json, generation_config.json) left out.
std::vector<std::string> tokenizer_files(const std::filesystem::path& folder);

}  // namespace depthlens::text
