// The computing library as seen from above: threads, devices, version.
#pragma once

#include <string>

#include "depthlens/decode/engine.hpp"

namespace depthlens::decode {

/// Threads of one operation; call once, before any computation. Results do not depend on it.
void set_threads(int threads);
int num_threads();

/// Gives memory that was freed back to the system. Tensors of many sizes come and go with every batch, and
/// what lies between those in use would grow with the corpus.
void release_free_memory();

/// CUDA devices that can be used; 0 with a CPU build of libtorch.
int num_cuda_devices();

std::string libtorch_version();

/// The decoding kernel for this processor, or the one that the environment variable DEPTHLENS_KERNEL names.
/// Throws a usage error where it names none that runs here.
std::string cpu_kernel_name(Precision precision = Precision::kExact);

}  // namespace depthlens::decode
