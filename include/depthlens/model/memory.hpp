// What one token takes on its way through the blocks, so that batches fit: numbers of float32, about.
#pragma once

#include <cstdint>

#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

/// Of a pass that records nothing: the largest intermediate results of a block, and what is carried to later
/// ones. States that somebody keeps come on top.
std::int64_t floats_of_pass(const ArchSpec& spec);

/// Of a recorded pass through all blocks (Model::run_blocks with gradients): what it keeps, with a backward
/// pass at work.
std::int64_t floats_of_recorded_pass(const ArchSpec& spec);

}  // namespace depthlens::model
