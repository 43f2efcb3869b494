// The committed tiny checkpoints and their float64 reference values (tools/scripts/make_golden.py).
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "depthlens/io/checkpoint.hpp"

namespace depthlens::test {

inline std::filesystem::path golden_model(const std::string& variant) {
  return std::filesystem::path(DEPTHLENS_TEST_DATA) / "models" / variant;
}

/// All folders with reference values.
inline std::vector<std::string> golden_variants() {
  std::vector<std::string> variants;
  for (const auto& entry : std::filesystem::directory_iterator(golden_model(""))) {
    if (std::filesystem::exists(entry.path() / "reference.safetensors"))
      variants.push_back(entry.path().filename().string());
  }
  std::sort(variants.begin(), variants.end());
  return variants;
}

inline std::vector<std::string> golden_variants_with_lenses() {
  return {"gpt2", "neox-parallel", "llama-gqa-sharded"};
}

/// Reference arrays of a variant: values as float64 or int64.
class Reference {
 public:
  explicit Reference(const std::string& variant)
      : file_(io::TensorFile::open_safetensors(golden_model(variant) / "reference.safetensors")) {}

  at::Tensor operator[](const std::string& name) const { return file_.view(name); }
  bool has(const std::string& name) const { return file_.has(name); }

  std::vector<std::int64_t> tokens(int sequence) const {
    const at::Tensor ids = file_.view("tokens." + std::to_string(sequence)).contiguous();
    const auto* data = ids.const_data_ptr<std::int64_t>();
    return {data, data + ids.numel()};
  }

 private:
  io::TensorFile file_;
};

/// Wherever the two are.
inline double max_abs_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kCPU, at::kDouble) - b.to(at::kCPU, at::kDouble)).abs().max().item<double>();
}

}  // namespace depthlens::test
