// The little of YAML that config.yaml beside a published Jacobian lens is written in.
#pragma once

#include <string>
#include <string_view>

#include "depthlens/util/json.hpp"

namespace depthlens::lens {

/// Nested mappings of scalars by indentation, as JSON: null, booleans, numbers, texts with or without quotes.
/// Comments and what is none of these (lists, texts of several lines) are left out; of a key that stands
/// twice the first counts. Never throws.
util::OrderedJson parse_plain_yaml(std::string_view text);

}  // namespace depthlens::lens
