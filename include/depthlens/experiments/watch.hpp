// Tokens that the user follows through the layers, at every position.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "depthlens/decode/readout.hpp"

namespace depthlens::experiments {

struct WatchedToken {
  enum class Kind {
    kToken,       ///< one token of the vocabulary
    kTarget,      ///< what follows at the position, or the gold answer token of a task
    kDistractor,  ///< the wrong answer that a fact names; at the answer's first token only
  };
  Kind kind = Kind::kToken;
  decode::TokenId id = decode::kNoToken;  ///< of `kToken`
  std::string name;                       ///< in tables; tells the tokens of a run apart
};

/// Two tokens whose log-probabilities are compared: indices into `Watch::tokens`.
struct WatchedPair {
  std::size_t first = 0, second = 0;
  std::string name;
};

struct Watch {
  std::vector<WatchedToken> tokens;  ///< those of the pairs included, each once
  std::vector<WatchedPair> pairs;

  bool empty() const { return tokens.empty(); }
  bool has(WatchedToken::Kind kind) const;

  /// Asks for the tokens at a position, behind what it watches already. `distractor` is the item's, or
  /// kNoToken.
  void append_to(decode::Query::Position& position, decode::TokenId distractor = decode::kNoToken) const;

  /// Where the readout of a position to which `append_to` was applied has the token: an index for
  /// `PositionReadout::rank`. The id there is kNoToken where the position has no such token.
  std::int64_t index(const decode::Query::Position& position, std::size_t token) const;
};

}  // namespace depthlens::experiments
