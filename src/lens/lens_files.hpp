// What the kinds of lenses share: their makers (for the registry), and checks of their files.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "depthlens/lens/lens.hpp"
#include "depthlens/lens/lens_file.hpp"
#include "depthlens/model/model.hpp"

namespace depthlens::lens {

std::unique_ptr<Lens> make_logit_lens(const LensRequest& request, const model::Model& model,
                                      Alignment alignment);
std::unique_ptr<Lens> make_tuned_lens(const LensRequest& request, const model::Model& model,
                                      Alignment alignment);
std::unique_ptr<Lens> make_jacobian_lens(const LensRequest& request, const model::Model& model,
                                         Alignment alignment);

/// The tensor as contiguous float32 on the CPU. Throws unless its shape is `shape` and all values are finite.
at::Tensor checked_parameter(const at::Tensor& tensor, const std::vector<std::int64_t>& shape,
                             const std::string& name, const std::string& file);

}  // namespace depthlens::lens
