// Each tile of the vocabulary has its own columns of the sums, and takes the positions in their order.
#include "compute/reducers/probability_sums.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "compute/cpu/host_tile.hpp"
#include "compute/parallel.hpp"
#include "depthlens/compute/transfer.hpp"
#include "depthlens/util/rounding.hpp"

namespace depthlens::compute {
namespace {

/// log(e^a + e^b), b finite.
double log_of_sum(double a, double b) {
  const double greater = std::max(a, b);
  return greater + std::log1p(std::exp(std::min(a, b) - greater));
}

}  // namespace

ProbabilitySums::ProbabilitySums(std::int64_t num_states, std::int64_t vocab_size)
    : sums(at::zeros({num_states, vocab_size}, at::kDouble)),
      log_small(at::full({num_states, vocab_size}, -std::numeric_limits<double>::infinity(), at::kDouble)) {}

struct ProbabilityReducer::Memory : Workspace {
  explicit Memory(std::int64_t width) : shifted(static_cast<std::size_t>(width)), exponentials(shifted) {}
  std::vector<float> shifted, exponentials;
};

std::unique_ptr<Reducer::Workspace> ProbabilityReducer::make_workspace() const {
  return std::make_unique<Memory>(max_width_);
}

/// Adds e^(z − log_sum_exp) of one row's tile.
void ProbabilityReducer::add_row(const RowStatistics& statistics, const float* logits, std::int64_t first,
                                 int width, std::int64_t state, double log_sum_exp, Memory& memory) {
  const std::int64_t place = (first_state_ + state) * sums_.sums.size(1) + first;
  double* const sums = sums_.sums.mutable_data_ptr<double>() + place;
  // What rounding takes from the reference is put back as a factor.
  const auto reference = static_cast<float>(log_sum_exp);
  const double factor = std::exp(static_cast<double>(reference) - log_sum_exp);
  float* const shifted = memory.shifted.data();
  float* const exponentials = memory.exponentials.data();
  statistics.shift_and_exp(logits, width, reference, shifted, exponentials);
  for (int v = 0; v < width; ++v) sums[v] += factor * static_cast<double>(exponentials[v]);
  if (statistics.count_greater(shifted, width, ProbabilitySums::kLowestLog) == width) return;
  double* const log_small = sums_.log_small.mutable_data_ptr<double>() + place;
  for (int v = 0; v < width; ++v) {
    if (shifted[v] < ProbabilitySums::kLowestLog)
      log_small[v] = log_of_sum(log_small[v], static_cast<double>(logits[v]) - log_sum_exp);
  }
}

void ProbabilityReducer::add(HostTile& tile, Workspace* workspace) {
  auto& memory = static_cast<Memory&>(*workspace);
  for (std::int64_t s = 0; s < tile.num_states(); ++s) {
    const float* logits = tile.logits(s);
    for (int i = 0; i < tile.count; ++i) {
      const auto row = static_cast<std::size_t>(s * num_positions_ + tile.begin + i);
      add_row(tile.statistics(), logits + i * tile.stride(), tile.first, tile.width, s, log_sum_exp_[row],
              memory);
    }
  }
}

void ProbabilityReducer::add(DeviceTile& tile) {
  const std::int64_t P = num_positions_, S = tile.num_rows() / P, width = tile.width();
  const at::Tensor& logits = tile.logits();
  if (!there_.log_sum_exp.defined()) {
    const at::Device device = logits.device();
    there_.log_sum_exp =
        copied_to(device, at::from_blob(const_cast<double*>(log_sum_exp_.data()), {S * P, 1}, at::kDouble));
    there_.reference = there_.log_sum_exp.to(at::kFloat);
    there_.factor = (there_.reference.to(at::kDouble) - there_.log_sum_exp).exp_().to(at::kFloat);
    there_.found = at::zeros({S, sums_.sums.size(1)}, there_.log_sum_exp.options());
    there_.any_small = at::zeros({}, there_.log_sum_exp.options().dtype(at::kBool));
  }
  const at::Tensor found = there_.found.narrow(1, tile.first, width);
  at::Tensor shifted = logits - there_.reference;
  const at::Tensor small = shifted.lt(ProbabilitySums::kLowestLog);
  if (small_ones_) {
    found.copy_((logits.to(at::kDouble) - there_.log_sum_exp)
                    .masked_fill_(small.logical_not(), -std::numeric_limits<double>::infinity())
                    .view({S, P, width})
                    .logsumexp(1));
    return;
  }
  there_.any_small.logical_or_(small.any());
  const at::Tensor probabilities = shifted.exp_().mul_(there_.factor).masked_fill_(small, 0);
  found.copy_(probabilities.view({S, P, width}).sum(1, false, at::kDouble));
}

template <typename MakeTiles>
void ProbabilityReducer::with_tiles_of_device(const MakeTiles& make_tiles) {
  const auto of_these = [&](const at::Tensor& all) {
    return all.narrow(0, first_state_, there_.found.size(0));
  };
  make_tiles();
  of_these(sums_.sums).add_(there_.found.to(at::kCPU));
  if (!there_.any_small.item<bool>()) return;
  small_ones_ = true;
  make_tiles();
  const at::Tensor before = of_these(sums_.log_small);
  before.copy_(at::logaddexp(before, there_.found.to(at::kCPU)));
}

void ProbabilityReducer::add_all(const VocabularyPass& pass, const StateRows& rows) {
  if (pass.row_statistics() != nullptr) return pass.run(rows, *this);
  with_tiles_of_device([&] { pass.run(rows, *this); });
}

void ProbabilityReducer::add_kept(const KeptLogits& logits, const RowStatistics* statistics) {
  const std::int64_t V = sums_.sums.size(1);
  if (statistics == nullptr) {
    constexpr std::int64_t kWidth = 4096;  // tokens
    const at::Tensor all = logits.logits();
    return with_tiles_of_device([&] {
      for (std::int64_t first = 0; first < V; first += kWidth) {
        DeviceTile tile(all.narrow(2, first, std::min(kWidth, V - first)).flatten(0, 1), first);
        add(tile);
      }
    });
  }
  constexpr std::int64_t kWidth = 1024;  // tokens
  const auto S = static_cast<std::int64_t>(log_sum_exp_.size()) / num_positions_;
  parallel_for_dynamic(
      util::ceil_div(V, kWidth), /*should_stop=*/{}, [&] { return Memory(kWidth); },
      [&](std::int64_t t, Memory& memory) {
        const std::int64_t first = t * kWidth, width = std::min(kWidth, V - first);
        for (std::int64_t s = 0; s < S; ++s) {
          for (std::int64_t p = 0; p < num_positions_; ++p) {
            add_row(*statistics, logits.row(s, p) + first, first, static_cast<int>(width), s,
                    log_sum_exp_[static_cast<std::size_t>(s * num_positions_ + p)], memory);
          }
        }
      });
}

}  // namespace depthlens::compute
