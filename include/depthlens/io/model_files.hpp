// Which files of a folder in Hugging Face layout make the model.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace depthlens::io {

/// The files that weights are found by, in transformers' order: the first that is there counts. Those that
/// end in ".json" are indexes of shards.
const std::vector<std::string>& weight_file_names();

/// The file or index that a config.json with this text names in place of these (`transformers_weights`), if
/// it does. Throws a format error for one that is no plain name of such a file.
std::optional<std::string> weights_named_by(const std::string& config, const std::string& where);

/// The distinct files that an index with this text names. Throws a format error for one that is no plain name
/// of a file.
std::vector<std::string> shards_of_index(const std::string& text, const std::string& where);

/// Names of the files in `folder` that a model is read from: `config.json` and the weights that
/// `open_checkpoint` takes, with their index where there is one. Reads the index only. Throws as
/// `open_checkpoint` does where there are no weights or the index is damaged.
std::vector<std::string> model_files(const std::filesystem::path& folder);

}  // namespace depthlens::io
