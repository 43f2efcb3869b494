// Readouts written by hand, for what listens to them: positions are added one by one, each as whole logits,
// and every statistic is computed from these in float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "depthlens/decode/listener.hpp"
#include "depthlens/decode/readout.hpp"

namespace depthlens::test {

/// What a listener should know of one (position, lens, layer), kept for the test's own computation.
struct BuiltRow {
  std::vector<double> probabilities;   // [V]
  std::vector<decode::TokenId> order;  // [V] by falling probability, then rising id
  std::int64_t final_rank = 0;
  double entropy = 0, kl_final = 0, kl_reverse = 0;
};

struct BuiltPosition {
  std::int64_t document = 0, window = 0, position = 0;
  decode::TokenId token = 0, target = decode::kNoToken, final_id = 0;
  std::int64_t item = -1;
  std::int64_t num_bos = 0;                        // of the window
  std::vector<decode::TokenId> watched = {};       // beside final and target
  std::vector<std::vector<BuiltRow>> lenses = {};  // [N][R]
};

class ReadoutBuilder {
 public:
  /// `groups` [V] or empty.
  ReadoutBuilder(std::vector<std::string> lens_names, std::int64_t num_rows, std::int64_t vocab_size,
                 std::int64_t top_k, std::vector<std::uint8_t> groups = {}, std::int64_t num_groups = 0)
      : groups_(std::move(groups)) {
    shape_.lens_names = std::move(lens_names);
    shape_.num_rows = num_rows;
    shape_.top_k = top_k;
    shape_.num_groups = num_groups;
    shape_.vocab_size = vocab_size;
    shape_.num_states = shape_.num_lenses() * num_rows;
    for (std::int64_t s = 0; s < shape_.num_states; ++s) shape_.state_of.push_back(s);
  }

  /// `logits` [N][R][V]; the last row of every lens is the model's own. The caller may set item and watched
  /// tokens of what is returned, until the next is added.
  BuiltPosition& add(decode::TokenId token, decode::TokenId target,
                     const std::vector<std::vector<std::vector<double>>>& logits, std::int64_t document = 0,
                     std::int64_t window = 0, std::int64_t position = 0) {
    BuiltPosition built{
        .document = document, .window = window, .position = position, .token = token, .target = target};
    const std::vector<double> final_probabilities = softmax(logits[0].back());
    built.final_id = ordered(final_probabilities).front();
    for (const auto& lens : logits) {
      auto& rows = built.lenses.emplace_back();
      for (const auto& row_logits : lens)
        rows.push_back(row(row_logits, final_probabilities, built.final_id));
    }
    positions_.push_back(built);
    return positions_.back();
  }

  void add(BuiltPosition position) { positions_.push_back(std::move(position)); }

  const decode::ReadoutShape& shape() const { return shape_; }
  const std::vector<BuiltPosition>& positions() const { return positions_; }

  /// Shows all positions to the listener, as the engine would.
  void show(decode::Listener& listener, bool begin_and_end = true) const {
    if (begin_and_end) listener.begin(shape_);
    const decode::LayerReadout readout = layer_readout();
    for (std::size_t p = 0; p < positions_.size(); ++p) {
      const BuiltPosition& built = positions_[p];
      decode::Query query;
      query.document = built.document;
      query.window = built.window;
      query.num_bos = built.num_bos;
      query.tokens.assign(static_cast<std::size_t>(built.position) + 1, built.token);
      query.positions = {{.position = built.position,
                          .target = built.target,
                          .watched = built.watched,
                          .item = built.item,
                          .number = built.item}};
      listener.accept({shape_, readout, static_cast<std::int64_t>(p), query, query.positions.front()});
    }
    if (begin_and_end && listener.needs().probability_sums) listener.accept_sums(probability_sums());
  }

  decode::ProbabilitySums probability_sums() const {
    decode::ProbabilitySums all{.sums = {}, .positions = static_cast<std::int64_t>(positions_.size())};
    for (std::size_t n = 0; n < shape_.lens_names.size(); ++n) {
      for (std::size_t row = 0; row < static_cast<std::size_t>(shape_.num_rows); ++row) {
        auto& sums = all.sums.emplace_back(static_cast<std::size_t>(shape_.vocab_size));
        for (const BuiltPosition& built : positions_) {
          for (std::size_t v = 0; v < sums.size(); ++v) sums[v] += built.lenses[n][row].probabilities[v];
        }
      }
    }
    return all;
  }

