// GEMM microkernel, compiled for AVX2 and FMA: 12 of 16 registers hold sums.
#include "compute/cpu/gemm_impl.hpp"

namespace depthlens::compute {

const GemmKernel kAvx2Gemm = float32_gemm<32, 6, 2>();

}  // namespace depthlens::compute
