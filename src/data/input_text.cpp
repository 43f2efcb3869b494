// What is no text, told by its first bytes; what is no UTF-8.
#include "depthlens/data/input_text.hpp"

#include <array>

#include "depthlens/util/error.hpp"
#include "depthlens/util/input_file.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::data {
namespace {

using namespace std::string_view_literals;

struct Format {
  std::string_view magic;
  const char* name;
  std::size_t offset = 0;
};

/// What text could begin with too, though it hardly does, counts only where the bytes behind it are no text.
constexpr std::array kBinary = {Format{"PAR1"sv, "a Parquet file"},
                                Format{"ARROW1"sv, "an Arrow file"},
                                Format{"\xff\xff\xff\xff"sv, "an Arrow stream"},
                                Format{"FEA1"sv, "a Feather file"},
                                Format{"Obj\x01"sv, "an Avro file"},
                                Format{"PK\x03\x04"sv, "a zip archive (or a document that is one inside)"},
                                Format{"ustar"sv, "a tar archive", 257},
                                Format{"BZh"sv, "a bzip2 file"},
                                Format{"\x04\x22\x4d\x18"sv, "an lz4 file"},
                                Format{"LZIP"sv, "an lzip file"},
                                Format{"\x1f\x9d"sv, "a file of compress (.Z)"},
                                Format{"7z\xbc\xaf\x27\x1c"sv, "a 7z archive"},
                                Format{"Rar!\x1a\x07"sv, "a RAR archive"},
                                Format{"\x1f\x8b"sv, "a gzip file in a compressed file"},
                                Format{"\xfd"
                                       "7zXZ"sv,
                                       "an xz file in a compressed file"},
                                Format{"\x28\xb5\x2f\xfd"sv, "a zstd file in a compressed file"},
                                Format{"%PDF-"sv, "a PDF"},
                                Format{"\xd0\xcf\x11\xe0"sv, "an Office document"},
                                Format{"SQLite format 3"sv, "an SQLite database"},
                                Format{"\x89HDF"sv, "an HDF5 file"},
                                Format{"\x93NUMPY"sv, "a NumPy array"},
                                Format{"GGUF"sv, "a GGUF model"}};
/// Text, but not the text that is meant; in lower case.
constexpr std::array kMarkup = {
    Format{"%pdf-"sv, "a PDF"},
    Format{"%!ps"sv, "a PostScript document"},
    Format{"{\\rtf"sv, "an RTF document"},
    Format{"<!doctype html"sv, "an HTML page"},
    Format{"<html"sv, "an HTML page"},
    Format{"<?xml"sv, "an XML document"},
    Format{"version https://git-lfs"sv, "a pointer of Git LFS, which stands for the file"}};

const Format* format_of(std::string_view head) {
  const auto has = [](std::string_view bytes, const Format& format) {
    return bytes.size() >= format.offset + format.magic.size() &&
           bytes.substr(format.offset, format.magic.size()) == format.magic;
  };
  constexpr std::size_t kSample = 2048;
  const std::string_view sample = util::cut_utf8(head, kSample);
  if (!util::is_valid_utf8(sample) || sample.find('\0') != std::string_view::npos) {
    for (const Format& format : kBinary) {
      if (has(sample, format)) return &format;
    }
  }
  std::string_view text = sample;
  if (text.substr(0, kByteOrderMark.size()) == kByteOrderMark) text.remove_prefix(kByteOrderMark.size());
  const std::string lower = util::lower_case(util::trimmed(text));
  for (const Format& format : kMarkup) {
    if (has(lower, format)) return &format;
  }
  return nullptr;
}

std::string marked_encoding(std::string_view head) {
  constexpr std::array<std::pair<std::string_view, const char*>, 4> kMarks = {{
      {"\xff\xfe\0\0"sv, "UTF-32"},  // before UTF-16, whose mark it begins with
      {"\0\0\xfe\xff"sv, "UTF-32"},
      {"\xff\xfe"sv, "UTF-16"},
      {"\xfe\xff"sv, "UTF-16"},
  }};
  for (const auto& [mark, name] : kMarks) {
    if (head.substr(0, mark.size()) == mark) return name;
  }
  return "";
}

util::Error wrong_encoding(const std::string& where, const std::string& found, const std::string& encoding) {
  return util::input_error({.what = "not UTF-8 text",
                            .where = where,
                            .expected = "UTF-8",
                            .found = found,
                            .hint = "convert it: iconv -f " + encoding + " -t UTF-8 FILE > CONVERTED"});
}

/// The encoding of two or four bytes a character that NULs at every other place speak of, such as "UTF-16LE";
/// "" where they do not.
std::string wide_encoding(std::string_view bytes) {
  std::array<std::size_t, 4> nuls = {};
  for (std::size_t i = 0; i < bytes.size(); ++i) nuls[i % 4] += bytes[i] == '\0' ? 1 : 0;
  const std::size_t even = nuls[0] + nuls[2], odd = nuls[1] + nuls[3];
  if (even + odd < 3) return "";
  // Latin letters have NULs in their upper bytes, others at least spaces and line ends. A tenth is more than
  // a text has by accident.
  const auto many = [&](std::size_t count, std::size_t every) { return count * 10 > bytes.size() / every; };
  const std::array<bool, 4> wide = {many(nuls[0], 4), many(nuls[1], 4), many(nuls[2], 4), many(nuls[3], 4)};
  if (wide[1] && wide[2] && wide[0] != wide[3]) return wide[3] ? "UTF-32LE" : "UTF-32BE";
  if (many(even, 2) == many(odd, 2)) return "";
  return many(odd, 2) ? "UTF-16LE" : "UTF-16BE";
}

}  // namespace

