// Loading by the table of the architecture, and the way through all blocks.
#include "depthlens/model/model.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "depthlens/compute/mxfp4.hpp"
#include "depthlens/compute/transfer.hpp"
#include "depthlens/io/checkpoint.hpp"
#include "depthlens/model/memory.hpp"
#include "depthlens/model/stored_weights.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "depthlens/util/worker.hpp"
#include "layers.hpp"
#include "tensor_names.hpp"

namespace depthlens::model {
namespace {

/// Whether a tensor turns states into logits.
bool is_of_head(Slot slot, const ArchSpec& spec) {
  return slot == Slot::kFinalNormWeight || slot == Slot::kFinalNormBias || slot == Slot::kUnembedding ||
         slot == Slot::kUnembeddingBias || slot == Slot::kOutputProjection ||
         (slot == Slot::kTokenEmbedding && spec.tied_unembedding);
}

/// Whether a tensor of the model makes the states of layer 0, or what blocks are told beside them.
bool is_of_embedding(Slot slot) {
  return slot == Slot::kTokenEmbedding || slot == Slot::kPositionEmbedding ||
         slot == Slot::kEmbeddingProjection || slot == Slot::kEmbeddingNormWeight ||
         slot == Slot::kEmbeddingNormBias || slot == Slot::kBlockEmbeddingProjection ||
         slot == Slot::kBlockEmbeddingNormWeight;
}

/// Whether a tensor of the model stays where the checkpoint is, as it is stored. The embedding for each block
/// is larger than all that it is read by, and only the rows of tokens are: they are gathered on the host,
/// from the mapped file, and sent to where they are needed.
bool stays_on_host(Slot slot) {
  return slot == Slot::kBlockEmbedding;
}

/// Whether states can be finite where this is not: it only ranks, or goes through exponentials that make 0 of
/// an infinity.
bool hides_infinities(Slot slot) {
  return slot == Slot::kRouterBias || slot == Slot::kRouterWeight || slot == Slot::kDeltaDecayBias ||
         slot == Slot::kDeltaLogDecay || slot == Slot::kStateStepBias || slot == Slot::kStateLogDecay;
}

}  // namespace

/// The tensors of a checkpoint by the table of the architecture, with account of which have been claimed.
class Model::WeightFiles {
 public:
  WeightFiles(io::TensorFile file, const ArchSpec& spec, std::string where, const LoadOptions& options)
      : file_(std::move(file)), names_(spec, file_), where_(std::move(where)), options_(options) {}

  /// Of what no rule before has claimed: numbers, and bytes in the form in which they are kept.
  struct Claimed {
    std::int64_t numbers = 0, bytes = 0;
  };

  /// Checks that the tensors of a rule are there, in shape, and of a type that can be read.
  Claimed claim(const TensorRule& rule, std::int64_t block) {
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
      if (!at::isFloatingType(entry.dtype)) fail_type(name, entry, "float32, float16 or bfloat16");
      if (!claimed_.insert(name).second) continue;
      const std::int64_t numbers = c10::multiply_integers(rule.shape);
      const at::ScalarType kept = kept_as(rule, entry.dtype, *options_.backends.back());
      claimed.numbers += numbers;
      claimed.bytes += numbers * static_cast<std::int64_t>(c10::elementSize(kept));
    }
    return claimed;
  }

  /// Whether every tensor of a rule is in the checkpoint.
  bool is_there(const TensorRule& rule, std::int64_t block) const {
    const auto names = names_.all(rule, block);
    return std::all_of(names.begin(), names.end(), [&](const std::string& name) { return file_.has(name); });
  }

