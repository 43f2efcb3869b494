// The statistics of a chunk by the reduction kernel of our own (reduce_tile.cu).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "compute/cuda/kernels.hpp"
#include "compute/reducers/device_statistics.hpp"

namespace depthlens::compute::cuda {

/// Lists of the tokens of each group, tile by tile, on the card: the same for all chunks.
class GroupLists {
 public:
  struct Lists {
    at::Tensor begins;  ///< [tiles + 1, G + 1] int32; the last row is for the whole vocabulary
    at::Tensor tokens;  ///< int32
    const int* begin_of(std::int64_t tile) const {
      return begins.const_data_ptr<int>() + tile * begins.size(1);
    }
    const int* begin_of_all() const { return begin_of(begins.size(0) - 1); }
  };
  Lists of(const TokenGroups& groups, std::int64_t vocab_size, std::int64_t width, at::Device device);

 private:
  std::mutex mutex_;
  std::shared_ptr<const std::vector<TokenGroups::Token>> key_;  // the groups that `lists_` are of
  std::int64_t width_ = 0;
  Lists lists_;
};

/// The reduction's variants for a chunk.
struct ReduceForms {
  ReduceVariant final_layer;  ///< of logits, a state of a block
  ReduceVariant others;       ///< of products, or of logits where these are kept

  /// Those for so many watched and best tokens; none where they are too many.
  static std::optional<ReduceForms> of(std::int64_t watched, std::int64_t top_k, const Unembedding& head,
                                       bool logits_are_kept);
  /// Whether both can be launched.
  bool are_in(Kernels& kernels) const {
    return kernels.has_reduction(final_layer) && kernels.has_reduction(others);
  }
};

/// What a pass knows of its tiles.
struct PassTiles {
  std::int64_t vocab_size;
  std::int64_t width;  ///< tokens of a tile, but for the last
  at::Tensor bias;     ///< [≥ V, a multiple of 4] float32, on the card; undefined: none
  LogitTransform transform;
};

/// Logits [S, P, W] of tokens [P, W] (int64, on the card), of the same terms as the products of the tiles.
using GatherLogits = std::function<at::Tensor(const at::Tensor& tokens)>;

/// `forms` are those for the chunk and the tiles, and their kernels must be there.
std::unique_ptr<DeviceStatistics> make_cuda_statistics(Kernels& kernels, const ReduceForms& forms,
                                                       const DeviceChunk& chunk, GroupLists& lists,
                                                       const PassTiles& tiles, const GatherLogits& gather);

}  // namespace depthlens::compute::cuda
