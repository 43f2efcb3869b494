// Items into tokens.
#include "depthlens/data/task.hpp"

#include <algorithm>

#include "depthlens/text/continuation.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "prompt.hpp"

namespace depthlens::data {
namespace {

bool fits(const TaskItem& item, std::int64_t max_length) {
  return static_cast<std::int64_t>(item.context.size() + item.answer.size()) - 1 <= max_length;
}

/// The token, or kNone where it is a space alone: that is not yet the word.
TokenId spoken(const text::Tokenizer& tokenizer, TokenId id) {
  return text::is_whitespace(tokenizer, id) ? text::kNone : id;
}

/// A number from a seed and a text, the same everywhere (FNV-1a, then mixed).
std::uint64_t lot(std::uint64_t seed, std::string_view text) {
  std::uint64_t hash = 0xCBF29CE484222325ULL ^ seed;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  hash = (hash ^ (hash >> 33)) * 0xFF51AFD7ED558CCDULL;
  return hash ^ (hash >> 33);
}

}  // namespace

std::vector<TokenId> TaskItem::tokens() const {
  std::vector<TokenId> all = context;
  all.insert(all.end(), answer.begin(), answer.end() - 1);
  return all;
}

TaskBuilder::TaskBuilder(TaskKind kind, const text::Tokenizer& tokenizer, std::optional<TokenId> bos,
                         std::int64_t max_length)
    : tokenizer_(tokenizer), bos_(bos), max_length_(max_length) {
  task_.kind = kind;
}

void TaskBuilder::add(TaskItem item) {
  if (item.context.empty() || item.answer.empty()) {
    ++task_.dropped["no_tokens"];
  } else if (!fits(item, max_length_)) {
    ++task_.dropped["longer_than_window"];
  } else {
    task_.items.push_back(std::move(item));
  }
}

void TaskBuilder::add(const Fact& fact) {
  const std::string_view prompt = without_space_at_end(fact.prompt), answer = util::trimmed(fact.answer);
  const text::Continuation tokens = text::continuation(tokenizer_, prompt, " ", answer);
  add(TaskItem{.id = fact.id,
               .document = next_document_++,
               .context = with_bos(bos_, tokens.prompt),
               .answer = tokens.answer,
               .prompt_text = std::string(prompt),
               .answer_text = std::string(answer)});
}

void TaskBuilder::add(const Question& question) {
  TaskItem item{.id = question.id,
                .document = next_document_++,
                .context = with_bos(bos_, tokenizer_.encode(question.prompt)),
                .answer = {},
                .gold_option = question.answer,
                .prompt_text = question.prompt,
                .answer_text = question.options[question.answer]};
  for (const std::string& option : question.options) {
    const TokenId id = text::option_token(tokenizer_, option);
    if (id == text::kNone) {
      throw util::input_error({.what = util::cat("the option ", util::in_quotes(option), " has no token"),
                               .where = "item " + question.id,
                               .expected = "options that the model's tokenizer can write"});
    }
    for (const TaskItem::Option& other : item.options) {
      if (other.id != id) continue;
      throw util::input_error(
          {.what = util::cat("the options ", util::in_quotes(other.text), " and ", util::in_quotes(option),
                             " have the same token"),
           .where = "item " + question.id,
           .expected = "options whose last tokens differ",
           .found = util::cat("token ", id, ", ", util::in_quotes(tokenizer_.token_text(id)))});
    }
    item.options.push_back({.text = option, .id = id});
  }
  item.answer = {item.options[question.answer].id};
  add(std::move(item));
}

void TaskBuilder::add(const TaggedWord& word, std::int64_t first_sentence) {
  const text::Continuation tokens = text::continuation(tokenizer_, word.prompt, word.separator, word.word);
  TaskItem item{.id = word.id,
                .document = first_sentence + word.sentence,
                .context = with_bos(bos_, tokens.prompt),
                .answer = {},
                .word_class = word.tag,
                .prompt_text = word.prompt,
                .answer_text = word.word};
  if (!tokens.answer.empty()) {
    item.answer = {tokens.answer.front()};
    const std::vector<TokenId> other =
        word.separator.empty() ? text::continuation(tokenizer_, word.prompt, " ", word.word).answer
                               : text::bare_tokens(tokenizer_, word.word);
    if (!other.empty()) item.other_form = spoken(tokenizer_, other.front());
  }
  add(std::move(item));
}

void TaskBuilder::drop(const std::map<std::string, std::int64_t>& reasons) {
  for (const auto& [reason, count] : reasons) task_.dropped[reason] += count;
}

void TaskBuilder::keep_per_class(std::int64_t most, std::uint64_t seed) {
  if (most <= 0) return;
  std::map<std::string, std::vector<std::pair<std::uint64_t, std::size_t>>> lots;
  for (std::size_t i = 0; i < task_.items.size(); ++i)
    lots[task_.items[i].word_class].emplace_back(lot(seed, task_.items[i].id), i);
  std::vector<bool> keep(task_.items.size(), false);
  for (auto& [name, all] : lots) {
    std::sort(all.begin(), all.end());
    for (std::size_t i = 0; i < std::min(all.size(), static_cast<std::size_t>(most)); ++i)
      keep[all[i].second] = true;
  }
  std::vector<TaskItem> kept;
  for (std::size_t i = 0; i < task_.items.size(); ++i) {
    if (keep[i]) kept.push_back(std::move(task_.items[i]));
  }
  const auto beyond = static_cast<std::int64_t>(task_.items.size() - kept.size());
  if (beyond > 0) task_.dropped["beyond_per_class"] += beyond;
  task_.items = std::move(kept);
}

void TaskBuilder::keep_first(std::int64_t most) {
  if (most > 0 && static_cast<std::int64_t>(task_.items.size()) > most)
    task_.items.resize(static_cast<std::size_t>(most));
}

std::optional<TaskItem> with_space_after_prompt(const TaskItem& item, const text::Tokenizer& tokenizer,
                                                std::optional<TokenId> bos, std::int64_t max_length) {
  TaskItem retried = item;
  retried.retried = true;
  retried.context = with_bos(bos, tokenizer.encode(item.prompt_text + " "));
  retried.answer = text::bare_tokens(tokenizer, item.answer_text);
  if (retried.answer.empty()) return std::nullopt;
  if (!item.word_class.empty()) {  // only the word's beginning is asked for
    retried.other_form = spoken(tokenizer, item.answer.front());
    retried.answer.resize(1);
  }
  if (!fits(retried, max_length)) return std::nullopt;
  return retried;
}

}  // namespace depthlens::data
