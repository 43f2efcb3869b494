// The alphabet in which byte-level vocabularies spell bytes: a printable code point for each.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace depthlens::text {

/// `bytes` as GPT-2's and later vocabularies spell them: a printable byte of Latin-1 is itself, the others
/// are the code points from U+0100 on, in order.
std::string spelled(std::string_view bytes);

/// The bytes that `text` (valid UTF-8) spells; nothing where it is spelled otherwise, as added tokens may be.
std::optional<std::string> spelled_bytes(std::string_view text);

}  // namespace depthlens::text
