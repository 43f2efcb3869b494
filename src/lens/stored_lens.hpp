// What the readers and writers of lens files share. Private to the room.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/lens/lens.hpp"
#include "depthlens/lens/lens_file.hpp"
#include "depthlens/lens/lens_types.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::lens {

using Metadata = std::map<std::string, std::string>;

/// `format` in the metadata of lens files of our own.
inline constexpr const char* kLensFormat = "depthlens-lens";

/// Blocks of a model, at most: numbers of blocks in a file are below it.
constexpr std::int64_t kMaxBlocks = 100'000;

/// `lens_type` in the config.json of a tuned lens.
constexpr const char* kTunedConfigType = "linear_tuned_lens";

/// What a text is the JSON of; nothing where it is none that is read.
std::optional<util::OrderedJson> json_of(std::string_view text);

/// Whether a file is safetensors by its content, and not one of torch.save, as zip or before that. Of what is
/// neither the name decides who refuses it.
bool is_safetensors(const std::filesystem::path& file);
io::TensorFile open_tensors(const std::filesystem::path& file);

/// Checks format, version and type of our metadata, where they stand, and takes the provenance.
LensProvenance provenance_of(const Metadata& metadata, const std::string& lens_type,
                             const std::string& where);
/// Throws where the metadata has a number of that name that is not `value`.
void require_number(const Metadata& metadata, const std::string& key, std::int64_t value,
                    const std::string& where);
/// Takes what a file says in a second place. Throws where it has said something else in the first.
void take(std::optional<std::string>& value, const std::string& said, const std::string& where);
Metadata metadata_of(const LensProvenance& provenance, const std::string& lens_type,
                     std::int64_t hidden_size);

/// "not a … lens" with what else was found.
util::Error not_a_lens(const std::string& lens_type, const std::string& where, std::string expected,
                       std::string found);
/// Throws unless the tensor is of a floating-point type and of that shape.
void require_shape(const at::Tensor& tensor, const std::vector<std::int64_t>& shape, const std::string& name,
                   const std::string& where);

StoredJacobianLens jacobian_lens_of(const io::PickleValue& root, const std::string& where);
StoredJacobianLens jacobian_lens_of(const io::TensorFile& file);
/// What a file holds, by its content. `kFit`: a checkpoint of a Jacobian lens's fitting, or a fit of the J++
/// lens, which are no lenses. `kElse`: a tuned lens in an archive, too, which tells itself by its place only.
enum class FileHolds { kTunedLens, kJacobianLens, kFit, kElse };
/// Throws where the file is neither safetensors nor an archive, or damaged.
FileHolds contents_of(const std::filesystem::path& file);
/// Other lenses in the folder of a file. Links to the file itself are none.
std::vector<std::filesystem::path> lenses_beside(const std::filesystem::path& file);
/// The value of `key` in a dictionary, or nullptr.
const io::PickleValue* find(const io::PickleValue& dictionary, const std::string& key);

}  // namespace depthlens::lens
