// Deals out parts, saves what is done, writes the run folder.
#include "depthlens/run/run.hpp"

#include <algorithm>
#include <chrono>
#include <deque>
#include <exception>
#include <optional>
#include <utility>

#include "depthlens/compute/runtime.hpp"
#include "depthlens/decode/patching.hpp"
#include "depthlens/experiments/patching.hpp"
#include "depthlens/report/patching_records.hpp"
#include "depthlens/report/records.hpp"
#include "depthlens/report/run_folder.hpp"
#include "depthlens/run/own_work.hpp"
#include "depthlens/run/ranks.hpp"
#include "depthlens/run/record_log.hpp"
#include "depthlens/run/saved_parts.hpp"
#include "depthlens/run/session.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "depthlens/util/version.hpp"
#include "run/crew.hpp"
#include "run/host.hpp"
#include "run/run_files.hpp"
#include "run/states_folder.hpp"
#include "run/words.hpp"

namespace depthlens::run {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using util::OrderedJson;

/// When to save: what is lost when a run dies is at most a twelfth of it, and a few minutes; but saving takes
/// no more than a twentieth of the time of short runs, and next to nothing of long ones.
class SavePacing {
 public:
  /// `total`: the work of this process, as far as it is known.
  explicit SavePacing(std::int64_t total) : total_(total), last_(Clock::now()) {}

  void done(std::int64_t weight) { since_ += weight; }

  bool is_due() const {
    constexpr double kMaxSeconds = 120, kTimesCost = 20;
    const double seconds = std::chrono::duration<double>(Clock::now() - last_).count();
    if (seconds > kMaxSeconds) return true;
    return since_ * 12 >= total_ && seconds > kTimesCost * cost_;
  }

  /// Saves, and learns what that costs.
  template <typename Save>
  void save(const Save& save) {
    const auto begin = Clock::now();
    save();
    last_ = Clock::now();
    cost_ = std::chrono::duration<double>(last_ - begin).count();
    since_ = 0;
  }

 private:
  std::int64_t total_;
  std::int64_t since_ = 0;  // work
  Clock::time_point last_;
  double cost_ = 0.02;  // seconds; of the first one it is not known
};

/// Learns the shape of the readouts.
class ShapeListener : public decode::Listener {
 public:
  explicit ShapeListener(decode::ReadoutShape& shape) : shape_(shape) {}
  void begin(const decode::ReadoutShape& shape) override { shape_ = shape; }
  void accept(const decode::PositionReadout& /*position*/) override {}

 private:
  decode::ReadoutShape& shape_;
};

report::RunFolder::Mode mode_of(const OutputOptions& options) {
  using Mode = report::RunFolder::Mode;
  if (options.overwrite) return Mode::kOverwrite;
  return options.resume ? Mode::kResume : Mode::kNew;
}

}  // namespace

struct Run::Job {
  explicit Job(const OutputOptions& given);
  void open_folder();
  void open_folder_of_rank_0();
  void leave(bool fails) {
    if (crew && !is_guest) crew->leave(fails);
  }

  std::optional<std::int64_t> claim();
  void end_part(std::int64_t part, const decode::RunStatistics& statistics);
  void end_parts_before(std::int64_t part);
  void save();
  const OrderedJson& run() const;
  OrderedJson identity() const;
  OrderedJson volatile_json(const Session& session) const;
  void add_arithmetic_of(const Session& session);
  bool leads() const { return !crew || crew->leads(); }
  std::int64_t num_ranks() const { return crew ? crew->ranks().world_size : 1; }
  void check_same(const OrderedJson& other, const std::string& where) const;
  void check_same_share(const std::optional<Shard>& other, const std::string& where) const;
  void take_saved();
  bool is_complete() const;
  /// The parts of the share, or all.
  PartSet of_share() const;
  /// Parts that were done before this process, and the number of their windows.
  std::pair<PartSet, std::int64_t> done_windows() const;
  /// Of a folder that is written: what was saved on the way.
  void clear() const {
    saved->remove();
    folder->remove_leftovers();
  }
  bool take_back();
  void gather();

