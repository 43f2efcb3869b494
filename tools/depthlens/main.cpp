// The program: one command, and the one place where errors become text and an exit status.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <system_error>
#include <vector>

#include "arguments.hpp"
#include "command.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/mapped_pages.hpp"
#include "depthlens/util/text.hpp"
#include "depthlens/util/version.hpp"
#include "shell_files.hpp"

namespace {

using depthlens::tool::Arguments;
using depthlens::tool::Command;
using depthlens::util::Error;

constexpr std::array<Command, 10> kCommands = {{
    {"analyze", "Run a model over a corpus or a task, decode every layer, write one run folder",
     depthlens::tool::setup_analyze},
    {"show", "Decode one text and print the layer × token table", depthlens::tool::setup_show},
    {"train-lens", "Train a tuned lens, or fit a Jacobian lens", depthlens::tool::setup_train_lens},
    {"convert-lens", "Convert between lens formats", depthlens::tool::setup_convert_lens},
    {"eval-lens", "Measure how near lenses come to the model's own output, layer by layer",
     depthlens::tool::setup_eval_lens},
    {"count-tokens", "Count the tokens of a corpus: the frequency table",
     depthlens::tool::setup_count_tokens},
    {"report", "Draw report.html for a run folder, or for several side by side",
     depthlens::tool::setup_report},
    {"merge", "Join the run folders of the shares of one run", depthlens::tool::setup_merge},
    {"download", "Fetch models and published lenses from the hub into its cache",
     depthlens::tool::setup_download},
    {"info", "Describe a model, a lens or a run folder", depthlens::tool::setup_info},
}};

void check_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : kCommands) {
    if (name == command.name) return;
    names.emplace_back(command.name);
  }
  const std::string near = depthlens::util::did_you_mean(name, names);
  throw depthlens::util::usage_error(
      {.what = name.empty() ? "no command"
               : name.rfind('-', 0) == 0
                   ? "flags stand behind the command: " + depthlens::util::in_quotes(name)
                   : "unknown command " + depthlens::util::in_quotes(name),
       .expected = "one of " + depthlens::util::join(names, ", "),
       .hint = near.empty() ? "depthlens --help tells what they do" : near});
}

/// Stands for the end of a reader, `head` for example, that wanted no more.
struct NobodyReads {};

/// Whether stdout is a pipe whose reader is gone.
bool nobody_reads_stdout() {
  struct pollfd state = {.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  return ::poll(&state, 1, 0) > 0 && (state.revents & (POLLERR | POLLHUP)) != 0;
}

/// A result that stdout did not take, on a full device for example, is not done.
void check_stdout() {
  std::cout.flush();
  if (std::cout) return;
  if (nobody_reads_stdout()) throw NobodyReads();
  throw depthlens::util::output_error({.what = "cannot write the result to stdout"});
}

/// Where a standard stream is closed, the next file that is opened would take its number, and get what is
/// meant for the stream. What is opened in its place here fails as a closed one does, and takes messages in
/// silence.
void hold_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) < 0) ::open("/dev/null", stream == STDOUT_FILENO ? O_RDONLY : O_WRONLY);
  }
}

void run(const std::vector<std::string>& words) {
  CLI::App app("depthlens shows how a language model arrives at its predictions, layer by layer.",
               "depthlens");
  const std::string version = "depthlens " DEPTHLENS_VERSION;
  app.set_version_flag("--version", version);
  app.require_subcommand(1);  // for the help's first line
  std::map<std::string, std::function<void()>> actions;
  for (const Command& command : kCommands)
    actions[command.name] = command.setup(*app.add_subcommand(command.name, command.summary));

  const std::string first = words.empty() ? "" : words.front();
  if (first == "--help" || first == "-h") {
    std::cout << app.help();
  } else if (first == "--version") {
    std::cout << version << '\n';
  } else if (first == "--generate") {  // for the installation, in no help
    std::cout << depthlens::tool::shell_file(app, words.size() > 1 ? words[1] : "", version);
  } else {
    check_command(first);
    CLI::App& command = *app.get_subcommand(first);
    const Arguments arguments(command, {words.begin() + 1, words.end()});
    if (arguments.asks_for_help()) {
      std::cout << command.help(app.get_name());
      return;
    }
    try {
      actions.at(first)();
    } catch (const Error& error) {
      throw arguments.located(error);
    }
  }
}

