// Loading by the table of the architecture, and the one decoder block.
#include "depthlens/model/model.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <optional>
#include <set>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/model/stored_weights.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "layers.hpp"
#include "tensor_names.hpp"

namespace depthlens::model {
/// The tensors of a checkpoint by the table of the architecture, with account of which have been claimed.
class Model::WeightFiles {
 public:
  WeightFiles(io::TensorFile file, const ArchSpec& spec, std::string where, const LoadOptions& options)
      : file_(std::move(file)), names_(spec, file_), where_(std::move(where)), options_(options) {}

  /// Checks that the tensor is there, in shape, and of a type that can be read.
  void claim(const TensorRule& rule, std::int64_t block) {
    const std::string name = names_.of(rule, block);
    const auto found = file_.entries().find(name);
    if (found == file_.entries().end()) {
      std::vector<std::string> names;
      for (const auto& [other, entry] : file_.entries()) names.push_back(other);
      std::string hint = util::did_you_mean(name, names);
      if (hint.empty() && rule.slot == Slot::kUnembedding)
        hint = "where the unembedding is the embedding, config.json must say tie_word_embeddings: true";
      throw util::format_error({.what = "missing tensor '" + name + "'",
                                .where = where_,
                                .expected = "shape " + util::shape_text(rule.shape),
                                .found = "no tensor of that name",
                                .hint = hint});
    }
    if (found->second.shape != rule.shape) {
      throw util::format_error({.what = "tensor '" + name + "' has the wrong shape",
                                .where = where_,
                                .expected = util::shape_text(rule.shape),
                                .found = util::shape_text(found->second.shape)});
    }
    if (!at::isFloatingType(found->second.dtype)) {
      throw util::format_error({.what = "tensor '" + name + "' does not hold floating-point numbers",
                                .where = where_,
                                .expected = "float32, float16 or bfloat16",
                                .found = at::toString(found->second.dtype)});
    }
    claimed_.insert(name);
  }

  /// Of a claimed tensor.
  at::Tensor load(const TensorRule& rule, std::int64_t block) const {
    const std::string name = names_.of(rule, block);
    // Vectors are few, and norms and biases are applied in float32.
    const at::ScalarType dtype =
        rule.shape.size() == 1 ? at::kFloat : kept_as(file_.entries().at(name).dtype);
    const at::Tensor tensor = rule.transposed ? file_.load_transposed(name, dtype) : file_.load(name, dtype);
    return tensor.to(options_.backend->device());
  }

  /// Takes a block's tensors out of memory, or asks for them to be read where there is such a block.
  void release(const ArchSpec& spec, std::int64_t block) const {
    for (const TensorRule& rule : spec.block_tensors) file_.release(names_.of(rule, block));
  }
  void read_ahead(const ArchSpec& spec, std::int64_t block) const {
    if (block >= spec.num_layers) return;
    for (const TensorRule& rule : spec.block_tensors) file_.read_ahead(names_.of(rule, block));
  }

  /// Throws where a tensor is neither claimed nor known to carry no weight of the model.
  void check_nothing_is_left(const ArchSpec& spec) const {
    std::vector<std::string> left;
    for (const auto& [name, entry] : file_.entries()) {
      if (claimed_.count(name) == 0 && !TensorNames::is_ignorable(spec, name)) left.push_back(name);
    }
    if (left.empty()) return;
    const std::size_t shown = std::min<std::size_t>(left.size(), 3);
    throw util::format_error(
        {.what = "tensors that the architecture has no place for",
         .where = where_,
         .expected = "only those of " + spec.architecture,
         .found = util::cat(util::join({left.begin(), left.begin() + shown}, ", "),
                            left.size() > shown ? util::cat(" and ", left.size() - shown, " more") : ""),
         .hint = "an adapter (LoRA) must be merged into the weights first"});
  }

 private:
  /// The type in which a matrix is kept that is stored as `stored`.
  at::ScalarType kept_as(at::ScalarType stored) const {
    return options_.dtype == at::kFloat && options_.backend->multiplies_stored(stored) ? stored
                                                                                       : options_.dtype;
  }

