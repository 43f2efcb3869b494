// Which instruction set serves this processor.
#include "compute/cpu/kernels.hpp"

#include "compute/cpu/gemm.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::compute {

/// To add one: write its microkernel, gemm_NAME.cpp, and add one line here.
std::vector<CpuKernel> usable_kernels([[maybe_unused]] Precision precision) {
  std::vector<CpuKernel> all;
#ifdef DEPTHLENS_X86
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  const bool amx = avx512 && amx_is_usable();
  // AMX multiplies bfloat16 so fast that three products of it take less time than one of float32. AVX-512
  // BF16 is twice as fast as float32: one product pays, two or three do not.
  const bool fast = precision == Precision::kFast;
  const CpuKernel avx512_bf16 = {"avx512-bf16", &kAvx512Bf16Gemm, &kAvx512Statistics, /*splits=*/true};
  if (amx) all.push_back({"amx-bf16", &kAmxGemm, &kAvx512Statistics, /*splits=*/true});
  if (bf16 && fast) all.push_back(avx512_bf16);
  if (avx512) all.push_back({"avx512", &kAvx512Gemm, &kAvx512Statistics});
  if (avx2) all.push_back({"avx2", &kAvx2Gemm, &kAvx2Statistics});
#endif
  all.push_back({"portable", &kPortableGemm, &kPortableStatistics});
  all.push_back({"aten", nullptr, nullptr});
#ifdef DEPTHLENS_X86
  // Never the quickest, but what it is made of can so be run and tested without AMX.
  if (bf16 && !fast) all.push_back(avx512_bf16);
#endif
  return all;
}

CpuKernel choose_kernel(const std::string& name, Precision precision) {
  std::vector<std::string> usable;
  for (const CpuKernel& kernel : usable_kernels(precision)) {
    if (name.empty() || kernel.name == name) return kernel;
    usable.push_back(kernel.name);
  }
  throw util::usage_error({.what = "no such kernel",
                           .where = "environment variable DEPTHLENS_KERNEL",
                           .expected = "one that this processor runs: " + util::join(usable, ", "),
                           .found = util::in_quotes(name)});
}

std::vector<std::string> processor_kernels(Precision precision) {
  std::vector<std::string> names;
  for (const CpuKernel& kernel : usable_kernels(precision)) names.push_back(kernel.name);
  return names;
}

}  // namespace depthlens::compute
