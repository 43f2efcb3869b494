// Typed access to the metadata of a safetensors file (`TensorFile::metadata`).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace depthlens::io {

/// Throws format errors that begin with `what`, such as "not a checkpoint", and name the file (`where`) and
/// the key. Keeps a reference to the metadata.
class MetadataReader {
 public:
  MetadataReader(const std::map<std::string, std::string>& metadata, std::string where, std::string what)
      : metadata_(metadata), where_(std::move(where)), what_(std::move(what)) {}

  /// Nothing where the key is missing; throws where a number is none, or less than `least`.
  std::optional<std::string> find(const std::string& key) const;
  std::optional<std::int64_t> find_number(const std::string& key, std::int64_t least = 0) const;

  /// Throw where the key is missing, too.
  std::string text(const std::string& key) const;
  std::int64_t number(const std::string& key, std::int64_t least = 0) const;

 private:
  [[noreturn]] void refuse_missing(const std::string& key) const;

  const std::map<std::string, std::string>& metadata_;
  std::string where_, what_;
};

}  // namespace depthlens::io
