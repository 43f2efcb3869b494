// Tensors out: safetensors, and archives that Python's torch.load opens. A file appears whole or not at all.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/io/checkpoint.hpp"

namespace depthlens::io {

/// Names are unique; tensors may lie on any device and in any layout. Types are kept.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// Tensors stand in the file in the given order, those of larger element types first so that each is aligned;
/// `metadata` becomes `__metadata__`. Contiguous tensors on the CPU are written from where they are. Throws
/// an output error where the file cannot be written, a format error for an element type that safetensors
/// files are not read with and for text that is not UTF-8.
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata);

/// The inverse of `read_torch_archive`: a zip as torch.save writes it into a stream, with a pickle of
/// protocol 2 that torch.load opens with weights_only=True. Each tensor gets a contiguous storage of its own.
/// Keys of dictionaries are strings or integers. Errors as `write_safetensors`.
void write_torch_archive(const std::filesystem::path& path, const PickleValue& value);

}  // namespace depthlens::io
