// A text → prompts → sums of Jacobians → their mean as a lens; and the sums of shards → the lens.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>
#include <vector>

#include "depthlens/data/corpus.hpp"
#include "depthlens/lens/lens_file.hpp"
#include "depthlens/lens/provenance.hpp"
#include "depthlens/run/saved_parts.hpp"
#include "depthlens/run/session.hpp"
#include "depthlens/run/training.hpp"
#include "depthlens/train/file_names.hpp"
#include "depthlens/train/jacobian.hpp"
#include "depthlens/train/lens_folder.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/input_file.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "run/training_files.hpp"
#include "run/words.hpp"

namespace depthlens::run {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using util::OrderedJson;

/// With the SHA-256 of files that were not read to their end. A pipe is left as it is, and has none.
std::vector<data::InputSummary> with_digests(std::vector<data::InputSummary> inputs) {
  for (data::InputSummary& input : inputs) {
    if (!input.sha256.empty() || !util::can_be_read_again(input.path)) continue;
    util::InputFile file(input.path);
    input.sha256 = util::InputReader(file).finish();
  }
  return inputs;
}

/// Prompts, and what they were read from.
struct PromptText {
  std::vector<train::Prompt> prompts;
  std::vector<data::InputSummary> inputs;
  std::int64_t limit = 0;  ///< documents; 0: all
};

/// The first windows of the text that are long enough to count.
PromptText read_prompts(const InputOptions& input, std::int64_t num_prompts, const Session& session) {
  const train::JacobianFitter fitter(session.model(), {});
  data::Corpus corpus(input.inputs, session.tokenizer(), input.limit);
  std::vector<train::Prompt> prompts;
  const auto wanted = static_cast<std::size_t>(num_prompts);
  while (prompts.size() < wanted) {  // what is not needed is not read, nor counted
    const auto document = corpus.next();
    if (!document) break;
    session.check_in_vocabulary(document->tokens);
    for (const auto& window : data::cut_into_windows(document->tokens, session.max_length(), session.bos())) {
      train::Prompt prompt(window.begin(), window.end());
      if (prompts.size() < wanted && fitter.long_enough(prompt)) prompts.push_back(std::move(prompt));
    }
  }
  if (prompts.size() == wanted)
    return {.prompts = std::move(prompts), .inputs = with_digests(corpus.summaries()), .limit = input.limit};
  const std::int64_t least = train::JacobianOptions().skip_first + 2;
  if (session.max_length() < least) {
    throw util::input_error({.what = "no window is long enough for a Jacobian",
                             .expected = util::cat(least, " tokens or more"),
                             .found = util::cat("windows of ", session.max_length(), " tokens"),
                             .hint = "a greater --max-length, where the model allows it"});
  }
  throw util::input_error(
      {.what = "too few prompts in the text",
       .where = place_of(input.inputs),
       .expected = util::cat(num_prompts, " windows of ", least, " to ", session.max_length(), " tokens"),
       .found = std::to_string(prompts.size()),
       .hint = "more text, or fewer --prompts"});
}

/// Every N-th prompt, from number I.
std::vector<train::Prompt> share_of(const std::vector<train::Prompt>& prompts, const Shard& shard) {
  std::vector<train::Prompt> share;
  for (auto i = static_cast<std::size_t>(shard.index); i < prompts.size();
       i += static_cast<std::size_t>(shard.count))
    share.push_back(prompts[i]);
  if (static_cast<std::size_t>(shard.count) <= prompts.size()) return share;
  throw util::usage_error(
      {.what = "there are more shards than prompts",
       .where = util::cat("--shard ", shard.index, "/", shard.count),
       .expected = util::cat("at most ", prompts.size(), " shards, one for each of --prompts")});
}

/// Fits over the shard's share of the prompts, with a line of progress.
train::JacobianSums fit_share(const Session& session, const std::vector<train::Prompt>& all,
                              const Shard& shard, const OutputOptions& output) {
  const std::vector<train::Prompt> prompts = share_of(all, shard);
  const util::FinishOnInterrupt finish;
  util::Progress progress("fitting", "rows",
                          static_cast<std::int64_t>(prompts.size()) * session.spec().hidden_size);
  std::optional<std::int64_t> done;
  train::JacobianFit fit;
  fit.folder = output.out;
  fit.shard = shard.index;
  fit.num_shards = shard.count;
  fit.list_digest = train::prompts_digest(all);
  fit.model_files_digest = model_files_digest(session);
  fit.resume = output.resume;
  fit.overwrite = output.overwrite;
  fit.progress = [&](const train::JacobianProgress& at) {
    const std::int64_t rows = at.prompt * at.num_rows + at.rows_done;
    progress.set_note(util::cat("prompt ", at.prompt + 1, " of ", at.num_prompts));
    if (!done) progress.skip(rows);  // resumed
    progress.advance(rows - done.value_or(rows));
    done = rows;
  };
  train::JacobianSums sums = train::fit_jacobians(session.model(), prompts, fit);
  progress.finish();
  if (shard.count > 1) util::set_work_done();
  return sums;
}

/// A fit at its end.
struct Fitted {
  const Session& session;
  const ModelOptions& model;
  const train::JacobianSums& sums;
  const PromptText* text = nullptr;  ///< null for sums that were joined, which do not tell it
  Clock::time_point started = {};
  std::vector<fs::path> superseded = {};  ///< of another fit in the folder: they go
};

/// What the lens was made of and how.
OrderedJson settings_json(const Fitted& fitted) {
  OrderedJson settings = {{"type", "jacobian"}, {"prompts", fitted.sums.num_prompts}};
  if (fitted.text != nullptr) {
    settings["max_length"] = fitted.session.max_length();
    settings["bos"] = fitted.session.describe_bos();
  }
  settings["dtype"] = name_of(kDtypes, fitted.model.dtype);
  if (fitted.text != nullptr) settings["limit"] = fitted.text->limit;
  settings["data_digest"] = fitted.sums.fit.list_digest;
  return settings;
}

/// Whether the folder holds the lens of that fit: the record is written last. Throws where it is of another.
bool holds_lens(const fs::path& folder, const Fitted& fitted) {
  const fs::path path = folder / train::kJacobianRecord, file = folder / train::kJacobianLens;
  if (!util::exists(path) || !util::exists(file)) return false;
  OrderedJson record;
  std::optional<lens::StoredJacobianLens> lens;
  try {
    record = util::parse_ordered_json(util::read_file(path, util::kMaxSettingsFile), path.string());
    lens = lens::read_jacobian_lens(file);
  } catch (const util::Error&) {
    return false;  // damaged: written again
  }
  if (!record.is_object() || record.value("settings", OrderedJson()) != settings_json(fitted) ||
      record.value("model", OrderedJson()) != fitted.session.describe_model())
    return false;
  train::require_recorded(record, *lens, file.string());
  return true;
}

/// Writes the lens, and then the record beside it.
void write_lens(const fs::path& folder, const Fitted& fitted) {
  const train::JacobianSums& sums = fitted.sums;
  const Session& session = fitted.session;
  const lens::StoredJacobianLens lens = train::jacobian_lens(sums, provenance_of(fitted.model, session));
  if (!lens.jacobians.empty() && lens.jacobians.begin()->second.scalar_type() == at::kFloat)
    util::log_warning("a mean Jacobian passes the range of float16: the lens is stored in float32");
  std::error_code ignored;
  fs::remove(folder / train::kJacobianRecord, ignored);  // of a lens before: with it a lens is whole
  lens::write_jacobian_lens_archive(folder / train::kJacobianLens, lens);
  for (const fs::path& file : fitted.superseded) fs::remove(file, ignored);
  OrderedJson record =
      training_json(session, fitted.text != nullptr ? fitted.text->inputs : std::vector<data::InputSummary>(),
                    settings_json(fitted), compute::Precision::kFloat32, fitted.started);
  if (fitted.text == nullptr) record.erase("inputs");
  record[train::kLensDigest] = lens::lens_digest(lens);
  write_last_file(folder / train::kJacobianRecord, record);
  util::log_info(util::cat("the lens, the mean over ", counted(sums.num_prompts, "prompt"), ", is ",
                           (folder / train::kJacobianLens).string()));
}

}  // namespace

