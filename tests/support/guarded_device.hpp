// A device whose memory the host cannot touch, for machines that have no accelerator.
//
// libtorch lets a program register a device of its own. This one, "guarded", computes on the processor, but
// the addresses that its tensors hold are never readable: whoever takes a device tensor's data on the host
// dies by SIGSEGV at that instruction, as with memory of a graphics card. Only copies (`to`, `copy_`, `item`)
// and the device's own operations reach the numbers. Operations refuse tensors of different devices, as
// CUDA's do, and fresh memory holds NaN.
//
// It shows missing transfers and tensors made in the wrong place. It says nothing of speed, of a card's own
// arithmetic, or of work that runs behind the host's back.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

namespace depthlens::test {

/// Its name, for `compute::BackendOptions::device` and `at::Device`. Nothing where there is a card, which
/// takes its place: libtorch's gradients know one kind of accelerator in a process.
std::optional<std::string> guarded_device();

/// What the device has done so far in this process.
struct GuardedCounts {
  std::int64_t operations = 0;  ///< by kernels that read numbers
  std::int64_t bytes_in = 0;    ///< copied from the host
  std::int64_t bytes_out = 0;   ///< copied to the host, but for single numbers (`item`)
};
GuardedCounts guarded_counts();

}  // namespace depthlens::test
