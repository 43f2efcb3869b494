// A listener that keeps everything it hears: the test double of an experiment.
#pragma once

#include <vector>

#include "depthlens/decode/listener.hpp"

namespace depthlens::test {

class CollectingListener : public decode::Listener {
 public:
  struct Row {
    std::vector<decode::TokenId> top_ids;
    std::vector<float> top_logprobs;
    float entropy, kl_final, kl_reverse;
    std::vector<std::int32_t> ranks;  // [W]
    std::vector<float> logprobs;      // [W]
    std::vector<float> group_mass;    // [G]
    bool operator==(const Row&) const = default;
  };
  struct Position {
    std::int64_t document, window, position;
    decode::TokenId token, target, final_id;
    std::vector<std::vector<Row>> lenses;  // [N][R]
    std::vector<std::int64_t> settled_layers;
    bool operator==(const Position&) const = default;
  };

  explicit CollectingListener(std::int64_t top_k) : top_k_(top_k) {}

  decode::Needs needs() const override {
    return {.top_k = top_k_, .token_groups = groups, .num_groups = num_groups};
  }
  void begin(const decode::ReadoutShape& run_shape) override { shape = run_shape; }
  void accept(const decode::PositionReadout& readout) override {
    Position& position = positions.emplace_back();
    position.document = readout.query().document;
    position.window = readout.query().window;
    position.position = readout.where().position;
    position.token = readout.token();
    position.target = readout.watched_id(decode::kWatchedTarget);
    position.final_id = readout.final_id();
    for (std::int64_t n = 0; n < shape.num_lenses(); ++n) {
      auto& rows = position.lenses.emplace_back();
      for (std::int64_t r = 0; r < shape.num_rows; ++r) {
        const auto ids = readout.top_ids(n, r);
        const auto logprobs = readout.top_logprobs(n, r);
        Row& row = rows.emplace_back();
        row.top_ids = {ids.begin(), ids.end()};
        row.top_logprobs = {logprobs.begin(), logprobs.end()};
        row.entropy = readout.entropy(n, r);
        row.kl_final = readout.kl_final(n, r);
        row.kl_reverse = readout.kl_reverse(n, r);
        for (std::int64_t w = 0; w < readout.num_watched(); ++w) {
          row.ranks.push_back(readout.rank(n, r, w));
          row.logprobs.push_back(readout.watched_id(w) == decode::kNoToken ? 0 : readout.logprob(n, r, w));
        }
        for (std::int64_t g = 0; g < num_groups; ++g) row.group_mass.push_back(readout.group_mass(n, r, g));
      }
      position.settled_layers.push_back(readout.settled_layer(n));
    }
  }

  std::vector<std::uint8_t> groups;
  std::int64_t num_groups = 0;
  decode::ReadoutShape shape;
  std::vector<Position> positions;

 private:
  std::int64_t top_k_;
};

}  // namespace depthlens::test
