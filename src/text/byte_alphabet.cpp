// GPT-2's spelling of bytes.
#include "byte_alphabet.hpp"

#include <array>

#include "unicode.hpp"

namespace depthlens::text {
namespace {

struct ByteAlphabet {
  std::array<char32_t, 256> code_point;
  std::array<int, 0x144> byte;  // -1: stands for none

  ByteAlphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      code_point[b] = printable ? static_cast<char32_t>(b) : next++;
      byte[code_point[b]] = b;
    }
  }
};

const ByteAlphabet& byte_alphabet() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

}  // namespace

std::string spelled(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    const char32_t c = byte_alphabet().code_point[static_cast<unsigned char>(byte)];
    if (c < 0x80) {
      text += static_cast<char>(c);
    } else {
      text += static_cast<char>(0xc0 | c >> 6);
      text += static_cast<char>(0x80 | (c & 0x3f));
    }
  }
  return text;
}

std::optional<std::string> spelled_bytes(std::string_view text) {
  std::string bytes;
  for (const char* at = text.data(); at < text.data() + text.size();) {
    const char32_t c = next_code_point(at);
    if (c >= byte_alphabet().byte.size() || byte_alphabet().byte[c] < 0) return std::nullopt;
    bytes += static_cast<char>(byte_alphabet().byte[c]);
  }
  return bytes;
}

}  // namespace depthlens::text