void fit_jacobian_lens(const ModelOptions& model, const InputOptions& input, const OutputOptions& output,
                       const JacobianFitting& fitting) {
  const auto started = Clock::now();
  Session session(model);
  session.load();
  const PromptText text = read_prompts(input, fitting.prompts, session);
  const fs::path folder = output.out;
  lens::check_replaceable(folder / train::kJacobianLens);
  // A fit or a lens that is there is told of below.
  if (!util::exists(folder / train::kJacobianSums) && !util::exists(folder / train::kJacobianLens)) {
    require_none({folder / train::kJacobianRecord, folder / train::kJacobianConvergence}, output.overwrite);
  }
  const FolderLock lock(output.out, "");
  util::remove_leftovers(output.out);
  const train::JacobianSums sums = fit_share(session, text.prompts, fitting.shard, output);
  const Shard& shard = fitting.shard;
  if (shard.count > 1) {  // the mean over a share would pass for the lens
    util::log_info(util::cat("the sums of shard ", shard.index, " of ", shard.count, " are in ", output.out,
                             "; join all by --from-sums"));
    return;
  }
  const Fitted fitted = {.session = session, .model = model, .sums = sums, .text = &text, .started = started};
  if (output.resume && holds_lens(output.out, fitted)) {
    util::log_info("the fit is complete: " + output.out);
    util::set_work_done();
    return;
  }
  write_lens(output.out, fitted);
}

