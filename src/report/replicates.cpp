// Writes and reads replicates.
#include "report/replicates.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "depthlens/tables/bootstrap.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::report {
namespace {

static_assert(std::endian::native == std::endian::little);
constexpr std::string_view kMagic("\x93NUMPY\x01\x00", 8);  // of version 1.0; two bytes of length follow
constexpr std::size_t kBefore = 10;                         // bytes before the header

std::size_t num_estimated(const tables::Table& table) {
  return static_cast<std::size_t>(
      std::count_if(table.columns.begin(), table.columns.end(),
                    [](const tables::Column& column) { return column.estimated; }));
}

std::string shape_of(const tables::Table& table) {
  return util::cat("'shape': (", table.rows.size(), ", ", num_estimated(table), ", ", tables::kReplicates,
                   ")");
}

}  // namespace

std::string replicates_npy(const tables::Table& table) {
  std::string header = util::cat("{'descr': '<f4', 'fortran_order': False, ", shape_of(table), ", }");
  constexpr std::size_t kAlignment = 64;  // of all before the numbers
  const std::size_t size = (kBefore + header.size() + 1 + kAlignment - 1) / kAlignment * kAlignment - kBefore;
  header.resize(size - 1, ' ');
  std::string bytes(kMagic);
  bytes += static_cast<char>(size % 256);
  bytes += static_cast<char>(size / 256);
  bytes += header + "\n";
  bytes.append(reinterpret_cast<const char*>(table.replicates.data()),
               table.replicates.size() * sizeof(float));
  return bytes;
}

void read_replicates(const std::filesystem::path& path, tables::Table& table) {
  const auto file = util::MappedFile::open(path);
  const std::size_t count =
      table.rows.size() * num_estimated(table) * static_cast<std::size_t>(tables::kReplicates);
  const std::string_view bytes(reinterpret_cast<const char*>(file->data()), file->size());
  const bool begins = bytes.size() >= kBefore && bytes.starts_with(kMagic);
  const auto byte = [&](std::size_t i) {
    return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i]));
  };
  const std::size_t header = begins ? kBefore + byte(kMagic.size()) + 256 * byte(kMagic.size() + 1) : 0;
  const std::string shape = shape_of(table);
  const bool fits = begins && bytes.size() == header + count * sizeof(float) &&
                    bytes.substr(0, header).find(shape) != std::string_view::npos;
  if (!fits) {
    throw util::format_error(
        {.what = "replicates that do not fit their table",
         .where = path.string(),
         .expected = util::cat("float32 with ", shape, ", ", count * sizeof(float), " bytes"),
         .found = util::cat(bytes.size(), " bytes in all")});
  }
  table.replicates.resize(count);
  if (count > 0) std::memcpy(table.replicates.data(), bytes.data() + header, count * sizeof(float));
}

}  // namespace depthlens::report
