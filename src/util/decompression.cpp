// zlib, liblzma and zstd behind one interface.
#include "decompression.hpp"

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <new>

#include "depthlens/util/text.hpp"

namespace depthlens::util {
namespace {

class Gzip final : public Decompressor {
 public:
  Gzip() {
    constexpr int kGzipOnly = 16;
    if (::inflateInit2(&stream_, kGzipOnly + MAX_WBITS) != Z_OK) throw std::bad_alloc();
  }
  ~Gzip() override { ::inflateEnd(&stream_); }
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;

  const char* name() const override { return "gzip"; }

  Step step(std::string_view in, bool /*last*/, std::span<char> out) override {
    if (!inside_ && !in.empty()) ::inflateReset(&stream_);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream_.avail_in = static_cast<uInt>(in.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(out.size());
    const int result = inside_ || !in.empty() ? ::inflate(&stream_, Z_NO_FLUSH) : Z_STREAM_END;
    if (result == Z_MEM_ERROR) throw std::bad_alloc();
    inside_ = result != Z_STREAM_END;
    Step step{.consumed = in.size() - stream_.avail_in,
              .produced = out.size() - stream_.avail_out,
              .inside = inside_};
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
      step.problem = stream_.msg != nullptr ? stream_.msg : "bad data";
    return step;
  }

 private:
  z_stream stream_ = {};
  bool inside_ = false;
};

class Xz final : public Decompressor {
 public:
  Xz() {
    if (::lzma_stream_decoder(&stream_, kMaxMemory, LZMA_CONCATENATED) != LZMA_OK) throw std::bad_alloc();
  }
  ~Xz() override { ::lzma_end(&stream_); }
  Xz(const Xz&) = delete;
  Xz& operator=(const Xz&) = delete;

  const char* name() const override { return "xz"; }

  Step step(std::string_view in, bool last, std::span<char> out) override {
    stream_.next_in = reinterpret_cast<const std::uint8_t*>(in.data());
    stream_.avail_in = in.size();
    stream_.next_out = reinterpret_cast<std::uint8_t*>(out.data());
    stream_.avail_out = out.size();
    const lzma_ret result = ::lzma_code(&stream_, last ? LZMA_FINISH : LZMA_RUN);
    if (result == LZMA_MEM_ERROR) throw std::bad_alloc();
    Step step{.consumed = in.size() - stream_.avail_in,
              .produced = out.size() - stream_.avail_out,
              .inside = result != LZMA_STREAM_END};
    if (result == LZMA_MEMLIMIT_ERROR) {
      step.problem = cat("a dictionary that takes more than ", as_bytes(kMaxMemory), " of memory");
    } else if (result == LZMA_OPTIONS_ERROR) {
      step.problem = "a kind of xz that liblzma does not know";
    } else if (result != LZMA_OK && result != LZMA_STREAM_END && result != LZMA_BUF_ERROR) {
      step.problem = "bad data";
    }
    return step;
  }

 private:
  static constexpr std::uint64_t kMaxMemory = std::uint64_t{256} << 20;  // xz -9 takes 65 MiB
  lzma_stream stream_ = LZMA_STREAM_INIT;
};

class Zstd final : public Decompressor {
 public:
  Zstd() : stream_(::ZSTD_createDStream()) {
    if (stream_ == nullptr) throw std::bad_alloc();
  }
  ~Zstd() override { ::ZSTD_freeDStream(stream_); }
  Zstd(const Zstd&) = delete;
  Zstd& operator=(const Zstd&) = delete;

  const char* name() const override { return "zstd"; }

  Step step(std::string_view in, bool /*last*/, std::span<char> out) override {
    ZSTD_inBuffer input = {.src = in.data(), .size = in.size(), .pos = 0};
    ZSTD_outBuffer output = {.dst = out.data(), .size = out.size(), .pos = 0};
    const std::size_t result = ::ZSTD_decompressStream(stream_, &output, &input);
    Step step{.consumed = input.pos, .produced = output.pos};
    // Without progress the result speaks of the frame that could follow.
    if (step.consumed > 0 || step.produced > 0) inside_ = result != 0;
    step.inside = inside_;
    if (::ZSTD_isError(result) != 0) step.problem = ::ZSTD_getErrorName(result);
    return step;
  }

 private:
  ZSTD_DStream* stream_;
  bool inside_ = false;
};

bool begins_with(std::string_view bytes, std::string_view magic) {
  return bytes.substr(0, magic.size()) == magic;
}

}  // namespace

std::unique_ptr<Decompressor> make_decompressor(std::string_view head) {
  if (begins_with(head, "\x1f\x8b")) return std::make_unique<Gzip>();
  if (begins_with(head, std::string_view("\xfd"
                                         "7zXZ\0",
                                         6)))
    return std::make_unique<Xz>();
  if (begins_with(head, "\x28\xb5\x2f\xfd")) return std::make_unique<Zstd>();
  return nullptr;
}

}  // namespace depthlens::util
