// How matrices in 8 bits (FP8) are stored beside the factors of their numbers.
#pragma once

#include <cstdint>
#include <string>

namespace depthlens::io {

/// What the factors of a matrix are called, and what each is of.
struct ScaleForm {
  std::string suffix;  ///< behind the name of the matrix; empty: nothing says that there are any
  std::int64_t rows = 0, columns = 0;  ///< of a tile; 0: a factor is of a row, or of all

  bool operator==(const ScaleForm&) const = default;
};

}  // namespace depthlens::io