  OutputOptions options;
  std::chrono::system_clock::time_point started = std::chrono::system_clock::now();
  std::optional<Ranks> ranks;  // of torchrun, which may be one alone
  std::unique_ptr<Crew> crew;  // of several
  std::optional<Shard> share;  // nothing: the whole run
  std::unique_ptr<report::RunFolder> folder;
  std::unique_ptr<FolderLock> lock;
  std::optional<util::Error> why_not_locked;
  std::unique_ptr<SavedParts> saved;

  RunContext context;
  const Plan* plan = nullptr;
  std::function<OrderedJson()> describe;
  std::vector<std::string> warnings;  // when the run began
  mutable OrderedJson run_beginning;

  tables::State state;
  std::unique_ptr<RunCounts> counts;
  std::unique_ptr<RecordLog> records;
  PartSet done;
  Arithmetic arithmetic;
  std::vector<std::int64_t> to_do;
  std::int64_t own_weight = 0;  // to do in this process: ranks share it, about alike
  std::int64_t next_to_do = 0;
  std::deque<std::int64_t> claimed;
  std::deque<std::int64_t> lost;  // claimed by this rank before it died, and not saved
  std::optional<SavePacing> pacing;
  std::string states_folder;  // of the process that made it ready; "": none
  PreparedStates states;
  bool complete = false;  // before anything was done
  bool stopped = false, was_saved = false;
  bool is_restart = false;  // torchrun's: goes on with what it finds of this run
  bool is_guest = false;  // a rank that comes back, and may be none: nothing that it does concerns the others
};

Run::Job::Job(const OutputOptions& given) : options(given), ranks(torchrun_ranks()) {
  const bool are_several = ranks && ranks->world_size > 1;
  if (!options.shard.empty()) {
    if (are_several) {
      throw util::usage_error({.what = "ranks of torchrun share the work out among themselves",
                               .where = "--shard " + options.shard,
                               .expected = "no share"});
    }
    share = parse_shard(options.shard);
  }
  if (are_several) crew = std::make_unique<Crew>(*ranks);
  is_guest = crew && crew->is_back();
  try {
    if (leads()) {
      open_folder();
    } else {
      open_folder_of_rank_0();
    }
  } catch (const util::Error&) {
    leave(/*fails=*/true);
    throw;
  }
  saved = std::make_unique<SavedParts>(options.out);
}

/// Rank 0's, or that of a process that is alone.
void Run::Job::open_folder() {
  // Under torchrun a restart goes on by itself: one that its agent counts, and one by a new start.
  const bool begun = util::exists(fs::path(options.out) / "parts");
  is_restart = crew ? crew->goes_on() : ranks && ranks->restart > 0;
  if (ranks && !options.overwrite && (is_restart || begun)) options.resume = true;
  SavedParts::check_own(options.out);
  folder = std::make_unique<report::RunFolder>(options.out, mode_of(options));
  try {
    lock = std::make_unique<FolderLock>(options.out);
  } catch (const util::Error& error) {
    // A complete run may stand where nothing can be written, or where another process is to replace it.
    if (!options.resume || !folder->holds_whole_run()) throw;
    why_not_locked = error;
  }
  if (crew) crew->set_folder(lock ? lock->text() : "cannot be written");
}

/// Whether the folder was free, rank 0 has found out.
void Run::Job::open_folder_of_rank_0() {
  const std::string of_rank_0 = crew->folder();
  const bool is_there = crew->is_written() ? util::exists(fs::path(options.out) / report::kRunFile)
                                           : of_rank_0 == FolderLock::text_in(options.out);
  if (is_guest && !is_there) {
    throw util::usage_error({.what = "the ranks that answer are at another run",
                             .where = "--out " + options.out,
                             .expected = "the folder of rank 0",
                             .hint = "choose another MASTER_PORT for this run"});
  }
  folder = std::make_unique<report::RunFolder>(options.out, report::RunFolder::Mode::kResume);
  try {
    lock = std::make_unique<FolderLock>(options.out, "parts", util::cat("lock-", crew->ranks().rank));
  } catch (const util::Error&) {
    if (!folder->holds_whole_run()) throw;  // as rank 0 does
  }
}

const OrderedJson& Run::Job::run() const {
  if (run_beginning.is_null()) {
    run_beginning = describe();
    OrderedJson all = warnings;
    if (run_beginning.contains("warnings"))
      all.insert(all.end(), run_beginning["warnings"].begin(), run_beginning["warnings"].end());
    run_beginning["warnings"] = std::move(all);
  }
  return run_beginning;
}

