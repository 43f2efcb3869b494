// depthlens report: the page of a finished run, or of several side by side.
#include <memory>
#include <set>

#include "command.hpp"
#include "depthlens/report/page.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tool {
namespace {

namespace fs = std::filesystem;

struct ReportOptions {
  CommonOptions common;
  std::string run;
  std::vector<std::string> compared;
  std::string out;
};

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

void run_report(const ReportOptions& options) {
  const fs::path out = checked_destination(options);
  apply_common_options(options.common);
  const std::string page = options.compared.empty()
                               ? report::run_page(options.run)
                               : report::comparison_page({options.compared.begin(), options.compared.end()});
  if (out.has_parent_path()) util::create_folders(out.parent_path());
  util::write_file(out, page);
  util::log_info(util::cat("the page is ", out.string(), " (", util::as_bytes(page.size()), ")"));
}

}  // namespace

std::function<void()> setup_report(CLI::App& app) {
  auto options = std::make_shared<ReportOptions>();
  app.add_option("run", options->run, "Run folder of analyze or eval-lens")->type_name("RUN");
  add_repeatable(app, "--compare", options->compared, "Two runs or more on the same axes, in one page")
      ->type_name("RUN");
  app.add_option("--out", options->out, "The page (default: report.html in the run folder)")
      ->type_name("FILE.html");
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens report out/harbour\n"
      "  depthlens report --compare out/small out/large --out out/sizes.html");
  return [options] { run_report(*options); };
}

}  // namespace depthlens::tool
