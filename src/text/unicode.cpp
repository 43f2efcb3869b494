// Tables of code points and normalization.
#include "unicode.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>

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

/// Sorted by `first`.
using Ranges = std::vector<CodePointRange>;

/// The members of a general category, of white space or of Han; nothing: there is no such property.
std::optional<Ranges> ranges_of(std::string_view category) {
  if (category == "\\s") return Ranges(std::begin(kWhiteSpaceRanges), std::end(kWhiteSpaceRanges));
  if (category == "Han") return Ranges(std::begin(kHanRanges), std::end(kHanRanges));
  bool known = false;
  for (const auto name : kCategoryNames) known |= name == category || name.substr(0, 1) == category;
  if (!known) return std::nullopt;
  Ranges ranges;
  for_each_run([&](char32_t first, char32_t end, Category run) {
    if (kCategoryNames[run].substr(0, category.size()) != category) return;
    if (!ranges.empty() && ranges.back().last + 1 == first)
      ranges.back().last = end - 1;
    else
      ranges.push_back({first, end - 1});
  });
  return ranges;
}

/// What is in `ranges` and not in `without`.
Ranges difference(const Ranges& ranges, const Ranges& without) {
  Ranges left;
  auto hole = without.begin();
  for (const auto& [first, last] : ranges) {
    char32_t next = first;
    while (hole != without.end() && hole->last < next) ++hole;
    for (auto at = hole; at != without.end() && at->first <= last; ++at) {
      if (at->first > next) left.push_back({next, at->first - 1});
      next = at->last + 1;
    }
    if (next <= last) left.push_back({next, last});
  }
  return left;
}

/// As members of a character class of PCRE2.
std::string written(const Ranges& ranges) {
  // PCRE2 refuses surrogates in a class of UTF mode.
  std::string out;
  for (const auto& [first, last] : difference(ranges, {{0xd800, 0xdfff}})) {
    std::array<char, 32> buffer;
    std::snprintf(buffer.data(), buffer.size(), "\\x{%x}-\\x{%x}", static_cast<unsigned>(first),
                  static_cast<unsigned>(last));
    out += buffer.data();
  }
  return out;
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
  const std::optional<Ranges> ranges = ranges_of(category);
  if (!ranges) return "";
  return complement ? written(difference({{0, kEnd - 1}}, *ranges)) : written(*ranges);
}

std::string class_difference(const std::vector<std::string_view>& categories,
                             const std::vector<std::string_view>& without) {
  const auto all_of = [](const std::vector<std::string_view>& names) -> std::optional<Ranges> {
    Ranges all;
    for (const std::string_view name : names) {
      const std::optional<Ranges> ranges = ranges_of(name);
      if (!ranges) return std::nullopt;
      all.insert(all.end(), ranges->begin(), ranges->end());
    }
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    return all;
  };
  const std::optional<Ranges> wanted = all_of(categories), unwanted = all_of(without);
  return wanted && unwanted ? written(difference(*wanted, *unwanted)) : "";
}

}  // namespace depthlens::text