/// With the parts that it is cut into.
OrderedJson Run::Job::identity() const {
  OrderedJson identity = identity_of(run());
  identity["plan"] = context.plan;
  return identity;
}

void Run::Job::check_same(const OrderedJson& other, const std::string& where) const {
  const std::string difference = difference_of(identity_of(other), identity_of(run()));
  if (difference.empty()) return;
  throw util::usage_error({.what = "what the folder holds is of another run",
                           .where = where,
                           .expected = "the same model, lenses, inputs, settings and version",
                           .found = "different " + difference,
                           .hint = "run it with what it was begun with, or replace it with --overwrite"});
}

void Run::Job::check_same_share(const std::optional<Shard>& other, const std::string& where) const {
  if (other == share) return;
  throw util::usage_error({.what = "what the folder holds is of another share",
                           .where = where,
                           .expected = text_of(share),
                           .found = text_of(other)});
}

/// Takes over what was saved: by this run before it was interrupted. What is there of a run that is to be
/// replaced stays until this one saves something.
void Run::Job::take_saved() {
  std::vector<SavedState> states;
  if (options.overwrite && !is_restart) {
    saved->absorb_all();
  } else {
    states = saved->read();
  }
  if (options.overwrite) {  // a restart's: what there is of this run is gone on with
    const auto is_own = [&](const SavedState& one) {
      return difference_of(identity_of(one.description.run), identity_of(run())).empty();
    };
    const auto others = std::stable_partition(states.begin(), states.end(), is_own);
    saved->absorb({std::make_move_iterator(others), std::make_move_iterator(states.end())});
    states.erase(others, states.end());
  }
  // Of states that contain one another, as an interruption between two steps leaves them, the largest counts.
  std::stable_sort(states.begin(), states.end(),
                   [](const SavedState& a, const SavedState& b) { return a.parts.size() > b.parts.size(); });
  std::vector<RecordSegment> segments;
  for (const SavedState& one : states) {
    const SavedDescription& other = one.description;
    check_same(other.run, util::in_quotes(one.path.string()));
    if (other.context.value("plan", "") != context.plan) {
      throw util::usage_error({.what = "what the folder holds was cut into other parts",
                               .where = util::in_quotes(one.path.string()),
                               .expected = "a run that this build of depthlens has begun",
                               .hint = "replace it with --overwrite"});
    }
    check_same_share(other.share, util::in_quotes(one.path.string()));
    if (done.overlaps(one.parts)) continue;
    state.merge(one.state, one.path.string());
    done.add(one.parts);
    arithmetic.add(other.arithmetic);
    segments.insert(segments.end(), one.records.begin(), one.records.end());
  }
  saved->absorb(states);
  was_saved = !states.empty();
  records = std::make_unique<RecordLog>(saved->new_records(), context.records.most,
                                        data::is_task(context.input), std::move(segments));
}

/// Whether the folder holds this run from beginning to end. Throws a usage error where it holds another.
bool Run::Job::is_complete() const {
  const fs::path path = folder->path() / report::kRunFile;
  const bool has_saved = !saved->paths().empty();
  if (!util::exists(path) || (has_saved && !to_do.empty())) return false;
  const OrderedJson there = report::read_run_json(folder->path());
  // This run was to replace another one, and came to its end but for that.
  if ((has_saved || options.overwrite) && !difference_of(identity_of(there), identity_of(run())).empty())
    return false;
  check_same(there, util::in_quotes(path.string()));
  const util::Json document(there);
  const util::JsonView view(document, path.string());
  if (!report::is_complete(view)) return false;
  std::optional<Shard> of_folder;
  if (view.has("shard")) of_folder = Shard::from_json(view.at("shard"));
  check_same_share(of_folder, util::in_quotes(path.string()));
  return true;
}

PartSet Run::Job::of_share() const {
  return share ? run::share(*plan, share->index, share->count) : PartSet(0, plan->num_parts() - 1);
}

