// Threads, memory and devices of the computing library.
#include "depthlens/compute/runtime.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <mutex>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "depthlens/util/text.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/devices.hpp"

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
  bool of_device = false;
  const auto is_of_memory = [&](const auto& action) {
    try {
      action();
    } catch (const std::exception& error) {
      of_device = compute::is_out_of_device_memory(error);
      return compute::is_out_of_memory(error);
    }
    throw std::logic_error("nothing was thrown");
  };
  CHECK(is_of_memory([] { throw std::bad_alloc(); }));
  CHECK_FALSE(of_device);
  CHECK(is_of_memory([] { throw std::system_error(ENOMEM, std::generic_category()); }));
  CHECK_FALSE(is_of_memory([] { throw std::system_error(EAGAIN, std::generic_category()); }));
  CHECK(is_of_memory([] { at::empty({std::int64_t{1} << 55}, at::kByte); }));
  CHECK_FALSE(of_device);
  CHECK(is_of_memory([] { TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory"); }));
  CHECK(of_device);
  // As the CUDA runtime, of pinned memory too, and cuBLAS say it.
  CHECK(is_of_memory([] { TORCH_CHECK(false, "CUDA error: out of memory\nCUDA kernel errors might be"); }));
  CHECK(is_of_memory([] { TORCH_CHECK(false, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"); }));
  CHECK(of_device);
  // Of a handle, for which there was no memory.
  const char* const of_handle =
      "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`";
  CHECK(is_of_memory([&] { TORCH_CHECK(false, of_handle); }));
  CHECK_FALSE(
      is_of_memory([] { TORCH_CHECK(false, "CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasGemm"); }));
  CHECK_FALSE(is_of_memory([] { throw std::runtime_error("CUDA error: out of memory"); }));
  CHECK_FALSE(is_of_memory([] { TORCH_CHECK(false, "another"); }));
}

TEST_CASE("a list of devices gives a backend for each, in its order") {
  for (const std::string& placement : test::placements()) {
    if (placement == test::kCardArithmetic) continue;
    INFO(placement);
    std::vector<std::string> devices;
    for (const auto& backend : test::backends_on(placement)) devices.push_back(backend->device().str());
    std::vector<std::string> expected;
    for (const std::string& name : util::split(placement, ','))
      expected.push_back(name == "cpu" || name.find(':') != std::string::npos ? name : name + ":0");
    CHECK(devices == expected);
  }
  const auto refused = [](const std::string& list, const std::vector<std::string>& parts) {
    INFO(list);
    test::check_error(util::ErrorCode::kUsage, parts, [&] { test::backends_on(list); });
  };
  refused("cpu,cpu", {"named twice", "--device cpu,cpu"});
  refused("cuda,cuda:0", {"named twice", "cuda:0"});
  refused("cpu,", {"an empty entry", "--device cpu,"});
  refused(",cpu", {"an empty entry"});
  refused("", {"unknown device", "''"});
  refused("cpu,gpu", {"unknown device", "'gpu'"});
  refused("cpu,cuda:127", {"no such device", "--device cuda:127"});
}

}  // namespace
}  // namespace depthlens
