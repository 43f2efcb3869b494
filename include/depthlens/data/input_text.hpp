// Whether the bytes of an input are the text that they are to be read as.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace depthlens::data {

inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

/// Throws an input error where the first bytes of the input `name` are those of another format (an archive, a
/// table, a page, a document) or of UTF-16 or UTF-32, with a byte order mark or without.
void refuse_other_formats(std::string_view head, const std::string& name);

/// Throws an input error where a text that stands in JSON is UTF-16 or UTF-32, by its NULs.
void refuse_wide_text(std::string_view text, const std::string& where);

/// Throws an input error where `text` is not UTF-8 or holds a NUL; `place` says where in the input its byte i
/// is.
void check_text(std::string_view text, const std::function<std::string(std::size_t i)>& place);

struct InputText {
  std::string name;
  std::string sha256;  ///< of the file as it lies on the disk
  std::string text;    ///< decompressed, valid UTF-8, without a byte order mark
};

/// The whole input, `limit` bytes at most. Throws input errors.
InputText read_input_text(const std::string& path, std::uint64_t limit);

}  // namespace depthlens::data