std::pair<PartSet, std::int64_t> Run::Job::done_windows() const {
  if (!complete) return {done, counts->counts[RunCounts::kWindows]};
  const util::Json run(report::read_run_json(folder->path()));
  const util::JsonView counted(run, (folder->path() / report::kRunFile).string());
  return {of_share(), counted.at("counts").at("windows").as_integer(0, INT64_MAX)};
}

/// A rank other than 0: takes over what it saved before it died and was started again, and claims again what
/// it lost. False where it had done its part.
bool Run::Job::take_back() {
  std::vector<RecordSegment> segments;
  if (crew->is_back()) {
    crew->end_part();  // none, but something happens
    if (crew->is_written()) {
      // It wrote the folder, or another rank did, which is still at its end.
      if (crew->is_writer()) clear();
      return false;
    }
    if (crew->has_ended(crew->ranks().rank) && !(crew->have_all_ended() && crew->is_writer())) return false;
    const std::vector<std::int64_t> own = crew->own_claims(static_cast<std::int64_t>(to_do.size()));
    const std::string name = crew->saved();
    if (!name.empty() && util::exists(saved->folder() / name)) {
      SavedState before = SavedParts::read(saved->folder() / name);
      state.merge(before.state, before.path.string());
      done.add(before.parts);
      arithmetic.add(before.description.arithmetic);
      segments = before.records;
      std::vector<SavedState> states;
      states.push_back(std::move(before));
      saved->absorb(states);
      was_saved = true;
    }
    for (const std::int64_t i : own) {
      const std::int64_t part = to_do[static_cast<std::size_t>(i)];
      if (!done.contains(part)) lost.push_back(part);
    }
    util::log_info(util::cat("rank ", crew->ranks().rank, " is back: ", lost.size(), " of the ", own.size(),
                             " parts that it had begun are done again"));
  }
  records = std::make_unique<RecordLog>(saved->new_records(), context.records.most,
                                        data::is_task(context.input), std::move(segments));
  return true;
}

/// Adds what the other ranks, which have all ended, have done.
void Run::Job::gather() {
  for (int rank = 0; rank < crew->ranks().world_size; ++rank) {
    if (rank == crew->ranks().rank) continue;
    const std::string name = crew->state_of(rank);
    const SavedState other =
        util::read_back([&] { return saved->read_when_there(name, Crew::kTimeout, util::interrupted); });
    DEPTHLENS_ASSERT(!done.overlaps(other.parts));
    state.merge(other.state, other.path.string());
    done.add(other.parts);
    arithmetic.add(other.description.arithmetic);
    records->add_segments(other.records);
  }
  DEPTHLENS_ASSERT(done.size() == plan->num_parts());
}

std::optional<std::int64_t> Run::Job::claim() {
  if (!lost.empty()) {
    claimed.push_back(lost.front());
    lost.pop_front();
    return claimed.back();
  }
  const auto count = static_cast<std::int64_t>(to_do.size());
  const std::optional<std::int64_t> next = crew                 ? crew->claim(count)
                                           : next_to_do < count ? std::optional(next_to_do++)
                                                                : std::nullopt;
  if (!next) return std::nullopt;
  claimed.push_back(to_do[static_cast<std::size_t>(*next)]);
  return claimed.back();
}

/// Parts that had nothing to show.
void Run::Job::end_parts_before(std::int64_t part) {
  while (!claimed.empty() && claimed.front() != part) {
    done.add(claimed.front());
    claimed.pop_front();
  }
}

void Run::Job::end_part(std::int64_t part, const decode::RunStatistics& statistics) {
  counts->counts.add(RunCounts::kWindows, statistics.windows);
  counts->counts.add(RunCounts::kTokens, statistics.tokens);
  counts->counts.add(RunCounts::kPositions, statistics.positions);
  counts->counts.add(RunCounts::kSelfChecked, statistics.self_checked_positions);
  counts->self_check.add(0, statistics.final_layer_max_abs_error);
  state.commit();
  records->commit();
  end_parts_before(part);
  DEPTHLENS_ASSERT(!claimed.empty());
  claimed.pop_front();
  done.add(part);
  if (crew) crew->end_part();
  pacing->done(plan->weight(part));
  if (pacing->is_due()) save();
}

