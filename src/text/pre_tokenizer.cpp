// The steps that normalize a text and cut it into words.
#include "pre_tokenizer.hpp"

#include "byte_alphabet.hpp"
#include "depthlens/util/error.hpp"
#include "pattern.hpp"
#include "unicode.hpp"

namespace depthlens::text {
namespace {

/// GPT-2's pattern: '(?:s|t|re|ve|m|ll|d) | ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// Every text is a sequence of its matches.
class Gpt2Lexer {
 public:
  const char* word_end(const char* at, const char* end) const;

 private:
  const std::uint8_t* flags_ = code_point_flags();
};

constexpr std::uint8_t kKinds = kLetter | kNumber | kWhiteSpace;

/// The end of the run of code points whose class (letter, number, space or none) is `wanted`.
const char* run_end(const std::uint8_t* flags, const char* at, const char* end, std::uint8_t wanted) {
  while (at < end) {
    const char* next = at;
    if ((flags[next_code_point(next)] & kKinds) != wanted) break;
    at = next;
  }
  return at;
}

/// \s+(?!\S)|\s+ at white space: all of it where the text ends with it, else all but the last, but at least
/// one.
const char* space_run_end(const std::uint8_t* flags, const char* at, const char* end) {
  const char* const stop = run_end(flags, at, end, kWhiteSpace);
  if (stop == end) return stop;
  const char* const last = previous_code_point(stop);
  return last > at ? last : stop;
}

/// The length of an English contraction ("'s", "'re", …) at an apostrophe, or 0.
int contraction_length(const char* at, const char* end) {
  if (end - at < 2) return 0;
  switch (at[1]) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return end - at > 2 && at[2] == 'e' ? 3 : 0;
    case 'l':
      return end - at > 2 && at[2] == 'l' ? 3 : 0;
    default:
      return 0;
  }
}

const char* Gpt2Lexer::word_end(const char* at, const char* end) const {
  if (*at == '\'') {
    if (const int length = contraction_length(at, end)) return at + length;
  }
  const char* first = at;
  if (*at == ' ' && at + 1 < end) ++first;
  const char* next = first;
  const std::uint8_t kind = flags_[next_code_point(next)] & kKinds;
  if (kind == kWhiteSpace) return space_run_end(flags_, at, end);
  return run_end(flags_, next, end, kind);
}

/// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,N}|
/// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ Every text is a sequence of its matches.
class Llama3Lexer {
 public:
  explicit Llama3Lexer(int max_digits) : max_digits_(max_digits) {}
  const char* word_end(const char* at, const char* end) const;

 private:
  const std::uint8_t* flags_ = code_point_flags();
  int max_digits_;
};

/// As contraction_length, in either case. The long s (U+017F) is an s when case does not matter.
int any_case_contraction_length(const char* at, const char* end) {
  if (end - at < 2) return 0;
  if (end - at > 2 && at[1] == '\xc5' && at[2] == '\xbf') return 3;
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; };
  const char folded[3] = {at[0], lower(at[1]), end - at > 2 ? lower(at[2]) : '\0'};
  return contraction_length(folded, folded + (end - at > 2 ? 3 : 2));
}

const char* Llama3Lexer::word_end(const char* at, const char* end) const {
  if (*at == '\'') {
    if (const int length = any_case_contraction_length(at, end)) return at + length;
  }
  const char* next = at;
  const std::uint8_t kind = flags_[next_code_point(next)] & kKinds;
  if (kind == kLetter) return run_end(flags_, next, end, kLetter);
  if (kind == kNumber) {
    for (int digits = 1; digits < max_digits_ && next < end; ++digits) {
      const char* after = next;
      if ((flags_[next_code_point(after)] & kKinds) != kNumber) break;
      next = after;
    }
    return next;
  }
  // Anything but a line end may open a word.
  std::uint8_t kind_after = kWhiteSpace;
  const char* after = next;
  if (next < end) kind_after = flags_[next_code_point(after)] & kKinds;
  if (*at != '\r' && *at != '\n' && next < end && kind_after == kLetter)
    return run_end(flags_, after, end, kLetter);
  const bool opens_punctuation = *at == ' ' && next < end && kind_after == 0;
  if (kind == 0 || opens_punctuation) {
    const char* stop = run_end(flags_, next, end, 0);
    while (stop < end && (*stop == '\r' || *stop == '\n')) ++stop;
    return stop;
  }
  const char* const stop = run_end(flags_, at, end, kWhiteSpace);
  for (const char* c = stop; c > at; --c) {
    if (c[-1] == '\r' || c[-1] == '\n') return c;
  }
  return space_run_end(flags_, at, end);
}

template <typename Lexer>
class LexerSplitter final : public Splitter {
 public:
  explicit LexerSplitter(Lexer lexer) : lexer_(lexer) {}
  void split(std::string_view piece, bool /*at_text_start*/, Words& out) const override {
    const char* const end = piece.data() + piece.size();
    for (const char* at = piece.data(); at < end;) {
      const char* const stop = lexer_.word_end(at, end);
      out.views.emplace_back(at, static_cast<std::size_t>(stop - at));
      at = stop;
    }
  }

