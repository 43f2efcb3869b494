// The folders of shares → the folder of the run.
#include <algorithm>
#include <chrono>

#include "depthlens/report/run_folder.hpp"
#include "depthlens/run/ranks.hpp"
#include "depthlens/run/run.hpp"
#include "depthlens/run/saved_parts.hpp"
#include "depthlens/run/session.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "run/host.hpp"
#include "run/run_files.hpp"

namespace depthlens::run {
namespace {

namespace fs = std::filesystem;
using util::OrderedJson;

struct ShardFolder {
  std::string path;
  Shard share = {};
  OrderedJson identity = {};
  fs::path state = {};
};

/// What run.json says of a share, without its state.
ShardFolder look_at(const std::string& path) {
  const fs::path folder = path, file = folder / report::kRunFile;
  const auto refuse = [&](const std::string& what, const std::string& found, const std::string& hint) {
    throw util::usage_error({.what = what,
                             .where = util::in_quotes(path),
                             .expected = "a finished share of a run",
                             .found = found,
                             .hint = hint});
  };
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored))
    throw util::input_error({.what = "no such run folder", .where = util::in_quotes(path)});
  if (!util::exists(file)) {
    if (!SavedParts(folder).paths().empty())
      refuse("the share was not finished", "saved parts without run.json",
             "go on with it by --resume, then merge");
    refuse("the folder holds no run", "no run.json", "analyze --shard I/N makes shares");
  }
  const OrderedJson there = report::read_run_json(folder);
  const util::Json document = there;
  const util::JsonView run(document, file.string());
  if (!report::is_complete(run))
    refuse("the share was not finished", "status " + run.get_string("status", "unknown"),
           "go on with it by --resume, then merge");
  if (!run.has("shard"))
    refuse("the folder holds a whole run, not a share of one", "no shard in run.json",
           "analyze --shard I/N makes shares");
  ShardFolder shard{.path = path, .identity = identity_of(there)};
  shard.share = Shard::from_json(run.at("shard"));
  const std::vector<fs::path> states = SavedParts(folder).paths();
  if (states.size() != 1) {
    throw util::input_error({.what = "the saved state of the share is not there",
                             .where = util::in_quotes((folder / "parts").string()),
                             .expected = "one file .state",
                             .found = util::cat(states.size()),
                             .hint = "copy the whole folder of a share, parts/ included"});
  }
  shard.state = states.front();
  return shard;
}

/// All shares of one run, in their order.
std::vector<ShardFolder> all_shards(const std::vector<std::string>& paths) {
  std::vector<ShardFolder> shards;
  for (const std::string& path : paths) shards.push_back(look_at(path));
  std::sort(shards.begin(), shards.end(),
            [](const ShardFolder& a, const ShardFolder& b) { return a.share.index < b.share.index; });
  const std::int64_t count = shards.front().share.count;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    if (shards[i].share.count != count) {
      throw util::usage_error({.what = "shares of different runs",
                               .where = util::in_quotes(shards[i].path),
                               .expected = util::cat("a share of ", count, ", as ", shards.front().path),
                               .found = shards[i].share.text()});
    }
    if (i > 0 && shards[i].share.index == shards[i - 1].share.index) {
      throw util::usage_error(
          {.what = util::cat("share ", shards[i].share.index, " is there twice"),
           .where = util::in_quotes(shards[i - 1].path) + " and " + util::in_quotes(shards[i].path),
           .expected = "each share once"});
    }
  }
  if (static_cast<std::int64_t>(shards.size()) < count) {
    std::vector<std::string> missing;
    std::size_t next = 0;
    for (std::int64_t index = 0; index < count; ++index) {
      if (next < shards.size() && shards[next].share.index == index) {
        ++next;
      } else if (missing.size() < 20) {
        missing.push_back(std::to_string(index));
      }
    }
    throw util::usage_error({.what = "shares are missing",
                             .where = "merge",
                             .expected = util::cat("all ", count, " shares"),
                             .found = util::cat(shards.size(), "; missing: ", util::join(missing, ", "))});
  }
  return shards;
}

