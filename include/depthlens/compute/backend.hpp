// How anything is multiplied: made once, from what a user asks for, and handed down. Nothing below looks at
// the environment or at the processor by itself.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace depthlens::compute {

class VocabularyPass;
struct Unembedding;

/// How many bits of each factor reach a product. Sums are float32 in all of them.
enum class Precision {
  kFloat32,  ///< all 24
  kExact,    ///< 16 or more, whichever is quicker: what the accuracy of docs/methods.md rests on
  kFast      ///< 8 where this device multiplies them quicker, else as kExact
};

struct BackendOptions {
  /// "cpu", "cuda" (which is cuda:0), "cuda:N", or a device that the process has registered; for `create_all`
  /// several of them, with commas.
  std::string device = "cpu";
  std::string kernel = {};                  ///< of the processor, by name; "": the fastest that it runs
  std::filesystem::path kernel_cache = {};  ///< where kernels compiled for cards are kept; empty: nowhere
  Precision decode = Precision::kExact;
  /// Bytes that residual states, logits and readouts of a batch may take together; 0: as the device has them.
  std::uint64_t memory = 0;
  /// Asked from time to time, on several threads: where it is true, products throw util::interrupted_error()
  /// instead of going on. None: they go on to their end.
  std::function<bool()> should_stop = {};
};

/// What work is worth on a device, as far as its memory goes.
struct WorkSizes {
  std::int64_t tokens_per_batch = 4096;
  /// States of positions in a chunk of the decoder: so many are worth reading all weights; more take memory.
  std::int64_t rows_per_chunk = 6144;
  std::int64_t positions_per_chunk = 512;
  /// Positions whose states a lens translates at once, where they are more than a chunk: so many are worth
  /// reading its weights.
  std::int64_t positions_translated = 0;
  /// Attention of windows of several lengths is one call where that takes at most so many times the rows.
  std::int64_t attention_padding = 1;
  /// What the states of a batch may take, in times of `memory()`; more where all weights are read from disk
  /// for it, which it must be worth.
  double memory_of_batch = 0.5, memory_where_streamed = 6;
  /// Bytes of a recorded pass of a Jacobian fit. The same on all devices of a kind: a fit is put together
  /// from shares, whose last bits depend on it.
  std::int64_t bytes_recorded = std::int64_t{256} << 20;
};

/// Which way rows are multiplied by weights [out, in].
enum class Way {
  kForward,  ///< [T, in] · weightᵀ: [T, out]
  kBack      ///< [T, out] · weight: [T, in]
};

/// Rows in the form in which a backend multiplies them: packed once for any number of products.
struct PackedRows {
  at::Tensor values;    ///< [T, d] as they were given
  Precision precision;  ///< of the products
  at::Tensor blocks;    ///< where the backend has kernels of its own for them; else undefined
};

class Backend {
 public:
  /// Throws usage errors for a device that is not there, and for a kernel that does not run here.
  static std::shared_ptr<const Backend> create(const BackendOptions& options = {});
  /// One for each device of the list, in its order. Throws usage errors as `create`, and for an empty entry
  /// and a device that is named twice.
  static std::vector<std::shared_ptr<const Backend>> create_all(const BackendOptions& options);
  /// Throws what `create_all` throws for a list of devices, and makes nothing.
  static void require_devices(const std::string& devices);
  virtual ~Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  at::Device device() const { return device_; }
  /// Bytes of a batch: what was asked for, or by default 384 MiB, on a card a part of what is free now.
  virtual std::uint64_t memory() const {
    constexpr std::uint64_t kOfHost = std::uint64_t{384} << 20;
    return options_.memory > 0 ? options_.memory : kOfHost;
  }
  virtual WorkSizes work_sizes() const { return {}; }
  /// Of decoding: what was asked for, but kExact where kFast would change nothing.
  Precision decode_precision() const {
    return takes_fewer_bits(options_.decode) ? options_.decode : Precision::kExact;
  }
  /// What `run.json` calls the kernel that multiplies with this precision.
  virtual std::string kernel_name(Precision precision) const = 0;
  std::string kernel_name() const { return kernel_name(decode_precision()); }

  /// Whether weights of that type are multiplied as they are stored; others are converted to the type of the
  /// rows.
  virtual bool multiplies_stored(at::ScalarType type) const = 0;

  /// Rows [T, d] of any floating type on this device. Where a precision is no quicker here, or libtorch
  /// multiplies rows of that type, products have more bits than they were asked for.
  virtual PackedRows pack(const at::Tensor& rows, Precision precision) const = 0;
  /// rows [T, in] · weightᵀ [out, in] + bias, in the rows' type, whatever the weight is stored as; returns
  /// float32 [T, out], or float64 of rows in float64. `bias` may be undefined. On processors a row's result
  /// does not depend on how many other rows there are. Where the rows record a gradient, it is recorded by
  /// them alone, with the weight as it is stored; the backend must outlive what is recorded.
  at::Tensor linear(const PackedRows& rows, const at::Tensor& weight, const at::Tensor& bias) const;
  at::Tensor linear(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& bias) const {
    return linear(pack(rows, Precision::kFloat32), weight, bias);
  }
  /// rows [T, out] · weight [out, in]: [T, in], as `linear`, but never recorded.
  at::Tensor linear_back(const PackedRows& rows, const at::Tensor& weight) const;

  /// Shares the tensors of `unembedding`, which must be on this device.
  virtual std::unique_ptr<VocabularyPass> vocabulary_pass(const Unembedding& unembedding,
                                                          Precision precision) const = 0;

 protected:
  Backend(const BackendOptions& options, at::Device device) : options_(options), device_(device) {}
  /// Whether this precision is quicker than kExact here, and rounds more.
  virtual bool takes_fewer_bits(Precision precision) const = 0;
  const BackendOptions& options() const { return options_; }
  /// What `linear` gives without a bias, and `linear_back`.
  virtual at::Tensor product(const PackedRows& rows, const at::Tensor& weight, Way way) const = 0;

 private:
  BackendOptions options_;
  at::Device device_;
};

/// The names of the kernels that this processor runs, the quickest for this precision first.
std::vector<std::string> processor_kernels(Precision precision);

/// Whether a gradient is being recorded through `x`. Operations in place must then leave alone what a
/// backward pass reads, and operators of libraries that have no derivative are out of the question.
bool records_gradient(const at::Tensor& x);

}  // namespace depthlens::compute
