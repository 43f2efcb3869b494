// What a model, a lens or a run folder is, as JSON.
#include "describe.hpp"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/io/checkpoint.hpp"
#include "depthlens/io/hub_cache.hpp"
#include "depthlens/lens/file_names.hpp"
#include "depthlens/lens/lens_file.hpp"
#include "depthlens/lens/lens_types.hpp"
#include "depthlens/model/stored_weights.hpp"
#include "depthlens/report/run_folder.hpp"
#include "depthlens/run/session.hpp"
#include "depthlens/text/tokenizer.hpp"
#include "depthlens/train/file_names.hpp"
#include "depthlens/util/digest.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "model_flags.hpp"

namespace depthlens::tool {
namespace {

namespace fs = std::filesystem;
using util::OrderedJson;

OrderedJson stored_types(const io::TensorFile& file) {
  std::map<std::string, std::int64_t> elements;
  for (const auto& [name, entry] : file.entries()) {
    std::int64_t count = 1;
    for (const std::int64_t size : entry.shape) count *= size;
    elements[at::toString(entry.dtype)] += count;
  }
  return elements;
}

/// Types of the tensors with their numbers of elements, as `stored_types` has it for files.
OrderedJson stored_types(const std::vector<at::Tensor>& tensors) {
  std::map<std::string, std::int64_t> elements;
  for (const at::Tensor& tensor : tensors) elements[at::toString(tensor.scalar_type())] += tensor.numel();
  return elements;
}

/// training.json, or jacobian_training.json, beside the lens; null where there is none.
OrderedJson read_training(const fs::path& lens) {
  std::error_code ignored;
  const fs::path folder = fs::is_directory(lens, ignored) ? lens : lens.parent_path();
  const bool jacobian = lens.filename() == train::kJacobianLens;
  const bool tuned = folder == lens || lens.filename() == lens::kTunedParameters;
  if (!jacobian && !tuned) return nullptr;
  const fs::path file = folder / (jacobian ? train::kJacobianRecord : train::kTunedRecord);
  if (!util::exists(file)) return nullptr;
  OrderedJson training = util::parse_ordered_json(util::read_file(file, 64 << 20), file.string());
  if (training.is_object()) training.erase("volatile");
  return training;
}

/// What blocks of some models have and those of most have not, in attention and in sizes.
void describe_peculiarities(const model::ArchSpec& spec, OrderedJson& described) {
  if (const model::LatentSpec& latent = spec.latent; latent.key_value_rank > 0) {
    described["latent_attention"] = {
        {"query_rank", latent.query_rank == 0 ? OrderedJson() : OrderedJson(latent.query_rank)},
        {"key_value_rank", latent.key_value_rank},
        {"value_size", latent.value_size}};
  }
  if (spec.wide.num_kv_heads > 0) {
    OrderedJson blocks = OrderedJson::array();
    for (std::size_t i = 0; i < spec.blocks.size(); ++i) {
      if (spec.blocks[i].mixer == model::Mixer::kWideAttention) blocks.push_back(i);
    }
    described["wide_attention"] = {
        {"blocks", blocks}, {"key_value_heads", spec.wide.num_kv_heads}, {"head_size", spec.wide.head_size}};
  }
  if (spec.attention.value_size > 0) described["value_size"] = spec.attention.value_size;
  if (spec.mlp_size_of_readers > 0) described["mlp_size_of_readers"] = spec.mlp_size_of_readers;
  if (spec.block_embedding_size > 0) described["block_embedding_size"] = spec.block_embedding_size;
  if (std::any_of(spec.blocks.begin(), spec.blocks.end(), [](const model::BlockSpec& block) {
        return block.keys_of != model::BlockSpec::kOwnKeys;
      })) {
    OrderedJson keys = OrderedJson::array();
    for (std::size_t i = 0; i < spec.blocks.size(); ++i) {
      const std::int64_t maker = spec.blocks[i].keys_of;
      keys.push_back(maker == model::BlockSpec::kOwnKeys ? static_cast<std::int64_t>(i) : maker);
    }
    described["keys_of"] = keys;
  }
  OrderedJson windows = OrderedJson::array();
  for (const model::BlockSpec& block : spec.blocks) windows.push_back(block.window);
  if (std::any_of(windows.begin(), windows.end(), [](const OrderedJson& window) { return window > 0; }))
    described["attention_windows"] = windows;
}

/// How many blocks mix their positions in which way, where not all attend.
void describe_mixers(const model::ArchSpec& spec, OrderedJson& described) {
  using model::Mixer;
  const std::int64_t attending = spec.num_blocks(Mixer::kAttention) + spec.num_blocks(Mixer::kWideAttention);
  if (attending < spec.num_layers) {
    OrderedJson mixers = OrderedJson::object();
    const auto add = [&](const std::string& name, std::int64_t count) {
      if (count > 0) mixers[name] = count;
    };
    add("attention", attending);
    add("delta_net", spec.num_blocks(Mixer::kDeltaNet));
    add("convolution", spec.num_blocks(Mixer::kConvolution));
    add("state_space", spec.num_blocks(Mixer::kStateSpace));
    add("attention_and_state_space", spec.num_blocks(Mixer::kAttentionAndStateSpace));
    add("selective_scan", spec.num_blocks(Mixer::kSelectiveScan));
    add("none", spec.num_blocks(Mixer::kNone));
    described["mixers"] = mixers;
  }
}

/// The sizes of what mixes positions in place of attention.
void describe_recurrences(const model::ArchSpec& spec, OrderedJson& described) {
  if (const model::StateSpaceSpec& space = spec.state_space; space.heads > 0) {
    described["state_space"] = {{"heads", space.heads},
                                {"head_size", space.head_size},
                                {"groups", space.groups},
                                {"state_size", space.state_size},
                                {"kernel", space.kernel}};
  }
  if (const model::SelectiveScanSpec& scan = spec.selective_scan; scan.channels > 0) {
    described["selective_scan"] = {{"channels", scan.channels},
                                   {"state_size", scan.state_size},
                                   {"kernel", scan.kernel},
                                   {"step_rank", scan.step_rank}};
  }
  if (spec.convolution_kernel > 0) described["convolution_kernel"] = spec.convolution_kernel;
  if (spec.num_blocks(model::Mixer::kDeltaNet) > 0) {
    described["delta_net"] = {{"key_heads", spec.delta_net.key_heads},
                              {"value_heads", spec.delta_net.value_heads},
                              {"key_size", spec.delta_net.key_size},
                              {"value_size", spec.delta_net.value_size},
                              {"kernel", spec.delta_net.kernel}};
  }
}

OrderedJson describe_tokenizer(const fs::path& folder) {
  const auto tokenizer = text::load_tokenizer(folder);
  const auto token = [&](std::optional<text::TokenId> id) -> OrderedJson {
    if (!id) return nullptr;
    return {{"id", *id}, {"text", tokenizer->token_text(*id)}};
  };
  OrderedJson described = {{"kind", tokenizer->kind()},
                           {"size", tokenizer->size()},
                           {"bos", token(tokenizer->bos())},
                           {"eos", token(tokenizer->eos())},
                           {"adds_bos", tokenizer->adds_bos()}};
  described.update(util::digest_json(run::begin_tokenizer_digests(folder)->get()));
  return described;
}

}  // namespace

const OrderedJson& get(const OrderedJson& object, const std::string& key) {
  static const OrderedJson nothing;
  return object.is_object() && object.contains(key) ? object.at(key) : nothing;
}

OrderedJson describe_model_folder(const fs::path& folder) {
  const model::ArchSpec configured = model::read_config(folder);
  const io::TensorFile weights = model::open_weights(folder, configured);
  const model::ArchSpec spec = model::settled(configured, weights);
  OrderedJson described = {{"kind", "model"}, {"path", folder.string()}};
  if (const auto commit = io::hub_commit(folder)) described["revision"] = *commit;
  described.update({{"architecture", spec.architecture},
                    {"layers", spec.num_layers},
                    {"hidden_size", spec.hidden_size},
                    {"vocab_size", spec.vocab_size},
                    {"heads", spec.num_heads},
                    {"key_value_heads", spec.num_kv_heads},
                    {"head_size", spec.head_size},
                    {"mlp_size", spec.mlp_size},
                    {"max_positions", spec.max_positions},
                    {"tied_unembedding", spec.tied_unembedding},
                    {"parameters_stored", weights.num_elements()},
                    {"bytes_stored", weights.num_bytes()},
                    {"stored_types", stored_types(weights)}});
  describe_peculiarities(spec, described);
  describe_mixers(spec, described);
  describe_recurrences(spec, described);
  described["rotary"] = run::describe_rotary(spec);
  if (spec.experts.count > 0) {
    described["experts"] = {{"count", spec.experts.count},
                            {"chosen", spec.experts.chosen},
                            {"mlp_size", spec.experts.mlp_size},
                            {"shared_mlp_size", spec.experts.shared_mlp_size}};
  }
  described["tokenizer"] = describe_tokenizer(folder);
  constexpr std::uint64_t kSlow = std::uint64_t{1} << 30;
  if (weights.num_bytes() > kSlow)
    util::log_info("hashing " + util::as_bytes(weights.num_bytes()) + " of weights");
  described.update(util::digest_json(run::begin_model_digests(folder)->get()));
  const auto backend = compute::Backend::create({.kernel = requested_kernel()});
  described["kernel"] = {{"exact", backend->kernel_name(compute::Precision::kExact)},
                         {"fast", backend->kernel_name(compute::Precision::kFast)}};
  return described;
}

OrderedJson describe_run(const fs::path& folder) {
  const OrderedJson run = report::read_run_json(folder);
  if (!run.is_object()) {
    throw util::format_error({.what = "not the description of a run",
                              .where = (folder / report::kRunFile).string(),
                              .expected = "a JSON object"});
  }
  report::check_run(folder);
  OrderedJson described = {{"kind", "run"}, {"path", folder.string()}};
  described.update(run);
  return described;
}

OrderedJson describe_lens(const fs::path& given) {
  const fs::path path = lens::find_lens(given, lens::LensKind::kAny);
  OrderedJson described = {{"kind", "lens"}, {"path", path.string()}};
  const lens::StoredLens stored = lens::read_lens(path);
  described["type"] = lens::type_of(stored).name;
  std::vector<at::Tensor> tensors;
  const auto describe_provenance = [&](const lens::LensProvenance& known) {
    const auto add = [&](const char* key, const auto& value) {
      if (value) described[key] = *value;
    };
    add("model", known.model);
    add("revision", known.revision);
    add("model_digest", known.model_digest);
    add("unembed_hash", known.unembed_hash);
    add("steps", known.steps);
    add("tokens", known.tokens);
    add("data_digest", known.data_digest);
  };
  const auto describe_facts = [&](const std::vector<lens::LensFact>& facts) {
    described.update(lens::facts_json(facts));
    OrderedJson told_by = OrderedJson::array();
    for (const lens::LensFact& fact : facts) {
      const std::string file = fact.where.substr(0, fact.where.find(": "));
      if (fact.beside && std::find(told_by.begin(), told_by.end(), file) == told_by.end())
        told_by.push_back(file);
    }
    if (!told_by.empty()) described["told_by"] = told_by;
  };
  if (const auto* tuned = std::get_if<lens::StoredTunedLens>(&stored)) {
    described["layers"] = tuned->num_layers();
    described["hidden_size"] = tuned->hidden_size();
    described["bias"] = !tuned->biases.empty();
    describe_provenance(tuned->provenance);
    describe_facts(tuned->facts);
    if (!tuned->ignored.empty()) described["ignored"] = tuned->ignored;
    tensors = tuned->weights;
    tensors.insert(tensors.end(), tuned->biases.begin(), tuned->biases.end());
  } else {
    const auto& jacobian = std::get<lens::StoredJacobianLens>(stored);
    described["hidden_size"] = jacobian.hidden_size();
    described["blocks"] = OrderedJson::array();
    for (const auto& [block, tensor] : jacobian.jacobians) {
      described["blocks"].push_back(block);
      tensors.push_back(tensor);
    }
    described["layers"] = lens::layers_of(jacobian);
    describe_provenance(jacobian.provenance);
    describe_facts(jacobian.facts);
    if (!jacobian.fields.empty()) described["fields"] = jacobian.fields;
  }
  described["digest"] = lens::lens_digest(stored);
  if (const auto commit = io::hub_commit(path)) described["lens_revision"] = *commit;
  std::int64_t parameters = 0;
  for (const at::Tensor& tensor : tensors) parameters += tensor.numel();
  described["tensors"] = tensors.size();
  described["parameters"] = parameters;
  described["stored_types"] = stored_types(tensors);
  if (OrderedJson training = read_training(path); !training.is_null()) described["training"] = training;
  return described;
}

}  // namespace depthlens::tool