void Run::Job::save() {
  pacing->save([&] {
    records->save();
    saved->save(state, done, records->segments(),
                {.run = run(), .context = context.json(), .share = share, .arithmetic = arithmetic});
  });
  if (crew) crew->set_saved(saved->own_state().filename().string());
  was_saved = true;
}

void Run::Job::add_arithmetic_of(const Session& session) {
  const OrderedJson told = session.describe_arithmetic();
  arithmetic.add({.kernels = {told.at("kernel").get<std::string>()},
                  .is_fast = told.at("decode") == name_of(kDecodePrecisions, compute::Precision::kFast)});
}

OrderedJson Run::Job::volatile_json(const Session& session) const {
  OrderedJson unlike = when_and_where(started);
  unlike["threads"] = compute::num_threads();
  unlike.update(session.describe_arithmetic());
  if (arithmetic.kernels.size() > 1) unlike["kernels"] = arithmetic.kernels;
  if (arithmetic.is_fast) unlike["decode"] = name_of(kDecodePrecisions, compute::Precision::kFast);
  if (crew) unlike["ranks"] = crew->ranks().world_size;
  unlike["out"] = options.out;
  return unlike;
}

Run::Run(const OutputOptions& options) : job_(std::make_unique<Job>(options)) {}

Run::~Run() {
  const Job& job = *job_;
  // Other ranks and shares may be about to save theirs.
  if (std::uncaught_exceptions() > exceptions_ && !job.states.run.empty() && !job.crew && !job.share) {
    try {
      give_back_states_folder(job.states.run, job.states_folder);
    } catch (const std::exception&) {
      // The error that is on its way counts.
    }
  }
  job_->leave(/*fails=*/std::uncaught_exceptions() > exceptions_);
}

OrderedJson describe_run(const Session& session, const RunInputs& inputs) {
  return {{"schema_version", report::kSchemaVersion},
          {"model", session.describe_model()},
          {"tokenizer", session.describe_tokenizer()},
          {"lenses", session.describe_lenses()},
          {"inputs", inputs_json(inputs.files)},
          {"depthlens", {{"version", DEPTHLENS_VERSION}, {"libtorch", compute::libtorch_version()}}}};
}

ModelOptions Run::on_this_rank(ModelOptions model, bool threads_given) const {
  model.should_stop = util::interrupted;
  if (!job_->crew) return model;
  const Ranks& ranks = job_->crew->ranks();
  // Of others the cards are not counted, for which their driver begins its work.
  const int visible = model.device == "cuda" ? compute::num_cuda_devices() : 0;
  model.device = device_of_rank(model.device, ranks, visible);
  if (!threads_given) {
    const int threads = threads_of_rank(ranks);
    compute::set_threads(threads);
    util::log_info(util::cat("rank ", ranks.rank, " of ", ranks.world_size, ": ", counted(threads, "thread"),
                             ", its share of the cores"));
  }
  return model;
}

fs::path Run::spool_folder() const {
  std::error_code ignored;
  return (fs::absolute(job_->options.out, ignored) / "").parent_path().parent_path();
}

fs::path Run::open_states(const std::string& folder) {
  Job& job = *job_;
  if (job.leads()) {
    const bool has_done_parts = job.complete || !job.done.empty();
    job.states_folder = folder;
    job.states = prepare_states_folder(folder, job.identity(), has_done_parts, job.options.overwrite);
    if (has_done_parts) {
      const auto [parts, windows] = job.done_windows();
      check_done_states(folder, *job.plan, parts, windows);
    }
    if (job.crew) job.crew->set_states_ready();
  } else {
    job.crew->await_states();
  }
  util::create_folders(folder);
  return folder;
}

RunContext& Run::context() {
  return job_->context;
}

experiments::Context Run::experiment_context(const data::Task* task) {
  return job_->context.of(job_->state, task);
}

