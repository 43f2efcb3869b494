// How this processor multiplies: the table of instruction sets, of which one is chosen when the program runs.
#pragma once

#include <string>
#include <vector>

namespace depthlens::model {

struct PanelProducts;

/// `kFast`: products of low precision where the processor makes them faster.
enum class Precision { kExact, kFast };

/// For loops that are compiled for several instruction sets.
enum class Vectors { kPortable, kAvx2, kAvx512 };

struct Arithmetic {
  std::string name;  ///< by which DEPTHLENS_KERNEL chooses it
  Vectors vectors;
  const PanelProducts* products;  ///< nullptr: libtorch's
  /// Products of bfloat16: how many parts each number is taken in (of weights no more than they need). One
  /// keeps 8 bits, two 16, three all 24 of a float32.
  int parts = 1;
};

/// All that this processor runs, the fastest first.
std::vector<Arithmetic> usable_arithmetics(Precision precision);

/// The fastest for this processor, or the one that the environment variable DEPTHLENS_KERNEL names. Throws a
/// usage error where it names none that runs here.
Arithmetic cpu_arithmetic(Precision precision = Precision::kExact);

}  // namespace depthlens::model
