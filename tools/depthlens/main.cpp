// The program: one command, and the one place where errors become text and an exit status.
#include <array>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "command.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/text.hpp"

namespace {

using depthlens::tool::Command;
using depthlens::util::Error;

constexpr std::array<Command, 8> kCommands = {{
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
    {"info", "Describe a model, a lens or a run folder", depthlens::tool::setup_info},
}};

/// CLI11 would say of a mistyped command only that one is missing.
void check_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : kCommands) {
    if (name == command.name) return;
    names.emplace_back(command.name);
  }
  throw depthlens::util::usage_error({.what = "unknown command " + depthlens::util::in_quotes(name),
                                      .expected = "one of " + depthlens::util::join(names, ", "),
                                      .hint = depthlens::util::did_you_mean(name, names)});
}

/// A result that stdout did not take, on a full device for example, is not done.
void check_stdout() {
  std::cout.flush();
  if (!std::cout) throw depthlens::util::output_error({.what = "cannot write the result to stdout"});
}

int run(const std::vector<std::string>& arguments) {
  if (!arguments.empty() && arguments.front().rfind('-', 0) != 0) check_command(arguments.front());
  CLI::App app("depthlens shows how a language model arrives at its predictions, layer by layer.",
               "depthlens");
  app.set_version_flag("--version", "depthlens " DEPTHLENS_VERSION);
  app.require_subcommand(1);
  std::vector<std::string> expanded = arguments;
  try {
    for (const Command& command : kCommands) {
      CLI::App* sub = app.add_subcommand(command.name, command.summary);
      auto action = command.setup(*sub);
      sub->callback(std::move(action));
      if (arguments.empty() || arguments.front() != command.name) continue;
      expanded = depthlens::tool::with_config_file(*sub, {arguments.begin() + 1, arguments.end()});
      expanded.insert(expanded.begin(), command.name);
    }
    app.parse(std::vector<std::string>(expanded.rbegin(), expanded.rend()));  // CLI11 takes them in reverse
    return 0;
  } catch (const CLI::Success& success) {
    return app.exit(success);  // --help, --version
  } catch (const CLI::ParseError& error) {
    throw depthlens::util::usage_error(
        {.what = error.what(), .hint = "depthlens COMMAND --help tells the flags"});
  }
}

}  // namespace

int main(int argc, char** argv) {
  depthlens::util::install_interrupt_handlers();
  try {
    const int status = run({argv + 1, argv + argc});
    check_stdout();
    return status;
  } catch (const Error& error) {
    // A message may hold texts of files.
    std::fprintf(stderr, "depthlens: error: %s\n", depthlens::util::printable(error.what()).c_str());
    if (!error.hint().empty())
      std::fprintf(stderr, "hint: %s\n", depthlens::util::printable(error.hint()).c_str());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    const std::string what = error.what();  // c10's errors carry a stack trace after the first line
    std::fprintf(stderr, "depthlens: error: a defect of depthlens: %s\n",
                 what.substr(0, what.find('\n')).c_str());
    return static_cast<int>(depthlens::util::ErrorCode::kInternal);
  }
}
