// What trainings of every kind of lens write and say in the same way.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/data/corpus.hpp"
#include "depthlens/lens/provenance.hpp"
#include "depthlens/run/session.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::run {

/// What was trained on, for messages: "a.txt and the others".
std::string place_of(const std::vector<std::string>& inputs);

/// Throws an output error where one of the files of a lens or a training is there and is not to be
/// overwritten.
void require_none(const std::vector<std::filesystem::path>& files, bool overwrite);

/// Of the files of the session's model, which must have been loaded.
std::string model_files_digest(const Session& session);

/// Of a lens that was made with the session's model, which must have been loaded.
lens::LensProvenance provenance_of(const ModelOptions& options, const Session& session);

/// What made a lens: stands beside it. `started`: when the work began.
util::OrderedJson training_json(const Session& session, const std::vector<data::InputSummary>& inputs,
                                const util::OrderedJson& settings, compute::Precision precision,
                                std::chrono::steady_clock::time_point started);
/// Writes that beside the lens. With it the work is done (util/interrupt.hpp).
void write_last_file(const std::filesystem::path& path, const util::OrderedJson& record);

}  // namespace depthlens::run
