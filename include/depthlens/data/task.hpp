// Tasks in tokens: what is put before the model, and which token should follow where.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/data/dropped.hpp"
#include "depthlens/data/input_kind.hpp"
#include "depthlens/data/task_files.hpp"
#include "depthlens/text/tokenizer.hpp"

namespace depthlens::data {

using text::TokenId;

/// One item in tokens.
struct TaskItem {
  struct Option {
    std::string text;
    TokenId id;
  };
  ItemId id;
  std::int64_t document = 0;          ///< place of the item, or of its sentence, in all inputs
  std::int64_t number = -1;           ///< among all that were asked for once, those dropped later included
  std::int64_t input = 0;             ///< index of its input
  std::int64_t input_document = 0;    ///< its place, or its sentence's, in that
  std::vector<TokenId> context = {};  ///< before the first answer token, BOS included; ≥ 1
  std::vector<TokenId> answer = {};   ///< ≥ 1; each is predicted with those before it in place
  /// The answer's first token without its leading space, or with it, counts too. kNoToken where there is
  /// none, and where it is a space alone.
  TokenId other_form = text::kNoToken;
  std::string word_class = {};
  std::vector<Option> options = {};
  std::size_t gold_option = 0;
  std::string prompt_text = {}, answer_text = {};
  std::string distractor_text = {};  ///< a wrong answer to be compared with; "" where none is given
  /// Its first token in the answer's place; kNoToken where there is none.
  TokenId distractor = text::kNoToken;
  std::vector<std::string> aliases = {};  ///< of the answer, not asked for yet, the longest first
  bool aliases_tried = false;             ///< none of them is asked for any more, in this form of the prompt
  bool by_alias = false;                  ///< the answer is one of them
  bool retried = false;                   ///< asked again with a space after the prompt

  /// Makes the first of `tokens` the distractor, where it is not the answer's.
  void set_distractor(const std::vector<TokenId>& tokens);
  /// What the model is given: the last answer token need not be there.
  std::vector<TokenId> tokens() const;
  /// The position that predicts answer token 0.
  std::int64_t first_position() const { return static_cast<std::int64_t>(context.size()) - 1; }
  /// Whether `predicted` is answer token 0 ≤ k < length, or for k = 0 its other form.
  bool is_right(std::int64_t k, TokenId predicted) const {
    return predicted == answer[static_cast<std::size_t>(k)] || (k == 0 && predicted == other_form);
  }
};

/// The items of all inputs.
struct Task {
  InputKind kind = InputKind::kFacts;  ///< of a task
  std::vector<TaskItem> items;
  std::vector<std::string> classes;             ///< of words, in the order they were asked for
  std::vector<std::string> option_labels = {};  ///< of questions, as `option_labels` gives them
  Dropped dropped;                              ///< items
};

/// Turns items of files into tokens. Those that do not fit into a window are dropped (kLongerThanWindow),
/// and so are facts and questions that say the same as one before them (kRepeatedFact, kRepeatedItem).
class TaskBuilder {
 public:
  /// The tokenizer must outlive the builder.
  TaskBuilder(InputKind kind, const text::Tokenizer& tokenizer, std::optional<TokenId> bos,
              std::int64_t max_length);
  ~TaskBuilder();

  void set_classes(std::vector<std::string> classes) { task_.classes = std::move(classes); }
  /// What is added from now on comes from this file. Warns of what was found in the one before.
  void begin_input(const std::string& name);
  /// False where the fact says the same as one before it, and is not counted as read.
  bool add(const Fact& fact);
  /// Likewise. Throws an input error where two options share a token.
  bool add(const Question& question);
  void add(const TaggedWord& word, std::int64_t first_sentence);
  void drop(const Dropped& reasons);

  /// Keeps at most `most` words of each class, chosen by `seed`, and counts the others as dropped
  /// (kBeyondPerClass).
  void keep_per_class(std::int64_t most, std::uint64_t seed);
  /// Keeps the first `most` items (0: all), and counts the others as dropped (kBeyondLimit).
  void keep_first(std::int64_t most);

  Task finish() &&;
  const Task& task() const { return task_; }

 private:
  struct Notes;
  void add(TaskItem item);
  /// `tokens` behind BOS, without a second one where they begin with it.
  std::vector<TokenId> begun(const std::vector<TokenId>& tokens, const ItemId& id);

  struct OptionToken {
    TokenId id = text::kNoToken;  ///< the last one of the option
    bool of_several = false;      ///< others stand before it
  };
  OptionToken own_token(const std::string& option);
  /// Of a logged question; cuts `context` to what all continuations leave as it is.
  std::vector<OptionToken> logged_tokens(const Question& question, std::vector<TokenId>& context) const;
  /// Sets the item's context, too.
  void add_options(TaskItem& item, const Question& question);

  const text::Tokenizer& tokenizer_;
  std::optional<TokenId> bos_;
  std::int64_t max_length_;
  std::int64_t next_document_ = 0;  // of facts and questions, dropped and repeated ones included
  std::int64_t input_ = -1;         // index of the input at hand
  std::int64_t input_begin_ = 0;    // its first document
  std::int64_t next_number_ = 0;
  Task task_;
  std::map<std::string, OptionToken> option_tokens_;  // by the option's text
  std::unique_ptr<Notes> notes_;
};

/// What tables call the options, by their place: their text where it is the same in every item, otherwise A,
/// B, C …, or #1, #2, #3 … where one of these letters is the text of an option.
std::vector<std::string> option_labels(const std::vector<TaskItem>& items);

/// The item with an alias in the place of its answer: the first one that begins with `said`, which the model
/// says where the answer should begin. Its aliases are those behind that. Nothing where there is none that
/// fits into a window, or all were tried.
std::optional<TaskItem> with_alias(const TaskItem& item, TokenId said, const text::Tokenizer& tokenizer,
                                   std::optional<TokenId> bos, std::int64_t max_length);

/// The item with a space after its prompt and the answer without its leading one: the paper's rule where the
/// model's output is white space. Options lose their leading space, too. Nothing where that leaves no answer,
/// gives two options one token, or does not fit into a window.
std::optional<TaskItem> with_space_after_prompt(const TaskItem& item, const text::Tokenizer& tokenizer,
                                                std::optional<TokenId> bos, std::int64_t max_length);

}  // namespace depthlens::data
