// The computing library as seen from above: threads, devices, version.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string>

namespace depthlens::compute {

/// Threads of one operation; call once, before any computation. Results do not depend on it.
void set_threads(int threads);
int num_threads();

/// Throws std::system_error where the system does not allow so many at once: libgomp would end the program
/// without a word of ours.
void require_threads();

/// Calls use(i) for 0 ≤ i < count on all threads, in inference mode, each by one thread alone: libtorch's
/// operations in it are shared out among no others, and so round alike whatever stands beside them.
void for_each_by_one_thread(std::int64_t count, const std::function<void(std::int64_t i)>& use);

/// Gives memory that was freed back to the system. Tensors of many sizes come and go with every batch, and
/// what lies between those in use would grow with the corpus.
void release_free_memory();

/// CUDA devices that can be used; 0 with a CPU build of libtorch.
int num_cuda_devices();

/// A device of that name which the process itself has registered with libtorch (PrivateUse1).
std::optional<at::Device> registered_device(const std::string& name);

std::string libtorch_version();

/// Whether it says that a device's memory did not suffice, so that less of it may do.
bool is_out_of_device_memory(const std::exception& error);
/// Whether it says that memory, the host's or a device's, did not suffice.
bool is_out_of_memory(const std::exception& error);

/// Gives back what libtorch holds of a card's memory for tensors to come: drivers and libraries that take
/// memory of their own do not find it there. Waits for the device.
void release_device_memory(c10::Device device);

/// Does `work`, and where the device's memory does not suffice all of it again after `shrink`, which is to
/// make less of it: until that returns false, there being no less. Then the error goes on.
void retry_with_less(c10::Device device, const std::function<void()>& work,
                     const std::function<bool()>& shrink);

}  // namespace depthlens::compute
