// The computing library as seen from above. The one file that may depend on libtorch's version.
#include "depthlens/compute/runtime.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <malloc.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

namespace depthlens::compute {

void require_threads() {
  std::atomic<bool> all_there = false;
  std::vector<std::jthread> probes;
  const struct Release {
    std::atomic<bool>& now;
    ~Release() {
      now = true;
      now.notify_all();
    }
  } release{all_there};
  for (int i = 1; i < num_threads(); ++i) probes.emplace_back([&] { all_there.wait(false); });
}

void set_threads(int threads) {
  at::set_num_threads(threads);
  // TF32 would take float32 products far from float32; parts of long sums are put together in float32, too.
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowBF16ReductionCuBLAS(false);
  at::globalContext().setAllowFP16ReductionCuBLAS(false);
  // cuDNN plans its attention anew for every length of a window.
  at::globalContext().setSDPUseCuDNN(false);
  // oneDNN keeps what it compiled for each shape of a product, by default of 1,024 shapes. Batches differ in
  // their number of rows, so that memory would grow with the corpus. A batch itself needs about a dozen.
  constexpr int kKeepWhatTheUserSet = 0;
  ::setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32", kKeepWhatTheUserSet);
}

int num_threads() {
  return at::get_num_threads();
}

void for_each_by_one_thread(std::int64_t count, const std::function<void(std::int64_t i)>& use) {
  std::atomic<std::int64_t> next = 0;
  // Two threads at least: what one does that is alone would be shared out.
  at::parallel_for(0, std::max(2, at::get_num_threads()), 1, [&](std::int64_t, std::int64_t) {
    const c10::InferenceMode inference;  // a setting of each thread
    for (std::int64_t i = next++; i < count; i = next++) use(i);
  });
}

void release_free_memory() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

int num_cuda_devices() {
  if (!at::hasCUDA()) return 0;
  return static_cast<int>(at::detail::getCUDAHooks().deviceCount());
}

std::optional<at::Device> registered_device(const std::string& name) {
  if (!c10::is_privateuse1_backend_registered()) return std::nullopt;
  const std::string registered = c10::get_privateuse1_backend();
  if (name != registered && name != registered + ":0") return std::nullopt;
  return at::Device(at::kPrivateUse1, 0);
}

std::string libtorch_version() {
  return TORCH_VERSION;
}

namespace {

/// Of the host's memory, pinned memory included, and of cuBLAS' own libtorch says so in words only.
bool says(const std::exception& error, std::string_view words) {
  return dynamic_cast<const c10::Error*>(&error) != nullptr &&
         std::string_view(error.what()).find(words) != std::string_view::npos;
}

}  // namespace

bool is_out_of_device_memory(const std::exception& error) {
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         says(error, "CUDA error: out of memory") || says(error, "CUBLAS_STATUS_ALLOC_FAILED") ||
         // A handle of its own, which each thread makes at its first product.
         says(error, "CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate");
}

bool is_out_of_memory(const std::exception& error) {
  const auto* const of_system = dynamic_cast<const std::system_error*>(&error);
  return dynamic_cast<const std::bad_alloc*>(&error) != nullptr || is_out_of_device_memory(error) ||
         (of_system != nullptr && of_system->code() == std::errc::not_enough_memory) ||
         says(error, "DefaultCPUAllocator: can't allocate memory");
}

void release_device_memory(c10::Device device) {
  if (!device.is_cuda()) return;
  if (c10::DeviceAllocator* const allocator = c10::getDeviceAllocator(device.type());
      allocator->initialized())
    allocator->emptyCache();
}

void retry_with_less(c10::Device device, const std::function<void()>& work,
                     const std::function<bool()>& shrink) {
  for (;;) {
    try {
      return work();
    } catch (const std::exception& error) {
      if (!is_out_of_device_memory(error) || !shrink()) throw;
    }
    release_device_memory(device);  // after what the work held has gone
  }
}

}  // namespace depthlens::compute
