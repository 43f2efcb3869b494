// Loading by the table of the architecture, and the way through all blocks.
#include "depthlens/model/model.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/scalar_tensor.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "block.hpp"
#include "depthlens/compute/transfer.hpp"
#include "depthlens/io/checkpoint.hpp"
#include "depthlens/model/memory.hpp"
#include "depthlens/model/stored_weights.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "layers.hpp"
#include "positions.hpp"
#include "streamed_blocks.hpp"
#include "weights.hpp"

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

}  // namespace

struct Model::Parts {
  Parts(const std::filesystem::path& folder, const LoadOptions& options);

  std::filesystem::path folder;
  LoadOptions options;
  ArchSpec spec;
  Weights weights;
  std::vector<const compute::Backend*> backends;  // of each block
  std::vector<Weights> blocks;                    // none where they are streamed
  std::unique_ptr<WeightFiles> files;             // where they are
  OutputHead head;
  std::int64_t num_parameters = 0;

  const compute::Backend& first() const { return *options.backends.front(); }
  const compute::Backend& last() const { return *options.backends.back(); }

  /// The states of layer 0, on the first device.
  at::Tensor embed(const PackedWindows& windows) const;
  /// What the blocks are told of the tokens, of which these are the states of layer 0.
  at::Tensor told_of(const PackedWindows& windows, const at::Tensor& embedded) const;
  void run_from(std::int64_t first_block, const at::Tensor& states, const PackedWindows& windows,
                Carried carried, const ResidualTap& tap) const;

 private:
  void load_weights();
  /// Checks and counts all tensors, and says which backend each block is multiplied by.
  void claim_all();
  void place_blocks(const std::vector<std::int64_t>& bytes, std::int64_t bytes_before,
                    std::int64_t bytes_after);
  void make_head();
  compute::PackedRows packed(const at::Tensor& rows) const {
    return first().pack(rows.to(options.dtype), options.products);
  }
  at::Tensor norm(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) const {
    return apply_norm(spec.norm, input, weight, bias, spec.norm_epsilon);
  }
};

at::Tensor index_tensor(const std::vector<std::int64_t>& values, at::Device device) {
  return compute::copied_to(device, at::from_blob(const_cast<std::int64_t*>(values.data()),
                                                  {static_cast<std::int64_t>(values.size())}, at::kLong));
}

at::Tensor OutputHead::normed(const at::Tensor& states) const {
  return apply_norm(norm, states, norm_weight, norm_bias, norm_epsilon);
}

Model::Parts::Parts(const std::filesystem::path& of_folder, const LoadOptions& of_load)
    : folder(of_folder), options(of_load) {
  // Not InferenceMode: a backward pass through the blocks reads the weights, and tensors made in that mode
  // cannot be kept for one.
  const c10::NoGradGuard no_gradients;
  if (options.backends.empty()) options.backends = {compute::Backend::create()};
  if (options.head_only) options.backends = {options.backends.back()};  // the head is on the last
  spec = options.config ? *std::exchange(options.config, std::nullopt) : read_config(folder);
  load_weights();
  make_head();
}

void Model::Parts::load_weights() {
  io::TensorFile opened = open_weights(folder, spec);
  spec = settled(std::move(spec), opened);
  files = std::make_unique<WeightFiles>(std::move(opened), spec, folder.string(), options);
  claim_all();
  for (const TensorRule& rule : spec.model_tensors) {
    if (options.head_only && !is_of_head(rule.slot, spec)) continue;
    const bool on_first = is_of_embedding(rule.slot);
    const compute::Backend& place = on_first ? first() : last();
    const at::Tensor loaded = files->load(rule, 0, place);
    weights[rule.slot] = stays_on_host(rule.slot) ? loaded : moved_to(place.device())(loaded);
  }
  if (!options.stream_layers && !options.head_only) {
    for (std::int64_t i = 0; i < spec.num_layers; ++i) {
      blocks.push_back(files->load_block(i, *backends[static_cast<std::size_t>(i)], /*experts=*/true,
                                         moved_to(backends[static_cast<std::size_t>(i)]->device())));
    }
    files.reset();
  }
}