  /// Of a claimed tensor that is not of experts, in the host's memory, as the backend multiplies it.
  at::Tensor load(const TensorRule& rule, std::int64_t block, const compute::Backend& backend) const {
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

  /// Likewise the part of a rule of experts that is `expert`'s. Its scales are undefined where the storage
  /// has none.
  std::array<at::Tensor, 2> load_expert(const TensorRule& rule, std::int64_t block, std::int64_t expert,
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

  /// Takes a block's tensors out of memory, or asks for them to be read where there is such a block; those of
  /// experts only if asked for, since one that no token chooses need not be read at all.
  void release(const ArchSpec& spec, std::int64_t block) const {
    for (const std::string& name : names_of_block(spec, block, /*experts=*/true)) file_.release(name);
  }
  void read_ahead(const ArchSpec& spec, std::int64_t block, bool experts) const {
    if (block >= spec.num_layers) return;
    for (const std::string& name : names_of_block(spec, block, experts)) file_.read_ahead(name);
  }

  /// Throws where a tensor is neither claimed nor known to carry no weight of the model.
  void check_nothing_is_left(const ArchSpec& spec) const {
    std::vector<std::string> left;
    for (const auto& [name, entry] : file_.entries()) {
      if (claimed_.count(name) == 0 && !TensorNames::is_ignorable(spec, name)) left.push_back(name);
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
         .expected = "only those of " + spec.architecture,
         .found = util::cat(util::join({left.begin(), left.begin() + shown}, ", "),
                            left.size() > shown ? util::cat(" and ", left.size() - shown, " more") : ""),
         .hint = quantized ? "the weights are quantized: take a conversion to bfloat16, float16 or float32"
                 : adapter ? "an adapter (LoRA) must be merged into the weights first"
                           : "config.json may be another model's, or the weights are of more than a language "
                             "model: a value head, a classifier, more blocks than it says"});
  }

 private:
  /// The type in which a tensor is kept that is stored as `stored`.
  at::ScalarType kept_as(const TensorRule& rule, at::ScalarType stored,
                         const compute::Backend& backend) const {
    if (stays_on_host(rule.slot)) return stored;
    // Vectors are few, and norms and biases are applied in float32, also one that is stored as a row; so are
    // convolutions, which have three dimensions, and decays, of whatever shape.
    const std::size_t dims = rule.shape.size() - (rule.of_all_experts ? 1 : 0);
    if (dims != 2 || rule.slot == Slot::kStateLogDecay || rule.slot == Slot::kRouterBias) return at::kFloat;
    return options_.dtype == at::kFloat && backend.multiplies_stored(stored) ? stored : options_.dtype;
  }

  static at::Tensor of_rows(const TensorRule& rule, const at::Tensor& tensor) {
    const auto& [first, count, step, run] = rule.rows;
    if (count == 0) return tensor;
    if (run == step || run == count) return tensor.narrow(0, first, count);
    return tensor.narrow(0, first, tensor.size(0) - first)
        .unfold(0, run, step)
        .narrow(0, 0, count / run)
        .movedim(-1, 1)
        .flatten(0, 1);
  }

  /// A stored tensor, or of one of all experts the part of `expert`, in the form in which it is used. Where
  /// that copies it, the file's pages are released.
  at::Tensor used(const TensorRule& rule, const std::string& name, const compute::Backend& backend,
                  std::int64_t expert = 0) const {
    const at::ScalarType dtype = kept_as(rule, file_.entries().at(name).dtype, backend);
    at::Tensor tensor;
    if (rule.of_all_experts || rule.rows.count > 0) {
      at::Tensor part = file_.view(name);
      if (rule.of_all_experts) part = part.select(0, expert);
      if (rule.transposed) part = part.t();
      part = of_rows(rule, part);
      tensor = part.to(dtype).contiguous();
      if (!tensor.is_alias_of(part)) file_.release(name);
    } else {
      tensor = rule.transposed ? file_.load_transposed(name, dtype) : file_.load(name, dtype);
    }
    return rule.less_one ? tensor + 1 : tensor;
  }

  const io::TensorEntry& find(const TensorRule& rule, const std::string& name,
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

  bool claim_bytes(const TensorRule& rule, const std::string& name, const std::vector<std::int64_t>& shape) {
    const io::TensorEntry& entry = find(rule, name, shape);
    if (entry.dtype != at::kByte) fail_type(name, entry, "bytes (U8)");
    return claimed_.insert(name).second;
  }

  [[noreturn]] void fail_type(const std::string& name, const io::TensorEntry& entry,
                              const std::string& expected) const {
    throw util::format_error({.what = at::isFloatingType(entry.dtype)
                                          ? "tensor '" + name + "' has the wrong type"
                                          : "tensor '" + name + "' does not hold floating-point numbers",
                              .where = where_,
                              .expected = expected,
                              .found = at::toString(entry.dtype)});
  }

  std::set<std::string> names_of_block(const ArchSpec& spec, std::int64_t block, bool experts) const {
    std::set<std::string> names;
    for (const TensorRule& rule : spec.block_tensors) {
      if (!spec.has(rule, block) || (is_of_expert(rule.slot) && !experts)) continue;
      for (const std::string& name : names_.all(rule, block)) names.insert(name);
    }
    return names;
  }

  io::TensorFile file_;
  TensorNames names_;
  std::string where_;
  LoadOptions options_;
  std::set<std::string> claimed_;
};

at::Tensor index_tensor(const std::vector<std::int64_t>& values, at::Device device) {
  return compute::copied_to(device, at::from_blob(const_cast<std::int64_t*>(values.data()),
                                                  {static_cast<std::int64_t>(values.size())}, at::kLong));
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
  auto& backends = model->options_.backends;
  if (backends.empty()) backends = {compute::Backend::create()};
  if (options.head_only) backends = {backends.back()};  // the head is on the last
  const std::filesystem::path config_path = folder / "config.json";
  const util::Json config = util::parse_config(util::read_file(config_path, 64 << 20), config_path.string());
  model->spec_ = read_arch_spec({config, config_path.string()});
  model->load_weights();
  return model;
}

void Model::load_weights() {
  io::TensorFile opened = io::open_checkpoint(folder_);
  spec_ = settled(std::move(spec_), opened);
  const auto files = std::make_shared<WeightFiles>(std::move(opened), spec_, folder_.string(), options_);
  // Of a checkpoint of which the head alone is wanted, the rest need not be there.
  const auto is_wanted = [&](const TensorRule& rule, std::int64_t block) {
    return !options_.head_only || is_of_head(rule.slot, spec_) || files->is_there(rule, block);
  };
  std::int64_t bytes_before = 0, bytes_after = 0;  // of what is on the first device, and on the last
  std::vector<std::int64_t> bytes(static_cast<std::size_t>(spec_.num_layers), 0);
  for (const TensorRule& rule : spec_.model_tensors) {
    if (!is_wanted(rule, 0)) continue;
    const WeightFiles::Claimed claimed = files->claim(rule, 0);
    num_parameters_ += claimed.numbers;
    if (is_of_embedding(rule.slot)) bytes_before += claimed.bytes;
    if (is_of_head(rule.slot, spec_)) bytes_after += claimed.bytes;
  }
  for (std::int64_t i = 0; i < spec_.num_layers; ++i) {
    for (const TensorRule& rule : spec_.block_tensors) {
      if (!spec_.has(rule, i) || !is_wanted(rule, i)) continue;
      const WeightFiles::Claimed claimed = files->claim(rule, i);
      num_parameters_ += claimed.numbers;
      bytes[static_cast<std::size_t>(i)] += claimed.bytes;
    }
  }
  files->check_nothing_is_left(spec_);
  place_blocks(bytes, bytes_before, bytes_after);

  files_ = files;
  for (const TensorRule& rule : spec_.model_tensors) {
    if (options_.head_only && !is_of_head(rule.slot, spec_)) continue;
    const bool on_first = is_of_embedding(rule.slot);
    const compute::Backend& place = on_first ? *options_.backends.front() : backend();
    const at::Tensor loaded = files->load(rule, 0, place);
    weights_[rule.slot] = stays_on_host(rule.slot) ? loaded : moved_to(place.device())(loaded);
  }
  if (!options_.stream_layers && !options_.head_only) {
    for (std::int64_t i = 0; i < spec_.num_layers; ++i) {
      blocks_.push_back(load_block(i, /*experts=*/true, moved_to(backend_of(i).device())));
    }
    files_ = nullptr;
  }

  head_.norm = spec_.final_norm ? spec_.norm : NormKind::kNone;
  head_.norm_epsilon = spec_.norm_epsilon;
  head_.norm_weight = weights_[Slot::kFinalNormWeight];
  head_.norm_bias = weights_[Slot::kFinalNormBias];
  // A tied embedding is a copy of its own on the last of several devices.
  head_.unembedding.weight =
      weights_[spec_.tied_unembedding ? Slot::kTokenEmbedding : Slot::kUnembedding].to(device());
  if (const at::Tensor& projection = weights_[Slot::kOutputProjection]; projection.defined()) {  // [e, d]
    const at::Tensor columns = projection.to(at::kFloat).t().contiguous();
    head_.unembedding.weight =
        backend().linear(head_.unembedding.weight.to(at::kFloat), columns, {}).to(options_.dtype);
  }
  head_.unembedding.bias = weights_[Slot::kUnembeddingBias];
  head_.unembedding.transform = spec_.logit_transform;
}

void Model::place_blocks(const std::vector<std::int64_t>& bytes, std::int64_t bytes_before,
                         std::int64_t bytes_after) {
  // Each device's share is a stretch of all bytes in order; a block is where its middle is.
  const auto devices = static_cast<std::int64_t>(options_.backends.size());
  const double share =
      static_cast<double>(std::accumulate(bytes.begin(), bytes.end(), bytes_before + bytes_after)) /
      static_cast<double>(devices);
  auto place = static_cast<double>(bytes_before);
  for (const std::int64_t of_block : bytes) {
    const double middle = place + static_cast<double>(of_block) / 2;
    const auto which = share > 0 ? static_cast<std::int64_t>(middle / share) : 0;
    device_of_block_.push_back(static_cast<std::size_t>(std::min(which, devices - 1)));
    place += static_cast<double>(of_block);
  }
}

std::string Model::device_names() const {
  std::vector<std::string> names;
  for (const auto& backend : options_.backends) names.push_back(backend->device().str());
  return util::join(names, ",");
}

std::uint64_t Model::memory() const {
  std::uint64_t least = backend().memory();
  for (const auto& backend : options_.backends) least = std::min(least, backend->memory());
  return least;
}

std::int64_t Model::tokens_at_once(std::int64_t num_kept, double memory) const {
  const auto per_token = static_cast<double>(4 * (num_kept * spec_.hidden_size + floats_of_pass(spec_)));
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(memory / per_token));
}

Model::Weights Model::load_block(std::int64_t block, bool experts, const Placing& place) const {
  const c10::NoGradGuard no_gradients;
  Weights weights;
  weights.backend = &backend_of(block);
  for (const TensorRule& rule : spec_.block_tensors) {
    if (spec_.has(rule, block) && !is_of_expert(rule.slot))
      weights[rule.slot] = place(files_->load(rule, block, *weights.backend));
  }
  if (experts && spec_.blocks[static_cast<std::size_t>(block)].experts) {
    for (std::int64_t e = 0; e < spec_.experts.count; ++e)
      weights.experts.push_back(load_expert(block, e, place));
  }
  return weights;
}

Model::MlpWeights Model::load_expert(std::int64_t block, std::int64_t expert, const Placing& place) const {
  const c10::NoGradGuard no_gradients;
  MlpWeights weights;
  for (const TensorRule& rule : spec_.block_tensors) {
    if (!is_of_expert(rule.slot)) continue;
    auto [values, scales] = files_->load_expert(rule, block, expert, backend_of(block));
    values = place(values);
    if (scales.defined()) scales = place(scales);
    switch (rule.slot) {
      case Slot::kExpertGateWeight:
        weights.gate = {values, scales};
        break;
      case Slot::kExpertUpWeight:
        weights.up = {values, scales};
        break;
      case Slot::kExpertDownWeight:
        weights.down = {values, scales};
        break;
      case Slot::kExpertGateBias:
        weights.gate_bias = values;
        break;
      case Slot::kExpertUpBias:
        weights.up_bias = values;
        break;
      default:
        DEPTHLENS_ASSERT(rule.slot == Slot::kExpertDownBias);
        weights.down_bias = values;
    }
  }
  return weights;
}

Model::MlpWeights Model::MlpWeights::on(at::Device device) const {
  const Placing place = moved_to(device);
  const auto matrix = [&](const Matrix& of) { return Matrix{place(of.values), place(of.scales)}; };
  return {.gate = matrix(gate),
          .up = matrix(up),
          .down = matrix(down),
          .gate_bias = place(gate_bias),
          .up_bias = place(up_bias),
          .down_bias = place(down_bias)};
}

Model::Weights Model::Weights::on(at::Device device) const {
  Weights moved = *this;
  for (at::Tensor& tensor : moved.slots) tensor = moved_to(device)(tensor);
  return moved;
}

/// The blocks of a pass that reads them from disk, in their order.
class Model::StreamedBlocks {
 public:
  /// For so many tokens.
  StreamedBlocks(const Model& model, std::int64_t num_tokens)
      : model_(model),
        reader_(is_any_elsewhere(model) ? util::Worker::Where::kOwnThread : util::Worker::Where::kHere) {
    // So many tokens leave hardly an expert out.
    constexpr std::int64_t kTokensOfExpert = 8;
    const ExpertSpec& experts = model.spec_.experts;
    with_experts_ = num_tokens * experts.chosen >= kTokensOfExpert * experts.count;
  }
  /// What is being read is left where it is.
  ~StreamedBlocks() { given_up_ = true; }
  StreamedBlocks(const StreamedBlocks&) = delete;
  StreamedBlocks& operator=(const StreamedBlocks&) = delete;

