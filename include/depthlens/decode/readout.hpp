// What the decoder leaves of a chunk of positions: small arrays of plain numbers. Torch ends here.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "depthlens/text/token.hpp"

namespace depthlens::decode {

using text::kNoToken;
using text::TokenId;

/// The sizes of a run's readouts.
struct ReadoutShape {
  std::vector<std::string> lens_names;      ///< N lenses
  std::int64_t num_rows = 0;                ///< R layers, the last of which is L: the model's own output
  std::vector<std::int64_t> layers = {};    ///< [R] rising; empty: row r is layer r
  std::int64_t top_k = 0;                   ///< K
  std::int64_t num_groups = 0;              ///< G groups of tokens whose probability mass is summed; may be 0
  std::int64_t vocab_size = 0;              ///< V
  std::vector<std::int64_t> state_of = {};  ///< [N, R] index of the state that is decoded: lenses share some
  std::int64_t num_states = 0;              ///< S

  /// The layer that a row is.
  std::int64_t layer(std::int64_t row) const {
    return layers.empty() ? row : layers[static_cast<std::size_t>(row)];
  }
  /// L, the number of blocks.
  std::int64_t last_layer() const { return layer(num_rows - 1); }
  std::int64_t num_lenses() const { return static_cast<std::int64_t>(lens_names.size()); }
  std::int64_t state(std::int64_t lens, std::int64_t row) const {
    return state_of[static_cast<std::size_t>(lens * num_rows + row)];
  }
};

/// The readouts of P positions at S states, which `ReadoutShape::state_of` gives to lenses and layers. Arrays
/// are row-major in the order given. Logarithms are natural; ranks are 1 + the number of strictly greater
/// logits; ties within the top K go to the lower id.
struct LayerReadout {
  std::int64_t num_positions = 0;  // P
  std::int64_t num_watched = 0;  // W: 0 is the model's own top-1, 1 the target, then what the query asked for

  std::vector<TokenId> top_ids;             // [S, P, K]
  std::vector<float> top_logprobs;          // [S, P, K]
  std::vector<float> entropy;               // [S, P] nats
  std::vector<float> kl_final;              // [S, P] KL(final ‖ layer), nats
  std::vector<float> kl_reverse;            // [S, P] KL(layer ‖ final), nats
  std::vector<TokenId> watched_ids;         // [P, W], kNoToken where there is none
  std::vector<std::int32_t> watched_ranks;  // [S, P, W], 0 where there is no token
  std::vector<float> watched_logprobs;      // [S, P, W]
  std::vector<float> group_mass;            // [S, P, G] probability on each group of tokens
};

/// Indices into `watched_ids`.
inline constexpr std::int64_t kWatchedFinal = 0;
inline constexpr std::int64_t kWatchedTarget = 1;
inline constexpr std::int64_t kFirstWatchedOfQuery = 2;

class StoredStates;

/// One window of tokens, and the positions of it that are to be read out.
struct Query {
  struct Position {
    std::int64_t position = 0;     ///< in the window
    TokenId target = kNoToken;     ///< the token that follows, or the gold answer token
    std::vector<TokenId> watched;  ///< others whose rank is wanted
    std::int64_t item = -1;        ///< index of the task's item that asks for it; −1 for a corpus
    std::int64_t number = -1;      ///< of that item (data/task.hpp)
  };
  std::int64_t document = 0;
  std::int64_t window = 0;          ///< within the document
  std::int64_t window_start = 0;    ///< place in the document of the first token that is not BOS
  std::int64_t input = 0;           ///< index of the input that the document came from
  std::int64_t input_document = 0;  ///< index of the document within that
  std::string id = {};              ///< of the document itself, as JSON; "" where it has none
  std::int64_t part = 0;     ///< of the run that it belongs to (run/plan.hpp); parts come one after the other
  std::int64_t num_bos = 0;  ///< tokens at its start that are no part of the text: 1 where BOS was put there
  std::vector<TokenId> tokens;                      ///< BOS included where there is one
  std::vector<Position> positions;                  ///< in increasing order
  std::shared_ptr<const StoredStates> states = {};  ///< in place of a forward pass over the tokens
};

/// Σ over the positions of a part of the probability of every token, for each distinct state.
struct ProbabilitySums {
  std::vector<std::vector<double>> sums;  ///< [S][V]
  /// The logarithms of those sums that are too small for a number; of others, nothing. Empty: there are none.
  std::vector<std::vector<double>> log_small = {};
  std::int64_t positions = 0;
};

/// One position of a readout, as a listener is shown it. Valid during the call only.
class PositionReadout {
 public:
  PositionReadout(const ReadoutShape& shape, const LayerReadout& readout, std::int64_t p, const Query& query,
                  const Query::Position& where)
      : shape_(&shape), readout_(&readout), p_(p), query_(&query), where_(&where) {}

