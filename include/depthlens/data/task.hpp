// Tasks in tokens: what is put before the model, and which token should follow where.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

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
  std::string id;
  std::int64_t document = 0;          ///< place of the item, or of its sentence, in the input
  std::vector<TokenId> context = {};  ///< before the first answer token, BOS included; ≥ 1
  std::vector<TokenId> answer = {};   ///< ≥ 1; each is predicted with those before it in place
  /// The answer's first token without its leading space, or with it, counts too. −1 where there is none, and
  /// where it is a space alone.
  TokenId other_form = -1;
  std::string word_class = {};
  std::vector<Option> options = {};
  std::size_t gold_option = 0;
  std::string prompt_text = {}, answer_text = {};
  bool retried = false;  ///< asked again with a space after the prompt

  /// What the model is given: the last answer token need not be there.
  std::vector<TokenId> tokens() const;
  /// The position that predicts answer token 0.
  std::int64_t first_position() const { return static_cast<std::int64_t>(context.size()) - 1; }
  /// Whether `predicted` is answer token 0 ≤ k < length, or for k = 0 its other form.
  bool is_right(std::int64_t k, TokenId predicted) const {
    return predicted == answer[static_cast<std::size_t>(k)] || (k == 0 && predicted == other_form);
  }
};

enum class TaskKind { kFacts, kQuestions, kWords };

/// The items of all inputs.
struct Task {
  TaskKind kind = TaskKind::kFacts;
  std::vector<TaskItem> items;
  std::vector<std::string> classes;             ///< of words, in the order they were asked for
  std::map<std::string, std::int64_t> dropped;  ///< reason → items
};

/// Turns items of files into tokens. Those that do not fit into a window are dropped ("longer_than_window").
class TaskBuilder {
 public:
  /// The tokenizer must outlive the builder.
  TaskBuilder(TaskKind kind, const text::Tokenizer& tokenizer, std::optional<TokenId> bos,
              std::int64_t max_length);

  void set_classes(std::vector<std::string> classes) { task_.classes = std::move(classes); }
  void add(const Fact& fact);
  /// Throws an input error where two options share a token.
  void add(const Question& question);
  void add(const TaggedWord& word, std::int64_t first_sentence);
  void drop(const std::map<std::string, std::int64_t>& reasons);

  /// Keeps at most `most` words of each class, chosen by `seed`, and counts the others as dropped
  /// ("beyond_per_class").
  void keep_per_class(std::int64_t most, std::uint64_t seed);
  /// Keeps the first `most` items.
  void keep_first(std::int64_t most);

  Task finish() && { return std::move(task_); }
  const Task& task() const { return task_; }

 private:
  void add(TaskItem item);

  const text::Tokenizer& tokenizer_;
  std::optional<TokenId> bos_;
  std::int64_t max_length_;
  std::int64_t next_document_ = 0;  // of facts and questions, dropped ones included
  Task task_;
};

/// The item with a space after its prompt and the answer without its leading one: the paper's rule where the
/// model's output is white space. Nothing where that leaves no answer, or does not fit into a window.
std::optional<TaskItem> with_space_after_prompt(const TaskItem& item, const text::Tokenizer& tokenizer,
                                                std::optional<TokenId> bos, std::int64_t max_length);

}  // namespace depthlens::data