  io::TensorFile file_;
  TensorNames names_;
  std::string where_;
  LoadOptions options_;
  std::set<std::string> claimed_;
};

at::Tensor index_tensor(const std::vector<std::int64_t>& values, at::Device device) {
  return at::from_blob(const_cast<std::int64_t*>(values.data()), {static_cast<std::int64_t>(values.size())},
                       at::kLong)
      .clone()
      .to(device);
}

at::Tensor OutputHead::normed(const at::Tensor& states) const {
  return apply_norm(norm, states, norm_weight, norm_bias, norm_epsilon);
}

std::shared_ptr<const Model> Model::load(const std::filesystem::path& folder, const LoadOptions& options) {
  // Not InferenceMode: a backward pass through the blocks reads the weights, and tensors made in that mode
  // cannot be kept for one.
  const c10::NoGradGuard no_gradients;
  std::shared_ptr<Model> model(new Model());
  model->folder_ = folder;
  model->options_ = options;
  if (model->options_.backend == nullptr) model->options_.backend = compute::Backend::create();
  const std::filesystem::path config_path = folder / "config.json";
  const util::Json config = util::parse_json(util::read_file(config_path, 64 << 20), config_path.string());
  model->spec_ = read_arch_spec({config, config_path.string()});
  model->load_weights();
  return model;
}

void Model::load_weights() {
  io::TensorFile opened = io::open_checkpoint(folder_);
  spec_ = settled(std::move(spec_), opened);
  const auto files = std::make_shared<WeightFiles>(std::move(opened), spec_, folder_.string(), options_);
  const auto claim = [&](const TensorRule& rule, std::int64_t block) {
    files->claim(rule, block);
    num_parameters_ += c10::multiply_integers(rule.shape);
  };
  for (const TensorRule& rule : spec_.model_tensors) claim(rule, 0);
  for (std::int64_t i = 0; i < spec_.num_layers; ++i) {
    for (const TensorRule& rule : spec_.block_tensors) claim(rule, i);
  }
  files->check_nothing_is_left(spec_);

  files_ = files;
  for (const TensorRule& rule : spec_.model_tensors) weights_[rule.slot] = files->load(rule, 0);
  if (!options_.stream_layers) {
    for (std::int64_t i = 0; i < spec_.num_layers; ++i) blocks_.push_back(load_block(i));
    files_ = nullptr;
  }

  head_.norm = spec_.norm;
  head_.norm_epsilon = spec_.norm_epsilon;
  head_.norm_weight = weights_[Slot::kFinalNormWeight];
  head_.norm_bias = weights_[Slot::kFinalNormBias];
  head_.unembedding.weight = weights_[spec_.tied_unembedding ? Slot::kTokenEmbedding : Slot::kUnembedding];
  head_.unembedding.bias = weights_[Slot::kUnembeddingBias];
}

Model::Weights Model::load_block(std::int64_t block) const {
  const c10::NoGradGuard no_gradients;
  Weights weights;
  if (!spec_.attention_windows.empty())
    weights.attention_window = spec_.attention_windows[static_cast<std::size_t>(block)];
  for (const TensorRule& rule : spec_.block_tensors) weights[rule.slot] = files_->load(rule, block);
  return weights;
}

at::Tensor Model::norm(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) const {
  return apply_norm(spec_.norm, input, weight, bias, spec_.norm_epsilon);
}

compute::PackedRows Model::packed(const at::Tensor& input) const {
  return backend().pack(input.to(options_.dtype));
}

at::Tensor Model::attention(const Weights& block, const at::Tensor& input, const PackedWindows& windows,
                            const std::array<at::Tensor, 2>& rotation) const {
  const std::int64_t T = input.size(0), H = spec_.num_heads, G = spec_.num_kv_heads, dh = spec_.head_size;
  const compute::PackedRows rows = packed(input);
  at::Tensor q, k, v;  // [T, H, dh], [T, G, dh], [T, G, dh]
  if (spec_.qkv == QkvLayout::kSeparate) {
    q = backend().linear(rows, block[Slot::kQueryWeight], block[Slot::kQueryBias]).view({T, H, dh});
    k = backend().linear(rows, block[Slot::kKeyWeight], block[Slot::kKeyBias]).view({T, G, dh});
    v = backend().linear(rows, block[Slot::kValueWeight], block[Slot::kValueBias]).view({T, G, dh});
  } else {
    const at::Tensor fused = backend().linear(rows, block[Slot::kQkvWeight], block[Slot::kQkvBias]);
    const bool by_kind = spec_.qkv == QkvLayout::kFusedByKind;
    const at::Tensor parts = by_kind ? fused.view({T, 3, H, dh}) : fused.view({T, H, 3, dh}).transpose(1, 2);
    q = parts.select(1, 0);
    k = parts.select(1, 1);
    v = parts.select(1, 2);
  }
  if (block[Slot::kQueryNormWeight].defined()) {
    q = norm(q, block[Slot::kQueryNormWeight], {});
    k = norm(k, block[Slot::kKeyNormWeight], {});
  }
  if (spec_.rope.dims > 0) {
    q = rotate(q, spec_.rope, rotation);
    k = rotate(k, spec_.rope, rotation);
  }
  if (G != H) {  // each key-value head serves H / G query heads
    k = k.repeat_interleave(H / G, 1);
    v = v.repeat_interleave(H / G, 1);
  }
  // Splitting and joining, not views and copies: the derivative of a view is as large as the whole batch.
  const std::vector<at::Tensor> queries = q.split_with_sizes(windows.lengths);
  const std::vector<at::Tensor> keys = k.split_with_sizes(windows.lengths);
  const std::vector<at::Tensor> values = v.split_with_sizes(windows.lengths);
  std::vector<at::Tensor> mixed;
  for (std::size_t i = 0; i < queries.size(); ++i) {
    const auto by_head = [&](const at::Tensor& x) {
      return x.transpose(0, 1).unsqueeze(0).to(options_.dtype);  // [1, H, T', dh]
    };
    const at::Tensor out =
        attend(by_head(queries[i]), by_head(keys[i]), by_head(values[i]), block.attention_window);
    mixed.push_back(out.squeeze(0).transpose(0, 1).to(at::kFloat));
  }
  return backend().linear(packed(at::cat(mixed).reshape({T, H * dh})), block[Slot::kAttentionOutWeight],
                          block[Slot::kAttentionOutBias]);
}

at::Tensor Model::mlp(const Weights& block, const at::Tensor& input) const {
  const compute::PackedRows rows = packed(input);
  const at::Tensor up = backend().linear(rows, block[Slot::kMlpUpWeight], block[Slot::kMlpUpBias]);
  at::Tensor inner;
  if (spec_.gated_mlp) {
    const at::Tensor gate = activate(
        spec_.activation, backend().linear(rows, block[Slot::kMlpGateWeight], block[Slot::kMlpGateBias]));
    inner = compute::records_gradient(gate) ? gate * up : gate.mul_(up);
  } else {
    inner = activate(spec_.activation, up);
  }
  return backend().linear(packed(inner), block[Slot::kMlpDownWeight], block[Slot::kMlpDownBias]);
}

std::vector<std::int64_t> Model::positions_of(const PackedWindows& windows) const {
  std::vector<std::int64_t> positions;
  for (const std::int64_t length : windows.lengths) {
    DEPTHLENS_ASSERT(length >= 1 && length <= spec_.max_positions);
    for (std::int64_t p = 0; p < length; ++p) positions.push_back(p);
  }
  return positions;
}

at::Tensor Model::embed(const PackedWindows& windows) const {
  const c10::InferenceMode inference;
  const std::vector<std::int64_t> positions = positions_of(windows);
  DEPTHLENS_ASSERT(positions.size() == windows.tokens.size());
  DEPTHLENS_ASSERT(std::all_of(windows.tokens.begin(), windows.tokens.end(),
                               [&](std::int64_t id) { return id >= 0 && id < spec_.vocab_size; }));

  at::Tensor x =
      at::embedding(weights_[Slot::kTokenEmbedding], index_tensor(windows.tokens, device())).to(at::kFloat);
  if (weights_[Slot::kPositionEmbedding].defined()) {
    x = x +
        at::embedding(weights_[Slot::kPositionEmbedding], index_tensor(positions, device())).to(at::kFloat);
  }
  return x;
}

void Model::run_blocks(std::int64_t first_block, const at::Tensor& states, const PackedWindows& windows,
                       const ResidualTap& tap) const {
  std::optional<c10::InferenceMode> inference;
  if (!compute::records_gradient(states)) inference.emplace();
  const std::vector<std::int64_t> positions = positions_of(windows);
  DEPTHLENS_ASSERT(first_block >= 0 && first_block <= spec_.num_layers);
  DEPTHLENS_ASSERT(states.scalar_type() == at::kFloat && states.dim() == 2 &&
                   states.size(0) == static_cast<std::int64_t>(positions.size()) &&
                   states.size(1) == spec_.hidden_size);

  const std::array<at::Tensor, 2> rotation =
      spec_.rope.dims > 0 ? rotary_tables(spec_.rope, positions, device()) : std::array<at::Tensor, 2>();
  at::Tensor x = states;
  for (std::int64_t i = first_block; i < spec_.num_layers; ++i) {
    if (files_ != nullptr) files_->read_ahead(spec_, i + 1);
    const Weights block = files_ != nullptr ? load_block(i) : blocks_[static_cast<std::size_t>(i)];
    const at::Tensor attended =
        attention(block, norm(x, block[Slot::kAttentionNormWeight], block[Slot::kAttentionNormBias]), windows,
                  rotation);
    const at::Tensor middle = x + attended;
    const at::Tensor& mlp_reads = spec_.parallel_residual ? x : middle;
    x = middle + mlp(block, norm(mlp_reads, block[Slot::kMlpNormWeight], block[Slot::kMlpNormBias]));
    if (files_ != nullptr) files_->release(spec_, i);
    tap(i + 1, x);
  }
}

void Model::forward(const PackedWindows& windows, const ResidualTap& tap) const {
  const c10::InferenceMode inference;
  const at::Tensor embedded = embed(windows);
  tap(0, embedded);
  run_blocks(0, embedded, windows, tap);
}

}  // namespace depthlens::model
