// Numbers that are not finite end a run, with a word on where they come from.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>

#include "depthlens/model/model.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::model {

/// Throws a format error that names file and tensor where the weights are not finite, else `text` as a
/// self-check error, with a hint where it has none. Reads all weights.
[[noreturn]] void refuse_not_finite(const Model& model, util::ErrorText text);

/// The greatest magnitude, a single number on the values' device; not a number where one of them is none.
at::Tensor largest(const at::Tensor& values);

/// The greatest magnitude of a value in a vector of d numbers whose squares float32 can add up: what a norm
/// does.
double largest_for_norm(std::int64_t hidden_size);

/// `model.forward`, whose states must be fit for a norm: throws as `refuse_not_finite` where one is not
/// finite, or so large that a norm of it overflows float32. `name_of` tells which token a row is. On a
/// processor a layer is looked at before the tap gets it; elsewhere all of them are at the end, so that the
/// host does not wait for the device at each.
void forward_finite(const Model& model, const PackedWindows& windows, const ResidualTap& tap,
                    const std::function<std::string(std::int64_t row)>& name_of);

}  // namespace depthlens::model
