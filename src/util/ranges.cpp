// Reads numbers and ranges.
#include "depthlens/util/ranges.hpp"

#include "depthlens/util/text.hpp"

namespace depthlens::util {

std::optional<std::int64_t> parse_index(std::string_view text) {
  std::int64_t value = 0;
  if (!parse_int(text, value) || value < 0 || text != std::to_string(value)) return std::nullopt;
  return value;
}

std::optional<IndexRange> parse_range(std::string_view text) {
  const std::size_t dash = text.find('-');
  const auto first = parse_index(text.substr(0, dash));
  const auto last = dash == text.npos ? first : parse_index(text.substr(dash + 1));
  if (!first || !last) return std::nullopt;
  return IndexRange{*first, *last};
}

}  // namespace depthlens::util
