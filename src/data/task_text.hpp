// The text of a task file.
#pragma once

#include <string>

namespace depthlens::data {

struct TaskText {
  std::string name;
  std::string sha256;  ///< of the file as it lies on the disk
  std::string text;    ///< decompressed, valid UTF-8, without a byte order mark
};

/// Throws input errors.
TaskText read_task_text(const std::string& path);

}  // namespace depthlens::data
