// depthlens merge: the shares of a run into the run.
#include <memory>

#include "command.hpp"
#include "depthlens/run/run.hpp"
#include "depthlens/util/error.hpp"
#include "input_flags.hpp"
#include "outputs.hpp"

namespace depthlens::tool {
namespace {

struct MergeOptions {
  CommonOptions common;
  std::vector<std::string> shards;
  run::OutputOptions out;
};

void run_merge(const MergeOptions& options) {
  const std::string hint = "depthlens merge out/shard-* --out out/whole";
  if (options.shards.empty())
    throw util::usage_error({.what = "no shares to merge", .where = "merge", .hint = hint});
  if (options.out.out.empty())
    throw util::usage_error({.what = "no run folder", .where = "--out", .hint = hint});
  for (const std::string& shard : options.shards) check_place("--out", options.out.out, shard);
  apply_common_options(options.common);
  run::merge(options.shards, options.out);
}

}  // namespace

std::function<void()> setup_merge(CLI::App& app) {
  auto options = std::make_shared<MergeOptions>();
  add_repeatable(app, "shards", options->shards, "Run folders of all shares of one run, in any order")
      ->type_name("SHARD...");
  app.add_option("--out", options->out.out, "Run folder to write")->type_name("DIR");
  app.add_flag("--overwrite", options->out.overwrite, "Replace the run that the folder holds");
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  for i in 0 1 2 3; do\n"
      "    depthlens analyze --input book.txt --shard $i/4 --out out/shard-$i\n  done\n"
      "  depthlens merge out/shard-* --out out/book");
  return [options] { run_merge(*options); };
}

}  // namespace depthlens::tool
