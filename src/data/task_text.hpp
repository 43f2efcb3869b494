// The text of a task file.
#pragma once

#include <string>

#include "depthlens/data/input_text.hpp"

namespace depthlens::data {

using TaskText = InputText;

/// Throws input errors.
inline TaskText read_task_text(const std::string& path) {
  return read_input_text(path, std::uint64_t{2} << 30);
}

}  // namespace depthlens::data
