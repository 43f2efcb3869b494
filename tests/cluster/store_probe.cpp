// A stand-in for the program: does parts of made-up work that a counter of the store deals out, one file a
// part, and finds what an earlier start has done on disk. store_test.py starts it by torchrun and kills it.
//
//   store_probe FOLDER NUM_PARTS MILLISECONDS
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "depthlens/run/ranks.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace {

namespace fs = std::filesystem;
using depthlens::util::cat;

void write(const fs::path& path, const std::string& text) {
  const fs::path beside = path.string() + cat(".", ::getpid());
  std::ofstream(beside) << text;
  fs::rename(beside, path);
}

int work(const fs::path& folder, std::int64_t num_parts, std::chrono::milliseconds time_of_part) {
  namespace run = depthlens::run;
  const auto ranks = run::torchrun_ranks();
  if (!ranks) throw depthlens::util::usage_error({.what = "not started by torchrun"});
  write(folder / cat("pid-", ranks->rank), cat(::getpid()));
  const auto store = run::connect_store(*ranks, std::chrono::seconds(120));
  write(folder / cat("start-", ranks->rank, "-", ::getpid()),
        cat("restart ", ranks->restart, " earlier ", store->earlier_starts(), " hosted ",
            ranks->store_is_hosted, " threads ", run::threads_of_rank(*ranks)));
  for (std::int64_t part = 0; (part = store->add("part", 1) - 1) < num_parts;) {
    const fs::path file = folder / cat("part-", part);
    if (fs::exists(file)) continue;
    std::this_thread::sleep_for(time_of_part);
    write(file, cat(ranks->rank));
  }
  // What a rank does last, such as joining the parts, needs all the others to be done.
  store->set(cat("done-", ranks->rank), "");
  if (ranks->rank == 0) {
    for (int rank = 0; rank < ranks->world_size; ++rank) store->get(cat("done-", rank));
    write(folder / "complete", cat(num_parts));
  }
  store->leave();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    return work(argv[1], std::atoll(argv[2]), std::chrono::milliseconds(std::atoll(argv[3])));
  } catch (const depthlens::util::Error& error) {
    std::fprintf(stderr, "store_probe: error: %s\n", error.what());
    return static_cast<int>(error.code());
  }
}
