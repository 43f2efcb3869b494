// Threads and memory of the computing library.
#include "depthlens/compute/runtime.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <mutex>
#include <new>
#include <set>
#include <stdexcept>
#include <thread>

#include "support/catch.hpp"

namespace depthlens {
namespace {

// libtorch's parallel_for needs the right compiler flags.
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

TEST_CASE("memory that does not suffice is told from other errors") {
  const auto is_of_memory = [](const auto& action) {
    try {
      action();
    } catch (const std::exception& error) {
      return compute::is_out_of_memory(error);
    }
    throw std::logic_error("nothing was thrown");
  };
  CHECK(is_of_memory([] { throw std::bad_alloc(); }));
  CHECK(is_of_memory([] { at::empty({std::int64_t{1} << 55}, at::kByte); }));
  CHECK(is_of_memory([] { TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory"); }));
  CHECK_FALSE(is_of_memory([] { throw std::runtime_error("out of memory"); }));
  CHECK_FALSE(is_of_memory([] { TORCH_CHECK(false, "another"); }));
}

}  // namespace
}  // namespace depthlens
