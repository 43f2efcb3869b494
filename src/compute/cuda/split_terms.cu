// Splits numbers into terms of bfloat16 (split_terms.hpp) in one reading. Compiled at run time; no host
// headers.
#include "bfloat16.hpp"

namespace depthlens::compute::cuda {

/// Mirrored in kernels.hpp.
struct SplitWork {
  const void* numbers;
  unsigned short* terms;  // [num_terms, count]
  long long count;        // a multiple of 4; places are aligned to 4 numbers
  int num_terms;
  int type;  // 0: float32, 1: float16, 2: bfloat16
};

__device__ inline float from_float16(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

extern "C" __global__ void __launch_bounds__(256) depthlens_split_terms(const SplitWork work) {
  const long long step = 4LL * 256 * gridDim.x;
  for (long long i = 4LL * (blockIdx.x * 256LL + threadIdx.x); i < work.count; i += step) {
    float x[4];
    if (work.type == 0) {
      const float4 four = *reinterpret_cast<const float4*>(static_cast<const float*>(work.numbers) + i);
      x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
    } else {
      const ushort4 four =
          *reinterpret_cast<const ushort4*>(static_cast<const unsigned short*>(work.numbers) + i);
      const unsigned short bits[4] = {four.x, four.y, four.z, four.w};
      for (int k = 0; k < 4; ++k)
        x[k] = work.type == 1 ? from_float16(bits[k]) : __uint_as_float(static_cast<unsigned>(bits[k]) << 16);
    }
    for (int term = 0; term < work.num_terms; ++term) {
      unsigned pairs[2];
      take_term(x, pairs);
      *reinterpret_cast<uint2*>(work.terms + term * work.count + i) = make_uint2(pairs[0], pairs[1]);
    }
  }
}

}  // namespace depthlens::compute::cuda
