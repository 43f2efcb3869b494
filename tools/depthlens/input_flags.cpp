// Flags of inputs and run folders.
#include "input_flags.hpp"

#include "depthlens/data/task_files.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/input_file.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "outputs.hpp"

namespace depthlens::tool {

void add_corpus_options(CLI::App& app, CorpusOptions& options) {
  add_repeatable(
      app, "--input", options.inputs,
      "Corpus: .txt (documents separated by blank lines), .jsonl (key \"text\"), compressed or not, "
      "pipes, - for stdin; may be given several times")
      ->type_name("FILE");
  app.add_option("--out", options.out, "Run folder to write")->type_name("DIR");
  app.add_flag("--overwrite", options.overwrite, "Replace the run that the folder holds");
}

void add_positions_option(CLI::App& app, CorpusOptions& options) {
  const auto check = [](const std::string& text) -> std::string {
    run::check_positions(text);
    return "";
  };
  app.add_option("--positions", options.positions,
                 "Which positions: all; the last of each window; or sample:N, N of the whole input drawn by "
                 "--seed, each in its own context")
      ->type_name("all|last|sample:N")
      ->check(check)
      ->capture_default_str();
}

void add_parts_options(CLI::App& app, CorpusOptions& options) {
  app.add_flag("--resume", options.resume, "Go on with an interrupted run; a complete one is left as it is")
      ->excludes("--overwrite");
  app.add_option("--shard", options.shard,
                 "Do the share I of N (from 0) of the run; auto: the place in a Slurm array or step; merge "
                 "joins them")
      ->type_name("I/N|auto");
}

void add_limit_option(CLI::App& app, CorpusOptions& options) {
  app.add_option("--limit", options.limit, "Stop after N documents (0: all)")
      ->check(integer(0))
      ->capture_default_str();
}

void check_corpus_options(const CorpusOptions& options, const std::string& command) {
  const std::string hint = "depthlens " + command + " --input FILE.txt --out DIR";
  if (options.inputs.empty()) throw util::usage_error({.what = "no input", .where = "--input", .hint = hint});
  if (options.out.empty()) throw util::usage_error({.what = "no run folder", .where = "--out", .hint = hint});
  check_not_replaced("--input", options.inputs, options.out);
}

void add_task_options(CLI::App& app, TaskOptions& options) {
  add_choice(app, "--keep", options.correct_only, run::kCorrectOnly,
             "Tasks and pairs: answers that count: those that are the model's own top-1, or all");
  add_choice(
      app, "--aliases", options.aliases, run::kAliases,
      "Facts: with --keep correct, an alias that the model says as a whole, where the model's first token is "
      "not the answer's, takes its place");
  add_choice(
      app, "--whitespace-retry", options.whitespace_retry, run::kYesNoAuto,
      "Tasks: where the model says white space, ask again with a space after the prompt (auto: for pos "
      "and facts)");
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

data::InputKind kind_of_task(const std::string& file, bool has_options) {
  if (!util::can_be_read_again(file)) {
    throw util::usage_error({.what = "what a pipe or stdin holds is not known before it is read",
                             .where = "--input " + file,
                             .expected = "an experiment of one kind of task beside exit",
                             .hint = "--experiment facts,exit (or choices,exit; pos,exit)"});
  }
  if (util::content_extension(file) == ".conllu") return data::InputKind::kWords;
  const bool are_questions = has_options || data::has_options(file);
  util::log_info(util::cat(file, ": read as ", are_questions ? "questions" : "facts", " (--experiment ",
                           are_questions ? "choices" : "facts", ",exit says so itself)"));
  return are_questions ? data::InputKind::kQuestions : data::InputKind::kFacts;
}

}  // namespace depthlens::tool
