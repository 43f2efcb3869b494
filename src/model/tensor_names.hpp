// How the tensors of an architecture are called in one checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/model/arch_spec.hpp"

namespace depthlens::model {

class TensorNames {
 public:
  TensorNames(const ArchSpec& spec, const io::TensorFile& file);

  /// `n` is the index of an expert or a head, where the rule has one.
  std::string of(const TensorRule& rule, std::int64_t block, std::int64_t n = 0) const;
  /// The names of all tensors of a rule: of every expert or head, and both that MXFP4 has.
  std::vector<std::string> all(const TensorRule& rule, std::int64_t block) const;

  /// Whether a tensor of that name carries no weight of the model, with the prefix or without it.
  static bool is_ignorable(const ArchSpec& spec, const std::string& name);
  /// Which block such a tensor is of; nothing where it is of none, or carries a weight.
  static std::optional<std::int64_t> block_of_ignorable(const ArchSpec& spec, const std::string& name);

 private:
  std::string prefix_;
  std::int64_t num_experts_ = 0;
};

}  // namespace depthlens::model
