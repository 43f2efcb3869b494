// The value of --shard, and how Slurm tells a task which of how many it is.
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/run/ranks.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/ranges.hpp"
#include "depthlens/util/text.hpp"
#include "run/variables.hpp"

namespace depthlens::run {
namespace {

constexpr char kFlag[] = "--shard";
constexpr std::int64_t kMaxShares = std::numeric_limits<int>::max();
constexpr char kByHand[] = "Without Slurm, or for part of an array, give the share by hand: --shard I/N.";

util::Error missing(const std::string& name, const std::string& beside) {
  return util::usage_error({.what = name + " is not set",
                            .where = "--shard auto",
                            .expected = "it beside " + beside,
                            .hint = kByHand});
}

/// One share of a Slurm array; nothing outside one.
std::optional<Shard> array_shard(const Environment& environment) {
  constexpr char kId[] = "SLURM_ARRAY_TASK_ID", kMin[] = "SLURM_ARRAY_TASK_MIN",
                 kMax[] = "SLURM_ARRAY_TASK_MAX", kCount[] = "SLURM_ARRAY_TASK_COUNT",
                 kStep[] = "SLURM_ARRAY_TASK_STEP";
  const auto id = number_of(environment, kId, 0);
  if (!id) return std::nullopt;
  const auto count = number_of(environment, kCount, 1);
  if (!count) throw missing(kCount, kId);
  const std::int64_t least = number_of(environment, kMin, 0).value_or(0);
  const std::int64_t step = number_of(environment, kStep, 1).value_or(1);
  const std::int64_t last = least + (*count - 1) * step;
  const std::int64_t most = number_of(environment, kMax, 0).value_or(last);
  const bool regular =
      (most - least) / step + 1 == *count && *id >= least && *id <= last && (*id - least) % step == 0;
  if (regular) return Shard{.index = (*id - least) / step, .count = *count};
  throw util::usage_error(
      {.what = "the tasks of this Slurm array are not evenly numbered",
       .where = "--shard auto",
       .expected = util::cat(*count, " tasks from ", least, " to ", last, " in steps of ", step),
       .found = util::cat("task ", *id, " of an array up to ", most),
       .hint = "An array such as --array=0-7 has no gaps. To do some shares again, give each by "
               "hand, with the N of the first start: --shard I/N."});
}

/// One share of the tasks that one `srun` started; nothing outside one.
std::optional<Shard> step_shard(const Environment& environment) {
  constexpr char kId[] = "SLURM_PROCID", kCount[] = "SLURM_NTASKS", kStepCount[] = "SLURM_STEP_NUM_TASKS";
  const auto id = number_of(environment, kId, 0);
  if (!id) return std::nullopt;
  // The tasks of this very step, where Slurm says so: the job may have been given more.
  const auto of_step = number_of(environment, kStepCount, 1);
  const auto count = of_step ? of_step : number_of(environment, kCount, 1);
  if (!count) return std::nullopt;
  if (*id >= *count)
    throw util::usage_error({.what = "Slurm's variables contradict each other",
                             .where = "--shard auto",
                             .expected = util::cat(kId, " below the number of tasks, ", *count),
                             .found = util::cat(*id)});
  // A job's batch script is task 0 of a step of its own, whatever number of tasks the job has.
  const bool is_batch_script =
      *id == 0 && environment("SLURM_JOB_ID") != nullptr && environment("SLURM_STEP_ID") == nullptr;
  if (!of_step && *count > 1 && is_batch_script)
    throw util::usage_error(
        {.what = util::cat("the job has ", *count, " tasks but started one process"),
         .where = "--shard auto",
         .hint = util::cat("Start it by srun, which runs a process a task: srun depthlens …. ", kByHand)});
  return Shard{.index = *id, .count = *count};
}

Shard automatic_shard(const Environment& environment) {
  const auto array = array_shard(environment);
  if (!array) {
    const auto step = step_shard(environment);
    if (step) return *step;
    throw util::usage_error({.what = "no Slurm array and no Slurm step to take the share from",
                             .where = "--shard auto",
                             .expected = "SLURM_ARRAY_TASK_ID, or SLURM_PROCID and SLURM_NTASKS, to be set",
                             .hint = kByHand});
  }
  // Within an array only a step that srun started holds several of our processes.
  const bool in_step =
      environment("SLURM_STEP_NUM_TASKS") != nullptr || environment("SLURM_STEP_ID") != nullptr;
  const auto step = in_step ? step_shard(environment) : std::nullopt;
  if (!step) return *array;
  if (step->count > kMaxShares / array->count) {
    throw util::usage_error({.what = "too many shares",
                             .where = "--shard auto",
                             .expected = util::cat("at most ", kMaxShares),
                             .found = util::cat(array->count, " × ", step->count)});
  }
  return {.index = array->index * step->count + step->index, .count = array->count * step->count};
}

}  // namespace

std::string Shard::text() const {
  return util::cat("share ", index, " of ", count);
}

std::string text_of(const std::optional<Shard>& share) {
  return share ? share->text() : "the whole run";
}

util::OrderedJson Shard::json() const {
  return {{"index", index}, {"count", count}};
}

Shard Shard::from_json(const util::JsonView& json) {
  Shard shard;
  shard.count = json.at("count").as_integer(1, kMaxShares);
  shard.index = json.at("index").as_integer(0, shard.count - 1);
  return shard;
}

Shard parse_shard(const std::string& text, const Environment& environment) {
  if (text == "auto") return automatic_shard(environment);
  const std::vector<std::string> parts = util::split(text, '/');
  const auto index = util::parse_index(parts.front()), count = util::parse_index(parts.back());
  if (parts.size() == 2 && index && count && *index < *count && *count <= kMaxShares)
    return {.index = *index, .count = *count};
  throw util::usage_error({.what = "no share of a run",
                           .where = kFlag,
                           .expected = "I/N with 0 ≤ I < N, such as 0/4, or 'auto'",
                           .found = util::in_quotes(text)});
}

}  // namespace depthlens::run