OrderedJson volatile_json(const std::vector<ShardFolder>& shards,
                          std::chrono::system_clock::time_point started, const Arithmetic& arithmetic,
                          const std::string& out) {
  OrderedJson paths = OrderedJson::array();
  for (const ShardFolder& shard : shards) paths.push_back(shard.path);
  OrderedJson unlike = when_and_where(started);
  unlike["kernels"] = arithmetic.kernels;
  unlike["decode"] =
      name_of(kDecodePrecisions, arithmetic.is_fast ? compute::Precision::kFast : compute::Precision::kExact);
  unlike["merged"] = paths;
  unlike["out"] = out;
  return unlike;
}

/// A context without what shares of one run may differ in: no result depends on it.
OrderedJson comparable(OrderedJson context) {
  context.erase("draws_page");
  return context;
}

}  // namespace

void merge(const std::vector<std::string>& paths, const OutputOptions& out) {
  const auto started = std::chrono::system_clock::now();
  const std::vector<ShardFolder> shards = all_shards(paths);
  for (const ShardFolder& shard : shards) {
    std::error_code ignored;
    if (!fs::equivalent(shard.path, out.out, ignored)) continue;
    throw util::usage_error({.what = "the result would replace a share",
                             .where = "--out " + out.out,
                             .expected = "another folder than those of the shares"});
  }
  SavedParts::check_own(out.out);
  report::RunFolder folder(
      out.out, out.overwrite ? report::RunFolder::Mode::kOverwrite : report::RunFolder::Mode::kNew);
  const FolderLock lock(out.out);

  OrderedJson run, identity, context_json;
  bool draws_page = true;  // as the first share says
  tables::State state;
  PartSet parts;
  Arithmetic arithmetic;
  std::vector<RecordSegment> records;
  util::Progress progress("merging", "shares", static_cast<std::int64_t>(shards.size()));
  for (const ShardFolder& shard : shards) {
    SavedState saved = SavedParts::read(shard.state);
    const std::string where = util::in_quotes(shard.path);
    const SavedDescription& description = saved.description;
    if (description.share != shard.share) {
      throw util::format_error({.what = "the saved state is of another share",
                                .where = saved.path.string(),
                                .expected = shard.share.text(),
                                .found = text_of(description.share)});
    }
    if (const std::string difference = difference_of(shard.identity, identity_of(description.run));
        !difference.empty()) {
      throw util::usage_error({.what = "run.json and the saved state of a share are of different runs",
                               .where = where,
                               .found = "different " + difference,
                               .hint = "do that share again, with --overwrite"});
    }
    if (run.is_null()) {
      run = description.run;
      identity = identity_of(run);
      draws_page = description.context.value("draws_page", true);
      context_json = comparable(description.context);
    }
    std::string difference = difference_of(identity, identity_of(description.run));
    if (difference.empty()) difference = difference_of(context_json, comparable(description.context));
    if (!difference.empty()) {
      throw util::usage_error({.what = "shares of different runs",
                               .where = where,
                               .expected = "the same model, lenses, inputs, settings and version as " +
                                           util::in_quotes(shards.front().path),
                               .found = "different " + difference});
    }
    if (parts.overlaps(saved.parts))
      throw util::format_error({.what = "two shares hold the same part of the run", .where = where});
    parts.add(saved.parts);
    arithmetic.add(description.arithmetic);
    state.merge(saved.state, where);
    for (RecordSegment segment : saved.records) {
      segment.file = (saved.path.parent_path() / segment.file).string();
      records.push_back(std::move(segment));
    }
    progress.advance(1);
  }
  progress.finish();
  context_json["draws_page"] = draws_page;
  const util::Json parsed(context_json);
  const RunContext context = RunContext::from_json({parsed, "the saved state of " + shards.front().path});
  if (parts.size() != context.num_parts) {
    throw util::format_error({.what = "parts of the run are missing",
                              .where = "the shares together",
                              .expected = util::cat(context.num_parts, " parts"),
                              .found = util::cat(parts.size())});
  }
  write_run_files(folder, {.run = std::move(run),
                           .context = context,
                           .state = state,
                           .records = std::move(records),
                           .records_folder = {},
                           .unlike = volatile_json(shards, started, arithmetic, out.out)});
  SavedParts(out.out).remove();  // of a run that was replaced
  tell_of(context, state, out.out);
}

}  // namespace depthlens::run
