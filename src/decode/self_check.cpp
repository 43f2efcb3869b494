// Plain float64, for comparison.
#include "decode/self_check.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <limits>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::decode {

PlainLogits plain_logits(const model::OutputHead& head, const at::Tensor& normed) {
  const at::Tensor rows = normed.to(at::kDouble);
  const std::int64_t V = head.unembedding.size(0);
  constexpr std::int64_t kPart = 1024;
  const at::Tensor part = at::empty({kPart, rows.size(1)}, rows.options());
  const at::Tensor logits = at::empty({rows.size(0), V}, rows.options());
  for (std::int64_t first = 0; first < V; first += kPart) {
    const std::int64_t width = std::min(kPart, V - first);
    const at::Tensor weight = part.narrow(0, 0, width).copy_(head.unembedding.narrow(0, first, width));
    logits.narrow(1, first, width).copy_(at::mm(rows, weight.t()));
  }
  if (head.bias.defined()) logits.add_(head.bias.to(at::kDouble));
  const at::Tensor largest_of_token = std::get<0>(logits.abs().max(0));
  return {.log_probabilities = logits.log_softmax(1),
          .largest = largest_of_token.max().item<double>(),
          .token_of_largest = largest_of_token.argmax().item<std::int64_t>()};
}

void add_self_check(RunStatistics& statistics, double error, std::int64_t positions, const PlainLogits& plain,
                    Precision precision) {
  constexpr double kPromised = 1e-3;  // nats
  constexpr double kOfFast = 0.5;     // nats; one product in bfloat16 is off by about 0.01 to 0.1
  const double bound = precision == Precision::kExact ? kPromised : kOfFast;
  statistics.final_layer_max_abs_error = std::max(statistics.final_layer_max_abs_error, error);
  statistics.self_checked_positions += positions;
  if (error <= bound) return;  // not so where it is no number
  if (plain.largest * std::numeric_limits<float>::epsilon() > kPromised) {
    throw util::self_check_error(
        {.what = "the model's logits are too large for float32",
         .where = util::cat("soon after position ", statistics.positions, " of the run"),
         .expected = util::cat("logits that float32 tells apart by ", kPromised, " nats"),
         .found = util::cat("one of ", plain.largest, " for token ", plain.token_of_largest),
         .hint = "that token's row of the unembedding, or the final norm, is damaged"});
  }
  throw util::self_check_error(
      {.what = "the decoded final layer differs from a plain matrix product",
       .where = util::cat("soon after position ", statistics.positions, " of the run"),
       .expected = util::cat("at most ", bound, " nats"),
       .found = util::cat(error),
       .hint = "this is a defect of depthlens or of the machine: please report it"});
}

}  // namespace depthlens::decode
