// Patterns by PCRE2.
#include "pattern.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "unicode.hpp"

namespace depthlens::text {
namespace {

using util::cat;
using util::in_quotes;

constexpr std::size_t kMaxPattern = 1 << 16;
constexpr std::uint32_t kMatchLimit = 10'000'000;
constexpr std::uint32_t kDepthLimit = 100'000;
constexpr const char* kDigits = "0123456789";
constexpr const char* kIgnored = " where case does not matter";

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};
using Code = std::unique_ptr<pcre2_code, Freer<pcre2_code_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Freer<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>>;

std::string error_message(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

/// Rewrites a pattern of Oniguruma for PCRE2. Unicode properties and white space become explicit classes,
/// since PCRE2's own tables are of another version of Unicode; what the two read differently is refused.
class Translator {
 public:
  Translator(const std::string& pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  std::string translate() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_character(c);
      } else {
        character(c);
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw util::format_error({.what = cat("a pattern that depthlens cannot follow: ", what),
                              .where = cat(where_, ", byte ", at_ + 1, " of the pattern"),
                              .found = in_quotes(pattern_)});
  }

  bool follows(std::string_view text) const { return pattern_.compare(at_, text.size(), text) == 0; }

  void take(std::size_t count) {
    out_.append(pattern_, at_, count);
    at_ += count;
  }

  void character(char c) {
    if (c == '[') {
      if (class_without()) return;
      in_class_ = true;
      class_start_ = true;
      take(1);
      if (at_ < pattern_.size() && pattern_[at_] == '^') take(1);
      return;
    }
    if (c == '(' && follows("(?")) return group();
    if (c == '(' && follows("(*")) refuse("the verb (*");
    if (c == ')' && !outer_ignore_case_.empty()) {
      ignores_case_ = outer_ignore_case_.back();
      outer_ignore_case_.pop_back();
    }
    if (c == '(') outer_ignore_case_.push_back(ignores_case_);
    if (c == '{') return interval();
    if (c == '}' && at_ + 1 < pattern_.size() && pattern_[at_ + 1] == '+') refuse("}+");
    literal(c);
  }

  /// Splits off names of properties, \p{…}\p{…}, at least one.
  static bool properties(std::string_view& rest, std::vector<std::string_view>& names) {
    constexpr std::string_view kOpen = "\\p{";
    while (rest.starts_with(kOpen)) {
      const std::size_t close = rest.find('}');
      if (close == std::string_view::npos) return false;
      names.push_back(rest.substr(kOpen.size(), close - kOpen.size()));
      rest.remove_prefix(close + 1);
    }
    return !names.empty();
  }

  /// [\p{…}\p{…}&&[^\p{…}]], of which PCRE2 knows nothing: the second class is taken out of the first.
  bool class_without() {
    constexpr std::string_view kWithout = "&&[^", kEnd = "]]";
    std::string_view rest = std::string_view(pattern_).substr(at_ + 1);
    std::vector<std::string_view> names, without;
    if (!properties(rest, names) || !rest.starts_with(kWithout)) return false;
    rest.remove_prefix(kWithout.size());
    if (!properties(rest, without) || !rest.starts_with(kEnd)) return false;
    if (ignores_case_) refuse(cat("&&", kIgnored));
    const std::string members = class_difference(names, without);
    if (members.empty()) return false;
    out_ += cat("[", members, "]");
    last_letter_ = 0;
    at_ = pattern_.size() - rest.size() + kEnd.size();
    return true;
  }

  /// {,n} is a text to PCRE2, and {n}? does not mean "or none".
  void interval() {
    const std::size_t comma = std::min(pattern_.find_first_not_of(kDigits, at_ + 1), pattern_.size());
    const std::size_t close = std::min(pattern_.find_first_not_of(kDigits, comma + 1), pattern_.size());
    if (comma > at_ + 1 && pattern_.compare(comma, 2, "}?") == 0) refuse("{n}?");
    const bool from_none = comma == at_ + 1 && close > comma + 1 && pattern_[comma] == ',' &&
                           pattern_.compare(close, 1, "}") == 0;
    take(1);
    if (from_none) out_ += '0';
  }

  /// A character by itself, in a class or outside. Where case does not matter, Oniguruma takes one letter for
  /// several: \u00df for ss.
  void literal(char c) {
    const char* end = pattern_.data() + at_;
    const bool is_word = (code_point_flags()[next_code_point(end)] & kWord) != 0;
    const char letter = c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
    if (ignores_case_) {
      if (is_word && static_cast<unsigned char>(c) >= 0x80) refuse(cat("a letter beyond ASCII", kIgnored));
      for (const std::string_view pair : {"ss", "st", "ff", "fi", "fl"}) {
        if (!in_class_ && last_letter_ == pair[0] && letter == pair[1])
          refuse(cat(in_quotes(pair), kIgnored));
      }
    }
    if (c != '(' && c != ')') last_letter_ = letter;  // groups need not keep letters apart
    take(static_cast<std::size_t>(end - (pattern_.data() + at_)));
  }

  void group() {
    for (const std::string_view known : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:"}) {
      if (!follows(known)) continue;
      outer_ignore_case_.push_back(ignores_case_);
      ignores_case_ |= known == "(?i:";
      return take(known.size());
    }
    // In the middle of a pattern it would reach differently far.
    if (follows("(?i)") && at_ == 0) {
      ignores_case_ = true;
      return take(4);
    }
    refuse("a group that begins with " + in_quotes(std::string_view(pattern_).substr(at_, 4)));
  }

  void class_character(char c) {
    if (follows("&&")) refuse("&&");
    if (c == ']' && class_start_) refuse("a class that begins with ]");
    if (c == '[' || (c == ']' && inner_classes_ > 0)) return inner_class(c);
    if (c == ']') in_class_ = false;
    class_start_ = false;
    literal(c);
  }

  /// The members of a class in a class are members of the outer one; PCRE2 knows no such thing.
  void inner_class(char c) {
    if (follows("[^") || follows("[:"))
      refuse(in_quotes(std::string_view(pattern_).substr(at_, 2)) + " in a class");
    const bool beside_range = pattern_[at_ - 1] == '-' || pattern_.compare(at_ + 1, 1, "-") == 0;
    if (beside_range) refuse("a class in a class beside a -");
    inner_classes_ += c == '[' ? 1 : -1;
    class_start_ = c == '[';
    ++at_;
  }

  void members(std::string_view category, bool complement) {
    const std::string ranges = class_members(category, complement);
    if (ranges.empty()) refuse("the property " + in_quotes(category));
    const bool is_case = category == "Lu" || category == "Ll" || category == "Lt";
    if (ignores_case_ && in_class_ && is_case)
      refuse(cat("the property ", in_quotes(category), " in a class", kIgnored));
    // By itself a property stays what it is.
    out_ += in_class_ ? ranges : (ignores_case_ ? "(?-i:[" : "[") + ranges + (ignores_case_ ? "])" : "]");
  }

  void escape() {
    if (at_ + 1 >= pattern_.size()) refuse("a \\ at its end");
    const char kind = pattern_[at_ + 1];
    class_start_ = false;
    last_letter_ = 0;
    switch (kind) {
      case 'p':
      case 'P': {
        const std::size_t close = pattern_.find('}', at_);
        if (pattern_.compare(at_ + 2, 1, "{") != 0 || close == std::string::npos) refuse("\\p without {…}");
        std::string_view name = std::string_view(pattern_).substr(at_ + 3, close - at_ - 3);
        bool complement = kind == 'P';
        if (!name.empty() && name[0] == '^') {
          complement = !complement;
          name.remove_prefix(1);
        }
        members(name, complement);
        at_ = close + 1;
        return;
      }
      case 's':
      case 'S':
        members("\\s", kind == 'S');
        at_ += 2;
        return;
      case 'd':
      case 'D':
        members("Nd", kind == 'D');
        at_ += 2;
        return;
      case 'u': {
        if (ignores_case_) refuse(cat("\\u", kIgnored));
        const std::string_view digits = std::string_view(pattern_).substr(at_ + 2).substr(0, 4);
        if (digits.size() != 4 ||
            digits.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos) {
          refuse("\\u without four digits");
        }
        out_ += cat("\\x{", digits, "}");
        at_ += 6;
        return;
      }
      case 'x':
        if (ignores_case_) refuse(cat("\\x", kIgnored));
        [[fallthrough]];
      case 'n':
      case 'r':
      case 't':
      case 'f':
        return take(2);
      default:
        break;
    }
    const bool letter_or_digit =
        (kind >= 'a' && kind <= 'z') || (kind >= 'A' && kind <= 'Z') || (kind >= '0' && kind <= '9');
    if (letter_or_digit) refuse(std::string("\\") + kind);
    take(2);
  }

  const std::string& pattern_;
  const std::string& where_;
  std::string out_;
  std::size_t at_ = 0;
  bool ignores_case_ = false;
  std::vector<bool> outer_ignore_case_;  // of the groups that are open
  char last_letter_ = 0;                 // what a literal stands behind, where case does not matter
  bool in_class_ = false;
  bool class_start_ = false;
  int inner_classes_ = 0;
};

}  // namespace

struct Pattern::Compiled {
  std::string pattern;
  std::string where;
  Code code;
  MatchContext context;
};

Pattern::Pattern(const std::string& pattern, const std::string& where)
    : compiled_(std::make_unique<Compiled>()) {
  compiled_->pattern = pattern;
  compiled_->where = where;
  if (pattern.size() > kMaxPattern || !util::is_valid_utf8(pattern)) {
    throw util::format_error({.what = "a pattern that is too long or not valid UTF-8",
                              .where = where,
                              .found = cat(pattern.size(), " bytes")});
  }
  const std::string translated = Translator(pattern, where).translate();
  const CompileContext compile_context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(compile_context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // MULTILINE: ^ and $ of Oniguruma are those of a line.
  compiled_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                      &error, &offset, compile_context.get()));
  if (!compiled_->code) {
    throw util::format_error({.what = "a pattern that does not compile",
                              .where = where,
                              .found = cat(in_quotes(pattern), ": ", error_message(error))});
  }
  compiled_->context.reset(pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(compiled_->context.get(), kMatchLimit);
  pcre2_set_depth_limit(compiled_->context.get(), kDepthLimit);
  // Without JIT the pattern is interpreted: slower, the same matches.
  pcre2_jit_compile(compiled_->code.get(), PCRE2_JIT_COMPLETE);
}

Pattern::~Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;

void Pattern::find_all(std::string_view text, std::vector<Span>& spans) const {
  const MatchData data(pcre2_match_data_create_from_pattern(compiled_->code.get(), nullptr));
  const auto match = [&](std::size_t start, std::uint32_t options) {
    return pcre2_match(compiled_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start,
                       PCRE2_NO_UTF_CHECK | options, data.get(), compiled_->context.get());
  };
  std::size_t done = 0;
  std::size_t start = 0;
  bool just_matched = false;  // an empty match right behind a match does not count
  while (start <= text.size()) {
    int result = match(start, 0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(start, PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0) {
      throw util::format_error(
          {.what = cat("the pattern ", in_quotes(compiled_->pattern), " fails on a text"),
           .where = compiled_->where,
           .found = error_message(result)});
    }
    const PCRE2_SIZE* const offsets = pcre2_get_ovector_pointer(data.get());
    const std::size_t first = offsets[0], last = offsets[1];
    const bool empty = first >= last;
    if (!(empty && just_matched && first == done)) {
      if (first > done) spans.push_back({done, first, false});
      spans.push_back({first, last, true});
      done = last;
    }
    just_matched = true;
    start = last;
    if (empty) {
      if (start >= text.size()) break;
      const char* next = text.data() + start;
      next_code_point(next);
      start = static_cast<std::size_t>(next - text.data());
    }
  }
  if (done < text.size()) spans.push_back({done, text.size(), false});
}

}  // namespace depthlens::text