bool Run::begin(RunContext context, const Source& source, std::function<OrderedJson()> run) {
  Job& job = *job_;
  const Plan& plan = source.plan();
  job.context = std::move(context);
  job.context.num_documents = source.inputs().documents;
  job.context.dropped = source.inputs().dropped;
  job.context.num_parts = plan.num_parts();
  job.context.plan = plan.digest();
  job.plan = &plan;
  job.describe = std::move(run);
  job.warnings = util::warnings();
  if (job.leads()) {
    job.take_saved();
    job.to_do = job.done.missing(job.of_share());
    job.complete = (job.options.resume || job.is_restart) && job.is_complete();
    if (job.crew) job.crew->set_complete(job.complete);
    if (job.complete) {
      util::log_info("the run is complete: " + job.options.out);
      util::set_work_done();
      // Left where an end came between the last steps. Without the lock it is another process's.
      if (!job.share && job.lock) job.clear();
      return false;
    }
    if (job.why_not_locked) throw util::Error(*job.why_not_locked);
    if (job.crew) job.crew->agree(job.identity(), job.done);
  } else {
    if (job.crew->is_complete()) return false;
    job.to_do = job.crew->agree(job.identity(), {}).missing(job.of_share());
  }
  const bool has_work = job.leads() || job.take_back();
  job.is_guest = false;
  if (!has_work) return false;
  job.counts = std::make_unique<RunCounts>(job.state);
  if (!job.done.empty()) {
    util::log_info(util::cat("going on: ", job.done.size(), " of ",
                             job.done.size() + static_cast<std::int64_t>(job.to_do.size()),
                             " parts are done"));
  }
  job.own_weight =
      own_share(job.to_do, job.num_ranks(), [&](std::int64_t part) { return plan.weight(part); });
  job.pacing.emplace(job.own_weight);
  return true;
}

void Run::decode(const Session& session, QuerySource& source, std::vector<decode::LensGroup> more_groups,
                 const data::Task* task, const fs::path& save_states) {
  Job& job = *job_;
  job.add_arithmetic_of(session);
  ShapeListener shape(job.context.shape);
  const auto experiments = job.context.make_experiments(job.context.of(job.state, task));
  std::vector<decode::Listener*> listeners = {&shape};
  for (const auto& experiment : experiments) listeners.push_back(experiment.get());
  std::unique_ptr<report::RecordWriter> writer;
  if (job.context.records.write) {
    writer = std::make_unique<report::RecordWriter>(
        report::RecordOptions{.top_k = job.context.records.top_k,
                              .task = task,
                              .watch = &job.context.watch,
                              .fields = job.context.records.fields},
        [&](decode::TokenId id) { return session.tokenizer().token_text(id); },
        [&](std::string_view line, std::int64_t item) { job.records->add(line, item); },
        [&] { return job.records->wants(); });
    listeners.push_back(writer.get());
  }

  std::optional<std::int64_t> part;  // whose queries are given out
  bool gave_some = false;            // of the part, since all that was given had been shown
  const decode::QuerySource pull = [&](decode::Query& query) {
    while (true) {
      if (!part) {
        part = job.claim();
        if (!part) return false;
        source.begin_part(*part);
        gave_some = false;
      }
      if (source.next(query)) {
        query.part = *part;
        gave_some = true;
        return true;
      }
      // The engine asks once more when it has shown them all.
      if (source.may_ask_again() && std::exchange(gave_some, false)) return false;
      part.reset();
    }
  };
  std::optional<std::int64_t> shown_part;
  const auto accepts = [&](const decode::PositionReadout& position) {
    if (shown_part != position.query().part) {
      shown_part = position.query().part;
      job.records->begin_part(*shown_part);
    }
    if (!source.accepts(position, *job.counts)) return false;
    job.counts->counts.add(RunCounts::kShown);
    return true;
  };

  util::Progress progress(source.doing(), "positions",
                          units_of_weight(*job.plan, job.own_weight, source.num_positions()));
  decode::EngineOptions options;
  options.more_groups = std::move(more_groups);
  options.save_states = save_states;
  options.on_progress = [&](std::int64_t positions) { progress.advance(positions); };
  options.should_stop = util::interrupted;
  options.accepts = accepts;
  options.on_part_end = [&](std::int64_t ended, const decode::RunStatistics& statistics) {
    job.end_part(ended, statistics);
  };
  options.layers = job.context.shape.layers;
  const decode::RunStatistics statistics =
      decode::Engine(session.model(), session.lenses(), std::move(options)).run(pull, listeners);
  job.stopped = statistics.stopped;
  if (!job.stopped) {  // else what was kept of it is told, which is less
    progress.finish();
    job.end_parts_before(-1);
    source.check_unchanged();
  }
}

