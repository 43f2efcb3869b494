// CSV as RFC 4180 has it: fields with commas, quotes or line breaks in quotes, quotes doubled.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace depthlens::util {

std::string csv_field(std::string_view text);

/// Splits a whole file into records of fields. Throws an input error that names `where` and the line of an
/// open quote.
std::vector<std::vector<std::string>> parse_csv(std::string_view text, const std::string& where);

}  // namespace depthlens::util
