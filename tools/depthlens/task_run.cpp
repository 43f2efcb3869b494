// Task files → items → queries → engine → run folder.
#include "task_run.hpp"

#include <algorithm>
#include <optional>

#include "depthlens/text/continuation.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/input_file.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "watch_options.hpp"

namespace depthlens::tool {
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

}  // namespace

void add_task_options(CLI::App& app, TaskOptions& options) {
  app.add_option("--keep", options.keep,
                 "Tasks and pairs: answers that count: those that are the model's own top-1, or all")
      ->check(one_of({"correct", "all"}))
      ->capture_default_str();
  app.add_option(
         "--whitespace-retry", options.whitespace_retry,
         "Tasks: where the model says white space, ask again with a space after the prompt (auto: for pos "
         "and facts)")
      ->check(one_of({"auto", "yes", "no"}))
      ->capture_default_str();
  app.add_option("--classes", options.classes, "pos: word classes (UPOS)")
      ->type_name("CLASS,...")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--min-prompt-chars", options.min_prompt_chars, "pos: shortest prompt, in characters")
      ->check(integer(0))
      ->capture_default_str();
  app.add_option("--per-class", options.per_class,
                 "pos: at most N words of a class, drawn by --seed (0: all)")
      ->check(integer(0))
      ->capture_default_str();
  app.add_option("--options", options.options,
                 "choices: the options of questions that have none of their own (default: the answers of the "
                 "file)")
      ->type_name("A,B,...")
      ->delimiter(',');
}

data::TaskKind task_kind(const std::vector<data::TaskKind>& possible, const std::string& file) {
  if (possible.size() == 1) return possible.front();
  if (!util::can_be_read_again(file)) {
    throw util::usage_error({.what = "what a pipe or stdin holds is not known before it is read",
                             .where = "--input " + file,
                             .expected = "an experiment of one kind of task beside exit",
                             .hint = "--experiment facts,exit (or choices,exit; pos,exit)"});
  }
  if (util::content_extension(file) == ".conllu") return data::TaskKind::kWords;
  return data::has_options(file) ? data::TaskKind::kQuestions : data::TaskKind::kFacts;
}

TaskRun::TaskRun(data::TaskKind kind, const CorpusOptions& inputs, const TaskOptions& options,
                 const ModelOptions& model, std::uint64_t seed)
    : started_(Clock::now()),
      inputs_(inputs),
      options_(options),
      session_(model),
      folder_(inputs.out, inputs.overwrite),
      task_(read(kind, seed)),
      retry_(options.whitespace_retry == "yes" ||
             (options.whitespace_retry == "auto" && kind != data::TaskKind::kQuestions)),
      option_labels_(data::option_labels(task_.items)) {}

void TaskRun::count_tokens(std::string_view text, data::InputSummary& summary) {
  const std::vector<text::TokenId> tokens = session_.tokenizer().encode(text);
  session_.check_in_vocabulary(tokens);
  for (const text::TokenId id : tokens) counts_.add(id);
  ++summary.documents;
  summary.tokens += static_cast<std::int64_t>(tokens.size());
  summary.bytes += static_cast<std::int64_t>(text.size());
}

