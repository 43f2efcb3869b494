// The files of src/report/page/, as cmake/EmbedFiles.cmake puts them into the program.
#pragma once

#include <string_view>
#include <vector>

namespace depthlens::report {

struct PageFile {
  std::string_view name;
  std::string_view text;
};

/// In the order of CMakeLists.txt, which is that of the scripts in the page.
const std::vector<PageFile>& page_files();

}  // namespace depthlens::report
