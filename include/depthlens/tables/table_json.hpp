// Tables as JSON: {"columns": [names], "units": {of the columns that have one}, "rows": [[cells]]}.
#pragma once

#include <string>

#include "depthlens/tables/table.hpp"

namespace depthlens::tables {

enum class JsonForm {
  kWhole,  ///< a line for each row, all digits, units in the order of the columns
  kSmall,  ///< without white space, six significant digits, units in the order of their columns' names
};

/// A value that does not exist, or is not finite, is null.
std::string to_json(const Table& table, JsonForm form);

}  // namespace depthlens::tables
