// The hub's variables, as huggingface_hub reads them.
#include "hub_environment.hpp"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <utility>

namespace depthlens::io {
namespace {

namespace fs = std::filesystem;

bool is_name_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

/// `text` with ~ and ~NAME at its beginning and then $NAME and ${NAME} replaced, as huggingface_hub does with
/// Python's expanduser and expandvars, for no shell has done it where the variable comes from a file. What is
/// not known stays as it is.
std::string expanded(std::string text) {
  if (!text.empty() && text.front() == '~') {
    const std::size_t end = std::min(text.find('/'), text.size());
    const std::string user = text.substr(1, end - 1);
    std::string home = user.empty() ? hub_variable("HOME") : std::string();
    if (home.empty()) {
      const passwd* entry = user.empty() ? ::getpwuid(::getuid()) : ::getpwnam(user.c_str());
      if (entry != nullptr) home = entry->pw_dir;
    }
    while (home.size() > 1 && home.back() == '/') home.pop_back();
    if (!home.empty()) text.replace(0, end, home);
  }
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '$') {
      const bool braced = text.compare(i, 2, "${") == 0;
      const std::size_t begin = i + (braced ? 2 : 1);
      std::size_t end = braced ? text.find('}', begin) : begin;
      while (!braced && end < text.size() && is_name_character(text[end])) ++end;
      const char* value =
          end == std::string::npos ? nullptr : std::getenv(text.substr(begin, end - begin).c_str());
      if (value != nullptr) {
        result += value;
        i = end + (braced ? 1 : 0);
        continue;
      }
    }
    result += text[i++];
  }
  return result;
}

/// The value of the first variable that is set, with what stands below it.
fs::path first_place(const std::vector<std::pair<const char*, const char*>>& places) {
  for (const auto& [variable, below] : places) {
    const std::string value = expanded(hub_variable(variable));
    if (!value.empty()) return *below == '\0' ? fs::path(value) : fs::path(value) / below;
  }
  return {};
}

}  // namespace

std::string hub_variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

bool is_hub_switch_on(const char* name) {
  std::string value = hub_variable(name);
  for (char& c : value) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

fs::path hub_token_file() {
  return first_place({{"HF_TOKEN_PATH", ""},
                      {"HF_HOME", "token"},
                      {"XDG_CACHE_HOME", "huggingface/token"},
                      {"HOME", ".cache/huggingface/token"}});
}

std::vector<CacheFolder> hub_cache_folders() {
  std::vector<CacheFolder> folders;
  const fs::path main = first_place({{"HF_HUB_CACHE", ""},
                                     {"HUGGINGFACE_HUB_CACHE", ""},
                                     {"HF_HOME", "hub"},
                                     {"XDG_CACHE_HOME", "huggingface/hub"},
                                     {"HOME", ".cache/huggingface/hub"}});
  if (!main.empty()) folders.push_back({main});
  const std::string legacy = expanded(hub_variable("TRANSFORMERS_CACHE"));
  if (!legacy.empty()) folders.push_back({legacy, true});
  return folders;
}

}  // namespace depthlens::io