 private:
  Lexer lexer_;
};

class ByteLevelSplitter final : public Splitter {
 public:
  ByteLevelSplitter(bool use_regex, bool add_prefix_space)
      : use_regex_(use_regex), add_prefix_space_(add_prefix_space), words_(Gpt2Lexer()) {}
  void split(std::string_view piece, bool at_text_start, Words& out) const override {
    if (add_prefix_space_ && piece[0] != ' ') {
      std::string with_space(1, ' ');
      with_space += piece;
      piece = out.own(std::move(with_space));
    }
    if (use_regex_) {
      words_.split(piece, at_text_start, out);
    } else {
      out.views.push_back(piece);
    }
  }

 private:
  bool use_regex_, add_prefix_space_;
  LexerSplitter<Gpt2Lexer> words_;
};

void split_by(std::string_view piece, std::vector<Span>& spans, SplitBehavior behavior, bool invert,
              Words& out) {
  if (invert) {
    for (Span& span : spans) span.is_match = !span.is_match;
  }
  const auto emit = [&](std::size_t start, std::size_t end) {
    if (end > start) out.views.push_back(piece.substr(start, end - start));
  };
  switch (behavior) {
    case SplitBehavior::kIsolated:
      for (const Span& span : spans) emit(span.start, span.end);
      return;
    case SplitBehavior::kRemoved:
      for (const Span& span : spans) {
        if (!span.is_match) emit(span.start, span.end);
      }
      return;
    case SplitBehavior::kContiguous:
      for (std::size_t i = 0; i < spans.size();) {
        std::size_t last = i;
        while (last + 1 < spans.size() && spans[last + 1].is_match == spans[i].is_match) ++last;
        emit(spans[i].start, spans[last].end);
        i = last + 1;
      }
      return;
    case SplitBehavior::kMergedWithPrevious:
      // A match joins the span before it unless that is a match itself.
      for (std::size_t i = 0; i < spans.size(); ++i) {
        const bool joins = !spans[i].is_match && i + 1 < spans.size() && spans[i + 1].is_match;
        emit(spans[i].start, spans[i + (joins ? 1 : 0)].end);
        if (joins) ++i;
      }
      return;
    case SplitBehavior::kMergedWithNext:
      for (std::size_t i = 0; i < spans.size(); ++i) {
        const bool joins = spans[i].is_match && i + 1 < spans.size() && !spans[i + 1].is_match;
        emit(spans[i].start, spans[i + (joins ? 1 : 0)].end);
        if (joins) ++i;
      }
      return;
  }
}

void find_string(std::string_view piece, std::string_view wanted, std::vector<Span>& spans) {
  std::size_t done = 0;
  for (std::size_t at; (at = piece.find(wanted, done)) != std::string_view::npos; done = at + wanted.size()) {
    if (at > done) spans.push_back({done, at, false});
    spans.push_back({at, at + wanted.size(), true});
  }
  if (done < piece.size()) spans.push_back({done, piece.size(), false});
}

