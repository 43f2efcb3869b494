// Which instruction set serves this processor.
#include "depthlens/model/arithmetic.hpp"

#include <cstdlib>
#include <vector>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "model/products/products.hpp"

namespace depthlens::model {

/// To add one: write its products under products/, add one line here.
std::vector<Arithmetic> usable_arithmetics([[maybe_unused]] Precision precision) {
  std::vector<Arithmetic> all;
#ifdef DEPTHLENS_X86
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  const bool amx = avx512 && amx_is_usable();
  // AMX multiplies bfloat16 so fast that three products of it take less time than one of float32. AVX-512
  // BF16 is twice as fast as float32: one product pays, two or three do not.
  const bool exact = precision == Precision::kExact;
  const int parts = exact ? 2 : 1;
  if (amx) all.push_back({"amx-bf16", Vectors::kAvx512, &kAmxProducts, parts});
  if (!exact && bf16) all.push_back({"avx512-bf16", Vectors::kAvx512, &kAvx512Bfloat16Products});
  if (avx512) all.push_back({"avx512", Vectors::kAvx512, &kAvx512Products});
  if (avx2) all.push_back({"avx2", Vectors::kAvx2, &kAvx2Products});
#endif
  all.push_back({"portable", Vectors::kPortable, &kPortableProducts});
  all.push_back({"aten", Vectors::kPortable, nullptr});
#ifdef DEPTHLENS_X86
  // Never the fastest, but what they are made of can so be run and tested without AMX.
  if (exact && bf16) all.push_back({"avx512-bf16", Vectors::kAvx512, &kAvx512Bfloat16Products, parts});
#endif
  return all;
}

Arithmetic cpu_arithmetic(Precision precision) {
  const char* wish = std::getenv("DEPTHLENS_KERNEL");
  std::vector<std::string> usable;
  for (const Arithmetic& choice : usable_arithmetics(precision)) {
    if (wish == nullptr || choice.name == wish) return choice;
    usable.push_back(choice.name);
  }
  throw util::usage_error({.what = "no such kernel",
                           .where = "environment variable DEPTHLENS_KERNEL",
                           .expected = "one that this processor runs: " + util::join(usable, ", "),
                           .found = util::in_quotes(wish)});
}

}  // namespace depthlens::model
