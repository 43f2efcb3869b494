// GEMM microkernel, compiled for AVX-512: 24 of 32 registers hold sums.
#include "compute/cpu/gemm_impl.hpp"

namespace depthlens::compute {

const GemmKernel kAvx512Gemm = float32_gemm<64, 8, 3>();

}  // namespace depthlens::compute
