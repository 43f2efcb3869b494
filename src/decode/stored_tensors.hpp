// The tensors of stored states, for the engine.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "depthlens/decode/stored_states.hpp"
#include "depthlens/model/model.hpp"

namespace depthlens::decode {

struct StoredStates::Tensors {
  std::string path;
  std::vector<std::int64_t> layers;  // [S]
  at::Tensor states;                 // [T, S, d], a view of the mapped file

  /// The states of a layer at these positions, float32 [P, d] on the host. Throws an input error where one is
  /// not finite.
  at::Tensor rows(std::int64_t layer, const std::vector<std::int64_t>& positions) const;
};

/// Writes the states of the decoded layers of a query, rows `first` … of `residuals` (undefined ones are left
/// out), into a file in `folder`.
void write_states(const std::filesystem::path& folder, const Query& query,
                  const std::vector<at::Tensor>& residuals, std::int64_t first);

}  // namespace depthlens::decode
