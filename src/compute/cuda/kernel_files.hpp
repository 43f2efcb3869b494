// The kernels' sources, as cmake/EmbedFiles.cmake puts them into the program.
#pragma once

#include <string_view>
#include <vector>

namespace depthlens::compute::cuda {

struct KernelFile {
  std::string_view name;
  std::string_view text;
};

const std::vector<KernelFile>& kernel_files();

}  // namespace depthlens::compute::cuda