  /// Block `i` on its device, until the next call; blocks are asked for in order. The one after it is begun
  /// to be read. An error of reading comes out when it is that block's turn.
  const Weights& next(std::int64_t i) {
    // The host is ahead of a card by one block, else pinned memory would pile up.
    copied_.wait();
    of_host_ = on_device_ = {};
    const at::Device device = model_.backend_of(i).device();
    if (!device.is_cpu()) {
      if (ahead_ != i) begin_to_read(i);
      reader_.wait();
      of_host_ = std::exchange(read_, {});
    }
    if (i + 1 < model_.spec_.num_layers) begin_to_read(i + 1);
    on_device_ =
        device.is_cpu() ? model_.load_block(i, /*experts=*/false, moved_to(device)) : of_host_.on(device);
    copied_ = compute::WorkMark(device);
    // libtorch keeps pinned memory until its copies are done: the earlier it is given back, the earlier it
    // can be had again. Experts stay, with what is on the device, until they are chosen.
    of_host_ = {};
    return on_device_;
  }

 private:
  static bool is_any_elsewhere(const Model& model) {
    const auto& backends = model.options_.backends;
    return std::any_of(backends.begin(), backends.end(),
                       [](const auto& backend) { return !backend->device().is_cpu(); });
  }

  void begin_to_read(std::int64_t i) {
    const at::Device device = model_.backend_of(i).device();
    // The processor's weights are views of the file.
    if (device.is_cpu()) return model_.files_->read_ahead(model_.spec_, i, with_experts_);
    ahead_ = i;
    reader_.submit([this, i, device] {
      read_ = model_.load_block(i, with_experts_, [&](const at::Tensor& loaded) {
        return given_up_ ? at::Tensor() : compute::staged_for(device, loaded);
      });
      model_.files_->release(model_.spec_, i);
    });
  }

