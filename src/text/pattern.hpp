// Regular expressions of tokenizer.json, run by PCRE2 with the character classes of Hugging Face's package.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace depthlens::text {

/// Part of a text: a match of a pattern, or what stands between matches. Offsets in bytes.
struct Span {
  std::size_t start = 0;
  std::size_t end = 0;
  bool is_match = false;
};

/// A compiled pattern; immutable, safe on several threads.
class Pattern {
 public:
  /// `pattern` is written for Oniguruma (Ruby's syntax). What PCRE2 would read differently is refused with a
  /// format error that names `where`, as is what does not compile.
  Pattern(const std::string& pattern, const std::string& where);
  ~Pattern();
  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;

  /// Appends spans that cover `text` (valid UTF-8). Throws a format error where a match takes too long.
  void find_all(std::string_view text, std::vector<Span>& spans) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace depthlens::text
