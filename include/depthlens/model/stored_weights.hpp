// What the weights of a checkpoint say of a model beside its config.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

/// The weights of a model folder: where the config says that there are such in 8 bits, with their scales, and
/// without the tensors that only say how what they multiply would be rounded to 8 bits.
io::TensorFile open_weights(const std::filesystem::path& folder, const ArchSpec& spec);

/// The spec of a config with what the weights decide. An unembedding that is said to be the embedding, and
/// that the file has all the same, is the embedding only where the two are equal; else the file's is used,
/// with a warning. Where the unembedding is tied, `model_tensors` has none. Warns of cached tables that
/// disagree with the config: they are never used. Of the forms in which tensors of a block may be stored,
/// those that are there are in `block_tensors`, and `other_block_tensors` is empty. Throws a format error
/// where the unembedding is there under two names with different values.
ArchSpec settled(ArchSpec spec, const io::TensorFile& weights);

/// What the model's tensor of a slot is called in this checkpoint; nothing where it is not there. The spec is
/// a settled one.
std::optional<std::string> stored_name(const ArchSpec& spec, const io::TensorFile& weights, Slot slot);

}  // namespace depthlens::model
