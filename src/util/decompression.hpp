// Decompression in pieces, so that a small file cannot ask for all memory.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace depthlens::util {

/// One stream of gzip, xz or zstd, of one member (xz: stream, zstd: frame) or several.
class Decompressor {
 public:
  struct Step {
    std::size_t consumed = 0;  ///< bytes of the input
    std::size_t produced = 0;  ///< bytes of the output
    bool inside = false;       ///< in the middle of a member
    std::string problem = {};  ///< what is wrong with the input, or ""
  };

  virtual ~Decompressor() = default;

  /// "gzip", "xz" or "zstd".
  virtual const char* name() const = 0;

  /// Goes on as far as input and room for output allow. `last`: nothing comes after `in`. A step that
  /// consumes and produces nothing needs more input; with none left, the stream has ended, whole unless it is
  /// `inside` a member.
  virtual Step step(std::string_view in, bool last, std::span<char> out) = 0;
};

/// What undoes the compression of bytes that begin with `head`, at least 6 bytes or all; null where they are
/// not compressed.
std::unique_ptr<Decompressor> make_decompressor(std::string_view head);

}  // namespace depthlens::util
