// Loops over rows really run on several threads: libtorch's parallel_for needs the right compiler flags.
#include <ATen/Parallel.h>

#include <mutex>
#include <set>
#include <thread>

#include "depthlens/compute/runtime.hpp"
#include "support/catch.hpp"

namespace depthlens {
namespace {

TEST_CASE("at::parallel_for uses the threads that are set") {
  const int before = compute::num_threads();
  for (const int threads : {1, 2}) {
    compute::set_threads(threads);
    std::mutex mutex;
    std::set<std::thread::id> seen;
    at::parallel_for(0, 2, 1, [&](std::int64_t /*begin*/, std::int64_t /*end*/) {
      const std::lock_guard lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
    CHECK(seen.size() == static_cast<std::size_t>(threads));
  }
  compute::set_threads(before);
}

}  // namespace
}  // namespace depthlens
