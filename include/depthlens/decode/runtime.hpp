// The computing library as seen from above: threads, devices, version.
#pragma once

#include <string>

namespace depthlens::decode {

/// Threads of one operation; call once, before any computation. Results do not depend on it.
void set_threads(int threads);
int num_threads();

/// CUDA devices that can be used; 0 with a CPU build of libtorch.
int num_cuda_devices();

std::string libtorch_version();

}  // namespace depthlens::decode
