// States that fade and are written to, by chunks of positions: what the delta rule and state spaces have in
// common. Tensors are float32.
#pragma once

#include <ATen/core/Tensor.h>

namespace depthlens::compute {

/// How much is left within a chunk, of logarithms of decays [..., chunk, 1], at most 0.
struct Decays {
  at::Tensor between;     ///< [..., chunk, chunk]: at a row's position of what a column's wrote; else 0
  at::Tensor from_start;  ///< [..., chunk, 1]: of the state before the chunk
  at::Tensor to_end;      ///< [..., chunk, 1]: behind the chunk of what a position wrote
  at::Tensor of_chunk;    ///< [..., 1, 1]: behind the chunk of the state before it
};
Decays decays_of(const at::Tensor& log_decays);

/// What a chunk does to the state S [key size, value size], of N heads and all chunks, [chunks, N, …]: it
/// writes written − reads · S with its keys (undefined `reads`: just `written`), and shows shown · S + seen ·
/// what it writes.
struct StateChunks {
  at::Tensor written, reads, shown, seen, keys, decay;
};

/// Of each chunk what the state shows of it, [chunks, N, chunk, value size]; it is 0 before the first.
at::Tensor run_through(const StateChunks& chunks);

/// [chunks, W, groups, heads, …] as [chunks, N, …].
inline at::Tensor by_head(const at::Tensor& x) {
  return x.flatten(1, 3);
}

}  // namespace depthlens::compute
