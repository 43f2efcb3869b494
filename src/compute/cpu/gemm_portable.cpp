// GEMM microkernel with vectors of 16 bytes, which every processor that depthlens is built for has.
#include "compute/cpu/gemm_impl.hpp"

namespace depthlens::compute {

const GemmKernel kPortableGemm = float32_gemm<16, 4, 2>();

}  // namespace depthlens::compute
