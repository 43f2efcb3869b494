#include "weights.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <utility>

#include "depthlens/compute/mxfp4.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "layers.hpp"

namespace depthlens::model {
namespace {

/// Whether states can be finite where this is not: it only ranks, or what it makes goes through exponentials
/// that make 0 or 1 of an infinity.
bool hides_infinities(Slot slot) {
  return slot == Slot::kRouterBias || slot == Slot::kRouterWeight || slot == Slot::kSharedShareWeight ||
         slot == Slot::kAttentionGateWeight || slot == Slot::kAttentionGateBias ||
         slot == Slot::kDeltaUpdateWeight || slot == Slot::kDeltaDecayWeight ||
         slot == Slot::kDeltaDecayBias || slot == Slot::kDeltaLogDecay || slot == Slot::kScanStepWeight ||
         slot == Slot::kStateStepBias || slot == Slot::kStateLogDecay;
}

at::Tensor of_rows(const TensorRule& rule, const at::Tensor& tensor) {
  const auto& [first, count, step, run] = rule.rows;
  if (count == 0) return tensor;
  if (run == step || run == count) return tensor.narrow(0, first, count);
  return tensor.narrow(0, first, tensor.size(0) - first)
      .unfold(0, run, step)
      .narrow(0, 0, count / run)
      .movedim(-1, 1)
      .flatten(0, 1);
}

}  // namespace

at::Tensor Matrix::unfolded() const {
  return scales.defined() ? compute::unfold_mxfp4(values, scales) : values;
}

MlpWeights MlpWeights::on(at::Device device) const {
  const Placing place = moved_to(device);
  const auto matrix = [&](const Matrix& of) { return Matrix{place(of.values), place(of.scales)}; };
  return {.gate = matrix(gate),
          .up = matrix(up),
          .down = matrix(down),
          .gate_bias = place(gate_bias),
          .up_bias = place(up_bias),
          .down_bias = place(down_bias)};
}

Weights Weights::on(at::Device device) const {
  Weights moved = *this;
  for (at::Tensor& tensor : moved.slots) tensor = moved_to(device)(tensor);
  return moved;
}

bool stays_on_host(Slot slot) {
  return slot == Slot::kBlockEmbedding;
}

WeightFiles::WeightFiles(io::TensorFile file, const ArchSpec& spec, std::string where,
                         const LoadOptions& options)
    : file_(std::move(file)), spec_(spec), names_(spec, file_), where_(std::move(where)), options_(options) {}

WeightFiles::Claimed WeightFiles::claim(const TensorRule& rule, std::int64_t block) {
  if (rule.storage == TensorRule::Storage::kMxfp4) {
    const std::string name = names_.of(rule, block);
    std::vector<std::int64_t> shape = rule.shape;
    DEPTHLENS_ASSERT(shape.back() % compute::kMxfp4Group == 0);
    shape.back() /= compute::kMxfp4Group;
    claim_bytes(rule, name + "_scales", shape);
    shape.push_back(compute::kMxfp4Group / 2);
    if (!claim_bytes(rule, name + "_blocks", shape)) return {};
    const std::int64_t numbers = c10::multiply_integers(rule.shape);
    return {.numbers = numbers, .bytes = numbers / 2 + numbers / compute::kMxfp4Group};
  }
  Claimed claimed;
  for (const std::string& name : names_.all(rule, block)) {
    const io::TensorEntry& entry = find(rule, name, rule.shape);
    const at::ScalarType type = io::value_type(entry);
    if (!at::isFloatingType(type) || at::isFloat8Type(type))
      fail_type(name, entry, "float32, float16 or bfloat16");
    if (!claimed_.insert(name).second) continue;
    const std::int64_t numbers = c10::multiply_integers(rule.shape);
    const at::ScalarType kept = kept_as(rule, type, *options_.backends.back());
    claimed.numbers += numbers;
    claimed.bytes += numbers * static_cast<std::int64_t>(c10::elementSize(kept));
  }
  return claimed;
}

bool WeightFiles::is_there(const TensorRule& rule, std::int64_t block) const {
  const auto names = names_.all(rule, block);
  return std::all_of(names.begin(), names.end(), [&](const std::string& name) { return file_.has(name); });
}

at::Tensor WeightFiles::load(const TensorRule& rule, std::int64_t block,
                             const compute::Backend& backend) const {
  if (rule.stacked > 0) {
    std::vector<at::Tensor> rows;
    for (std::int64_t n = 0; n < rule.stacked; ++n)
      rows.push_back(file_.load(names_.of(rule, block, n), at::kFloat));
    return at::stack(rows);
  }
  const std::string name = names_.of(rule, block);
  const at::Tensor tensor = used(rule, name, backend);
  if (hides_infinities(rule.slot) && !at::isfinite(tensor).all().item<bool>()) {
    throw util::format_error({.what = "tensor '" + name + "' is not finite",
                              .where = where_,
                              .expected = "numbers",
                              .found = "NaN or an infinity",
                              .hint = "the checkpoint is damaged, and states would not show it"});
  }
  return tensor;
}

Matrix WeightFiles::part_of_expert(const TensorRule& rule, std::int64_t block, std::int64_t expert,
                                   const compute::Backend& backend) const {
  if (rule.storage == TensorRule::Storage::kMxfp4) {
    const std::string name = names_.of(rule, block);
    const auto part = [&](const std::string& stored) {
      return of_rows(rule, file_.view(stored).select(0, expert));
    };
    return {part(name + "_blocks"), part(name + "_scales")};
  }
  return {used(rule, names_.of(rule, block, expert), backend, expert), {}};
}

void WeightFiles::check_nothing_is_left() const {
  std::vector<std::string> left;
  for (const auto& [name, entry] : file_.entries()) {
    if (claimed_.count(name) == 0 && !TensorNames::is_ignorable(spec_, name)) left.push_back(name);
  }
  if (left.empty()) return;
  const auto any = [&](const auto& is_one) { return std::any_of(left.begin(), left.end(), is_one); };
  const bool quantized = any([](const std::string& name) {
    return name.ends_with(".weight_scale_inv") || name.ends_with(".weight_scale") ||
           name.ends_with(".qweight") || name.ends_with(".qzeros") || name.ends_with(".scales") ||
           name.ends_with(".g_idx") || name.ends_with(".SCB");
  });
  const bool adapter = any([](const std::string& name) {
    return name.find("lora_") != std::string::npos || name.find(".base_layer.") != std::string::npos;
  });
  const std::size_t shown = std::min<std::size_t>(left.size(), 3);
  throw util::format_error(
      {.what = "tensors that the architecture has no place for",
       .where = where_,
       .expected = "only those of " + spec_.architecture,
       .found = util::cat(util::join({left.begin(), left.begin() + shown}, ", "),
                          left.size() > shown ? util::cat(" and ", left.size() - shown, " more") : ""),
       .hint = quantized ? "the weights are quantized: take a conversion to bfloat16, float16 or float32"
               : adapter ? "an adapter (LoRA) must be merged into the weights first"
                         : "config.json may be another model's, or the weights are of more than a language "
                           "model: a value head, a classifier, more blocks than it says"});
}

Weights WeightFiles::load_block(std::int64_t block, const compute::Backend& backend, bool experts,
                                const Placing& place) const {
  const c10::NoGradGuard no_gradients;
  Weights weights;
  weights.backend = &backend;
  for (const TensorRule& rule : spec_.block_tensors) {
    if (spec_.has(rule, block) && !is_of_expert(rule.slot))
      weights[rule.slot] = place(load(rule, block, backend));
  }
  if (experts && spec_.blocks[static_cast<std::size_t>(block)].experts) {
    for (std::int64_t e = 0; e < spec_.experts.count; ++e)
      weights.experts.push_back(load_expert(block, e, backend, place));
  }
  return weights;
}

MlpWeights WeightFiles::load_expert(std::int64_t block, std::int64_t expert, const compute::Backend& backend,
                                    const Placing& place) const {
  const c10::NoGradGuard no_gradients;
  MlpWeights weights;
  for (const TensorRule& rule : spec_.block_tensors) {
    if (!is_of_expert(rule.slot)) continue;
    Matrix matrix = part_of_expert(rule, block, expert, backend);
    matrix.values = place(matrix.values);
    if (matrix.scales.defined()) matrix.scales = place(matrix.scales);
    switch (rule.slot) {
      case Slot::kExpertGateWeight:
        weights.gate = matrix;
        break;
      case Slot::kExpertUpWeight:
        weights.up = matrix;
        break;
      case Slot::kExpertDownWeight:
        weights.down = matrix;
        break;
      case Slot::kExpertGateBias:
        weights.gate_bias = matrix.values;
        break;
      case Slot::kExpertUpBias:
        weights.up_bias = matrix.values;
        break;
      default:
        DEPTHLENS_ASSERT(rule.slot == Slot::kExpertDownBias);
        weights.down_bias = matrix.values;
    }
  }
  return weights;
}

void WeightFiles::release(std::int64_t block) const {
  for (const std::string& name : names_of_block(block, /*experts=*/true)) file_.release(name);
}

void WeightFiles::read_ahead(std::int64_t block, bool experts) const {
  if (block >= spec_.num_layers) return;
  for (const std::string& name : names_of_block(block, experts)) file_.read_ahead(name);
}

/// The type in which a tensor is kept that is stored as `stored`.
at::ScalarType WeightFiles::kept_as(const TensorRule& rule, at::ScalarType stored,
                                    const compute::Backend& backend) const {
  if (stays_on_host(rule.slot)) return stored;
  // Vectors are few, and norms and biases are applied in float32, also one that is stored as a row; so are
  // convolutions, which have three dimensions, and decays, of whatever shape.
  const std::size_t dims = rule.shape.size() - (rule.of_all_experts && !rule.experts_in_rows ? 1 : 0);
  if (dims != 2 || rule.slot == Slot::kStateLogDecay || rule.slot == Slot::kRouterBias) return at::kFloat;
  return options_.dtype == at::kFloat && backend.multiplies_stored(stored) ? stored : options_.dtype;
}

/// A stored tensor, or of one of all experts the part of `expert`, in the form in which it is used. Where
/// that copies it, the file's pages are released.
at::Tensor WeightFiles::used(const TensorRule& rule, const std::string& name, const compute::Backend& backend,
                             std::int64_t expert) const {
  const io::TensorEntry& entry = file_.entries().at(name);
  const at::ScalarType dtype = kept_as(rule, io::value_type(entry), backend);
  at::Tensor tensor;
  if (rule.of_all_experts || rule.rows.count > 0) {
    at::Tensor part;
    if (rule.of_all_experts && !rule.experts_in_rows) {
      part = io::tensor_view(io::selected(entry, expert));
    } else {
      part = file_.view(name);
      if (rule.of_all_experts) part = part.unflatten(0, {spec_.experts.count, -1}).select(0, expert);
    }
    if (rule.transposed) part = part.t();
    part = of_rows(rule, part);
    tensor = part.to(dtype).contiguous();
    if (!tensor.is_alias_of(part)) file_.release(name);
  } else {
    tensor = rule.transposed ? file_.load_transposed(name, dtype) : file_.load(name, dtype);
  }
  return rule.less_one ? tensor + 1 : tensor;
}

const io::TensorEntry& WeightFiles::find(const TensorRule& rule, const std::string& name,
                                         const std::vector<std::int64_t>& shape) const {
  const auto found = file_.entries().find(name);
  if (found == file_.entries().end()) {
    std::vector<std::string> names;
    for (const auto& [other, entry] : file_.entries()) names.push_back(other);
    std::string hint = util::did_you_mean(name, names);
    for (const std::string& other : names) {
      if (hint.empty() && other.ends_with("." + name))
        hint = "there is '" + other + "': save the model without what stands before its name";
    }
    if (hint.empty() && rule.slot == Slot::kUnembedding)
      hint = "where the unembedding is the embedding, config.json must say tie_word_embeddings: true";
    throw util::format_error({.what = "missing tensor '" + name + "'",
                              .where = where_,
                              .expected = "shape " + util::shape_text(shape),
                              .found = "no tensor of that name",
                              .hint = hint});
  }
  if (found->second.shape == shape) return found->second;
  throw util::format_error({.what = "tensor '" + name + "' has the wrong shape",
                            .where = where_,
                            .expected = util::shape_text(shape),
                            .found = util::shape_text(found->second.shape)});
}

bool WeightFiles::claim_bytes(const TensorRule& rule, const std::string& name,
                              const std::vector<std::int64_t>& shape) {
  const io::TensorEntry& entry = find(rule, name, shape);
  if (entry.dtype != at::kByte) fail_type(name, entry, "bytes (U8)");
  return claimed_.insert(name).second;
}

void WeightFiles::fail_type(const std::string& name, const io::TensorEntry& entry,
                            const std::string& expected) const {
  throw util::format_error(
      {.what = at::isFloatingType(entry.dtype) ? "tensor '" + name + "' has the wrong type"
                                               : "tensor '" + name + "' does not hold floating-point numbers",
       .where = where_,
       .expected = expected,
       .found = at::toString(entry.dtype),
       .hint = at::isFloat8Type(entry.dtype)
                   ? "config.json says nothing of numbers in 8 bits: where they are quantized "
                     "weights its quantization_config is missing"
                   : ""});
}

std::set<std::string> WeightFiles::names_of_block(std::int64_t block, bool experts) const {
  std::set<std::string> names;
  for (const TensorRule& rule : spec_.block_tensors) {
    if (!spec_.has(rule, block) || (is_of_expert(rule.slot) && !experts)) continue;
    for (const std::string& name : names_.all(rule, block)) names.insert(name);
  }
  return names;
}

}  // namespace depthlens::model