void Model::Parts::claim_all() {
  // Of a checkpoint of which the head alone is wanted, the rest need not be there.
  const auto is_wanted = [&](const TensorRule& rule, std::int64_t block) {
    return !options.head_only || is_of_head(rule.slot, spec) || files->is_there(rule, block);
  };
  std::int64_t bytes_before = 0, bytes_after = 0;  // of what is on the first device, and on the last
  std::vector<std::int64_t> bytes(static_cast<std::size_t>(spec.num_layers), 0);
  for (const TensorRule& rule : spec.model_tensors) {
    if (!is_wanted(rule, 0)) continue;
    const WeightFiles::Claimed claimed = files->claim(rule, 0);
    num_parameters += claimed.numbers;
    if (is_of_embedding(rule.slot)) bytes_before += claimed.bytes;
    if (is_of_head(rule.slot, spec)) bytes_after += claimed.bytes;
  }
  for (std::int64_t i = 0; i < spec.num_layers; ++i) {
    for (const TensorRule& rule : spec.block_tensors) {
      if (!spec.has(rule, i) || !is_wanted(rule, i)) continue;
      const WeightFiles::Claimed claimed = files->claim(rule, i);
      num_parameters += claimed.numbers;
      bytes[static_cast<std::size_t>(i)] += claimed.bytes;
    }
  }
  files->check_nothing_is_left();
  place_blocks(bytes, bytes_before, bytes_after);
}

void Model::Parts::place_blocks(const std::vector<std::int64_t>& bytes, std::int64_t bytes_before,
                                std::int64_t bytes_after) {
  // Each device's share is a stretch of all bytes in order; a block is where its middle is.
  const auto devices = static_cast<std::int64_t>(options.backends.size());
  const double share =
      static_cast<double>(std::accumulate(bytes.begin(), bytes.end(), bytes_before + bytes_after)) /
      static_cast<double>(devices);
  auto place = static_cast<double>(bytes_before);
  for (const std::int64_t of_block : bytes) {
    const double middle = place + static_cast<double>(of_block) / 2;
    const auto which = share > 0 ? static_cast<std::int64_t>(middle / share) : 0;
    backends.push_back(options.backends[static_cast<std::size_t>(std::min(which, devices - 1))].get());
    place += static_cast<double>(of_block);
  }
}

void Model::Parts::make_head() {
  head.norm = spec.final_norm ? spec.norm : NormKind::kNone;
  head.norm_epsilon = spec.norm_epsilon;
  head.norm_weight = weights[Slot::kFinalNormWeight];
  head.norm_bias = weights[Slot::kFinalNormBias];
  // A tied embedding is a copy of its own on the last of several devices.
  head.unembedding.weight =
      weights[spec.tied_unembedding ? Slot::kTokenEmbedding : Slot::kUnembedding].to(last().device());
  if (const at::Tensor& projection = weights[Slot::kOutputProjection]; projection.defined()) {  // [e, d]
    const at::Tensor columns = projection.to(at::kFloat).t().contiguous();
    head.unembedding.weight =
        last().linear(head.unembedding.weight.to(at::kFloat), columns, {}).to(options.dtype);
  }
  head.unembedding.bias = weights[Slot::kUnembeddingBias];
  head.unembedding.transform = spec.logit_transform;
}

