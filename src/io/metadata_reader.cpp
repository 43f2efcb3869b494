// Metadata are texts; numbers among them are decimal.
#include "depthlens/io/metadata_reader.hpp"

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::io {

std::optional<std::string> MetadataReader::find(const std::string& key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::int64_t> MetadataReader::find_number(const std::string& key, std::int64_t least) const {
  const std::optional<std::string> text = find(key);
  if (!text) return std::nullopt;
  std::int64_t value = 0;
  if (util::parse_int(*text, value) && value >= least) return value;
  throw util::format_error({.what = what_,
                            .where = where_ + ": __metadata__: " + key,
                            .expected = util::cat("a number from ", least),
                            .found = util::in_quotes(*text)});
}

std::string MetadataReader::text(const std::string& key) const {
  std::optional<std::string> text = find(key);
  if (!text) refuse_missing(key);
  return std::move(*text);
}

std::int64_t MetadataReader::number(const std::string& key, std::int64_t least) const {
  const std::optional<std::int64_t> number = find_number(key, least);
  if (!number) refuse_missing(key);
  return *number;
}

void MetadataReader::refuse_missing(const std::string& key) const {
  throw util::format_error(
      {.what = what_, .where = where_ + ": __metadata__", .expected = "the key '" + key + "'"});
}

}  // namespace depthlens::io
