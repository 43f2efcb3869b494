// Writes a frame by libzstd's streaming interface, and takes lines out of one.
#include "depthlens/util/zstd.hpp"

#include <zstd.h>

#include <new>

#include "decompression.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::util {
namespace {

/// The level, the pieces in which libzstd gets the content, and one thread decide the bytes: to change any of
/// them is to change files.
constexpr int kLevel = 3;
constexpr std::size_t kFramePiece = 128 << 10;

}  // namespace

ZstdWriter::ZstdWriter(std::function<void(std::string_view)> write)
    : write_(std::move(write)), context_(::ZSTD_createCCtx()), out_(kFramePiece) {
  if (context_ == nullptr) throw std::bad_alloc();
  for (const auto& [parameter, value] :
       {std::pair(ZSTD_c_compressionLevel, kLevel), {ZSTD_c_checksumFlag, 1}, {ZSTD_c_nbWorkers, 0}}) {
    const std::size_t result = ::ZSTD_CCtx_setParameter(context_, parameter, value);
    DEPTHLENS_ASSERT(::ZSTD_isError(result) == 0);
  }
  pending_.reserve(kFramePiece);
}

ZstdWriter::~ZstdWriter() {
  ::ZSTD_freeCCtx(context_);
}

void ZstdWriter::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::string_view part = bytes.substr(0, kFramePiece - pending_.size());
    pending_ += part;
    bytes.remove_prefix(part.size());
    if (pending_.size() < kFramePiece) return;
    compress(pending_, false);
    pending_.clear();
  }
}

void ZstdWriter::finish() {
  compress(pending_, true);
  pending_.clear();
}

void ZstdWriter::compress(std::string_view bytes, bool last) {
  ZSTD_inBuffer in = {.src = bytes.data(), .size = bytes.size(), .pos = 0};
  while (true) {
    ZSTD_outBuffer out = {.dst = out_.data(), .size = out_.size(), .pos = 0};
    const std::size_t left = ::ZSTD_compressStream2(context_, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
    if (::ZSTD_isError(left) != 0) throw std::bad_alloc();  // nothing else can go wrong here
    if (out.pos > 0) write_({out_.data(), out.pos});
    if (last ? left == 0 : in.pos == in.size) return;
  }
}

ZstdLines::ZstdLines(std::string_view compressed, std::string path)
    : rest_(compressed), size_(compressed.size()), path_(std::move(path)), storage_(kFramePiece) {
  constexpr std::string_view kMagic = "\x28\xb5\x2f\xfd";
  if (rest_.substr(0, kMagic.size()) != kMagic) {
    throw format_error({.what = "not a zstd file",
                        .where = path_,
                        .found = rest_.empty() ? "an empty file" : "other first bytes"});
  }
  decompressor_ = make_decompressor(rest_);
}

ZstdLines::~ZstdLines() = default;

void ZstdLines::fail(const std::string& found) const {
  throw format_error(
      {.what = "damaged zstd file", .where = cat(path_, ", byte ", size_ - rest_.size()), .found = found});
}

/// Makes the next piece; false at the end.
bool ZstdLines::fill() {
  while (true) {
    const Decompressor::Step step = decompressor_->step(rest_, true, storage_);
    rest_.remove_prefix(step.consumed);
    if (!step.problem.empty()) fail(step.problem);
    if (step.produced > 0) {
      piece_ = {storage_.data(), step.produced};
      return true;
    }
    if (step.consumed > 0) continue;
    if (!rest_.empty()) fail("bad data");
    if (step.inside) fail("an end in the middle");
    return false;
  }
}

bool ZstdLines::next(std::string_view& line) {
  line_.clear();
  while (true) {
    if (piece_.empty() && !fill()) {
      line = line_;
      return !line_.empty();
    }
    const std::size_t end = piece_.find('\n');
    const std::string_view part = piece_.substr(0, end);
    if (line_.size() + part.size() > kMaxLine) fail("a line of more than " + as_bytes(kMaxLine));
    const bool whole = end != std::string_view::npos;
    piece_.remove_prefix(whole ? end + 1 : part.size());
    if (whole && line_.empty()) {
      line = part;
      return true;
    }
    line_ += part;
    if (!whole) continue;
    line = line_;
    return true;
  }
}

}  // namespace depthlens::util