/// Ends without success: what was begun goes, the message stays. It may hold texts of files.
int fail(depthlens::util::ErrorCode code, const std::string& message, const std::string& hint = "") {
  const auto held = depthlens::util::remove_unfinished();
  const std::string tail = hint.empty() ? "" : "hint: " + depthlens::util::printable(hint) + "\n";
  std::fprintf(stderr, "depthlens: error: %s\n%s", depthlens::util::printable(message).c_str(), tail.c_str());
  return code == depthlens::util::ErrorCode::kInterrupted ? depthlens::util::interrupted_status()
                                                          : static_cast<int>(code);
}

/// The end that a signal brings, on the thread that watches for it, while others are at work.
void end_interrupted() {
  const auto held = depthlens::util::remove_unfinished();  // none finishes the work from here on
  if (!depthlens::util::work_is_done()) {
    if (::isatty(STDERR_FILENO) == 1) std::fputc('\n', stderr);  // a line of progress may stand there
    const Error error = depthlens::util::interrupted_error();
    std::fprintf(stderr, "depthlens: error: %s\n", error.what());
  }
  ::_exit(depthlens::util::interrupted_status());
}

/// The end that comes when a file of a model changes while it is read, on a thread of its own, too.
void end_unreadable(const std::filesystem::path& file) {
  ::_exit(fail(depthlens::util::ErrorCode::kInput,
               "a file became shorter while it was read, or its disk fails, " +
                   depthlens::util::in_quotes(file.string()),
               "put the whole file back; what was saved before is kept, and --resume goes on from it"));
}

/// The exit status.
int status_of(const std::vector<std::string>& words) {
  try {
    depthlens::util::watch_interrupts(end_interrupted);
    depthlens::util::watch_mapped_pages(end_unreadable);
    depthlens::util::end_with_parent(std::getenv("DEPTHLENS_PARENT"));
    run(words);
    check_stdout();
    depthlens::util::set_work_done();
    return 0;
  } catch (const NobodyReads&) {
    return 128 + SIGPIPE;  // as a shell says of a program that the signal ended
  } catch (const Error& error) {
    return fail(error.code(), error.what(), error.hint());
  } catch (const std::exception& error) {
    std::string what = error.what();  // c10's errors carry a stack trace after the first line
    what = what.substr(0, what.find('\n'));
    if (depthlens::compute::is_out_of_memory(error)) {
      return fail(
          depthlens::util::ErrorCode::kInput, "the memory does not suffice; found " + what,
          "--stream-layers keeps no blocks in memory, --dtype bfloat16 halves those of float32, and shorter "
          "windows (--max-length), fewer --layers or lenses and, in training, fewer --tokens-per-step take "
          "less");
    }
    const auto* of_system = dynamic_cast<const std::system_error*>(&error);
    if (of_system && of_system->code() == std::errc::resource_unavailable_try_again) {
      return fail(depthlens::util::ErrorCode::kInput, "no further thread can be started; found " + what,
                  "the system allows this user or job no more (`ulimit -u`, pids.max of its control group, "
                  "`ulimit -v`); fewer --threads take fewer");
    }
    return fail(depthlens::util::ErrorCode::kInternal, "a defect of depthlens: " + what);
  }
}

/// Without the destructors of libtorch's statics, which take its operators out of their registry one by one:
/// half the time of a short command. What the command wrote is in its place, and its own objects are gone.
[[noreturn]] void end(int status) {
  std::fflush(nullptr);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  std::exit(status);  // with their reports
#else
  ::_exit(status);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  hold_standard_streams();
  end(status_of({argv + 1, argv + argc}));
}
