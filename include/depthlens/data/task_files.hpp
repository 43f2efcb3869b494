// Task files: facts, questions with options, tagged sentences, pairs of prompts; as text, before any
// tokenizer.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/data/dropped.hpp"

namespace depthlens::data {

/// What an item is called: a text, or a number, which stays one in records.
struct ItemId {
  ItemId(std::string said, bool number = false) : text(std::move(said)), is_number(number) {}
  ItemId(const char* said = "") : ItemId(std::string(said)) {}
  /// As it stands in JSON.
  std::string json() const;
  bool operator==(const ItemId&) const = default;

  std::string text;  ///< a number as JSON has it
  bool is_number;
};

/// A prompt and the answer that should follow it.
struct Fact {
  ItemId id;
  std::string prompt;
  std::string answer;
  std::vector<std::string> aliases = {};
  std::string distractor = {};  ///< a wrong answer to be compared with; "" where none is given

  /// The prompt with its answer, as they are put to a model.
  std::string text() const;
};

/// A question whose answer is one of 2 to 26 options.
struct Question {
  ItemId id;
  std::string prompt;
  std::vector<std::string> options;  ///< without white space around them
  std::size_t answer = 0;            ///< index into `options`
  /// Of logged samples: for each option what was scored behind the prompt, to the letter. Elsewhere empty: an
  /// option stands behind a space.
  std::vector<std::string> continuations = {};
  bool has_own_options = true;  ///< not those of the file or of the command line

  /// The prompt with its right answer, as they are put to a model.
  std::string text() const;
};

/// The parts of speech of Universal Dependencies.
inline constexpr std::array<const char*, 17> kUposTags = {"ADJ",   "ADP",   "ADV", "AUX",  "CCONJ", "DET",
                                                          "INTJ",  "NOUN",  "NUM", "PART", "PRON",  "PROPN",
                                                          "PUNCT", "SCONJ", "SYM", "VERB", "X"};

/// A word of a sentence, with the text before it.
struct TaggedWord {
  ItemId id;
  std::int64_t sentence = 0;
  std::string prompt;     ///< the sentence before the word, without white space at its end
  std::string separator;  ///< " " or "", what stands between prompt and word
  std::string word;
  std::string tag;  ///< UPOS
};

/// Two prompts whose answers differ, for exchanging states between them.
struct PromptPair {
  ItemId id;
  Fact source, target;
};

template <typename Item>
struct TaskFile {
  std::string sha256;  ///< of the file as it lies on the disk
  std::vector<Item> items;
};

/// Facts from one file, `.gz` too: JSON lines {"id", "prompt" (or "cloze"), "answer", "aliases" (or
/// "answer_alias")?, "distractor"?}; an array of {"prompt", "answer"}; MQuAKE's array (its single hops);
/// CounterFact's array, whose false target is the distractor.
/// "-" is stdin, here and below. Throws input errors that name file, line or index, and key.
TaskFile<Fact> read_facts(const std::string& path);

/// Questions from one file, `.gz` too: JSON lines {"id", "prompt", "options", "answer": text or index}; an
/// array of {"prompt", "answer"}; samples that lm-evaluation-harness logs (`--log_samples`), whose target is
/// held against the scores in the log. A question without options of its own has `options`, or where that is
/// empty the distinct answers of the file, sorted. An answer that differs from one option in case only is
/// that option, with a warning; of `options` and answers the spelling of the answers counts.
TaskFile<Question> read_questions(const std::string& path, const std::vector<std::string>& options);

/// Whether the first item of the file has options, so that it is a question rather than a fact.
bool has_options(const std::string& path);

/// Words of a CoNLL-U file.
struct TaggedFile : TaskFile<TaggedWord> {
  std::vector<std::string> sentences;  ///< their texts
  Dropped dropped;                     ///< words of the classes that are not among the items
};

/// The words whose tag is one of `tags`, which are of `kUposTags`. The text of a sentence is that of its
/// `# text`, where it has one, else its forms and what SpaceAfter, SpacesAfter and SpacesBefore say. Dropped:
/// words inside a multi-word token, whose form stands nowhere in the text (kInMultiwordToken), and words
/// before which the sentence has fewer than `min_prompt_chars` characters (kShortPrompt). Throws input
/// errors that name file and line, where word numbers do not run 1, 2, 3 …, where the forms are not those of
/// `# text`, and where forms or tags are withheld.
TaggedFile read_tagged_words(const std::string& path, const std::vector<std::string>& tags,
                             std::int64_t min_prompt_chars);

/// Pairs from JSON lines or an array of {"id", "source": {"prompt", "answer"}, "target": {"prompt",
/// "answer"}}.
TaskFile<PromptPair> read_prompt_pairs(const std::string& path);

}  // namespace depthlens::data
