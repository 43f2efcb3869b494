// Checksums and compressed bytes as zip archives hold them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace depthlens::util {

/// The CRC-32 of zip and gzip: of `bytes`, or of them behind others, whose CRC-32 is `before`.
std::uint32_t crc32(std::string_view bytes, std::uint32_t before = 0);

/// The CRC-32 of bytes in two pieces, from those of the pieces.
std::uint32_t crc32_of_both(std::uint32_t first, std::uint32_t second, std::uint64_t second_size);

/// Decompresses a raw deflate stream. Nothing where it is damaged, or holds more or less than `size` bytes.
std::optional<std::string> inflate(std::string_view bytes, std::uint64_t size);

}  // namespace depthlens::util