  const Model& model_;
  bool with_experts_ = false;
  std::int64_t ahead_ = -1;      // the block that is being read, or has been
  Weights read_;                 // by the reader
  Weights of_host_, on_device_;  // the present block
  compute::WorkMark copied_;     // behind the copy from one to the other
  std::atomic<bool> given_up_ = false;
  util::Worker reader_;  // last: ends before what it writes to
};

std::vector<std::int64_t> Model::positions_of(const PackedWindows& windows) const {
  std::vector<std::int64_t> positions;
  for (const std::int64_t length : windows.lengths) {
    DEPTHLENS_ASSERT(length >= 1 && length <= spec_.max_positions);
    for (std::int64_t p = 0; p < length; ++p) positions.push_back(p);
  }
  return positions;
}

void Model::require_states_are_all(const std::string& what) const {
  if (spec_.states_are_all()) return;
  throw util::usage_error({.what = util::cat(what, " is not possible with this model"),
                           .where = folder_.string(),
                           .expected = "a model whose blocks read nothing but the residual state before them",
                           .found = util::cat(spec_.architecture, ", whose later blocks also read ",
                                              spec_.block_embedding_size > 0
                                                  ? "what the tokens were, by embeddings for each block"
                                                  : "keys and values of earlier blocks"),
                           .hint = "a run cannot go on from states of another run, or changed ones"});
}

at::Tensor Model::embed(const PackedWindows& windows) const {
  const c10::InferenceMode inference;
  return embed_on_first(windows).to(device());
}

at::Tensor Model::embed_on_first(const PackedWindows& windows) const {
  const std::vector<std::int64_t> positions = positions_of(windows);
  DEPTHLENS_ASSERT(positions.size() == windows.tokens.size());
  DEPTHLENS_ASSERT(std::all_of(windows.tokens.begin(), windows.tokens.end(),
                               [&](std::int64_t id) { return id >= 0 && id < spec_.vocab_size; }));

  const compute::Backend& first = *options_.backends.front();
  const auto rows_of = [&](Slot table, const std::vector<std::int64_t>& rows) {
    return at::embedding(weights_[table], index_tensor(rows, first.device())).to(at::kFloat);
  };
  at::Tensor x = rows_of(Slot::kTokenEmbedding, windows.tokens);
  if (weights_[Slot::kEmbeddingProjection].defined())
    x = first.linear(packed(first, x), weights_[Slot::kEmbeddingProjection], {});
  if (spec_.embedding_scale != 1)
    x = x * at::scalar_tensor(spec_.embedding_scale, options_.dtype).item<double>();
  if (weights_[Slot::kPositionEmbedding].defined()) {
    std::vector<std::int64_t> rows = positions;
    for (std::int64_t& row : rows) row += spec_.position_offset;
    x = x + rows_of(Slot::kPositionEmbedding, rows);
  }
  if (weights_[Slot::kEmbeddingNormWeight].defined())
    x = norm(x, weights_[Slot::kEmbeddingNormWeight], weights_[Slot::kEmbeddingNormBias]);
  return x;
}

at::Tensor Model::told_of(const PackedWindows& windows, const at::Tensor& embedded) const {
  const at::Tensor& table = weights_[Slot::kBlockEmbedding];
  const std::int64_t d = spec_.hidden_size, L = spec_.num_layers, p = spec_.block_embedding_size;
  for (const std::int64_t id : windows.tokens) {
    if (id < table.size(0)) continue;
    throw util::input_error({.what = util::cat("token ", id, " is unknown to the model's blocks"),
                             .where = folder_.string() + ": config.json: vocab_size_per_layer_input",
                             .expected = util::cat("a token below ", table.size(0)),
                             .found = util::cat("a vocabulary of ", spec_.vocab_size, " tokens")});
  }
  const compute::Backend& first = *options_.backends.front();
  // Rounded as the token embedding and its scale are; never wider on its way than it is stored.
  at::Tensor rows = at::embedding(table, index_tensor(windows.tokens, at::kCPU));
  if (options_.dtype != at::kFloat) rows = rows.to(options_.dtype);
  const double scale = at::scalar_tensor(std::sqrt(static_cast<double>(p)), options_.dtype).item<double>();
  const at::Tensor of_tokens = moved_to(first.device())(rows).to(at::kFloat) * scale;
  const at::Tensor projected =
      first.linear(packed(first, embedded), weights_[Slot::kBlockEmbeddingProjection], {}) /
      std::sqrt(static_cast<double>(d));
  const at::Tensor of_states =
      norm(projected.unflatten(1, {L, p}), weights_[Slot::kBlockEmbeddingNormWeight], {}).flatten(1);
  return (of_states + of_tokens) * std::sqrt(0.5);
}

void Model::run_blocks(std::int64_t first_block, const at::Tensor& states, const PackedWindows& windows,
                       const ResidualTap& tap) const {
  DEPTHLENS_ASSERT(spec_.states_are_all());
  run_from(first_block, states, windows, {}, tap);
}

void Model::run_from(std::int64_t first_block, const at::Tensor& states, const PackedWindows& windows,
                     Carried carried, const ResidualTap& tap) const {
  std::optional<c10::InferenceMode> inference;
  const bool records = compute::records_gradient(states);
  if (!records) inference.emplace();
  const std::int64_t T = static_cast<std::int64_t>(positions_of(windows).size());
  DEPTHLENS_ASSERT(first_block >= 0 && first_block <= spec_.num_layers);
  DEPTHLENS_ASSERT(states.scalar_type() == at::kFloat && states.dim() == 2 && states.size(0) == T &&
                   states.size(1) == spec_.hidden_size);

  std::optional<Positions> positions;
  const compute::Backend* prepared_on = nullptr;
  std::optional<StreamedBlocks> streamed;
  if (files_ != nullptr) streamed.emplace(*this, T);
  at::Tensor x = states;
  for (std::int64_t i = first_block; i < spec_.num_layers; ++i) {
    if (const compute::Backend& backend = backend_of(i); prepared_on != &backend) {
      positions = prepared(windows, backend);
      prepared_on = &backend;
    }
    x = x.to(prepared_on->device());
    x = run_block(i, streamed ? streamed->next(i) : blocks_[static_cast<std::size_t>(i)], x, *positions,
                  carried);
    std::erase_if(carried.keys_values,
                  [&](const auto& made) { return spec_.last_reader_of(made.first) <= i; });
    if (streamed) files_->release(spec_, i);
    const at::Tensor shown = x.to(device());
    tap(i + 1, shown);
    // What comes later is differentiated with respect to what was shown, so its way goes through that, even
    // where it leads to another device and back.
    if (records) x = shown;
  }
}

void Model::forward(const PackedWindows& windows, const ResidualTap& tap) const {
  const c10::InferenceMode inference;
  const at::Tensor embedded = embed_on_first(windows), states = embedded.to(device());
  Carried carried;
  if (spec_.block_embedding_size > 0) carried.told = told_of(windows, embedded);
  tap(0, states);
  run_from(0, states, windows, std::move(carried), tap);
}

}  // namespace depthlens::model
