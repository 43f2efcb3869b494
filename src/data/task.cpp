// Items into tokens.
#include "depthlens/data/task.hpp"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "depthlens/text/continuation.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "prompt.hpp"
#include "repetitions.hpp"
#include "tally.hpp"

namespace depthlens::data {
namespace {

bool fits(const TaskItem& item, std::int64_t max_length) {
  return static_cast<std::int64_t>(item.context.size() + item.answer.size()) - 1 <= max_length;
}

/// The token, or kNoToken where it is a space alone: that is not yet the word.
TokenId unless_space(const text::Tokenizer& tokenizer, TokenId id) {
  return text::is_whitespace(tokenizer, id) ? text::kNoToken : id;
}

/// The first token of the word behind a space; kNoToken where that is a space alone, or does not continue
/// `context`.
TokenId form_with_space(const text::Tokenizer& tokenizer, const std::string& prompt, const std::string& word,
                        const std::vector<TokenId>& context) {
  const text::Continuation spaced = text::continuation(tokenizer, prompt, " ", word);
  if (spaced.answer.empty() || spaced.prompt != context) return text::kNoToken;
  return unless_space(tokenizer, spaced.answer.front());
}

/// A number from a seed and a text, the same everywhere (FNV-1a, then mixed).
std::uint64_t hash_of(std::uint64_t seed, std::string_view text) {
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

void TaskItem::set_distractor(const std::vector<TokenId>& tokens) {
  const bool differs = !tokens.empty() && !answer.empty() && tokens.front() != answer.front();
  distractor = differs ? tokens.front() : text::kNoToken;
}

/// What is to be told of an input.
struct TaskBuilder::Notes {
  explicit Notes(InputKind kind) : repetitions(kind == InputKind::kFacts ? "facts" : "items") {}

  std::string input = {};
  Repetitions repetitions;
  Tally own_bos = {}, space_left_out = {}, break_left_out = {}, other_space = {}, with_long_options = {},
        same_beginning = {};
  std::int64_t num_long_options = 0;

  void tell() {
    repetitions.finish_input(input);
    own_bos.warn(input, "prompts that begin with BOS themselves", "no second one is put before them");
    space_left_out.warn(input, "prompts that end in a space",
                        "it is left out: every option is read with a space before it");
    break_left_out.warn(input, "prompts that end in a line break or a tab",
                        "it is left out: an answer follows behind a space");
    other_space.warn(input, "prompts that end in a line break or a tab",
                     "an option is read with a space before it even so");
    with_long_options.warn(input, util::cat(num_long_options, " options of several tokens, items"),
                           "only the last token of an option is ranked, at the place of its first");
    same_beginning.warn(input, "facts whose distractor begins with the same token as their answer",
                        "they are read as if they had none");
    own_bos = space_left_out = break_left_out = other_space = with_long_options = same_beginning = {};
    num_long_options = 0;
  }
};

TaskBuilder::TaskBuilder(InputKind kind, const text::Tokenizer& tokenizer, std::optional<TokenId> bos,
                         std::int64_t max_length)
    : tokenizer_(tokenizer), bos_(bos), max_length_(max_length), notes_(std::make_unique<Notes>(kind)) {
  task_.kind = kind;
}

TaskBuilder::~TaskBuilder() = default;

void TaskBuilder::begin_input(const std::string& name) {
  notes_->tell();
  notes_->input = name;
  ++input_;
  input_begin_ = next_document_;
}

Task TaskBuilder::finish() && {
  notes_->tell();
  task_.option_labels = option_labels(task_.items);
  return std::move(task_);
}

std::vector<TokenId> TaskBuilder::begun(const std::vector<TokenId>& tokens, const ItemId& id) {
  if (begins_with(bos_, tokens)) notes_->own_bos.add("item " + util::in_quotes(id.text));
  return with_bos(bos_, tokens);
}

void TaskBuilder::add(TaskItem item) {
  item.number = next_number_++;
  if (item.context.empty() || item.answer.empty()) {
    ++task_.dropped[Drop::kNoTokens];
  } else if (!fits(item, max_length_)) {
    ++task_.dropped[Drop::kLongerThanWindow];
  } else {
    task_.items.push_back(std::move(item));
  }
}

bool TaskBuilder::add(const Fact& fact) {
  const std::string prompt(without_space_at_end(fact.prompt)), answer(util::trimmed(fact.answer));
  const std::int64_t document = next_document_++;
  if (notes_->repetitions.repeats(fact.id.text, prompt, answer)) {
    ++task_.dropped[Drop::kRepeatedFact];
    return false;
  }
  if (without_space_at_end(fact.prompt, " ") != prompt)
    notes_->break_left_out.add("item " + util::in_quotes(fact.id.text));
  const text::Continuation tokens = text::continuation(tokenizer_, prompt, " ", answer);
  TaskItem item{.id = fact.id,
                .document = document,
                .input = input_,
                .input_document = document - input_begin_,
                .context = begun(tokens.prompt, fact.id),
                .answer = tokens.answer,
                .prompt_text = prompt,
                .answer_text = answer,
                .distractor_text = std::string(util::trimmed(fact.distractor))};
  for (const std::string& alias : fact.aliases) item.aliases.emplace_back(util::trimmed(alias));
  // One may be the beginning of another.
  std::stable_sort(item.aliases.begin(), item.aliases.end(),
                   [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
  if (!item.distractor_text.empty()) {
    const text::Continuation wrong = text::continuation(tokenizer_, prompt, " ", item.distractor_text);
    // What the distractor does not share with the answer must begin in the answer's place.
    if (wrong.prompt == tokens.prompt) item.set_distractor(wrong.answer);
    if (item.distractor == text::kNoToken)
      notes_->same_beginning.add("item " + util::in_quotes(fact.id.text));
  }
  add(std::move(item));
  return true;
}

TaskBuilder::OptionToken TaskBuilder::own_token(const std::string& option) {
  const auto [place, added] = option_tokens_.try_emplace(option);
  if (added) {
    const std::vector<TokenId> behind = text::continuation(tokenizer_, ":", " ", option).answer;
    place->second = {.id = text::option_token(tokenizer_, option), .of_several = behind.size() > 1};
  }
  return place->second;
}

std::vector<TaskBuilder::OptionToken> TaskBuilder::logged_tokens(const Question& question,
                                                                 std::vector<TokenId>& context) const {
  // Where a continuation takes a space or letters from the end of the context, all are read from there on.
  std::vector<std::vector<TokenId>> wholes;
  for (const std::string& continuation : question.continuations) {
    const std::vector<TokenId>& whole =
        wholes.emplace_back(tokenizer_.encode(question.prompt + continuation));
    const auto end = std::mismatch(context.begin(), context.end(), whole.begin(), whole.end()).first;
    context.erase(end, context.end());
  }
  std::vector<OptionToken> tokens;
  for (const std::vector<TokenId>& whole : wholes) {
    if (whole.size() <= context.size()) {
      tokens.push_back({});
    } else {
      tokens.push_back({.id = whole.back(), .of_several = whole.size() > context.size() + 1});
    }
  }
  return tokens;
}

void TaskBuilder::add_options(TaskItem& item, const Question& question) {
  std::vector<TokenId> context =
      tokenizer_.encode(question.continuations.empty() ? item.prompt_text : question.prompt);
  std::vector<OptionToken> tokens;
  if (question.continuations.empty()) {
    for (const std::string& option : question.options) tokens.push_back(own_token(option));
  } else {
    tokens = logged_tokens(question, context);
  }
  item.context = begun(context, question.id);
  const std::string where =
      util::cat(notes_->input, notes_->input.empty() ? "item " : ", item ", question.id.text);
  for (std::size_t o = 0; o < tokens.size(); ++o) {
    const std::string& option = question.options[o];
    const TokenId id = tokens[o].id;
    if (id == text::kNoToken) {
      throw util::input_error({.what = util::cat("the option ", util::in_quotes(option), " has no token"),
                               .where = where,
                               .expected = "options that the model's tokenizer can write"});
    }
    for (const TaskItem::Option& other : item.options) {
      if (other.id != id) continue;
      throw util::input_error(
          {.what = util::cat("the options ", util::in_quotes(other.text), " and ", util::in_quotes(option),
                             " have the same token"),
           .where = where,
           .expected = "options whose last tokens differ",
           .found = util::cat("token ", id, ", ", util::in_quotes(tokenizer_.token_text(id)))});
    }
    item.options.push_back({.text = option, .id = id});
  }
  const auto num_long =
      std::count_if(tokens.begin(), tokens.end(), [](const OptionToken& t) { return t.of_several; });
  if (num_long > 0) notes_->with_long_options.add(util::in_quotes(question.id.text));
  notes_->num_long_options += num_long;
}

bool TaskBuilder::add(const Question& question) {
  const bool logged = !question.continuations.empty();
  const std::string prompt(without_space_at_end(question.prompt, " "));
  std::string asked = logged ? question.prompt : prompt;
  for (std::size_t o = 0; o < question.options.size(); ++o)
    asked += '\0' + (logged ? question.continuations[o] : " " + question.options[o]);
  const std::int64_t document = next_document_++;
  if (notes_->repetitions.repeats(question.id.text, asked, question.options[question.answer])) {
    ++task_.dropped[Drop::kRepeatedItem];
    return false;
  }
  if (!logged && prompt != question.prompt)
    notes_->space_left_out.add("item " + util::in_quotes(question.id.text));
  if (!logged && without_space_at_end(prompt) != prompt)
    notes_->other_space.add("item " + util::in_quotes(question.id.text));
  TaskItem item{.id = question.id,
                .document = document,
                .input = input_,
                .input_document = document - input_begin_,
                .context = {},
                .answer = {},
                .gold_option = question.answer,
                .prompt_text = prompt,
                .answer_text = question.options[question.answer]};
  add_options(item, question);
  item.answer = {item.options[question.answer].id};
  add(std::move(item));
  return true;
}

void TaskBuilder::add(const TaggedWord& word, std::int64_t first_sentence) {
  const text::Continuation tokens = text::continuation(tokenizer_, word.prompt, word.separator, word.word);
  TaskItem item{.id = word.id,
                .document = first_sentence + word.sentence,
                .input = input_,
                .input_document = word.sentence,
                .context = begun(tokens.prompt, word.id),
                .answer = {},
                .word_class = word.tag,
                .prompt_text = word.prompt,
                .answer_text = word.word};
  if (!tokens.answer.empty()) {
    item.answer = {tokens.answer.front()};
    if (word.separator.empty()) {
      item.other_form = form_with_space(tokenizer_, word.prompt, word.word, tokens.prompt);
    } else if (const auto bare = text::bare_tokens(tokenizer_, word.word);
               !bare.empty() && tokens.prompt == tokenizer_.encode(word.prompt)) {
      item.other_form = unless_space(tokenizer_, bare.front());
    }
  }
  add(std::move(item));
}

void TaskBuilder::drop(const Dropped& reasons) {
  for (const auto& [reason, count] : reasons) task_.dropped[reason] += count;
}

void TaskBuilder::keep_per_class(std::int64_t most, std::uint64_t seed) {
  if (most <= 0) return;
  std::map<std::string, std::vector<std::pair<std::uint64_t, std::size_t>>> by_class;
  for (std::size_t i = 0; i < task_.items.size(); ++i)
    by_class[task_.items[i].word_class].emplace_back(hash_of(seed, task_.items[i].id.text), i);
  std::vector<bool> keep(task_.items.size(), false);
  for (auto& [name, all] : by_class) {
    std::sort(all.begin(), all.end());
    for (std::size_t i = 0; i < std::min(all.size(), static_cast<std::size_t>(most)); ++i)
      keep[all[i].second] = true;
  }
  std::vector<TaskItem> kept;
  for (std::size_t i = 0; i < task_.items.size(); ++i) {
    if (keep[i]) kept.push_back(std::move(task_.items[i]));
  }
  const auto beyond = static_cast<std::int64_t>(task_.items.size() - kept.size());
  if (beyond > 0) task_.dropped[Drop::kBeyondPerClass] += beyond;
  task_.items = std::move(kept);
}

std::vector<std::string> option_labels(const std::vector<TaskItem>& items) {
  std::vector<std::string> labels;
  bool same = true;
  for (const TaskItem& item : items) {
    for (std::size_t o = 0; o < item.options.size(); ++o) {
      if (o == labels.size()) labels.push_back(item.options[o].text);
      same = same && item.options[o].text == labels[o];
    }
    same = same && item.options.size() == items.front().options.size();
  }
  if (same) return labels;
  // A letter would be taken for the option of that name.
  const auto is_letter = [&](const std::string& text) {
    return text.size() == 1 && text[0] >= 'A' && text[0] < 'A' + static_cast<std::int64_t>(labels.size());
  };
  const bool has_letters = std::any_of(items.begin(), items.end(), [&](const TaskItem& item) {
    return std::any_of(item.options.begin(), item.options.end(),
                       [&](const TaskItem::Option& option) { return is_letter(option.text); });
  });
  for (std::size_t o = 0; o < labels.size(); ++o)
    labels[o] = has_letters ? util::cat("#", o + 1) : std::string(1, static_cast<char>('A' + o));
  return labels;
}

void TaskBuilder::keep_first(std::int64_t most) {
  const auto beyond = static_cast<std::int64_t>(task_.items.size()) - most;
  if (most <= 0 || beyond <= 0) return;
  task_.dropped[Drop::kBeyondLimit] += beyond;
  task_.items.resize(static_cast<std::size_t>(most));
}

std::optional<TaskItem> with_alias(const TaskItem& item, TokenId said, const text::Tokenizer& tokenizer,
                                   std::optional<TokenId> bos, std::int64_t max_length) {
  if (item.aliases_tried) return std::nullopt;
  for (auto alias = item.aliases.begin(); alias != item.aliases.end(); ++alias) {
    TaskItem other = item;
    if (item.retried) {
      other.answer = text::bare_tokens(tokenizer, *alias);
    } else {
      const text::Continuation tokens = text::continuation(tokenizer, item.prompt_text, " ", *alias);
      other.context = with_bos(bos, tokens.prompt);
      other.answer = tokens.answer;
    }
    // What the model said belongs to this context.
    const bool is_said =
        other.context == item.context && !other.answer.empty() && other.answer.front() == said;
    if (!is_said || !fits(other, max_length)) continue;
    if (other.distractor == said) other.distractor = text::kNoToken;  // as of an answer that begins alike
    other.answer_text = *alias;
    other.by_alias = true;
    other.aliases.assign(std::next(alias), item.aliases.end());
    return other;
  }
  return std::nullopt;
}

std::optional<TaskItem> with_space_after_prompt(const TaskItem& item, const text::Tokenizer& tokenizer,
                                                std::optional<TokenId> bos, std::int64_t max_length) {
  TaskItem retried = item;
  retried.retried = true;
  retried.aliases_tried = false;
  retried.context = with_bos(bos, tokenizer.encode(item.prompt_text + " "));
  retried.answer = text::bare_tokens(tokenizer, item.answer_text);
  if (retried.answer.empty()) return std::nullopt;
  if (!retried.distractor_text.empty())
    retried.set_distractor(text::bare_tokens(tokenizer, retried.distractor_text));
  if (!item.word_class.empty()) {  // only the word's beginning is asked for
    retried.answer.resize(1);
    retried.other_form =
        form_with_space(tokenizer, item.prompt_text, item.answer_text, tokenizer.encode(item.prompt_text));
  }
  std::set<TokenId> ids;
  for (TaskItem::Option& option : retried.options) {
    const std::vector<TokenId> bare = text::bare_tokens(tokenizer, option.text);
    if (bare.empty() || !ids.insert(bare.back()).second) return std::nullopt;
    option.id = bare.back();
  }
  if (!retried.options.empty()) retried.answer = {retried.options[retried.gold_option].id};
  if (!fits(retried, max_length)) return std::nullopt;
  return retried;
}

}  // namespace depthlens::data