at::Tensor Model::Parts::embed(const PackedWindows& windows) const {
  const std::vector<std::int64_t> positions = positions_of(spec, windows);
  DEPTHLENS_ASSERT(positions.size() == windows.tokens.size());
  DEPTHLENS_ASSERT(std::all_of(windows.tokens.begin(), windows.tokens.end(),
                               [&](std::int64_t id) { return id >= 0 && id < spec.vocab_size; }));

  const auto rows_of = [&](Slot table, const std::vector<std::int64_t>& rows) {
    return at::embedding(weights[table], index_tensor(rows, first().device())).to(at::kFloat);
  };
  at::Tensor x = rows_of(Slot::kTokenEmbedding, windows.tokens);
  if (weights[Slot::kEmbeddingProjection].defined())
    x = first().linear(packed(x), weights[Slot::kEmbeddingProjection], {});
  if (spec.embedding_scale != 1) {
    x = x * (spec.rounds_embedding_scale
                 ? at::scalar_tensor(spec.embedding_scale, options.dtype).item<double>()
                 : spec.embedding_scale);
  }
  if (spec.sinusoidal_positions || weights[Slot::kPositionEmbedding].defined()) {
    std::vector<std::int64_t> rows = positions;
    for (std::int64_t& row : rows) row += spec.position_offset;
    x = x + (spec.sinusoidal_positions ? sinusoidal_positions(rows, spec.hidden_size, first().device())
                                       : rows_of(Slot::kPositionEmbedding, rows));
  }
  if (spec.embedding_norm)
    x = norm(x, weights[Slot::kEmbeddingNormWeight], weights[Slot::kEmbeddingNormBias]);
  return x;
}

at::Tensor Model::Parts::told_of(const PackedWindows& windows, const at::Tensor& embedded) const {
  const at::Tensor& table = weights[Slot::kBlockEmbedding];
  const std::int64_t d = spec.hidden_size, L = spec.num_layers, p = spec.block_embedding_size;
  for (const std::int64_t id : windows.tokens) {
    if (id < table.size(0)) continue;
    throw util::input_error({.what = util::cat("token ", id, " is unknown to the model's blocks"),
                             .where = folder.string() + ": config.json: vocab_size_per_layer_input",
                             .expected = util::cat("a token below ", table.size(0)),
                             .found = util::cat("a vocabulary of ", spec.vocab_size, " tokens")});
  }
  // Rounded as the token embedding and its scale are; never wider on its way than it is stored.
  at::Tensor rows = at::embedding(table, index_tensor(windows.tokens, at::kCPU));
  if (options.dtype != at::kFloat) rows = rows.to(options.dtype);
  const double scale = at::scalar_tensor(std::sqrt(static_cast<double>(p)), options.dtype).item<double>();
  const at::Tensor of_tokens = moved_to(first().device())(rows).to(at::kFloat) * scale;
  const at::Tensor projected =
      first().linear(packed(embedded), weights[Slot::kBlockEmbeddingProjection], {}) /
      std::sqrt(static_cast<double>(d));
  const at::Tensor of_states =
      norm(projected.unflatten(1, {L, p}), weights[Slot::kBlockEmbeddingNormWeight], {}).flatten(1);
  return (of_states + of_tokens) * std::sqrt(0.5);
}

void Model::Parts::run_from(std::int64_t first_block, const at::Tensor& states, const PackedWindows& windows,
                            Carried carried, const ResidualTap& tap) const {
  std::optional<c10::InferenceMode> inference;
  const bool records = compute::records_gradient(states);
  if (!records) inference.emplace();
  const std::int64_t T = static_cast<std::int64_t>(positions_of(spec, windows).size());
  DEPTHLENS_ASSERT(first_block >= 0 && first_block <= spec.num_layers);
  DEPTHLENS_ASSERT(states.scalar_type() == at::kFloat && states.dim() == 2 && states.size(0) == T &&
                   states.size(1) == spec.hidden_size);

  std::optional<Positions> positions;
  const compute::Backend* prepared_on = nullptr;
  std::optional<StreamedBlocks> streamed;
  if (files != nullptr) streamed.emplace(*files, spec, backends, T);
  at::Tensor x = states;
  for (std::int64_t i = first_block; i < spec.num_layers; ++i) {
    const compute::Backend& backend = *backends[static_cast<std::size_t>(i)];
    if (prepared_on != &backend) {
      positions.emplace(spec, windows, backend);
      prepared_on = &backend;
    }
    const Block block = {.arch = spec,
                         .index = i,
                         .weights = streamed ? streamed->next(i) : blocks[static_cast<std::size_t>(i)],
                         .positions = *positions,
                         .carried = carried,
                         .dtype = options.dtype,
                         .products = options.products,
                         .load_expert = [&](std::int64_t expert) {
                           return files->load_expert(i, expert, backend, moved_to(backend.device()));
                         }};
    x = x.to(backend.device());
    x = run_block(block, x);
    std::erase_if(carried.keys_values,
                  [&](const auto& made) { return spec.last_reader_of(made.first) <= i; });
    if (streamed) files->release(i);
    const at::Tensor shown = x.to(last().device());
    tap(i + 1, shown);
    // What comes later is differentiated with respect to what was shown, so its way goes through that, even
    // where it leads to another device and back.
    if (records) x = shown;
  }
}