data::Task TaskRun::read(data::TaskKind kind, std::uint64_t seed) {
  util::check_inputs(inputs_.inputs);
  data::TaskBuilder builder(kind, session_.tokenizer(), session_.bos(), session_.max_length());
  if (kind == data::TaskKind::kWords) builder.set_classes(classes_of(options_.classes));
  const std::vector<std::string> given_options = listed(options_.options);
  bool uses_given_options = given_options.empty() || kind != data::TaskKind::kQuestions;
  for (const std::string& path : inputs_.inputs) {
    builder.begin_input(path);
    data::InputSummary summary{.path = path, .sha256 = {}};
    if (kind == data::TaskKind::kWords) {
      const data::TaggedFile file =
          data::read_tagged_words(path, builder.task().classes, options_.min_prompt_chars);
      for (const data::TaggedWord& word : file.items) builder.add(word, read_.documents);
      for (const std::string& sentence : file.sentences) count_tokens(sentence, summary);
      summary.sha256 = file.sha256;
      builder.drop(file.dropped);
    } else if (kind == data::TaskKind::kFacts) {
      const data::TaskFile<data::Fact> file = data::read_facts(path);
      for (const data::Fact& fact : file.items) {
        if (builder.add(fact)) count_tokens(fact.prompt + " " + fact.answer, summary);
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
    for (const data::InputSummary& other : read_.files) {
      if (kind != data::TaskKind::kWords || other.sha256 != summary.sha256) continue;
      util::log_warning(util::cat(path, " is the same as ", other.path, ": its words count twice"));
    }
    read_.documents += summary.documents;
    read_.files.push_back(std::move(summary));
  }
  if (!uses_given_options) {
    throw util::usage_error({.what = "the given options have no effect: every question has its own",
                             .where = "--options " + options_.options});
  }
  if (const auto empty = empty_classes(builder.task()); !empty.empty() && !builder.task().items.empty()) {
    util::log_warning(util::cat("no word of the classes ", util::join(empty, ", "),
                                " can be asked: there is none, or all are dropped"));
  }
  builder.keep_per_class(options_.per_class, seed);
  builder.keep_first(inputs_.limit);
  data::Task task = std::move(builder).finish();
  for (const data::TaskItem& item : task.items) {
    session_.check_in_vocabulary(item.context);
    session_.check_in_vocabulary(item.answer);
    for (const data::TaskItem::Option& option : item.options) session_.check_in_vocabulary({option.id});
  }
  if (task.items.empty()) throw nothing_left_error("no item is left to ask", inputs_.inputs, task.dropped);
  return task;
}

void TaskRun::load() {
  session_.load();
  for (const std::string& name : task_.classes) groups_.emplace_back(name, 0);
  for (const std::string& name : option_labels_) groups_.emplace_back(name, 0);
  if (task_.kind == data::TaskKind::kFacts) {
    for (const data::TaskItem& item : task_.items) kept_like(item);
    std::sort(groups_.begin(), groups_.end());
  }
  const model::Model& model = session_.model();
  util::log_info(util::cat(model.spec().architecture, ", ", model.spec().num_layers, " blocks, ",
                           util::with_thousands(model.num_parameters()), " parameters; ",
                           util::with_thousands(static_cast<std::int64_t>(task_.items.size())), " items"));
}

void TaskRun::watch(const experiments::Watch& watch) {
  const bool has_distractor = std::any_of(task_.items.begin(), task_.items.end(),
                                          [](const data::TaskItem& item) { return item.distractor >= 0; });
  if (watch.has(experiments::WatchedToken::Kind::kDistractor) && !has_distractor)
    throw no_distractor_error("no item has a distractor");
  watch_ = &watch;
}

void TaskRun::add_positions(decode::Query& query, std::size_t item_index) const {
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
    if (watch_ != nullptr) watch_->append_to(query.positions.back(), k == 0 ? item.distractor : text::kNone);
  }
}

bool TaskRun::next_query(decode::Query& query) {
  if (next_item_ == task_.items.size()) {
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
  while (next_item_ < task_.items.size()) {
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

bool TaskRun::accepts(const decode::PositionReadout& position) {
  const bool kept = decide(position);
  if (kept) {
    const std::int64_t item = position.where().item;
    ++kept_;
    if (item != last_kept_) ++kept_like(task_.items[static_cast<std::size_t>(item)]);
    last_kept_ = item;
  }
  return kept;
}

std::int64_t& TaskRun::kept_like(const data::TaskItem& item) {
  std::string name;
  switch (task_.kind) {
    case data::TaskKind::kWords:
      name = item.word_class;
      break;
    case data::TaskKind::kQuestions:
      name = option_labels_[item.gold_option];
      break;
    case data::TaskKind::kFacts:
      name = util::cat("answers of ", item.answer.size(), item.answer.size() == 1 ? " token" : " tokens");
      break;
  }
  const auto found =
      std::find_if(groups_.begin(), groups_.end(), [&](const auto& group) { return group.first == name; });
  return found != groups_.end() ? found->second : groups_.emplace_back(name, 0).second;
}

bool TaskRun::decide(const decode::PositionReadout& position) {
  const auto index = static_cast<std::size_t>(position.where().item);
  if (again_.count(index) > 0) return false;
  const data::TaskItem& item = task_.items[index];
  const std::int64_t k = position.where().position - item.first_position();
  const decode::TokenId said = position.final_id();
  const bool right = item.is_right(k, said);
  const bool white_space = k == 0 && retry_ && !right && text::is_whitespace(session_.tokenizer(), said);
  std::optional<data::TaskItem> other;
  if (k == 0 && !right && options_.correct_only()) {
    other = data::with_alias(item, said, session_.tokenizer(), session_.bos(), session_.max_length());
    by_alias_ += other ? 1 : 0;
  }
  if (!other && white_space && !item.retried) {
    other = data::with_space_after_prompt(item, session_.tokenizer(), session_.bos(), session_.max_length());
    asked_again_ += other ? 1 : 0;
  }
  if (other) {
    again_.emplace(index, std::move(*other));
    return false;
  }
  if (right || !options_.correct_only()) return true;
  ++read_.dropped[white_space ? data::Drop::kPositionWhiteSpace : data::Drop::kPositionNotPredicted];
  return false;
}

decode::RunStatistics TaskRun::decode(const std::vector<decode::Listener*>& listeners) {
  std::int64_t num_positions = 0;
  for (const data::TaskItem& item : task_.items)
    num_positions += static_cast<std::int64_t>(item.answer.size());
  return run_engine(session_, session_.lenses(), [&](decode::Query& query) { return next_query(query); },
                    listeners, "asking", num_positions,
                    {.accepts = [&](const decode::PositionReadout& position) { return accepts(position); }});
}

void TaskRun::finish(const RunParts& parts, const std::vector<tables::Table>& tables) {
  for (const auto& [reason, count] : task_.dropped) read_.dropped[reason] += count;
  if (kept_ == 0) {
    util::log_warning(
        util::cat("none of the answers is what the model says itself, so that the tables are empty",
                  options_.correct_only() ? "; --keep all counts all of them" : ""));
  }
  util::OrderedJson run = run_json(session_, read_, parts, inputs_.out, started_);
  run["counts"]["asked_again"] = asked_again_;
  if (task_.kind == data::TaskKind::kFacts) run["counts"]["answered_by_alias"] = by_alias_;
  write_run(folder_, run, parts, tables);
}

std::string TaskRun::account() const {
  // Elsewhere an item is one answer. Of a fact that is left out it is not known how many tokens would count.
  if (task_.kind != data::TaskKind::kFacts) return account_of(kept_, "answers count", read_.dropped);
  data::Dropped positions, items;
  for (const auto& [reason, count] : read_.dropped)
    (data::drops_position(reason) ? positions : items)[reason] = count;
  std::vector<std::string> parts = {
      account_of(kept_, "answer tokens count", positions),
      account_of(static_cast<std::int64_t>(task_.items.size()), "facts are asked", items)};
  std::erase(parts, "");
  return util::join(parts, "; ");
}

void TaskRun::conclude(const decode::RunStatistics& statistics) const {
  tool::conclude(statistics, inputs_.out, account(), few_of(groups_));
}

}  // namespace depthlens::tool
