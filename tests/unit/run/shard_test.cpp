// --shard: shares given by hand, and those that Slurm's variables tell.
#include <map>
#include <string>
#include <vector>

#include "depthlens/run/ranks.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "unit/run/made_up_environment.hpp"

namespace depthlens::test {
namespace {

using run::parse_shard;
using run::Shard;
using Variables = std::map<std::string, std::string>;

void check_shard(const Shard& shard, std::int64_t index, std::int64_t count) {
  CHECK(shard.index == index);
  CHECK(shard.count == count);
}

void check_auto(const Variables& variables, std::int64_t index, std::int64_t count) {
  check_shard(parse_shard("auto", made_up(variables)), index, count);
}

void check_refused(const Variables& variables, const std::vector<std::string>& parts) {
  check_error(util::ErrorCode::kUsage, parts, [&] { parse_shard("auto", made_up(variables)); });
}

Variables array(const std::string& id, const std::string& least, const std::string& most,
                const std::string& count, const std::string& step = "1") {
  return {{"SLURM_ARRAY_TASK_ID", id},
          {"SLURM_ARRAY_TASK_MIN", least},
          {"SLURM_ARRAY_TASK_MAX", most},
          {"SLURM_ARRAY_TASK_COUNT", count},
          {"SLURM_ARRAY_TASK_STEP", step}};
}

}  // namespace

TEST_CASE("a share given by hand is I/N") {
  check_shard(parse_shard("0/1", made_up({})), 0, 1);
  check_shard(parse_shard("3/16", made_up({})), 3, 16);
  for (const char* text : {"", "4/4", "-1/4", "1", "1/", "/4", "1/2/3", "1 / 4", "a/b", "0/0", "1/-2", "AUTO",
                           "+1/4", "00/4", "0/04", "0/99999999999999999999", "0/3000000000"}) {
    INFO(text);
    check_error(util::ErrorCode::kUsage, {"--shard", "I/N", "0/4", text},
                [&] { parse_shard(text, made_up({})); });
  }
}

TEST_CASE("a share given by hand does not look at Slurm") {
  check_shard(parse_shard("1/2", made_up(array("x", "y", "z", "w"))), 1, 2);
}

TEST_CASE("a task of a Slurm array knows its share") {
  check_auto(array("2", "0", "3", "4"), 2, 4);
  check_auto(array("1", "1", "8", "8"), 0, 8);
  check_auto(array("8", "0", "12", "4", "4"), 2, 4);
  check_auto(array("7", "7", "7", "1"), 0, 1);
  // Schedulers that leave the step and the last number out, or the first one, which is then 0.
  check_auto({{"SLURM_ARRAY_TASK_ID", "2"}, {"SLURM_ARRAY_TASK_MIN", "0"}, {"SLURM_ARRAY_TASK_COUNT", "4"}},
             2, 4);
  check_auto({{"SLURM_ARRAY_TASK_ID", "2"}, {"SLURM_ARRAY_TASK_COUNT", "3"}}, 2, 3);
}

TEST_CASE("an array that is not evenly numbered is refused, with what to do") {
  check_refused(array("5", "1", "7", "3"),
                {"not evenly numbered", "3 tasks from 1 to 3", "task 5", "up to 7", "--shard I/N"});
  check_refused(array("2", "0", "12", "4", "4"), {"not evenly numbered", "steps of 4", "task 2"});
  check_refused(array("9", "0", "3", "4"), {"task 9"});
}

TEST_CASE("what is missing or no number of an array is named") {
  check_refused({{"SLURM_ARRAY_TASK_ID", "2"}, {"SLURM_ARRAY_TASK_MIN", "0"}},
                {"SLURM_ARRAY_TASK_COUNT is not set", "--shard auto"});
  check_refused({{"SLURM_ARRAY_TASK_ID", "3"}, {"SLURM_ARRAY_TASK_COUNT", "3"}}, {"task 3"});
  check_refused(array("two", "0", "3", "4"), {"SLURM_ARRAY_TASK_ID", "'two'"});
  check_refused(array("2", "0", "3", "0"), {"SLURM_ARRAY_TASK_COUNT", "'0'"});
}

TEST_CASE("a task of a Slurm step knows its share") {
  check_auto({{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "2"}, {"SLURM_STEP_ID", "0"}}, 1, 2);
  check_auto(
      {{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "8"}, {"SLURM_STEP_ID", "3"}, {"SLURM_STEP_NUM_TASKS", "2"}},
      1, 2);
  check_auto({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}}, 0, 1);
  // A scheduler that tells no more than that.
  check_auto({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}}, 0, 2);
  check_auto({{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "2"}, {"SLURM_JOB_ID", "7"}}, 1, 2);
  check_refused({{"SLURM_PROCID", "2"}, {"SLURM_NTASKS", "2"}, {"SLURM_STEP_ID", "0"}},
                {"contradict", "SLURM_PROCID"});
}

TEST_CASE("a batch script with several tasks that starts one process is refused") {
  check_refused({{"SLURM_JOB_ID", "7"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}}, {"4 tasks", "srun"});
}

TEST_CASE("tasks of a step within an array share the array's shares") {
  Variables variables = array("2", "0", "3", "4");
  variables.insert(
      {{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "2"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}});
  check_auto(variables, 5, 8);
  variables = array("2", "0", "3", "4");
  variables.insert({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}});
  check_auto(variables, 2, 4);
  variables = array("0", "0", "2147483646", "2147483647");
  variables.insert(
      {{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "2"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}});
  check_refused(variables, {"too many shares", "at most 2147483647", "2147483647 × 2"});
}

TEST_CASE("without Slurm, auto says what it would have read") {
  check_refused({}, {"SLURM_ARRAY_TASK_ID", "SLURM_PROCID", "--shard I/N"});
}

}  // namespace depthlens::test
