// Residual states that were computed elsewhere, one document a file, and files of that kind written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/decode/readout.hpp"

namespace depthlens::model {
struct OutputHead;
}

namespace depthlens::decode {

/// A `.safetensors` file with `hidden_states` [T, S, d] (float32, float16 or bfloat16; before the final norm)
/// and `token_ids` [T] (integers), as vLLM's extraction of hidden states writes it. It stays mapped; only
/// rows that are decoded are read.
class StoredStates {
 public:
  struct Expected {
    std::vector<std::int64_t> layers;  ///< [S] that the states are, rising; L is the last one
    std::int64_t hidden_size = 0;      ///< d
    std::int64_t vocab_size = 0;       ///< V: ids lie below it
    std::string hint = "--state-layers says which layers the stored states are";  ///< where S is another
  };

  /// Throws input errors that name the file: not such a file, tensors of other shapes or types, ids outside
  /// the vocabulary, one that is still being written (a `.lock` beside it that somebody holds).
  StoredStates(const std::filesystem::path& path, const Expected& expected);
  ~StoredStates();
  StoredStates(const StoredStates&) = delete;
  StoredStates& operator=(const StoredStates&) = delete;

  const std::string& path() const { return path_; }
  const std::vector<TokenId>& tokens() const { return tokens_; }  ///< [T]
  /// Throws an input error where a state is not finite, or too large for a norm: of positions that the engine
  /// is not asked for, too.
  void check_values() const;
  /// Whether those of the last layer are what the head's norm makes, as the last of `hidden_states` in
  /// transformers: it would be applied twice. Not of few tokens, which could look so by chance.
  bool look_normed(const model::OutputHead& head) const;

  struct Tensors;
  /// For the engine.
  const Tensors& tensors() const { return *tensors_; }

 private:
  std::string path_;
  std::vector<TokenId> tokens_;
  std::unique_ptr<const Tensors> tensors_;
};

/// A window of a run: of its documents.
struct WindowPlace {
  std::int64_t document = 0, window = 0;
};
/// Of which window a file is by its name, DOCUMENT-WINDOW.safetensors, with as many digits that the order of
/// the names is that of the windows; nothing where it is another.
std::optional<WindowPlace> place_of_states(const std::filesystem::path& file);

}  // namespace depthlens::decode
