// depthlens report: the page of a finished run, or of several side by side.
#include <algorithm>
#include <memory>
#include <set>

#include "command.hpp"
#include "depthlens/report/difference.hpp"
#include "depthlens/report/page.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "outputs.hpp"

namespace depthlens::tool {
namespace {

namespace fs = std::filesystem;

struct ReportOptions {
  CommonOptions common;
  std::string run;
  std::vector<std::string> compared;
  std::vector<std::string> documents, windows;
  std::string max_size = "2MB";
  std::string out;
  std::string differences;
};

/// Bytes of "3MB", "500 kB" or "2000000"; throws a usage error.
std::size_t parsed_size(const std::string& text) {
  constexpr double kLargest = 400e6;  // browsers refuse longer texts
  const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::string unit(util::trimmed(std::string_view(text).substr(digits)));
  double number = 0;
  const double factor = unit.empty() || unit == "B"    ? 1
                        : unit == "kB" || unit == "KB" ? 1e3
                        : unit == "MB"                 ? 1e6
                                                       : 0;
  if (factor == 0 || !parse_number(text.substr(0, digits), number) || number * factor < 1 ||
      number * factor > kLargest) {
    throw util::usage_error({.what = "not a size of a page",
                             .where = "--max-size",
                             .expected = "bytes, kB or MB, such as 5MB; at most 400MB",
                             .found = util::in_quotes(text)});
  }
  return static_cast<std::size_t>(number * factor);
}

/// Where the page goes; throws a usage error where the flags do not say.
fs::path checked_destination(const ReportOptions& options) {
  const bool comparison = !options.compared.empty();
  if (comparison && !options.run.empty()) {
    throw util::usage_error({.what = "a run folder beside --compare",
                             .where = util::in_quotes(options.run),
                             .hint = "name all runs behind --compare"});
  }
  if (!comparison && options.run.empty()) {
    throw util::usage_error({.what = "no run folder", .hint = "depthlens report RUN"});
  }
  if (comparison && options.compared.size() < 2) {
    throw util::usage_error(
        {.what = "nothing to compare with", .where = "--compare", .expected = "two run folders or more"});
  }
  std::set<fs::path> distinct;
  for (const std::string& run : options.compared) {
    std::error_code ignored;
    if (distinct.insert(fs::weakly_canonical(run, ignored)).second) continue;
    throw util::usage_error({.what = "the same run twice", .where = "--compare " + util::in_quotes(run)});
  }
  if (comparison && options.out.empty()) {
    throw util::usage_error({.what = "no file for the page",
                             .where = "--out",
                             .hint = "depthlens report --compare RUN RUN --out FILE.html"});
  }
  return options.out.empty() ? fs::path(options.run) / "report.html" : fs::path(options.out);
}

/// Of each run to the first one; the log tells what of them is missing.
std::vector<report::RunDifference> differences_of(const std::vector<fs::path>& runs,
                                                  const std::vector<std::string>& names) {
  std::vector<report::RunDifference> differences;
  for (std::size_t i = 1; i < runs.size(); ++i) {
    differences.push_back(report::run_difference(runs.front(), runs[i]));
    for (const auto& [reason, left_out] : differences.back().left_out) {
      util::log_info(util::cat(names[i], ": ", util::join(left_out, ", "), " are not compared: ", reason,
                               " of ", names.front()));
    }
    for (const tables::Table& table : differences.back().tables) {
      if (!table.rows.empty()) continue;
      util::log_info(
          util::cat(names[i], ": ", table.name, " has no row that ", names.front(),
                    " has too: lenses are compared by their names, watched tokens by their numbers"));
    }
    if (differences.back().unpaired.empty()) continue;
    util::log_info(util::cat(names[i], " cannot be compared with ", names.front(),
                             " document by document: ", differences.back().unpaired));
  }
  return differences;
}

util::Error no_differences(const report::RunDifference& to_first) {
  std::vector<std::string> why;
  if (!to_first.unpaired.empty()) why.push_back(to_first.unpaired);
  for (const auto& [reason, tables] : to_first.left_out) why.push_back(reason + " of the first");
  return util::input_error({.what = "there are no differences to tell",
                            .where = "--differences",
                            .expected =
                                "runs on the same inputs, with the same positions and seed, of models "
                                "with as many layers",
                            .found = util::join(why, "; ")});
}

void write_page(const fs::path& out, const std::string& page) {
  if (out.has_parent_path()) util::create_folders(out.parent_path());
  util::write_file(out, page);
  util::log_info(util::cat("the page is ", out.string(), " (", util::as_bytes(page.size()), ")"));
}

/// The page of a comparison, and the tables of differences where they are wanted: where there are none this
/// throws behind the page.
void compare(const ReportOptions& options, const fs::path& out) {
  const std::vector<fs::path> runs(options.compared.begin(), options.compared.end());
  std::vector<std::string> names = report::distinct_names(runs);
  const std::vector<report::RunDifference> differences = differences_of(runs, names);
  const fs::path folder = options.differences;
  std::vector<tables::Table> tables;
  if (!folder.empty()) {
    names.erase(names.begin());
    tables = report::joined_tables(names, differences);
  }
  const auto file_of = [&](const tables::Table& table) { return folder / (table.name + ".csv"); };
  for (const tables::Table& table : tables) {
    check_replaceable(file_of(table), "a table of differences",
                      [](std::string_view head) { return head.rfind("run,", 0) == 0; });
  }
  write_page(out, report::comparison_page(runs, differences));
  if (folder.empty()) return;
  if (tables.empty()) throw no_differences(differences.front());
  util::create_folders(folder);
  for (const tables::Table& table : tables) util::write_file(file_of(table), tables::to_csv(table));
}

void run_report(const CLI::App& app, const ReportOptions& options) {
  const fs::path out = checked_destination(options);
  check_effects(app,
                {{.flags = {"--document", "--window", "--max-size"},
                  .holds = options.compared.empty(),
                  .needs = "the page of one run",
                  .found = "--compare, whose page has no records"},
                 {.flags = {"--differences"}, .holds = !options.compared.empty(), .needs = "--compare"}});
  const report::RecordChoice choice(options.documents, options.windows);
  const std::size_t max_bytes = parsed_size(options.max_size);
  apply_common_options(options.common);
  check_replaceable(out, "a page of depthlens", [](std::string_view head) {
    return head.find("<title>depthlens report</title>") != std::string_view::npos;
  });
  if (options.compared.empty()) {
    write_page(out, report::run_page(options.run, choice, max_bytes));
  } else {
    compare(options, out);
  }
}

}  // namespace

std::function<void()> setup_report(CLI::App& app) {
  auto options = std::make_shared<ReportOptions>();
  app.add_option("run", options->run, "Run folder of analyze or eval-lens")->type_name("RUN");
  add_repeatable(app, "--compare", options->compared, "Two runs or more on the same axes, in one page")
      ->type_name("RUN");
  add_repeatable(
      app, "--document", options->documents,
      "Which documents the page holds: index, range A-B, or an item's id (default: the first ones)", false)
      ->type_name("N|A-B|ID");
  add_repeatable(app, "--window", options->windows, "Which windows of each document: index or range A-B",
                 false)
      ->type_name("N|A-B");
  app.add_option("--max-size", options->max_size,
                 "Size of the page: whole windows are left out to keep it below")
      ->type_name("SIZE")
      ->capture_default_str();
  app.add_option("--out", options->out, "The page (default: report.html in the run folder)")
      ->type_name("FILE.html");
  app.add_option(
         "--differences", options->differences,
         "With --compare: folder for the differences of each run to the first one, with intervals that "
         "are paired by document, as CSV")
      ->type_name("DIR");
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens report out/harbour\n"
      "  depthlens report out/harbour --document 3 --max-size 5MB --out out/third.html\n"
      "  depthlens report --compare out/small out/large --out out/sizes.html --differences out/sizes");
  return [options, &app] { run_report(app, *options); };
}

}  // namespace depthlens::tool