  decode::LayerReadout layer_readout() const {
    decode::LayerReadout out;
    out.num_positions = static_cast<std::int64_t>(positions_.size());
    out.num_watched = decode::kFirstWatchedOfQuery;
    for (const BuiltPosition& built : positions_) {
      out.num_watched = std::max(
          out.num_watched, decode::kFirstWatchedOfQuery + static_cast<std::int64_t>(built.watched.size()));
    }
    const auto watched_at = [&](const BuiltPosition& built) {
      std::vector<decode::TokenId> watched = {built.final_id, built.target};
      watched.insert(watched.end(), built.watched.begin(), built.watched.end());
      watched.resize(static_cast<std::size_t>(out.num_watched), decode::kNoToken);
      return watched;
    };
    for (const BuiltPosition& built : positions_) {
      const std::vector<decode::TokenId> watched = watched_at(built);
      out.watched_ids.insert(out.watched_ids.end(), watched.begin(), watched.end());
    }
    for (std::size_t n = 0; n < shape_.lens_names.size(); ++n) {
      for (std::size_t layer = 0; layer < static_cast<std::size_t>(shape_.num_rows); ++layer) {
        for (const BuiltPosition& built : positions_) add_row(out, built.lenses[n][layer], watched_at(built));
      }
    }
    return out;
  }

  static std::int64_t rank(const BuiltRow& row, decode::TokenId id) {
    return 1 + std::count_if(row.probabilities.begin(), row.probabilities.end(),
                             [&](double p) { return p > row.probabilities[static_cast<std::size_t>(id)]; });
  }
  static float logprob(const BuiltRow& row, decode::TokenId id) {
    return static_cast<float>(std::log(row.probabilities[static_cast<std::size_t>(id)]));
  }

 private:
  void add_row(decode::LayerReadout& out, const BuiltRow& row,
               const std::vector<decode::TokenId>& watched) const {
    for (std::int64_t k = 0; k < shape_.top_k; ++k) {
      const decode::TokenId id = row.order[static_cast<std::size_t>(k)];
      out.top_ids.push_back(id);
      out.top_logprobs.push_back(logprob(row, id));
    }
    out.entropy.push_back(static_cast<float>(row.entropy));
    out.kl_final.push_back(static_cast<float>(row.kl_final));
    out.kl_reverse.push_back(static_cast<float>(row.kl_reverse));
    for (const decode::TokenId id : watched) {
      out.watched_ranks.push_back(id == decode::kNoToken ? 0 : static_cast<std::int32_t>(rank(row, id)));
      out.watched_logprobs.push_back(id == decode::kNoToken ? -1e30F : logprob(row, id));
    }
    std::vector<double> mass(static_cast<std::size_t>(shape_.num_groups), 0);
    for (std::size_t v = 0; v < groups_.size(); ++v) mass[groups_[v]] += row.probabilities[v];
    for (const double m : mass) out.group_mass.push_back(static_cast<float>(m));
  }

  static std::vector<double> softmax(const std::vector<double>& logits) {
    std::vector<double> probabilities;
    double sum = 0;
    for (const double z : logits) sum += probabilities.emplace_back(std::exp(z));
    for (double& p : probabilities) p /= sum;
    return probabilities;
  }
  static std::vector<decode::TokenId> ordered(const std::vector<double>& probabilities) {
    std::vector<decode::TokenId> order(probabilities.size());
    for (std::size_t v = 0; v < order.size(); ++v) order[v] = static_cast<decode::TokenId>(v);
    std::stable_sort(order.begin(), order.end(), [&](decode::TokenId a, decode::TokenId b) {
      return probabilities[static_cast<std::size_t>(a)] > probabilities[static_cast<std::size_t>(b)];
    });
    return order;
  }
  static BuiltRow row(const std::vector<double>& logits, const std::vector<double>& final_probabilities,
                      decode::TokenId final_id) {
    BuiltRow row;
    row.probabilities = softmax(logits);
    row.order = ordered(row.probabilities);
    row.final_rank = rank(row, final_id);
    for (std::size_t v = 0; v < logits.size(); ++v) {
      const double q = row.probabilities[v], f = final_probabilities[v];
      row.entropy -= q * std::log(q);
      row.kl_final += f * std::log(f / q);
      row.kl_reverse += q * std::log(q / f);
    }
    return row;
  }

  decode::ReadoutShape shape_;
  std::vector<std::uint8_t> groups_;
  std::vector<BuiltPosition> positions_;
};

}  // namespace depthlens::test
