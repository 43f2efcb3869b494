// Ranks out of the environment that torchrun makes, and out of others.
#include "depthlens/run/ranks.hpp"

#include <map>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "unit/run/made_up_environment.hpp"

namespace depthlens::test {
namespace {

using run::torchrun_ranks;
using Variables = std::map<std::string, std::string>;

/// What torchrun sets for the third of four ranks on two machines.
Variables torchrun_variables() {
  return {{"RANK", "2"},
          {"WORLD_SIZE", "4"},
          {"LOCAL_RANK", "0"},
          {"LOCAL_WORLD_SIZE", "2"},
          {"MASTER_ADDR", "node-a"},
          {"MASTER_PORT", "29500"},
          {"TORCHELASTIC_RESTART_COUNT", "3"},
          {"TORCHELASTIC_RUN_ID", "job-7"},
          {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
}

Variables with(const std::string& name, const std::string& value) {
  Variables variables = torchrun_variables();
  variables[name] = value;
  return variables;
}

Variables without(const std::string& name) {
  Variables variables = torchrun_variables();
  variables.erase(name);
  return variables;
}

void check_refused(const Variables& variables, const std::vector<std::string>& parts) {
  check_error(util::ErrorCode::kUsage, parts, [&] { torchrun_ranks(made_up(variables)); });
}

}  // namespace

TEST_CASE("torchrun's variables become ranks") {
  const auto ranks = torchrun_ranks(made_up(torchrun_variables()));
  REQUIRE(ranks);
  CHECK(ranks->rank == 2);
  CHECK(ranks->world_size == 4);
  CHECK(ranks->local_rank == 0);
  CHECK(ranks->local_world_size == 2);
  CHECK(ranks->restart == 3);
  CHECK(ranks->run_id == "job-7");
  CHECK(ranks->master_address == "node-a");
  CHECK(ranks->master_port == 29500);
  CHECK(ranks->store_is_hosted);
}

TEST_CASE("a process that nobody gave a rank is alone") {
  CHECK_FALSE(torchrun_ranks(made_up({})));
  CHECK_FALSE(torchrun_ranks(made_up(without("RANK"))));
  CHECK_FALSE(torchrun_ranks(made_up(without("WORLD_SIZE"))));
  CHECK_FALSE(torchrun_ranks(made_up({{"RANK", "0"}, {"WORLD_SIZE", "1"}})));
  CHECK_FALSE(torchrun_ranks(made_up({{"RANK", ""}, {"WORLD_SIZE", ""}})));
}

TEST_CASE("a script may set the four variables that matter") {
  const auto ranks = torchrun_ranks(made_up({{"RANK", "1"},
                                             {"WORLD_SIZE", "2"},
                                             {"MASTER_ADDR", "127.0.0.1"},
                                             {"MASTER_PORT", "1234"},
                                             {"SLURM_LOCALID", "1"}}));
  REQUIRE(ranks);
  CHECK(ranks->local_rank == 1);
  CHECK(ranks->local_world_size == 1);
  CHECK(ranks->restart == 0);
  CHECK_FALSE(ranks->store_is_hosted);
}

TEST_CASE("variables that make no sense are named") {
  check_refused(with("RANK", "4"), {"RANK is not below WORLD_SIZE", "0 to 3", "found 4"});
  check_refused(with("RANK", "-1"), {"RANK", "'-1'"});
  check_refused(with("RANK", "two"), {"RANK", "whole number", "'two'"});
  check_refused(with("WORLD_SIZE", "0"), {"WORLD_SIZE", "'0'"});
  check_refused(with("LOCAL_RANK", "2"), {"LOCAL_RANK is not below LOCAL_WORLD_SIZE"});
  check_refused(without("MASTER_PORT"), {"MASTER_PORT is not set"});
  check_refused(with("MASTER_PORT", "70000"), {"MASTER_PORT", "65535", "'70000'"});
  check_refused(without("MASTER_ADDR"), {"MASTER_ADDR is not set"});
}

TEST_CASE("a rank takes its card, or its share of a list of cards") {
  run::Ranks ranks;
  ranks.local_rank = 1;
  ranks.local_world_size = 2;
  CHECK(run::device_of_rank("cpu", ranks, 8) == "cpu");
  CHECK(run::device_of_rank("cuda", ranks, 8) == "cuda:1");
  CHECK(run::device_of_rank("cuda:0", ranks, 8) == "cuda:0");
  CHECK(run::device_of_rank("cuda:0,cuda:1", ranks, 8) == "cuda:1");
  CHECK(run::device_of_rank("cuda:3,cuda:2,cuda:1,cuda:0", ranks, 8) == "cuda:1,cuda:0");
  check_error(util::ErrorCode::kUsage, {"--device cuda:0,cuda:1,cuda:2", "a multiple of 2 cards", "found 3"},
              [&] { run::device_of_rank("cuda:0,cuda:1,cuda:2", ranks, 8); });
  CHECK(run::device_of_rank("cuda", ranks, 1) == "cuda:1");  // which is not there, as will be said

  ranks.local_world_size = 1;  // nobody said how many there are
  CHECK(run::device_of_rank("cuda", ranks, 8) == "cuda:1");
  CHECK(run::device_of_rank("cuda", ranks, 1) == "cuda:0");
  CHECK(run::device_of_rank("cuda:0,cuda:1,cuda:2", ranks, 8) == "cuda:0,cuda:1,cuda:2");
}

TEST_CASE("a machine's cores are divided among its ranks, and each has one") {
  run::Ranks ranks;
  const int all = run::threads_of_rank(ranks);
  CHECK(all >= 1);
  ranks.local_world_size = 2;
  CHECK(run::threads_of_rank(ranks) == std::max(all / 2, 1));
  ranks.local_world_size = 100000;
  CHECK(run::threads_of_rank(ranks) == 1);
}

}  // namespace depthlens::test
