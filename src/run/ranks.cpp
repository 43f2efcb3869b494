// What torchrun says in the environment, and the cores a rank may use.
#include "depthlens/run/ranks.hpp"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "run/variables.hpp"

namespace depthlens::run {
namespace {

std::string text_of(const Environment& environment, const char* name) {
  const char* text = environment(name);
  return text == nullptr ? "" : text;
}

int int_of(const Environment& environment, const char* name, int least, int fallback) {
  return static_cast<int>(number_of(environment, name, least).value_or(fallback));
}

util::Error contradiction(const std::string& what, const std::string& expected, const std::string& found) {
  return util::usage_error({.what = what,
                            .where = "the environment of torchrun",
                            .expected = expected,
                            .found = found,
                            .hint = "Outside torchrun, unset RANK and WORLD_SIZE."});
}

/// Cores that the affinity mask leaves to this process.
int cores_by_affinity() {
  // More than CPU_SETSIZE cores need a larger set; the call then fails, and all cores count.
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(CPU_COUNT(&set), 1);
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

/// Cores' worth of time that the control groups of version 2 allow, from this process's own up to the root.
std::optional<double> cores_by_quota() {
  std::ifstream own("/proc/self/cgroup");
  std::string line, path;
  while (std::getline(own, line))
    if (line.rfind("0::", 0) == 0) path = line.substr(3);
  std::optional<double> least;
  for (;;) {
    if (path == "/") path.clear();
    std::ifstream file("/sys/fs/cgroup" + path + "/cpu.max");
    std::string quota;
    double period = 0;
    // "max 100000" parses as no number: no limit at this level.
    if (file >> quota >> period && quota != "max" && period > 0) {
      const double cores = std::atof(quota.c_str()) / period;
      if (cores > 0 && (!least || cores < *least)) least = cores;
    }
    if (path.empty()) return least;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

}  // namespace

Environment process_environment() {
  return [](const char* name) -> const char* { return std::getenv(name); };
}

std::optional<Ranks> torchrun_ranks(const Environment& environment) {
  const auto rank = number_of(environment, "RANK", 0);
  const auto world_size = number_of(environment, "WORLD_SIZE", 1);
  if (!rank || !world_size) return std::nullopt;
  Ranks ranks;
  ranks.master_address = text_of(environment, "MASTER_ADDR");
  if (*world_size == 1 && ranks.master_address.empty()) return std::nullopt;
  ranks.rank = static_cast<int>(*rank);
  ranks.world_size = static_cast<int>(*world_size);
  if (ranks.rank >= ranks.world_size)
    throw contradiction("RANK is not below WORLD_SIZE", util::cat("0 to ", ranks.world_size - 1),
                        util::cat(ranks.rank));
  if (ranks.master_address.empty())
    throw contradiction("MASTER_ADDR is not set", "the address of rank 0's machine", "nothing");
  const auto port = number_of(environment, "MASTER_PORT", 1, 65535);
  if (!port) throw contradiction("MASTER_PORT is not set", "a port from 1 to 65535", "nothing");
  ranks.master_port = static_cast<int>(*port);
  // Scripts that set the ranks themselves leave these out; srun then gives each task its own cores.
  ranks.local_rank = int_of(environment, "LOCAL_RANK", 0, int_of(environment, "SLURM_LOCALID", 0, 0));
  ranks.local_world_size = int_of(environment, "LOCAL_WORLD_SIZE", 1, 1);
  if (environment("LOCAL_WORLD_SIZE") != nullptr && ranks.local_rank >= ranks.local_world_size)
    throw contradiction("LOCAL_RANK is not below LOCAL_WORLD_SIZE",
                        util::cat("0 to ", ranks.local_world_size - 1), util::cat(ranks.local_rank));
  ranks.restart = int_of(environment, "TORCHELASTIC_RESTART_COUNT", 0, 0);
  ranks.run_id = text_of(environment, "TORCHELASTIC_RUN_ID");
  ranks.store_is_hosted = text_of(environment, "TORCHELASTIC_USE_AGENT_STORE") == "True";
  return ranks;
}

std::string device_of_rank(const std::string& device, const Ranks& ranks, int visible) {
  const bool alone = visible == 1 && ranks.local_world_size == 1;
  if (device == "cuda") return util::cat(device, ":", alone ? 0 : ranks.local_rank);
  const std::vector<std::string> cards = util::split(device, ',');
  const auto here = static_cast<std::size_t>(ranks.local_world_size);
  if (cards.size() < 2 || here < 2) return device;
  if (cards.size() % here != 0) {
    throw util::usage_error({.what = "the cards cannot be shared evenly among the ranks of a machine",
                             .where = "--device " + device,
                             .expected = util::cat("a multiple of ", here, " cards"),
                             .found = util::cat(cards.size())});
  }
  const auto share = static_cast<std::ptrdiff_t>(cards.size() / here);
  const auto first = cards.begin() + share * ranks.local_rank;
  return util::join({first, first + share}, ",");
}

int threads_of_rank(const Ranks& ranks) {
  int cores = cores_by_affinity();
  if (const auto quota = cores_by_quota())
    cores = std::min(cores, std::max(static_cast<int>(std::lround(*quota)), 1));
  return std::max(cores / std::max(ranks.local_world_size, 1), 1);
}

}  // namespace depthlens::run
