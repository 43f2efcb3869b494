// The flags that say what is read, and where results go.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "depthlens/data/task.hpp"
#include "depthlens/run/settings.hpp"
#include "flags.hpp"

namespace depthlens::tool {

using run::TaskOptions;

struct CorpusOptions : run::InputOptions, run::OutputOptions {};

/// Adds --input, --out and --overwrite.
void add_corpus_options(CLI::App& app, CorpusOptions& options);
/// Adds --positions.
void add_positions_option(CLI::App& app, CorpusOptions& options);
/// Adds --resume and --shard.
void add_parts_options(CLI::App& app, CorpusOptions& options);
/// Adds --limit.
void add_limit_option(CLI::App& app, CorpusOptions& options);

/// Throws a usage error where --input or --out is missing; `command` is for the hint.
void check_corpus_options(const CorpusOptions& options, const std::string& command);

/// Adds --keep, --aliases, --whitespace-retry, --classes, --min-prompt-chars, --per-class and --options.
void add_task_options(CLI::App& app, TaskOptions& options);

/// The kind of task that a file is, where experiments leave the choice; with `has_options`, of the command
/// line, questions. Reads the file; throws a usage error for one that can be read once only.
data::InputKind kind_of_task(const std::string& file, bool has_options);

}  // namespace depthlens::tool
