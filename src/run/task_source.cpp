// Task files → items → queries.
#include <algorithm>
#include <optional>
#include <set>
#include <tuple>

#include "depthlens/run/session.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/text/continuation.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/input_file.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "run/words.hpp"

namespace depthlens::run {
namespace {

std::vector<std::string> listed(const std::string& text) {
  std::vector<std::string> all;
  for (const std::string& part : util::split(text, ',')) {
    const std::string_view name = util::trimmed(part);
    if (!name.empty() && std::find(all.begin(), all.end(), name) == all.end()) all.emplace_back(name);
  }
  return all;
}

/// The tags of UPOS that `text` lists, whatever their case.
std::vector<std::string> classes_of(const std::string& text) {
  const std::vector<std::string> tags(data::kUposTags.begin(), data::kUposTags.end());
  const std::vector<std::string> names = listed(text);
  std::vector<std::string> classes;
  for (const std::string& name : names) {
    std::string tag = name;
    std::transform(tag.begin(), tag.end(), tag.begin(),
                   [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
    if (std::find(tags.begin(), tags.end(), tag) == tags.end()) {
      throw util::usage_error({.what = "not a word class of UPOS",
                               .where = "--classes " + text,
                               .expected = util::join(tags, ", "),
                               .found = util::in_quotes(name),
                               .hint = util::did_you_mean(tag, tags)});
    }
    if (std::find(classes.begin(), classes.end(), tag) == classes.end()) classes.push_back(tag);
  }
  if (classes.empty()) {
    throw util::usage_error({.what = "no word class is named",
                             .where = "--classes " + text,
                             .expected = "some of " + util::join(tags, ", ")});
  }
  return classes;
}

/// The classes of which there is no word among the items.
std::vector<std::string> empty_classes(const data::Task& task) {
  std::vector<std::string> empty;
  for (const std::string& name : task.classes) {
    const bool found = std::any_of(task.items.begin(), task.items.end(),
                                   [&](const data::TaskItem& item) { return item.word_class == name; });
    if (!found) empty.push_back(name);
  }
  return empty;
}

/// Where items may be asked again, a part must be shown before the next one is begun, so that parts are as
/// large as a batch. Items that share a pass through the model (those of one sentence) stay together.
Plan plan_of(const data::Task& task, bool waits) {
  Planner planner(waits ? PlanRule{.least_parts = 12} : PlanRule());
  for (std::size_t first = 0; first < task.items.size();) {
    std::size_t end = first;
    std::int64_t tokens = 0;
    for (; end < task.items.size() && task.items[end].document == task.items[first].document; ++end)
      tokens += static_cast<std::int64_t>(task.items[end].tokens().size());
    planner.add({.document = static_cast<std::int64_t>(first)}, tokens);
    first = end;
  }
  return std::move(planner).finish();
}

}  // namespace

std::string ItemGroups::name_of_length(std::int64_t tokens) {
  return util::cat("answers of ", tokens, tokens == 1 ? " token" : " tokens");
}

ItemGroups ItemGroups::of(const data::Task& task) {
  ItemGroups groups;
  const auto add_all = [&](const std::vector<std::string>& names) {
    for (std::size_t i = 0; i < names.size(); ++i)
      groups.names.emplace_back(static_cast<std::int64_t>(i), names[i]);
  };
  switch (task.kind) {
    case data::InputKind::kWords:
      add_all(task.classes);
      break;
    case data::InputKind::kQuestions:
      add_all(task.option_labels);
      break;
    case data::InputKind::kFacts: {
      std::set<std::int64_t> lengths;
      for (const data::TaskItem& item : task.items) lengths.insert(key_of(task, item));
      for (const std::int64_t length : lengths) groups.names.emplace_back(length, name_of_length(length));
      break;
    }
    case data::InputKind::kCorpus:
    case data::InputKind::kPairs:
      DEPTHLENS_ASSERT(false);
  }
  return groups;
}

std::int64_t ItemGroups::key_of(const data::Task& task, const data::TaskItem& item) {
  switch (task.kind) {
    case data::InputKind::kWords:
      return std::find(task.classes.begin(), task.classes.end(), item.word_class) - task.classes.begin();
    case data::InputKind::kQuestions:
      return static_cast<std::int64_t>(item.gold_option);
    case data::InputKind::kFacts:
      return static_cast<std::int64_t>(item.answer.size());
    case data::InputKind::kCorpus:
    case data::InputKind::kPairs:
      break;
  }
  DEPTHLENS_ASSERT(false);
}

TaskSource::TaskSource(data::InputKind kind, const InputOptions& inputs, const TaskOptions& options,
                       const Session& session, std::uint64_t seed)
    : options_(inputs),
      task_options_(options),
      session_(session),
      task_(read(kind, seed)),
      retry_(options.whitespace_retry == YesNoAuto::kYes ||
             (options.whitespace_retry == YesNoAuto::kAuto && kind != data::InputKind::kQuestions)) {
  for (const data::TaskItem& item : task_.items)
    has_aliases_ = has_aliases_ || (options.correct_only && options.aliases && !item.aliases.empty());
  for (const auto& [reason, count] : task_.dropped) read_.dropped[reason] += count;
  plan_ = plan_of(task_, may_ask_again());
}

void TaskSource::count_tokens(std::string_view text, data::InputSummary& summary) {
  const std::vector<text::TokenId> tokens = session_.tokenizer().encode(text);
  session_.check_in_vocabulary(tokens);
  for (const text::TokenId id : tokens) counts_.add(id);
  ++summary.documents;
  summary.tokens += static_cast<std::int64_t>(tokens.size());
  summary.bytes += static_cast<std::int64_t>(text.size());
}

data::Task TaskSource::read(data::InputKind kind, std::uint64_t seed) {
  util::check_inputs(options_.inputs);
  data::TaskBuilder builder(kind, session_.tokenizer(), session_.bos(), session_.max_length());
  if (kind == data::InputKind::kWords) builder.set_classes(classes_of(task_options_.classes));
  const std::vector<std::string> given_options = listed(task_options_.options);
  bool uses_given_options = given_options.empty() || kind != data::InputKind::kQuestions;
  for (const std::string& path : options_.inputs) {
    builder.begin_input(path);
    data::InputSummary summary{.path = path, .sha256 = {}};
    if (kind == data::InputKind::kWords) {
      const data::TaggedFile file =
          data::read_tagged_words(path, builder.task().classes, task_options_.min_prompt_chars);
      for (const data::TaggedWord& word : file.items) builder.add(word, read_.documents);
      for (const std::string& sentence : file.sentences) count_tokens(sentence, summary);
      summary.sha256 = file.sha256;
      builder.drop(file.dropped);
    } else if (kind == data::InputKind::kFacts) {
      const data::TaskFile<data::Fact> file = data::read_facts(path);
      for (const data::Fact& fact : file.items) {
        if (builder.add(fact)) count_tokens(fact.text(), summary);
      }
      summary.sha256 = file.sha256;
    } else {
      const data::TaskFile<data::Question> file = data::read_questions(path, given_options);
      for (const data::Question& question : file.items) {
        uses_given_options = uses_given_options || !question.has_own_options;
        if (builder.add(question)) count_tokens(question.text(), summary);
      }
      summary.sha256 = file.sha256;
    }
    read_.documents += summary.documents;
    read_.files.push_back(std::move(summary));
  }
  if (kind == data::InputKind::kWords) tell_of_same(read_.files, "words");
  if (!uses_given_options) {
    throw util::usage_error({.what = "the given options have no effect: every question has its own",
                             .where = "--options " + task_options_.options});
  }
  if (const auto empty = empty_classes(builder.task()); !empty.empty() && !builder.task().items.empty()) {
    util::log_warning(util::cat("no word of the classes ", util::join(empty, ", "),
                                " can be asked: there is none, or all are dropped"));
  }
  builder.keep_per_class(task_options_.per_class, seed);
  builder.keep_first(options_.limit);
  data::Task task = std::move(builder).finish();
  for (const data::TaskItem& item : task.items) {
    session_.check_in_vocabulary(item.context);
    session_.check_in_vocabulary(item.answer);
    for (const data::TaskItem::Option& option : item.options) session_.check_in_vocabulary({option.id});
  }
  if (task.items.empty()) throw nothing_left_error("no item is left to ask", options_.inputs, task.dropped);
  return task;
}

std::string TaskSource::size() const {
  return counted(static_cast<std::int64_t>(task_.items.size()), "item");
}

std::int64_t TaskSource::num_positions() const {
  std::int64_t positions = 0;
  for (const data::TaskItem& item : task_.items) positions += static_cast<std::int64_t>(item.answer.size());
  return positions;
}

void TaskSource::watch(const experiments::Watch& watch) {
  const bool has_distractor =
      std::any_of(task_.items.begin(), task_.items.end(),
                  [](const data::TaskItem& item) { return item.distractor != decode::kNoToken; });
  if (watch.has(experiments::WatchedToken::Kind::kDistractor) && !has_distractor)
    throw no_distractor_error("no item has a distractor");
  watch_ = &watch;
}

void TaskSource::add_positions(decode::Query& query, std::size_t item_index) const {
  const data::TaskItem& item = task_.items[item_index];
  query.document = item.document;
  query.input = item.input;
  query.input_document = item.input_document;
  query.tokens = item.tokens();
  std::vector<decode::TokenId> watched;
  for (const data::TaskItem::Option& option : item.options) watched.push_back(option.id);
  for (std::size_t k = 0; k < item.answer.size(); ++k) {
    query.positions.push_back({.position = item.first_position() + static_cast<std::int64_t>(k),
                               .target = item.answer[k],
                               .watched = watched,
                               .item = static_cast<std::int64_t>(item_index),
                               .number = item.number});
    if (watch_ != nullptr)
      watch_->append_to(query.positions.back(), k == 0 ? item.distractor : decode::kNoToken);
  }
}

void TaskSource::begin_part(std::int64_t part) {
  DEPTHLENS_ASSERT(again_.empty() && trials_.empty());
  std::tie(next_item_, end_item_) = plan_.items(part, task_.items.size());
  last_kept_ = -1;
}

bool TaskSource::next(decode::Query& query) {
  query = {};
  if (next_item_ == end_item_) {
    if (again_.empty()) return false;
    // All positions of the item's first form have been seen: they were in one batch with the first of them.
    auto again = again_.extract(again_.begin());
    const std::size_t index = again.key();
    task_.items[index] = std::move(again.mapped());
    add_positions(query, index);
    return true;
  }
  add_positions(query, next_item_++);
  // Items that begin with this one, as the later words of a sentence do, share its pass through the model.
  while (next_item_ < end_item_ && !session_.angles_go_by_length()) {
    const data::TaskItem& next = task_.items[next_item_];
    const std::vector<text::TokenId> tokens = next.tokens();
    const bool extends = next.document == query.document && tokens.size() >= query.tokens.size() &&
                         std::equal(query.tokens.begin(), query.tokens.end(), tokens.begin()) &&
                         next.first_position() > query.positions.back().position;
    if (!extends) break;
    add_positions(query, next_item_++);
  }
  return true;
}

bool TaskSource::accepts(const decode::PositionReadout& position, RunCounts& counts) {
  const bool kept = decide(position, counts);
  if (kept) {
    const std::int64_t item = position.where().item;
    if (item != last_kept_)
      counts.kept_like.add(0, ItemGroups::key_of(task_, task_.items[static_cast<std::size_t>(item)]));
    last_kept_ = item;
  }
  return kept;
}

void TaskSource::finish_trial(std::size_t index, RunCounts& counts) {
  data::TaskItem& item = task_.items[index];
  Trial& trial = trials_.at(index);
  auto next = trial.is_said ? std::optional<data::TaskItem>()
                            : data::with_alias(item, item.answer.front(), session_.tokenizer(),
                                               session_.bos(), session_.max_length());
  if (next) {
    trial.is_said = true;
    again_.emplace(index, std::move(*next));
    return;
  }
  counts.counts.add(RunCounts::kByAlias, trial.is_said ? 1 : 0);
  data::TaskItem& last = again_.emplace(index, trial.is_said ? item : trial.before).first->second;
  last.aliases_tried = true;
  trials_.erase(index);
}

bool TaskSource::decide(const decode::PositionReadout& position, RunCounts& counts) {
  const auto index = static_cast<std::size_t>(position.where().item);
  if (again_.count(index) > 0) return false;
  const data::TaskItem& item = task_.items[index];
  const std::int64_t k = position.where().position - item.first_position();
  const decode::TokenId said = position.final_id();
  const bool right = item.is_right(k, said);
  if (const auto trial = trials_.find(index); trial != trials_.end()) {
    trial->second.is_said = trial->second.is_said && right;
    if (k + 1 == static_cast<std::int64_t>(item.answer.size())) finish_trial(index, counts);
    return false;
  }
  const bool white_space = k == 0 && retry_ && !right && text::is_whitespace(session_.tokenizer(), said);
  std::optional<data::TaskItem> other;
  if (k == 0 && !right && has_aliases_) {
    other = data::with_alias(item, said, session_.tokenizer(), session_.bos(), session_.max_length());
    if (other) trials_.emplace(index, Trial{.before = item});
  }
  if (!other && white_space && !item.retried) {
    other = data::with_space_after_prompt(item, session_.tokenizer(), session_.bos(), session_.max_length());
    counts.counts.add(RunCounts::kAskedAgain, other ? 1 : 0);
  }
  if (other) {
    again_.emplace(index, std::move(*other));
    return false;
  }
  if (right || !task_options_.correct_only) return true;
  counts.dropped.add(static_cast<std::size_t>(white_space ? data::Drop::kPositionWhiteSpace
                                                          : data::Drop::kPositionNotPredicted));
  return false;
}

}  // namespace depthlens::run
