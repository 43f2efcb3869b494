// depthlens info: what a model, a lens or a run folder is, in what two of them differ, and which runs a
// folder holds.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <utility>
#include <vector>

#include "command.hpp"
#include "comparison.hpp"
#include "depthlens/io/hub.hpp"
#include "depthlens/lens/file_names.hpp"
#include "depthlens/lens/lens_file.hpp"
#include "depthlens/lens/lens_types.hpp"
#include "depthlens/model/arch_spec.hpp"
#include "depthlens/report/run_folder.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"
#include "describe.hpp"
#include "model_flags.hpp"
#include "run_listing.hpp"

namespace depthlens::tool {
namespace {

namespace fs = std::filesystem;
using util::cat, util::OrderedJson;

struct InfoOptions {
  CommonOptions common;
  std::string subject;
  std::string other;
  bool json = false;
  bool offline = false;
};

/// Of a run, a model, or a lens of either kind.
constexpr const char* kMarks[] = {report::kRunFile, "config.json", lens::kTunedParameters};

/// "SUBJECT", or a lens such as "tuned:SUBJECT", as --lens takes it.
struct Subject {
  std::string path;
  const lens::LensType* type;  ///< of a lens; nullptr: it may be anything
};

Subject parse_subject(std::string text) {
  const lens::LensType* type = lens::take_type(text);
  return {.path = std::move(text), .type = type};
}

/// Whether it is a folder without a model, a lens or a run of its own.
bool may_hold_runs(const Subject& subject) {
  std::error_code ignored;
  const fs::path path = subject.path;
  if (subject.type != nullptr || !fs::is_directory(path, ignored)) return false;
  return std::none_of(std::begin(kMarks), std::end(kMarks),
                      [&](const char* name) { return util::exists(path / name); });
}

OrderedJson describe(const Subject& subject, const io::Hub& hub) {
  std::error_code ignored;
  const fs::path path = subject.path;
  if (subject.path.empty()) {
    OrderedJson described = describe_model_folder(run::demo_model());
    described["known_architectures"] = model::known_architectures();
    return described;
  }
  if (util::exists(path / report::kRunFile)) return describe_run(path);
  if (subject.type != nullptr) {
    const fs::path place = lens::place_of(*subject.type, subject.path, hub);
    return describe_lens(lens::find_lens(place, subject.type->files->kind));
  }
  for (const char* name :
       {report::kRunFile, report::kSummaryFile, report::kRecordFiles[0], report::kRecordFiles[1]}) {
    if (path.filename() != name || !fs::is_regular_file(path, ignored)) continue;
    throw util::usage_error(
        {.what = "a file of a run",
         .where = util::in_quotes(subject.path),
         .expected = "a run folder, a model or a lens",
         .hint = cat("name its folder: depthlens info ",
                     path.has_parent_path() ? path.parent_path().string() : std::string("."))});
  }
  if (util::exists(path / lens::kTunedParameters) || fs::is_regular_file(path, ignored))
    return describe_lens(path);
  if (fs::is_directory(path, ignored) && !util::exists(path / "config.json")) {
    const fs::path lens = lens::find_lens_or_none(path, lens::LensKind::kAny);
    if (!lens.empty()) return describe_lens(lens);
    throw util::input_error({.what = util::exists(path / "states.json")
                                         ? "a folder of stored states, which has no description"
                                         : "no run, model or lens in the folder",
                             .where = util::in_quotes(subject.path),
                             .expected = "run.json, config.json with weights, or a lens"});
  }
  return describe_model_folder(hub.model(subject.path));
}

bool is_object_list(const OrderedJson& value) {
  return value.is_array() && !value.empty() && value.front().is_object();
}

std::string line_text(const OrderedJson& value, const std::string& key) {
  if (value.is_structured() && value.empty()) return "none";
  if (value.is_string()) return util::printable(value.get<std::string>());
  const bool count = value.is_number_integer() && key.find("id") == std::string::npos &&
                     key.find("seed") == std::string::npos;
  if (count) return util::with_thousands(value.get<std::int64_t>());
  return util::printable(util::json_text(value));
}

using Lines = std::vector<std::pair<std::string, std::string>>;

/// Nested values as lines "key.key", "value". A file of a list of digests is one line.
void add_lines(const OrderedJson& value, const std::string& key, Lines& lines) {
  if (value.is_object() && value.contains("sha256") && value.contains("name") && value.size() == 3) {
    lines.emplace_back(key, util::cat(line_text(value.at("bytes"), ""), " bytes, SHA-256 ",
                                      line_text(value.at("sha256"), "")));
  } else if (value.is_object() && !value.empty()) {
    for (const auto& item : value.items())
      add_lines(item.value(), key.empty() ? item.key() : key + "." + item.key(), lines);
  } else if (is_object_list(value) || (key == "warnings" && !value.empty())) {
    std::size_t i = 0;
    for (const OrderedJson& element : value) {
      const bool named = element.is_object() && element.contains("name") && element.at("name").is_string();
      add_lines(element,
                named ? key + "." + element.at("name").get<std::string>() : util::cat(key, "[", i, "]"),
                lines);
      ++i;
    }
  } else {
    lines.emplace_back(key, line_text(value, key));
  }
}

/// One group for each part of the description, with a blank line between.
void print_described(const OrderedJson& described) {
  constexpr std::size_t kMin = 28;
  bool first = true, was_group = false;
  for (const auto& item : described.items()) {
    Lines lines;
    add_lines(item.value(), item.key(), lines);
    const bool group = item.value().is_structured() && !item.value().empty();
    if (!first && (group || was_group)) std::cout << '\n';
    first = false;
    was_group = group;
    std::size_t width = kMin;
    for (const auto& [key, text] : lines) width = std::max(width, util::printable(key).size());
    for (const auto& [key, text] : lines) {
      const std::string shown = util::printable(key);
      std::cout << shown << std::string(width - shown.size() + 1, ' ') << text << '\n';
    }
  }
}

/// In ASCII, so that no text of a file reaches a terminal as control characters.
void print_json(const OrderedJson& json) {
  std::cout << util::json_text(json, 2, util::JsonAlphabet::kAscii) << '\n';
}

/// Of tables: a pipe gets whole lines, unless COLUMNS says otherwise.
std::int64_t listing_width() {
  return ::isatty(STDOUT_FILENO) == 1 || std::getenv("COLUMNS") != nullptr ? terminal_width(0) : 0;
}

OrderedJson describe_one_of_two(const std::string& text, const io::Hub& hub) {
  const Subject subject = parse_subject(text);
  if (may_hold_runs(subject)) {
    throw util::usage_error({.what = "nothing to compare: a folder that is no run, model or lens",
                             .where = util::in_quotes(text),
                             .hint = "depthlens info FOLDER lists the runs below it"});
  }
  return describe(subject, hub);
}

void compare_two(const InfoOptions& options, const io::Hub& hub) {
  const OrderedJson a = describe_one_of_two(options.subject, hub),
                    b = describe_one_of_two(options.other, hub);
  if (a.at("kind") != b.at("kind")) {
    const auto named = [](const OrderedJson& one, const std::string& path) {
      return "a " + one.at("kind").get<std::string>() + " (" + util::in_quotes(path) + ")";
    };
    throw util::usage_error({.what = "these cannot be compared",
                             .where = "info",
                             .expected = "two runs, two models or two lenses",
                             .found = named(a, options.subject) + " and " + named(b, options.other)});
  }
  if (options.json) {
    print_json(comparison_json(a, b));
  } else {
    std::cout << comparison_text(a, b);
  }
}

void run_info(const InfoOptions& options) {
  apply_common_options(options.common);
  const io::Hub hub({.offline = options.offline});
  if (!options.other.empty()) {
    compare_two(options, hub);
    return;
  }
  const Subject subject = parse_subject(options.subject);
  if (may_hold_runs(subject)) {
    const std::vector<ListedRun> runs = find_runs(subject.path);
    if (!runs.empty() && options.json) return print_json(listing_json(runs));
    if (!runs.empty()) {
      std::cout << listing_text(runs, listing_width());
      return;
    }
  }
  const OrderedJson described = describe(subject, hub);  // tells what is wrong with an empty folder
  if (options.json) {
    print_json(described);
  } else {
    print_described(described);
  }
}

}  // namespace

std::function<void()> setup_info(CLI::App& app) {
  auto options = std::make_shared<InfoOptions>();
  app.add_option(
      "subject", options->subject,
      "Model folder or hub id, lens file or folder, run folder (default: the demo model); or a folder "
      "with runs below it, which are listed");
  app.add_option("other", options->other, "A second one of the same kind: tells in what the two differ");
  app.add_flag("--json", options->json, "As JSON, with whole values");
  add_offline_option(app, options->offline);
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens info EleutherAI/pythia-160m-deduped\n  depthlens info out/harbour --json\n"
      "  depthlens info out/harbour out/harbour-tuned\n  depthlens info out");
  return [options] {
    run_info(*options);
    std::cout << std::flush;
  };
}

}  // namespace depthlens::tool
