// From text to words: normalization, then the steps that cut the text. Byte pairs never merge across words.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace depthlens::text {

/// Normalization as a list of steps, each on the whole piece of text.
class Normalizer {
 public:
  enum class Kind { kNfc, kPrepend, kReplace };
  struct Step {
    Kind kind;
    std::string pattern = {};  ///< kReplace: looked for, not empty
    std::string content = {};  ///< kPrepend, kReplace: put in

    bool operator==(const Step&) const = default;
  };

  void add(Step step) { steps_.push_back(std::move(step)); }
  const std::vector<Step>& steps() const { return steps_; }

  /// The normalized text: `text` itself or a view of `storage`.
  std::string_view apply(std::string_view text, std::string& storage) const;

 private:
  std::vector<Step> steps_;
};

/// Words of a text, as views into it or into `owned`.
struct Words {
  std::vector<std::string_view> views;
  std::deque<std::string> owned;  // a deque: views stay valid while it grows

  std::string_view own(std::string text) { return owned.emplace_back(std::move(text)); }
};

/// One step that cuts a piece of valid UTF-8 into smaller ones. Immutable, safe on several threads.
class Splitter {
 public:
  virtual ~Splitter() = default;
  /// Appends the parts of `piece`, which is not empty. `at_text_start`: the piece opens the text.
  virtual void split(std::string_view piece, bool at_text_start, Words& out) const = 0;
};

/// The steps of a tokenizer, one after another.
class PreTokenizer {
 public:
  void add(std::unique_ptr<Splitter> splitter) { steps_.push_back(std::move(splitter)); }
  bool empty() const { return steps_.empty(); }

  /// Cuts `text` into words; `out` is emptied before.
  void split(std::string_view text, bool at_text_start, Words& out) const;

 private:
  std::vector<std::unique_ptr<Splitter>> steps_;
};

/// What is done to a text before its bytes or characters are merged.
struct TextSteps {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
};

/// Stands for a space in pieces of SentencePiece.
inline constexpr std::string_view kSpaceMark = "\u2581";

/// What a Split does with the matches of its pattern and the text between them.
enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// The pattern of GPT-2, by a lexer. `add_prefix_space` puts a space before a piece that has none.
std::unique_ptr<Splitter> byte_level_splitter(bool use_regex, bool add_prefix_space);

/// The pattern of tiktoken's cl100k and its relatives: Llama 3 (3 digits a piece), Qwen 2 (1 digit).
std::unique_ptr<Splitter> llama3_splitter(int max_digits);

/// Cuts by a regular expression. The patterns of GPT-2, Llama 3 and Qwen 2 get their lexers, others PCRE2.
/// Throws a format error, naming `where`, for a pattern that does not compile or means something else to
/// PCRE2; and while splitting, for one that takes too long on a text.
std::unique_ptr<Splitter> regex_splitter(const std::string& pattern, SplitBehavior behavior, bool invert,
                                         const std::string& where);
/// Cuts at a string, which is not empty.
std::unique_ptr<Splitter> string_splitter(std::string text, SplitBehavior behavior, bool invert);
std::unique_ptr<Splitter> digits_splitter(bool individual_digits);
std::unique_ptr<Splitter> punctuation_splitter(SplitBehavior behavior);

/// Cuts nothing: spells the bytes of a piece as vocabularies do. For the steps behind a ByteLevel, which look
/// at that spelling, in which some bytes are letters and some are numbers.
std::unique_ptr<Splitter> spelling_splitter();
/// Cuts nothing: puts the bytes back in place of their spelling.
std::unique_ptr<Splitter> reading_splitter();

enum class PrependScheme { kAlways, kFirst, kNever };
/// Spaces become `replacement`, which is also put before pieces that do not begin with it. `split`: each word
/// begins with a replacement.
std::unique_ptr<Splitter> metaspace_splitter(std::string replacement, PrependScheme scheme, bool split);

}  // namespace depthlens::text
