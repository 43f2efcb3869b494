// Packed products where they serve, libtorch's where not: rows in float64, and recorded gradients.
#include "compute/cpu/cpu_backend.hpp"

#include <utility>

#include "compute/aten/aten_backend.hpp"
#include "depthlens/util/error.hpp"

namespace depthlens::compute {
namespace {

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(const BackendOptions& options)
      : Backend(options, at::kCPU),
        exact_(choose_kernel(options.kernel, Precision::kExact)),
        fast_(choose_kernel(options.kernel, Precision::kFast)) {
    DEPTHLENS_ASSERT(exact_.gemm != nullptr && fast_.gemm != nullptr);
  }

  std::string kernel_name(Precision precision) const override { return kernel_for(precision).name; }

  bool multiplies_stored(at::ScalarType type) const override {
    return type == at::kFloat || type == at::kBFloat16 || type == at::kHalf;
  }

  PackedRows pack(const at::Tensor& rows, Precision precision) const override {
    PackedRows packed{.values = rows, .precision = precision, .blocks = {}};
    if (!multiplies_stored(rows.scalar_type()) || records_gradient(rows)) return packed;
    // All bits that such rows have.
    if (rows.scalar_type() == at::kBFloat16) packed.precision = Precision::kFast;
    if (rows.scalar_type() == at::kHalf) packed.precision = Precision::kFloat32;
    packed.blocks = pack_for_product(kernel_for(packed.precision), packed.precision, rows.to(at::kFloat));
    return packed;
  }

  std::unique_ptr<VocabularyPass> vocabulary_pass(const Unembedding& unembedding,
                                                  Precision precision) const override {
    if (!multiplies_stored(unembedding.weight.scalar_type())) return make_aten_pass(unembedding);
    return make_cpu_pass(kernel_for(precision), precision, unembedding, options().should_stop);
  }

 protected:
  at::Tensor product(const PackedRows& rows, const at::Tensor& weight, Way way) const override {
    if (!rows.blocks.defined()) return aten_linear(rows.values, weight, way);
    const at::ScalarType type = rows.values.scalar_type();
    return packed_product(kernel_for(rows.precision), rows.precision, rows.blocks, rows.values.size(0),
                          type == at::kFloat ? weight : weight.to(type), way, options().should_stop);
  }

  bool takes_fewer_bits(Precision precision) const override {
    return precision == Precision::kFast && fast_.splits;
  }

 private:
  const CpuKernel& kernel_for(Precision precision) const {
    return precision == Precision::kFast ? fast_ : exact_;
  }

  CpuKernel exact_, fast_;
};

}  // namespace

std::shared_ptr<const Backend> make_cpu_backend(const BackendOptions& options) {
  return std::make_shared<CpuBackend>(options);
}

}  // namespace depthlens::compute
