// Models of the local Hugging Face hub cache, found by id; nothing is downloaded.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace depthlens::io {

/// A folder with `config.json` as it is; else ORG/NAME[@REVISION] or NAME in the hub cache (HF_HUB_CACHE,
/// HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub, then
/// TRANSFORMERS_CACHE with a warning). `gpt2` is also looked for as `openai-community/gpt2`.
/// Throws an input error that says where it looked and how to get the files, and a usage error for an id that
/// could leave the cache (`..`, absolute, odd characters).
std::filesystem::path resolve_model(const std::string& path_or_id);

/// The published tuned lens of a model in the cached space AlignmentResearch/tuned-lens (TUNED_LENS_REPO_ID,
/// TUNED_LENS_REPO_TYPE): its folder `lens/<model id>`; a path that exists is returned as it is.
std::filesystem::path resolve_tuned_lens(const std::string& path_or_id);

/// The commit of a folder in a snapshot of the hub cache, however it was named; nothing for other folders.
std::optional<std::string> hub_commit(const std::filesystem::path& folder);

}  // namespace depthlens::io
