// The weights of a model by slot, and how they are read from its checkpoint.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/io/checkpoint.hpp"
#include "depthlens/model/arch_spec.hpp"
#include "depthlens/model/model.hpp"
#include "tensor_names.hpp"

namespace depthlens::model {

/// A matrix [out, in], or its MXFP4 form: bytes [out, in / 32, 16] with scales [out, in / 32].
struct Matrix {
  at::Tensor values = {}, scales = {};
  at::Tensor unfolded() const;
};

struct MlpWeights {
  Matrix gate = {}, up = {}, down = {};
  at::Tensor gate_bias = {}, up_bias = {}, down_bias = {};
  std::array<at::Tensor, 4> xielu = {};  ///< of the activation, where it has such
  MlpWeights on(at::Device device) const;
};

/// The tensors of one block or of the model, by slot; undefined where the architecture has none.
struct Weights {
  std::array<at::Tensor, static_cast<std::size_t>(Slot::kNumSlots)> slots;
  std::vector<MlpWeights> experts;            // of a block; none where they are read when they are chosen
  const compute::Backend* backend = nullptr;  // of a block: what multiplies by them
  /// With the experts where they are: of these, some are moved when they are chosen.
  Weights on(at::Device device) const;
  const at::Tensor& operator[](Slot slot) const { return slots[static_cast<std::size_t>(slot)]; }
  at::Tensor& operator[](Slot slot) { return slots[static_cast<std::size_t>(slot)]; }
};

/// What is done to each tensor of the host's memory as it has been loaded.
using Placing = std::function<at::Tensor(const at::Tensor& loaded)>;

/// Whether a tensor of the model stays where the checkpoint is, as it is stored. The embedding for each block
/// is larger than all that it is read by, and only the rows of tokens are: they are gathered on the host,
/// from the mapped file, and sent to where they are needed.
bool stays_on_host(Slot slot);

/// The tensors of a checkpoint by the table of the architecture, with account of which have been claimed.
class WeightFiles {
 public:
  /// The spec is a settled one, and must outlive this. `where` names the checkpoint in errors.
  WeightFiles(io::TensorFile file, const ArchSpec& spec, std::string where, const LoadOptions& options);

  /// Of what no rule before has claimed: numbers, and bytes in the form in which they are kept.
  struct Claimed {
    std::int64_t numbers = 0, bytes = 0;
  };

  /// Checks that the tensors of a rule are there, in shape, and of a type that can be read.
  Claimed claim(const TensorRule& rule, std::int64_t block);

  /// Whether every tensor of a rule is in the checkpoint.
  bool is_there(const TensorRule& rule, std::int64_t block) const;

  /// Throws where a tensor is neither claimed nor known to carry no weight of the model.
  void check_nothing_is_left() const;

  /// Of a claimed tensor that is not of experts, in the host's memory, as the backend multiplies it.
  at::Tensor load(const TensorRule& rule, std::int64_t block, const compute::Backend& backend) const;

  /// The weights of a block as `place` leaves them, with those of its experts or without.
  Weights load_block(std::int64_t block, const compute::Backend& backend, bool experts,
                     const Placing& place) const;
  MlpWeights load_expert(std::int64_t block, std::int64_t expert, const compute::Backend& backend,
                         const Placing& place) const;

  /// Takes a block's tensors out of memory, or asks for them to be read where there is such a block; those of
  /// experts only if asked for, since one that no token chooses need not be read at all.
  void release(std::int64_t block) const;
  void read_ahead(std::int64_t block, bool experts) const;

 private:
  at::ScalarType kept_as(const TensorRule& rule, at::ScalarType stored,
                         const compute::Backend& backend) const;
  at::Tensor used(const TensorRule& rule, const std::string& name, const compute::Backend& backend,
                  std::int64_t expert = 0) const;
  /// The part of a rule of experts that is `expert`'s. Its scales are undefined where the storage has none.
  Matrix part_of_expert(const TensorRule& rule, std::int64_t block, std::int64_t expert,
                        const compute::Backend& backend) const;
  const io::TensorEntry& find(const TensorRule& rule, const std::string& name,
                              const std::vector<std::int64_t>& shape) const;
  bool claim_bytes(const TensorRule& rule, const std::string& name, const std::vector<std::int64_t>& shape);
  [[noreturn]] void fail_type(const std::string& name, const io::TensorEntry& entry,
                              const std::string& expected) const;
  std::set<std::string> names_of_block(std::int64_t block, bool experts) const;

  io::TensorFile file_;
  const ArchSpec& spec_;
  TensorNames names_;
  std::string where_;
  LoadOptions options_;
  std::set<std::string> claimed_;
};

}  // namespace depthlens::model
