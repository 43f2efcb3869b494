// Flags that every command has.
#include "command.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "depthlens/compute/runtime.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tool {

void add_common_options(CLI::App& app, CommonOptions& options) {
  auto* group = app.add_option_group("Every command");
  auto* quiet = group->add_flag("-q,--quiet", options.quiet, "Warnings and errors only");
  group->add_flag("-v,--verbose", options.verbose, "Details: connections, caches, compiled kernels")
      ->excludes(quiet);
  group
      ->add_option("--threads", options.threads,
                   "Threads of the computation (default: one for each processor)")
      ->check(integer(1, 4096));
  group->add_option("--seed", options.seed, "Seed of everything drawn at random")
      ->check(integer())
      ->capture_default_str();
  group
      ->add_option("--config", options.config,
                   "TOML file whose keys are long flag names; flags given by hand win")
      ->type_name("FILE");
}

void apply_common_options(const CommonOptions& options) {
  util::set_verbosity(options.quiet     ? util::Verbosity::kQuiet
                      : options.verbose ? util::Verbosity::kVerbose
                                        : util::Verbosity::kNormal);
  compute::set_threads(options.threads > 0
                           ? options.threads
                           : static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
}

std::int64_t terminal_width(std::int64_t requested) {
  if (requested > 0) return requested;
  struct winsize size = {};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  std::int64_t columns = 0;
  if (const char* text = std::getenv("COLUMNS");
      text != nullptr && util::parse_int(text, columns) && columns > 0)
    return columns;
  return 100;
}

}  // namespace depthlens::tool
