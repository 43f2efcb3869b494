// Writes the safetensors format, as the library of that name lays it out.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <bit>
#include <set>
#include <string_view>

#include "depthlens/io/writers.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"
#include "dtype_names.hpp"

namespace depthlens::io {
namespace {

static_assert(std::endian::native == std::endian::little);  // both formats are

void require_utf8(const std::string& text, const std::string& where) {
  if (util::is_valid_utf8(text)) return;
  throw util::format_error(
      {.what = "text that is not UTF-8 cannot be written", .where = where, .found = util::in_quotes(text)});
}

std::string header_text(const NamedTensors& tensors, const std::map<std::string, std::string>& metadata,
                        const std::string& where) {
  util::OrderedJson header = util::OrderedJson::object();
  for (const auto& [key, value] : metadata) {
    require_utf8(key, where + ": __metadata__");
    require_utf8(value, where + ": __metadata__: " + key);
    header["__metadata__"][key] = value;
  }
  std::int64_t end = 0;
  std::set<std::string> seen;
  for (const auto& [name, tensor] : tensors) {
    require_utf8(name, where);
    DEPTHLENS_ASSERT(name != "__metadata__" && seen.insert(name).second);
    const DtypeNames* names = names_of(tensor.scalar_type());
    if (names == nullptr) {
      throw util::format_error({.what = "tensors of this type cannot be written",
                                .where = where + ": " + name,
                                .found = at::toString(tensor.scalar_type())});
    }
    const std::int64_t begin = end;
    end += static_cast<std::int64_t>(tensor.nbytes());
    header[name] = {
        {"dtype", names->safetensors}, {"shape", tensor.sizes().vec()}, {"data_offsets", {begin, end}}};
  }
  constexpr std::size_t kAlignment = 8;
  std::string text = util::json_text(header);
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  return text;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  NamedTensors in_order = tensors;
  // Readers map the file and use tensors where they are, which needs their alignment.
  std::stable_sort(in_order.begin(), in_order.end(), [](const auto& a, const auto& b) {
    return a.second.element_size() > b.second.element_size();
  });
  const std::string header = header_text(in_order, metadata, path.string());
  util::AtomicFile file(path);
  std::string length(sizeof(std::uint64_t), '\0');
  for (std::size_t i = 0; i < length.size(); ++i)
    length[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  file.write(length);
  file.write(header);
  for (const auto& [name, tensor] : in_order) {
    const at::Tensor values = tensor.detach().cpu().contiguous();
    if (values.nbytes() > 0) file.write({static_cast<const char*>(values.const_data_ptr()), values.nbytes()});
  }
  file.commit();
}

}  // namespace depthlens::io