void refuse_wide_text(std::string_view text, const std::string& where) {
  if (text.find('\0') == std::string_view::npos) return;
  const std::string encoding = wide_encoding(text);
  if (encoding.empty()) return;
  throw util::input_error(
      {.what = "a text with NULs between its letters",
       .where = where,
       .expected = "text",
       .found = encoding + " that was taken for UTF-8",
       .hint = "convert what the file was made from: iconv -f " + encoding + " -t UTF-8"});
}

void refuse_other_formats(std::string_view head, const std::string& name) {
  if (const std::string encoding = marked_encoding(head); !encoding.empty())
    throw wrong_encoding(name, "the byte order mark of " + encoding, encoding);
  if (const Format* format = format_of(head)) {
    throw util::input_error({.what = "not a text",
                             .where = name,
                             .expected = "UTF-8 text or JSON, plain or compressed by gzip, xz or zstd",
                             .found = format->name,
                             .hint = "make a text or JSON lines of it first"});
  }
  if (const std::string encoding = wide_encoding(head); !encoding.empty())
    throw wrong_encoding(name, "NUL bytes as in " + encoding, encoding);
}

void check_text(std::string_view text, const std::function<std::string(std::size_t)>& place) {
  std::size_t bad = 0;
  if (!util::is_valid_utf8(text, &bad)) {
    throw wrong_encoding(place(bad), util::in_quotes(text.substr(bad, 4)),
                         "WINDOWS-1252 (or what it is written in)");
  }
  bad = text.find('\0');
  if (bad == std::string_view::npos) return;
  throw util::input_error({.what = "a NUL byte in the text",
                           .where = place(bad),
                           .expected = "UTF-8 text, which has none",
                           .found = util::in_quotes(text.substr(bad, 4)),
                           .hint = "UTF-16 and binary files have them; is it one?"});
}

InputText read_input_text(const std::string& path, std::uint64_t limit) {
  util::InputFile file(path);
  util::InputReader reader(file);
  refuse_other_formats(reader.head(), path);
  InputText input{.name = path, .sha256 = {}, .text = reader.rest(limit)};
  input.sha256 = reader.finish();
  check_text(input.text, [&](std::size_t i) { return util::cat(path, ", byte ", i + 1); });
  if (input.text.rfind(kByteOrderMark, 0) == 0) input.text.erase(0, kByteOrderMark.size());
  return input;
}

}  // namespace depthlens::data
