// What a config says of weights that are stored in fewer bits.
#pragma once

#include "depthlens/io/scale_form.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::model {

/// `quantization_config` of a model whose matrices are in 8 bits (FP8); nothing where the config has no such
/// key. Throws for other quantizations.
io::ScaleForm read_scales(const util::JsonView& config);

}  // namespace depthlens::model
