// What each tensor format calls the element types that depthlens reads and writes. Private to the room.
#pragma once

#include <c10/core/ScalarType.h>

#include <string_view>

namespace depthlens::io {

struct DtypeNames {
  at::ScalarType dtype;
  std::string_view safetensors;
  std::string_view torch_storage;  ///< of the module torch; none: it is not read there
};

constexpr DtypeNames kDtypeNames[] = {
    {at::kDouble, "F64", "DoubleStorage"}, {at::kFloat, "F32", "FloatStorage"},
    {at::kHalf, "F16", "HalfStorage"},     {at::kBFloat16, "BF16", "BFloat16Storage"},
    {at::kLong, "I64", "LongStorage"},     {at::kInt, "I32", "IntStorage"},
    {at::kShort, "I16", "ShortStorage"},   {at::kChar, "I8", "CharStorage"},
    {at::kByte, "U8", "ByteStorage"},      {at::kBool, "BOOL", "BoolStorage"},
    {at::kFloat8_e4m3fn, "F8_E4M3", {}},   {at::kFloat8_e8m0fnu, "F8_E8M0", {}},
};

/// The names of `dtype`, or nullptr for one that is neither read nor written.
inline const DtypeNames* names_of(at::ScalarType dtype) {
  for (const DtypeNames& names : kDtypeNames) {
    if (names.dtype == dtype) return &names;
  }
  return nullptr;
}

}  // namespace depthlens::io
