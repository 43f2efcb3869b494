// From sums to statistics (docs/methods.md).
#include "compute/reducers/row_state.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <utility>

namespace depthlens::compute {

std::int64_t BestTokens::add_tile(const RowStatistics& statistics, const float* tile, int width,
                                  TokenId first, float bar, std::int64_t found) {
  std::array<std::int32_t, kMaxTile> places;
  const int count = statistics.find_all_at_least(tile, width, bar, places.data());
  const auto better = std::span(places).first(static_cast<std::size_t>(count));
  constexpr int kFewTokens = 8, kFewBest = 64;
  if (count <= kFewTokens || k_ <= kFewBest) {
    for (const std::int32_t place : better) add(tile[place], first + place, found);
    return found;
  }
  // Two lists in order become one, from its end. What is kept already comes first among equals.
  std::stable_sort(better.begin(), better.end(),
                   [&](std::int32_t a, std::int32_t b) { return tile[a] > tile[b]; });
  std::int64_t kept = found, added = count;
  for (std::int64_t to = kept + added - 1; added > 0; --to) {
    const std::int32_t place = better[static_cast<std::size_t>(added - 1)];
    const bool is_kept = kept > 0 && tile[place] > logits_[kept - 1];
    const double logit = is_kept ? logits_[kept - 1] : tile[place];
    const TokenId id = is_kept ? ids_[kept - 1] : first + place;
    is_kept ? --kept : --added;
    if (to >= k_) continue;
    logits_[to] = logit;
    ids_[to] = id;
  }
  return std::min(k_, found + count);
}

TokenGroups::TokenGroups(const std::vector<std::uint8_t>& group_of, std::int64_t count)
    : count_(count), vocab_size_(static_cast<std::int64_t>(group_of.size())) {
  std::vector<Token> tokens;
  if (count > 0) {
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(count));
    for (const std::uint8_t group : group_of) ++sizes.at(group);
    largest_ = std::max_element(sizes.begin(), sizes.end()) - sizes.begin();
    for (std::size_t v = 0; v < group_of.size(); ++v) {
      if (group_of[v] != largest_) tokens.push_back({static_cast<TokenId>(v), group_of[v]});
    }
  }
  tokens_ = std::make_shared<const std::vector<Token>>(std::move(tokens));
}

at::Tensor TokenGroups::membership(at::Device device) const {
  const std::lock_guard lock(mutex_);
  if (!membership_.defined() || membership_.device() != device) {
    const at::Tensor members = at::zeros({vocab_size_, count_}, at::kFloat);
    members.select(1, largest_).fill_(1);
    float* data = members.mutable_data_ptr<float>();
    for (const Token& token : *tokens_) {
      data[token.id * count_ + largest_] = 0;
      data[token.id * count_ + token.group] = 1;
    }
    membership_ = members.to(device);
  }
  return membership_;
}

TokenGroups::Range TokenGroups::range(std::int64_t first, std::int64_t width) const {
  const auto from = [&](std::int64_t id) {
    return std::lower_bound(tokens_->begin(), tokens_->end(), id,
                            [](const Token& token, std::int64_t other) { return token.id < other; });
  };
  return {from(first), from(first + width)};
}

void TokenGroups::finish(double sum, double* mass) const {
  double others = 0;
  for (std::int64_t g = 0; g < count_; ++g) {
    mass[g] /= sum;
    if (g != largest_) others += mass[g];
  }
  if (count_ > 0) mass[largest_] = std::max(0.0, 1 - others);
}

void finish(const std::vector<RowState>& rows, std::int64_t num_positions, const TokenGroups& groups,
            Statistics& output) {
  for (std::vector<double>* values :
       {&output.log_sum_exp, &output.entropy, &output.kl_final, &output.kl_reverse})
    values->resize(rows.size());
  struct OfFinal {
    double log_sum, mean_logprob;
  };
  std::vector<OfFinal> of_final(static_cast<std::size_t>(num_positions));
  std::size_t p = 0;  // of the row
  for (std::size_t row = 0; row < rows.size(); ++row, p = p + 1 == of_final.size() ? 0 : p + 1) {
    const RowState& state = rows[row];
    const double log_sum = std::log(state.sum);
    const double mean_logprob = state.weighted / state.sum - log_sum;  // Σ p log p
    if (row < of_final.size()) of_final[p] = {log_sum, mean_logprob};
    const auto& [final_log_sum, final_mean_logprob] = of_final[p];
    output.log_sum_exp[row] = static_cast<double>(state.m) + log_sum;
    output.entropy[row] = -mean_logprob;
    output.kl_final[row] = final_mean_logprob - (state.cross / rows[p].sum - log_sum);
    output.kl_reverse[row] = mean_logprob - (state.reverse / state.sum - final_log_sum);
    if (groups.count() > 0)
      groups.finish(state.sum, output.group_mass.data() + row * static_cast<std::size_t>(groups.count()));
  }
}

}  // namespace depthlens::compute