class RegexSplitter final : public Splitter {
 public:
  RegexSplitter(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void split(std::string_view piece, bool /*at_text_start*/, Words& out) const override {
    std::vector<Span> spans;
    pattern_.find_all(piece, spans);
    split_by(piece, spans, behavior_, invert_, out);
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

class StringSplitter final : public Splitter {
 public:
  StringSplitter(std::string text, SplitBehavior behavior, bool invert)
      : text_(std::move(text)), behavior_(behavior), invert_(invert) {}
  void split(std::string_view piece, bool /*at_text_start*/, Words& out) const override {
    std::vector<Span> spans;
    find_string(piece, text_, spans);
    split_by(piece, spans, behavior_, invert_, out);
  }

 private:
  std::string text_;
  SplitBehavior behavior_;
  bool invert_;
};

/// Cuts at code points with a flag, each of which is a match.
class CharacterSplitter final : public Splitter {
 public:
  CharacterSplitter(CodePointFlag flag, SplitBehavior behavior) : flag_(flag), behavior_(behavior) {}
  void split(std::string_view piece, bool /*at_text_start*/, Words& out) const override {
    const std::uint8_t* const flags = code_point_flags();
    std::vector<Span> spans;
    for (const char* at = piece.data(); at < piece.data() + piece.size();) {
      const auto start = static_cast<std::size_t>(at - piece.data());
      const bool is_match = (flags[next_code_point(at)] & flag_) != 0;
      const auto end = static_cast<std::size_t>(at - piece.data());
      if (!is_match && !spans.empty() && !spans.back().is_match) {
        spans.back().end = end;
      } else {
        spans.push_back({start, end, is_match});
      }
    }
    split_by(piece, spans, behavior_, false, out);
  }

 private:
  CodePointFlag flag_;
  SplitBehavior behavior_;
};

class SpellingSplitter final : public Splitter {
 public:
  void split(std::string_view piece, bool /*at_text_start*/, Words& out) const override {
    out.views.push_back(out.own(spelled(piece)));
  }
};

class ReadingSplitter final : public Splitter {
 public:
  void split(std::string_view piece, bool /*at_text_start*/, Words& out) const override {
    auto bytes = spelled_bytes(piece);
    DEPTHLENS_ASSERT(bytes.has_value());
    out.views.push_back(out.own(std::move(*bytes)));
  }
};

std::string replaced(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  std::size_t done = 0;
  for (std::size_t at; (at = text.find(pattern, done)) != std::string_view::npos;
       done = at + pattern.size()) {
    out += text.substr(done, at - done);
    out += content;
  }
  out += text.substr(done);
  return out;
}

class MetaspaceSplitter final : public Splitter {
 public:
  MetaspaceSplitter(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme), split_(split) {}
  void split(std::string_view piece, bool at_text_start, Words& out) const override {
    std::string text = replaced(piece, " ", replacement_);
    if ((scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && at_text_start)) &&
        text.compare(0, replacement_.size(), replacement_) != 0) {
      text.insert(0, replacement_);
    }
    const std::string_view owned = out.own(std::move(text));
    if (!split_) {
      out.views.push_back(owned);
      return;
    }
    std::vector<Span> spans;
    find_string(owned, replacement_, spans);
    split_by(owned, spans, SplitBehavior::kMergedWithNext, false, out);
  }

 private:
  std::string replacement_;
  PrependScheme scheme_;
  bool split_;
};

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace

std::string_view Normalizer::apply(std::string_view text, std::string& storage) const {
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Kind::kNfc:
        storage = to_nfc(text);
        break;
      case Kind::kPrepend: {
        if (text.empty()) return text;
        std::string longer = step.content;
        longer += text;
        storage = std::move(longer);
        break;
      }
      case Kind::kReplace:
        storage = replaced(text, step.pattern, step.content);
        break;
    }
    text = storage;
  }
  return text;
}

void PreTokenizer::split(std::string_view text, bool at_text_start, Words& out) const {
  out.views.clear();
  out.owned.clear();
  if (text.empty()) return;
  out.views.push_back(text);
  std::vector<std::string_view> pieces;
  for (const auto& step : steps_) {
    pieces.clear();
    pieces.swap(out.views);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      // A step before may have removed what opened the text.
      const bool opens = i == 0 && (pieces[i].data() == text.data() || !out.owned.empty());
      if (!pieces[i].empty()) step->split(pieces[i], at_text_start && opens, out);
    }
  }
}

std::unique_ptr<Splitter> byte_level_splitter(bool use_regex, bool add_prefix_space) {
  return std::make_unique<ByteLevelSplitter>(use_regex, add_prefix_space);
}

std::unique_ptr<Splitter> llama3_splitter(int max_digits) {
  return std::make_unique<LexerSplitter<Llama3Lexer>>(Llama3Lexer(max_digits));
}

std::unique_ptr<Splitter> regex_splitter(const std::string& pattern, SplitBehavior behavior, bool invert,
                                         const std::string& where) {
  // These patterns leave no text between their matches, so the two spellings of "the matches" are the same.
  const bool keeps_matches =
      behavior == SplitBehavior::kIsolated || (behavior == SplitBehavior::kRemoved && invert);
  if (keeps_matches && pattern == kGpt2Pattern) return byte_level_splitter(true, false);
  if (keeps_matches && pattern == kLlama3Pattern) return llama3_splitter(3);
  if (keeps_matches && pattern == kQwen2Pattern) return llama3_splitter(1);
  return std::make_unique<RegexSplitter>(Pattern(pattern, where), behavior, invert);
}

std::unique_ptr<Splitter> string_splitter(std::string text, SplitBehavior behavior, bool invert) {
  DEPTHLENS_ASSERT(!text.empty());
  return std::make_unique<StringSplitter>(std::move(text), behavior, invert);
}

std::unique_ptr<Splitter> digits_splitter(bool individual_digits) {
  return std::make_unique<CharacterSplitter>(
      kNumeric, individual_digits ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}

std::unique_ptr<Splitter> punctuation_splitter(SplitBehavior behavior) {
  return std::make_unique<CharacterSplitter>(kPunctuation, behavior);
}

std::unique_ptr<Splitter> spelling_splitter() {
  return std::make_unique<SpellingSplitter>();
}

std::unique_ptr<Splitter> reading_splitter() {
  return std::make_unique<ReadingSplitter>();
}

std::unique_ptr<Splitter> metaspace_splitter(std::string replacement, PrependScheme scheme, bool split) {
  return std::make_unique<MetaspaceSplitter>(std::move(replacement), scheme, split);
}

}  // namespace depthlens::text
