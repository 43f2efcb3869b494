// The variables by which all programs of the Hugging Face hub are told where things are.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace depthlens::io {

/// "" where it is not set.
std::string hub_variable(const char* name);
/// Whether its value is 1, ON, YES or TRUE, in any case.
bool is_hub_switch_on(const char* name);
/// The file of the token: HF_TOKEN_PATH, or `token` in HF_HOME; "" where there is no home.
std::filesystem::path hub_token_file();

struct CacheFolder {
  std::filesystem::path path;
  bool legacy = false;  ///< TRANSFORMERS_CACHE
};
/// The cache folders in the order in which they are looked through: that of HF_HUB_CACHE,
/// HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub, which new
/// files go to, then TRANSFORMERS_CACHE.
std::vector<CacheFolder> hub_cache_folders();

}  // namespace depthlens::io
