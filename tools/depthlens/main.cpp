// The program: one command, and the one place where errors become text and an exit status.
#include <array>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "command.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/interrupt.hpp"

namespace {

using depthlens::tool::Command;
using depthlens::util::Error;

constexpr std::array<Command, 5> kCommands = {{
    {"analyze", "Run a model over a corpus, decode every layer, write one run folder",
     depthlens::tool::setup_analyze},
    {"show", "Decode one text and print the layer × token table", depthlens::tool::setup_show},
    {"eval-lens", "Measure how near lenses come to the model's own output, layer by layer",
     depthlens::tool::setup_eval_lens},
    {"count-tokens", "Count the tokens of a corpus: the frequency table",
     depthlens::tool::setup_count_tokens},
    {"info", "Describe a model, a lens or a run folder", depthlens::tool::setup_info},
}};

int run(const std::vector<std::string>& arguments) {
  CLI::App app("depthlens shows how a language model arrives at its predictions, layer by layer.",
               "depthlens");
  app.set_version_flag("--version", "depthlens " DEPTHLENS_VERSION);
  app.require_subcommand(1);
  std::vector<std::string> expanded = arguments;
  for (const Command& command : kCommands) {
    CLI::App* sub = app.add_subcommand(command.name, command.summary);
    auto action = command.setup(*sub);
    sub->callback(std::move(action));
    if (arguments.empty() || arguments.front() != command.name) continue;
    expanded = depthlens::tool::with_config_file(*sub, {arguments.begin() + 1, arguments.end()});
    expanded.insert(expanded.begin(), command.name);
  }
  try {
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
    return run({argv + 1, argv + argc});
  } catch (const Error& error) {
    std::fprintf(stderr, "depthlens: error: %s\n", error.what());
    if (!error.hint().empty()) std::fprintf(stderr, "hint: %s\n", error.hint().c_str());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    const std::string what = error.what();  // c10's errors carry a stack trace after the first line
    std::fprintf(stderr, "depthlens: error: a defect of depthlens: %s\n",
                 what.substr(0, what.find('\n')).c_str());
    return static_cast<int>(depthlens::util::ErrorCode::kInternal);
  }
}
