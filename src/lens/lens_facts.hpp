// What the files of published lenses tell of how they were made: under which keys, and what of it decides
// whether a Jacobian can be decoded. Private to the room; the table is docs/lenses.md.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "depthlens/lens/lens_file.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::lens {

/// Adds what the dictionary of a file tells. `where`: the file. Throws a format error where it says two
/// things of what decides the meaning of the matrices, or of the model. What is known already is kept.
void add_facts(const util::OrderedJson& fields, const std::string& where, bool beside,
               std::vector<LensFact>& facts, LensProvenance& provenance);

/// Adds what STEM.sidecar.json, config.yaml or config.json beside the file tell, where they are of this lens.
/// The file's own word goes before. One that is of another model, or but for a sidecar of another number of
/// prompts, is left out, with a warning; so is one that says otherwise of digests or of what decides the
/// meaning, which of a sidecar is a format error.
void add_facts_beside(const std::filesystem::path& file, StoredJacobianLens& lens);

/// The dictionary of the header of safetensors among `fields`: what other programs write there.
inline constexpr const char* kHeader = "__metadata__";

/// All that the file and those beside it say of the model under that key.
std::vector<LensFact> told_of(const StoredJacobianLens& lens, const std::string& key);

/// The dictionary among `fields` to which more can be added: `metadata`, or where that is none another that
/// is read.
util::OrderedJson& place_for_facts(util::OrderedJson& fields);

/// `fields` with what was told by other files than the lens's own.
util::OrderedJson fields_with_facts(const StoredJacobianLens& lens);

/// nullptr where nothing is known of it.
const LensFact* find_fact(const std::vector<LensFact>& facts, const std::string& name);

/// The state of a block that its Jacobian is taken with respect to.
enum class Anchor { kOutput, kInput, kInside, kUnknown };
Anchor anchor_of(const std::vector<LensFact>& facts);

/// Throws a format error, with what was expected and found, where the facts say that the matrices are none
/// that `jacobian` decodes: of another estimator, of a place inside a block, of several streams, of folded
/// weights; and where they tell such a thing by a list or a dictionary.
void check_meaning(const StoredJacobianLens& lens);

/// Compares the rotary settings that the lens was fitted under, where its files tell, with the model's.
/// Another forward pass is a format error, or a warning where `allow_mismatch`.
void check_rope(const std::vector<LensFact>& facts, const model::Model& model, bool allow_mismatch);

}  // namespace depthlens::lens