void Run::patch(const Session& session, PairsSource& source) {
  Job& job = *job_;
  job.add_arithmetic_of(session);
  job.context.shape.num_rows = session.spec().num_layers + 1;
  experiments::PatchingEffect effect(job.state, job.context.shape.num_rows, job.context.seed);
  std::optional<report::PatchingRecords> records;
  if (job.context.records.write) {
    records.emplace([&](decode::TokenId id) { return session.tokenizer().token_text(id); },
                    [&](std::string_view line) { job.records->add(line); });
  }
  util::Progress progress("patching", "pairs", own_share(job.to_do, job.num_ranks(), [&](std::int64_t part) {
                            const auto [first, end] = source.items_of(part);
                            return static_cast<std::int64_t>(end - first);
                          }));
  decode::Patcher patcher(session.model(),
                          {.predicted_only = !job.context.keeps_all, .should_stop = util::interrupted});
  while (const std::optional<std::int64_t> part = job.claim()) {
    const auto [first, end] = source.items_of(*part);
    job.records->begin_part(*part);
    decode::RunStatistics of_part;
    for (std::size_t i = first; i < end; ++i) {
      const data::PairItem& item = source.task().items[i];
      const auto result = patcher.patch(item.pair, i == first && decode::is_self_checked(*part));
      const decode::RunStatistics of_pair = patcher.take_statistics();
      if (of_pair.stopped) {
        job.stopped = true;
        break;
      }
      of_part.add(of_pair);
      if (result) {
        job.counts->counts.add(RunCounts::kShown);
        effect.add(item, *result);
        if (records && job.records->wants()) records->accept(item, *result);
      } else {
        job.counts->dropped.add(static_cast<std::size_t>(data::Drop::kPairNotPredicted));
      }
      progress.advance(1);
    }
    if (job.stopped) break;
    job.end_part(*part, of_part);
  }
  if (!job.stopped) progress.finish();
}

std::vector<tables::Table> Run::finish(const Session& session) {
  Job& job = *job_;
  if (job.stopped) {
    job.state.drop_pending();
    job.records->drop_pending();
    if (job.options.overwrite && job.done.empty()) {
      util::log_warning("stopped before anything was finished; " + job.options.out + " is as it was" +
                        (job.states.replaced ? ", without its states in " + job.states_folder : ""));
      throw util::interrupted_error();
    }
  }
  const bool keeps = job.crew || job.share;
  if (job.stopped || keeps || job.was_saved) job.save();
  if (job.crew) {
    if (job.stopped) throw util::interrupted_error();
    job.crew->check_failures();
    // Others may be at their last parts still; who ends last writes the folder.
    job.crew->set_ended(job.saved->own_state().filename().string());
    if (!job.crew->have_all_ended() || !job.crew->is_writer()) {
      if (job.leads() && !job.crew->ranks().store_is_hosted) job.crew->await_end(job.options.out);
      return {};
    }
    job.gather();
  }
  const std::string stopped_after =
      util::cat("stopped after ", counted(job.counts->counts[RunCounts::kPositions], "position"), "; ",
                job.options.out, " holds ");
  if (job.stopped && util::read_back([&] { return job.folder->holds_whole_run(); })) {
    util::log_warning(stopped_after +
                      "the run that was to be replaced, and what was finished of this one; --resume goes on");
    throw util::interrupted_error();
  }
  job.records->flush();
  const std::vector<tables::Table> tables = util::read_back([&] {
    return write_run_files(*job.folder, {.run = job.run(),
                                         .context = job.context,
                                         .state = job.state,
                                         .records = job.records->segments(),
                                         .records_folder = job.saved->folder(),
                                         .partial = job.stopped,
                                         .share = job.share,
                                         .unlike = job.volatile_json(session)});
  });
  if (job.stopped) {
    util::log_warning(stopped_after + "what was finished (status partial); --resume goes on");
    throw util::interrupted_error();
  }
  if (job.crew) job.crew->set_written();
  if (!job.share) job.clear();
  tell_of(job.context, job.state, job.options.out);
  if (!job.states.run.empty()) check_still_states_of(job.states.run, job.states_folder);
  return tables;
}

}  // namespace depthlens::run
