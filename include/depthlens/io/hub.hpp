// Models and published lenses by name: what a flag says becomes a folder or file on this machine. What exists
// as a path is that; else it is taken from the hub's cache, and what is missing there is fetched.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/io/hub_cache.hpp"
#include "depthlens/io/hub_client.hpp"
#include "depthlens/io/hub_id.hpp"

namespace depthlens::io {

struct HubOptions {
  bool offline = false;  ///< no connection at all; also with HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE
  /// Asks for the present commit of a branch. Otherwise what the cache has of it is good, without a request.
  bool refresh = false;
  std::chrono::milliseconds pause{1000};  ///< between two tries of a request
};

/// What of a model is needed.
enum class ModelParts { kAll, kTokenizer };

/// Takes caches, token and address from the environment, as huggingface_hub does (docs/hub.md). Where a name
/// is neither a path nor in the cache and cannot be had, the errors say where was looked and what to do:
/// input errors, usage errors for what cannot be a name, output errors where the cache cannot be written to.
class Hub {
 public:
  explicit Hub(HubOptions options = {});

  /// The folder of a model: one with config.json, or ORG/NAME[@REVISION] or NAME. `gpt2` is also looked for
  /// as `openai-community/gpt2`.
  std::filesystem::path model(const std::string& path_or_id, ModelParts parts = ModelParts::kAll) const;

  /// A tuned lens: a path, unless it is the folder of a model, or the id of the model for which the space
  /// AlignmentResearch/tuned-lens (TUNED_LENS_REPO_ID, TUNED_LENS_REPO_TYPE) has one: its folder `lens/<model
  /// id>`.
  std::filesystem::path tuned_lens(const std::string& path_or_id) const;

  /// A Jacobian lens: a path, or the file of ORG/NAME[@REVISION]:FILE, with what stands beside FILE and tells
  /// of it. FILE may be a folder of the repository that holds one lens, as the hub's list says; offline, as
  /// the cache says, with a warning.
  std::filesystem::path jacobian_lens(const std::string& path_or_file) const;

  /// Lenses as flags name them: "tuned:…", "jacobian:…".
  struct PublishedLenses {
    std::vector<std::string> of_model;
    std::vector<std::string> of_similar;  ///< of models whose names begin alike
  };
  /// The published lenses of a model, whose organization may be left out. Asks the hub. Throws where there is
  /// none, but a place could not be asked.
  PublishedLenses published_lenses(const std::string& model) const;

 private:
  /// Something wanted from a repository.
  struct Wanted;
  std::filesystem::path get(const Wanted& wanted) const;
  bool is_offline() const { return !offline_.empty(); }
  const HubClientSettings& settings() const;

  HubOptions options_;
  std::string offline_;  ///< what says that no connection may be made; "": nothing does
  mutable std::optional<HubClientSettings> settings_;
};

/// The name of a Jacobian lens with the file that `found` is, where it was named by the folder of a
/// repository: ORG/NAME:FOLDER becomes ORG/NAME:FOLDER/FILE. Others stay.
std::string with_file(const std::string& path_or_file, const std::filesystem::path& found);

}  // namespace depthlens::io