  const Query& query() const { return *query_; }
  const Query::Position& where() const { return *where_; }
  const ReadoutShape& shape() const { return *shape_; }
  TokenId token() const { return query_->tokens[static_cast<std::size_t>(where_->position)]; }

  /// The model's own top-1.
  TokenId final_id() const { return watched_id(kWatchedFinal); }
  TokenId watched_id(std::int64_t w) const {
    return at(readout_->watched_ids, p_ * readout_->num_watched + w);
  }
  std::int64_t num_watched() const { return readout_->num_watched; }

  std::span<const TokenId> top_ids(std::int64_t lens, std::int64_t row) const {
    return {readout_->top_ids.data() + index(lens, row) * shape_->top_k,
            static_cast<std::size_t>(shape_->top_k)};
  }
  std::span<const float> top_logprobs(std::int64_t lens, std::int64_t row) const {
    return {readout_->top_logprobs.data() + index(lens, row) * shape_->top_k,
            static_cast<std::size_t>(shape_->top_k)};
  }
  TokenId top1(std::int64_t lens, std::int64_t row) const {
    return at(readout_->top_ids, index(lens, row) * shape_->top_k);
  }
  float entropy(std::int64_t lens, std::int64_t row) const { return at(readout_->entropy, index(lens, row)); }
  float kl_final(std::int64_t lens, std::int64_t row) const {
    return at(readout_->kl_final, index(lens, row));
  }
  float kl_reverse(std::int64_t lens, std::int64_t row) const {
    return at(readout_->kl_reverse, index(lens, row));
  }
  std::int32_t rank(std::int64_t lens, std::int64_t row, std::int64_t w) const {
    return at(readout_->watched_ranks, index(lens, row) * readout_->num_watched + w);
  }
  float logprob(std::int64_t lens, std::int64_t row, std::int64_t w) const {
    return at(readout_->watched_logprobs, index(lens, row) * readout_->num_watched + w);
  }
  float group_mass(std::int64_t lens, std::int64_t row, std::int64_t group) const {
    return at(readout_->group_mass, index(lens, row) * shape_->num_groups + group);
  }

  /// The first row from which on the top-1 stays the model's own top-1; at most the last.
  std::int64_t settled_row(std::int64_t lens) const {
    std::int64_t row = shape_->num_rows - 1;
    while (row > 0 && top1(lens, row - 1) == final_id()) --row;
    return row;
  }
  std::int64_t settled_layer(std::int64_t lens) const { return shape_->layer(settled_row(lens)); }

 private:
  template <typename T>
  static T at(const std::vector<T>& values, std::int64_t i) {
    return values[static_cast<std::size_t>(i)];
  }
  std::int64_t index(std::int64_t lens, std::int64_t row) const {
    return shape_->state(lens, row) * readout_->num_positions + p_;
  }

  const ReadoutShape* shape_;
  const LayerReadout* readout_;
  std::int64_t p_;
  const Query* query_;
  const Query::Position* where_;
};

}  // namespace depthlens::decode
