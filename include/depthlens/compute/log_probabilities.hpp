// Whole distributions, kept: for a few rows.
#pragma once

#include <ATen/core/Tensor.h>

#include "depthlens/compute/vocabulary_pass.hpp"

namespace depthlens::compute {

/// The logits [S · P, V] of all rows, in the rows' type, on their device; on processors the same bits as in
/// any other reducer of this pass.
at::Tensor logits(const VocabularyPass& pass, const StateRows& rows);

/// Log-probabilities [P, V] in float64 by a plain product in float64 with libtorch's operations, on the rows'
/// device: the second way to a distribution, with which results of kernels are compared.
at::Tensor plain_log_probabilities(const Unembedding& unembedding, const at::Tensor& rows);

}  // namespace depthlens::compute