void join_jacobian_sums(const ModelOptions& model, const std::vector<std::string>& sums,
                        const OutputOptions& output) {
  const auto started = Clock::now();
  Session session(model);
  const fs::path folder = output.out;
  // Another fit that is there could go on beside a lens that is not its own.
  std::error_code ignored;
  const fs::path own_sums = folder / train::kJacobianSums;
  const bool are_joined = std::any_of(sums.begin(), sums.end(), [&](const std::string& path) {
    return fs::equivalent(path, own_sums, ignored);
  });
  std::vector<fs::path> of_another;
  if (!are_joined) of_another = {own_sums, folder / train::kJacobianConvergence};
  require_none({folder / train::kJacobianLens, folder / train::kJacobianRecord}, output.overwrite);
  require_none(of_another, output.overwrite);
  std::vector<train::JacobianSums> parts;
  for (const std::string& path : sums) parts.push_back(train::load_jacobian_sums(path));
  const train::JacobianSums joined = train::merge_jacobian_sums(parts);
  train::require_all_shards(joined);
  session.load();
  if (joined.fit.model_fingerprint != lens::model_fingerprint(session.model()) ||
      joined.fit.model_files_digest != model_files_digest(session))
    throw util::usage_error({.what = "the sums were made with another model", .where = sums.front()});
  if (const std::string dtype = at::toString(session.model().dtype()); dtype != joined.fit.dtype) {
    throw util::usage_error({.what = "the sums were made in another arithmetic",
                             .where = sums.front(),
                             .expected = dtype,
                             .found = joined.fit.dtype,
                             .hint = "give the --dtype that the shards were fitted with"});
  }
  util::create_folders(folder);
  const FolderLock lock(output.out, "");
  util::remove_leftovers(folder);
  write_lens(folder, {.session = session,
                      .model = model,
                      .sums = joined,
                      .started = started,
                      .superseded = std::move(of_another)});
}

}  // namespace depthlens::run
