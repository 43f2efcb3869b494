// One zstd frame, written and read piece by piece.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct ZSTD_CCtx_s;

namespace depthlens::util {

class Decompressor;

/// Compresses into one frame with a checksum of its content. The same content gives the same bytes, in
/// whatever pieces it comes, by one version of libzstd.
class ZstdWriter {
 public:
  /// `write` takes the compressed bytes.
  explicit ZstdWriter(std::function<void(std::string_view)> write);
  ~ZstdWriter();
  ZstdWriter(const ZstdWriter&) = delete;
  ZstdWriter& operator=(const ZstdWriter&) = delete;

  void write(std::string_view bytes);
  /// Ends the frame; nothing may come after it.
  void finish();

 private:
  void compress(std::string_view bytes, bool last);

  std::function<void(std::string_view)> write_;
  ZSTD_CCtx_s* context_;
  std::string pending_;  // what fills no whole piece yet
  std::vector<char> out_;
};

/// Lines of zstd-compressed text in memory. Throws format errors that name `path`: where the bytes are no
/// zstd, are damaged (which the checksum tells when the end is reached), or end in the middle.
class ZstdLines {
 public:
  /// `compressed` must outlive the object.
  ZstdLines(std::string_view compressed, std::string path);
  ~ZstdLines();
  ZstdLines(const ZstdLines&) = delete;
  ZstdLines& operator=(const ZstdLines&) = delete;

  /// The next line without its line feed, which the last one may lack; valid until the next call. False at
  /// the end.
  bool next(std::string_view& line);

 private:
  bool fill();
  [[noreturn]] void fail(const std::string& found) const;

  std::string_view rest_;  // not yet decompressed
  std::size_t size_;
  std::string path_;
  std::unique_ptr<Decompressor> decompressor_;
  std::vector<char> storage_;
  std::string_view piece_;  // of storage_, not yet taken
  std::string line_;        // one that lies in several pieces
};

}  // namespace depthlens::util
