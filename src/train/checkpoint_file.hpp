// The files that trainings and fits go on from: safetensors that tell by themselves whether they are as they
// were written.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/io/writers.hpp"

namespace depthlens::train {

struct CheckpointKind {
  const char* format;  ///< `format` and `format_version` of the metadata
  const char* version;
  const char* refusal;  ///< "not a …": how errors begin
};

/// Writes a file of that kind, whole or not at all. To the metadata it adds format, version and `sha256`, the
/// digest of the rest of them and of all tensors.
void write_checkpoint(const std::filesystem::path& path, const CheckpointKind& kind,
                      const io::NamedTensors& tensors, std::map<std::string, std::string> metadata);

/// Reads the file whole. Throws input and format errors where it is not of that kind and version, or not as
/// it was written.
io::TensorFile open_checkpoint_file(const std::filesystem::path& path, const CheckpointKind& kind);

}  // namespace depthlens::train
