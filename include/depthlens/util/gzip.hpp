// Compressed files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace depthlens::util {

/// Whether bytes begin as a gzip file does.
bool is_gzip(std::string_view bytes);

/// The bytes of a gzip file, of one member or several. Throws an input error naming `where` on damage, and
/// where they would be more than `limit`.
std::string gunzip(std::string_view bytes, const std::string& where, std::uint64_t limit);

/// The whole file, decompressed if it is a gzip file. Errors as those of read_file and gunzip.
std::string read_maybe_gzip(const std::filesystem::path& path, std::uint64_t limit = std::uint64_t{2} << 30);

}  // namespace depthlens::util