Model::Model(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}

Model::~Model() = default;

ArchSpec read_config(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  const util::Json config = util::parse_config(util::read_file(path, util::kMaxSettingsFile), path.string());
  return read_arch_spec({config, path.string()});
}

std::shared_ptr<const Model> Model::load(const std::filesystem::path& folder, const LoadOptions& options) {
  return std::shared_ptr<const Model>(new Model(std::make_unique<const Parts>(folder, options)));
}

const ArchSpec& Model::spec() const {
  return parts_->spec;
}

const OutputHead& Model::head() const {
  return parts_->head;
}

const std::filesystem::path& Model::folder() const {
  return parts_->folder;
}

const compute::Backend& Model::backend() const {
  return parts_->last();
}

const compute::Backend& Model::backend_of(std::int64_t block) const {
  return *parts_->backends[static_cast<std::size_t>(block)];
}

std::string Model::device_names() const {
  std::vector<std::string> names;
  for (const auto& backend : parts_->options.backends) names.push_back(backend->device().str());
  return util::join(names, ",");
}

std::uint64_t Model::memory() const {
  std::uint64_t least = backend().memory();
  for (const auto& backend : parts_->options.backends) least = std::min(least, backend->memory());
  return least;
}

std::int64_t Model::tokens_at_once(std::int64_t num_kept, double memory) const {
  const auto per_token = static_cast<double>(4 * (num_kept * spec().hidden_size + floats_of_pass(spec())));
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(memory / per_token));
}

at::ScalarType Model::dtype() const {
  return parts_->options.dtype;
}

bool Model::streams_layers() const {
  return parts_->options.stream_layers;
}

std::int64_t Model::num_parameters() const {
  return parts_->num_parameters;
}

void Model::require_states_are_all(const std::string& what) const {
  if (spec().states_are_all()) return;
  throw util::usage_error({.what = util::cat(what, " is not possible with this model"),
                           .where = folder().string(),
                           .expected = "a model whose blocks read nothing but the residual state before them",
                           .found = util::cat(spec().architecture, ", whose later blocks also read ",
                                              spec().block_embedding_size > 0
                                                  ? "what the tokens were, by embeddings for each block"
                                                  : "keys and values of earlier blocks"),
                           .hint = "a run cannot go on from states of another run, or changed ones"});
}

at::Tensor Model::embed(const PackedWindows& windows) const {
  const c10::InferenceMode inference;
  return parts_->embed(windows).to(device());
}

void Model::run_blocks(std::int64_t first_block, const at::Tensor& states, const PackedWindows& windows,
                       const ResidualTap& tap) const {
  DEPTHLENS_ASSERT(spec().states_are_all());
  parts_->run_from(first_block, states, windows, {}, tap);
}

void Model::forward(const PackedWindows& windows, const ResidualTap& tap) const {
  const c10::InferenceMode inference;
  const at::Tensor embedded = parts_->embed(windows), states = embedded.to(device());
  Carried carried;
  if (spec().block_embedding_size > 0) carried.told = parts_->told_of(windows, embedded);
  tap(0, states);
  parts_->run_from(0, states, windows, std::move(carried), tap);
}

}  // namespace depthlens::model
