// The little of YAML that config.yaml beside a published Jacobian lens is written in.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "depthlens/util/json.hpp"

namespace depthlens::lens {

struct PlainYaml {
  util::OrderedJson fields = util::OrderedJson::object();
  std::size_t num_unread = 0;     ///< lines in another form, those that belong to them not counted
  std::string first_unread = {};  ///< "line 3: 'fit: &a'"
};

/// Nested mappings by indentation, of values that stand in one line, as JSON: null, booleans (also yes, no,
/// on, off), numbers, texts with or without quotes, what is written as JSON, and lists of these. Comments are
/// left out. Of a key that stands twice the first counts, and the second is not read. Never throws.
PlainYaml parse_plain_yaml(std::string_view text);

}  // namespace depthlens::lens
