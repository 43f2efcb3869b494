// Checks that both tensor formats share.
#include "tensor_layout.hpp"

#include <algorithm>
#include <string_view>

#include "depthlens/util/error.hpp"

namespace depthlens::io {

bool count_elements(const std::vector<std::int64_t>& shape, std::uint64_t& count) {
  std::int64_t product = 1;
  for (const std::int64_t size : shape) {
    if (size != 0 && __builtin_mul_overflow(product, size, &product)) return false;
  }
  const bool empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
  count = empty ? 0 : static_cast<std::uint64_t>(product);
  return true;
}

std::vector<std::int64_t> contiguous_strides(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<std::int64_t>(shape[i], 1);
  }
  return strides;
}

void refuse_lfs_pointer(const util::MappedFile& file) {
  constexpr std::string_view kPointer = "version https://git-lfs";
  const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
  if (bytes.substr(0, kPointer.size()) != kPointer) return;
  throw util::format_error({.what = "no weights in " + util::in_quotes(file.path().string()),
                            .found = "a git-lfs pointer",
                            .hint = "run `git lfs pull` in the folder to get the file itself"});
}

}  // namespace depthlens::io
