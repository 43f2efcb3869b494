// What every command of the program shares: its flags, and how it is registered.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>

#include "flags.hpp"

namespace depthlens::tool {

/// Flags of every command.
struct CommonOptions {
  bool quiet = false;
  bool verbose = false;
  int threads = 0;  ///< 0: one for each processor
  std::int64_t seed = 0;
  std::string config;
};

/// Adds the flags of one command; what it returns runs the command after they have been read.
using Setup = std::function<void()> (*)(CLI::App& app);

struct Command {
  const char* name;
  const char* summary;
  Setup setup;
};

std::function<void()> setup_analyze(CLI::App& app);
std::function<void()> setup_eval_lens(CLI::App& app);
std::function<void()> setup_train_lens(CLI::App& app);
std::function<void()> setup_show(CLI::App& app);
std::function<void()> setup_convert_lens(CLI::App& app);
std::function<void()> setup_count_tokens(CLI::App& app);
std::function<void()> setup_report(CLI::App& app);
std::function<void()> setup_info(CLI::App& app);
std::function<void()> setup_merge(CLI::App& app);
std::function<void()> setup_download(CLI::App& app);

/// Adds --quiet, --verbose, --threads, --seed and --config.
void add_common_options(CLI::App& app, CommonOptions& options);
/// Acts on them: verbosity, number of threads.
void apply_common_options(const CommonOptions& options);

/// `requested` where it is above 0; else the columns of the terminal that stdout is, or COLUMNS, or 100.
std::int64_t terminal_width(std::int64_t requested);

}  // namespace depthlens::tool
