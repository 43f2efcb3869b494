// Tables of code points and normalization.
#include "unicode.hpp"

#include <utf8proc.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::text {
namespace {

using util::cat;

struct CodePointRange {
  char32_t first, last;
};

enum Category : std::uint8_t {
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSm,
  kSc,
  kSk,
  kSo,
  kZs,
  kZl,
  kZp,
  kCc,
  kCf,
  kCo,
  kCs,
  kCn
};
constexpr std::array<std::string_view, 30> kCategoryNames = {
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
    "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cs", "Cn"};

struct CategoryRun {
  char32_t first;
  Category category;
};

#include "unicode_tables.inc"

constexpr char32_t kEnd = 0x110000;

template <std::size_t N>
void set_flag(std::vector<std::uint8_t>& flags, const CodePointRange (&ranges)[N], std::uint8_t flag) {
  for (const auto& range : ranges) {
    for (char32_t c = range.first; c <= range.last; ++c) flags[c] |= flag;
  }
}

template <typename Visit>
void for_each_run(Visit visit) {
  constexpr std::size_t kRuns = sizeof(kCategoryRuns) / sizeof(kCategoryRuns[0]);
  for (std::size_t i = 0; i < kRuns; ++i) {
    visit(kCategoryRuns[i].first, i + 1 < kRuns ? kCategoryRuns[i + 1].first : kEnd,
          kCategoryRuns[i].category);
  }
}

std::vector<std::uint8_t> make_flags() {
  std::vector<std::uint8_t> flags(kEnd, 0);
  for_each_run([&](char32_t first, char32_t end, Category category) {
    const char group = kCategoryNames[category][0];
    const std::uint8_t flag = group == 'L' ? kLetter : group == 'N' ? kNumber | kNumeric : 0;
    if (flag != 0) std::memset(flags.data() + first, flag, end - first);
  });
  set_flag(flags, kWhiteSpaceRanges, kWhiteSpace);
  set_flag(flags, kWordCharacterRanges, kWord);
  set_flag(flags, kExtraNumericRanges, kNumeric);
  set_flag(flags, kPunctuationRanges, kPunctuation);
  set_flag(flags, kNfcActiveRanges, kNfcActive);
  return flags;
}

void append_range(std::string& out, char32_t first, char32_t end) {
  // PCRE2 refuses surrogates in a class of UTF mode.
  constexpr char32_t kSurrogates = 0xd800, kAfterSurrogates = 0xe000;
  if (first < kSurrogates && end > kSurrogates) {
    append_range(out, first, kSurrogates);
    first = kSurrogates;
  }
  if (first >= kSurrogates && first < kAfterSurrogates) first = kAfterSurrogates;
  if (first >= end) return;
  std::array<char, 32> buffer;
  std::snprintf(buffer.data(), buffer.size(), "\\x{%x}-\\x{%x}", static_cast<unsigned>(first),
                static_cast<unsigned>(end - 1));
  out += buffer.data();
}

}  // namespace

const std::uint8_t* code_point_flags() {
  static const std::vector<std::uint8_t> flags = make_flags();
  return flags.data();
}

void require_valid_utf8(std::string_view text, const std::string& where) {
  std::size_t i = 0;
  while (i < text.size()) {
    std::uint64_t eight;
    while (i + 8 <= text.size()) {
      std::memcpy(&eight, text.data() + i, 8);
      if ((eight & 0x8080808080808080u) != 0) break;
      i += 8;
    }
    if (i >= text.size()) return;
    char32_t code_point;
    int length;
    if (!util::decode_utf8(text, i, code_point, length)) {
      throw util::format_error({.what = "text that is not valid UTF-8",
                                .where = cat(where, ", byte ", i),
                                .found = util::in_quotes(text.substr(i, length))});
    }
    i += length;
  }
}

std::string to_nfc(std::string_view text) {
  const std::uint8_t* const flags = code_point_flags();
  std::string out;
  out.reserve(text.size());
  const char* at = text.data();
  const char* const end = at + text.size();
  const char* copied = at;  // everything before is in `out`
  const char* last = at;    // start of the code point before `at`
  while (at < end) {
    const char* const here = at;
    if (!(flags[next_code_point(at)] & kNfcActive)) {
      last = here;
      continue;
    }
    // What stands before an active code point may join it; the run goes on to the next one that is not
    // active.
    while (at < end) {
      const char* next = at;
      if (!(flags[next_code_point(next)] & kNfcActive)) break;
      at = next;
    }
    // A mark that only utf8proc knows stands still and joins nothing.
    const char* after_last = last;
    if (last != here &&
        utf8proc_get_property(static_cast<utf8proc_int32_t>(next_code_point(after_last)))->combining_class !=
            0) {
      last = here;
    }
    out.append(copied, last);
    utf8proc_uint8_t* result = nullptr;
    const utf8proc_ssize_t size =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(last), at - last, &result,
                     static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
    DEPTHLENS_ASSERT(size >= 0);
    out.append(reinterpret_cast<const char*>(result), static_cast<std::size_t>(size));
    copied = last = at;
  }
  out.append(copied, end);
  return out;
}

std::string class_members(std::string_view category, bool complement) {
  std::string out;
  if (category == "\\s") {
    char32_t next = 0;
    for (const auto& range : kWhiteSpaceRanges) {
      if (complement)
        append_range(out, next, range.first);
      else
        append_range(out, range.first, range.last + 1);
      next = range.last + 1;
    }
    if (complement) append_range(out, next, kEnd);
    return out;
  }
  bool known = false;
  for (const auto name : kCategoryNames) known |= name == category || name.substr(0, 1) == category;
  if (!known) return out;
  char32_t start = 0, open = kEnd;
  for_each_run([&](char32_t first, char32_t end, Category run) {
    const bool member = (kCategoryNames[run].substr(0, category.size()) == category) != complement;
    if (member && open == kEnd) open = start = first;
    if (!member && open != kEnd) {
      append_range(out, start, first);
      open = kEnd;
    }
    if (member && end == kEnd) append_range(out, start, kEnd);
  });
  return out;
}

}  // namespace depthlens::text
