// Files of tuned lenses: the folder of the tuned-lens package, and safetensors.
#include <ATen/ops/empty.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "depthlens/io/writers.hpp"
#include "depthlens/lens/file_names.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "lens_facts.hpp"
#include "lens_files.hpp"
#include "stored_lens.hpp"

namespace depthlens::lens {
namespace {

namespace fs = std::filesystem;
using util::cat;

constexpr std::uint64_t kMaxConfig = 1 << 20;

/// What config.json tells of the model.
constexpr std::pair<const char*, std::optional<std::string> LensProvenance::*> kOfConfig[] = {
    {"base_model_name_or_path", &LensProvenance::model},
    {"model_name", &LensProvenance::model},  // of the first releases
    {"base_model_revision", &LensProvenance::revision},
    {"unembed_hash", &LensProvenance::unembed_hash},
    {"unemebd_hash",
     &LensProvenance::unembed_hash},  // as tuned-lens 0.1.0 wrote it: in the space to this day
    {"model_digest", &LensProvenance::model_digest}};

/// Of releases before 0.1: lenses of other shapes, whose parameters may go by the same names. Key, and the
/// value of what is read here.
const std::vector<std::pair<const char*, util::Json>>& plain_values() {
  static const std::vector<std::pair<const char*, util::Json>> all = {
      {"include_input", true},
      {"share_weights", false},
      {"sublayers", false},
      {"extra_layers", 0},
      {"mlp_hidden_sizes", util::Json::array()},
      {"shared_mlp_hidden_sizes", util::Json::array()},
      {"pre_ln", false},
      {"layer_norm", false},
      {"reuse_unembedding", true},
      {"rank", nullptr}};
  return all;
}
constexpr const char* kSayNothing[] = {"identity_init", "dropout", "vocab_size", "orthogonal",
                                       "model_config"};

/// "3.weight" for a parameter's key in any of the spellings of the package's history, "" for what is not part
/// of the translators.
std::string current_key(std::string key) {
  for (const std::string_view old : {"probe", "adapter"}) {
    for (std::size_t at = key.find(old); at != std::string::npos; at = key.find(old, at)) {
      key.replace(at, old.size(), "translator");
    }
  }
  if (key.rfind("input_translator.", 0) == 0) return "0." + key.substr(17);
  if (key.rfind("layer_translators.", 0) == 0) {
    const std::size_t dot = key.find('.', 18);
    std::int64_t index;
    if (dot == std::string::npos || !util::parse_int(key.substr(18, dot - 18), index) || index < 0 ||
        index >= kMaxBlocks) {
      return key;
    }
    return std::to_string(index + 1) + key.substr(dot);
  }
  for (const std::string_view other :
       {"unembedding.", "unembed.", "layer_norm.", "extra_layers.", "final_norm."}) {
    if (key.rfind(other, 0) == 0) return "";
  }
  return key;
}

/// The key of translator `index` in params.pt.
std::string key_of(std::int64_t index, const std::string& part, TunedKeys keys) {
  if (keys == TunedKeys::kCurrent) return cat(index, ".", part);
  return index == 0 ? "input_translator." + part : cat("layer_translators.", index - 1, ".", part);
}

/// What config.json tells, checked against the parameters and against what is known already.
void read_config(const std::string& text, const std::string& where, StoredTunedLens& lens) {
  const util::Json document = util::parse_json(text, where);
  const util::JsonView config(document, where);
  const auto expect = [&](const std::string& key, std::int64_t value) {
    if (config.at(key).as_integer(0, INT32_MAX) == value) return;
    throw util::format_error({.what = "the configuration does not fit the parameters beside it",
                              .where = where + ": " + key,
                              .expected = std::to_string(value),
                              .found = util::summary(config.at(key).raw())});
  };
  const std::string type = config.get_string("lens_type", kTunedConfigType);
  if (type != kTunedConfigType) config.at("lens_type").fail(kTunedConfigType);
  expect("d_model", lens.hidden_size());
  for (const char* key : {"num_hidden_layers", "num_layers"}) {
    const bool is_needed = key == std::string("num_hidden_layers") && !config.has("num_layers");
    if (config.has(key) || is_needed) expect(key, lens.num_layers());
  }
  for (const auto& [key, value] : plain_values()) {
    if (!config.has(key) || config.at(key).raw() == value) continue;
    throw util::format_error({.what = "a tuned lens of another kind",
                              .where = cat(where, ": ", key),
                              .expected = util::json_text(value) + ", an affine translator for each state",
                              .found = util::summary(config.at(key).raw())});
  }
  const bool biased = !lens.biases.empty();
  if (config.get_bool("bias", biased) != biased) {
    throw util::format_error({.what = "the configuration does not fit the parameters beside it",
                              .where = where + ": bias",
                              .expected = biased ? "true: there are biases" : "false: there are none",
                              .found = biased ? "false" : "true"});
  }
  lens.config = text;
  std::vector<std::string> unknown = config.keys();
  const auto known = [&](const char* key) {
    unknown.erase(std::remove(unknown.begin(), unknown.end(), key), unknown.end());
  };
  for (const char* key : {"d_model", "num_hidden_layers", "num_layers", "bias", "lens_type"}) known(key);
  for (const auto& [key, value] : plain_values()) known(key);
  for (const char* key : kSayNothing) known(key);
  for (const auto& [key, member] : kOfConfig) {
    known(key);
    // The first releases hashed to a number that differs from run to run.
    if (!config.has(key) || (key == std::string("unemebd_hash") && !config.at(key).is_string())) continue;
    const std::string said = config.at(key).as_string();
    if (!said.empty()) take(lens.provenance.*member, said, where + ": " + key);  // the package's "nothing"
  }
  if (!unknown.empty())
    util::log_warning(cat(where, ": unknown keys, which were ignored: ", util::join(unknown, ", ")));
}

/// The config.json of a tuned lens in a folder; nothing where it is of a model or of something else of that
/// width.
std::optional<std::string> tuned_config_in(const fs::path& folder) {
  const fs::path path = folder / kTunedConfig;
  if (!util::is_file(path)) return std::nullopt;
  try {
    std::string text = util::read_file(path, kMaxConfig);
    const util::Json document = util::parse_config(text, path.string());
    const util::JsonView config(document, path.string());
    const auto has = [&](const char* key) { return config.has(key); };
    const bool is_of_lens = has("d_model") && (has("num_hidden_layers") || has("num_layers")) &&
                            !has("model_type") && !has("architectures") && !has("n_prompts") &&
                            !has("source_layers") && !has("d_sae");
    return is_of_lens ? std::optional(std::move(text)) : std::nullopt;
  } catch (const util::Error& error) {
    util::log_warning(cat("not read, whatever it is of: ", error.what()));
    return std::nullopt;
  }
}

/// What the name of a folder tells, "tuned-lens--MODEL--CORPUS", where the configuration does not.
void read_name(const fs::path& folder, StoredTunedLens& lens) {
  constexpr std::string_view kBegin = "tuned-lens--";
  const std::string name = (folder.has_filename() ? folder : folder.parent_path()).filename().string();
  const std::size_t corpus = name.rfind("--");
  if (name.rfind(kBegin, 0) != 0 || corpus <= kBegin.size() || corpus + 2 >= name.size()) return;
  std::string model = name.substr(kBegin.size(), corpus - kBegin.size());
  if (const std::size_t dashes = model.find("--"); dashes != std::string::npos) model.replace(dashes, 2, "/");
  if (!lens.provenance.model) {
    lens.provenance.model = model;
    lens.described_in = folder.string();
  }
  lens.facts.push_back({"corpus", name.substr(corpus + 2), folder.string(), /*beside=*/true});
}

/// Translators 0, 1, … as far as they go.
void take_translators(const io::TensorFile& file, StoredTunedLens& lens) {
  std::map<std::string, std::string> names;  // current key → key in the file
  for (const auto& [name, entry] : file.entries()) {
    const std::string key = current_key(name);
    if (key.empty()) {
      lens.ignored.push_back(name);
    } else if (!names.emplace(key, name).second) {
      throw util::format_error({.what = "two parameters for '" + key + "'", .where = lens.where});
    }
  }
  const auto take = [&](const std::string& key) {
    const auto found = names.find(key);
    at::Tensor tensor = file.view(found->second);
    const std::int64_t d = lens.weights.empty() ? tensor.dim() == 2 ? tensor.size(0) : 0 : lens.hidden_size();
    const bool weight = key.find(".weight") != std::string::npos;
    require_shape(tensor, weight ? std::vector{d, d} : std::vector{d}, found->second, lens.where);
    names.erase(found);
    return tensor;
  };
  const bool biased = names.count("0.bias") > 0;  // lenses may have been trained without biases
  for (std::int64_t i = 0; names.count(cat(i, ".weight")) > 0; ++i) {
    lens.weights.push_back(take(cat(i, ".weight")));
    const std::string bias = cat(i, ".bias");
    if (biased && names.count(bias) == 0) {
      throw not_a_lens(kTunedType, lens.where, "biases for all translators or for none",
                       "none for " + cat(i));
    }
    if (biased) lens.biases.push_back(take(bias));
  }
  if (lens.weights.empty() || !names.empty()) {
    const auto next = lens.num_layers();
    throw not_a_lens(
        kTunedType, lens.where, "translators '0.weight', '0.bias', '1.weight' and so on without a gap",
        names.empty() ? "no tensors"
                      : cat(util::in_quotes(names.begin()->second), " without '", next, ".weight'"));
  }
}

std::string config_text(const StoredTunedLens& lens) {
  if (!lens.config.empty()) return lens.config;
  const LensProvenance& known = lens.provenance;
  const auto or_null = [](const std::optional<std::string>& text) -> util::OrderedJson {
    if (!text) return nullptr;
    return *text;
  };
  // The order of tuned-lens' TunedLensConfig; it wants a name, and warns of our digest.
  util::OrderedJson config = {{"base_model_name_or_path", known.model.value_or("")},
                              {"d_model", lens.hidden_size()},
                              {"num_hidden_layers", lens.num_layers()},
                              {"bias", !lens.biases.empty()},
                              {"base_model_revision", or_null(known.revision)},
                              {"unembed_hash", or_null(known.unembed_hash)},
                              {"lens_type", kTunedConfigType}};
  if (known.model_digest) config["model_digest"] = *known.model_digest;
  return util::json_text(config, 2) + "\n";
}

io::PickleValue state_dict(const StoredTunedLens& lens, TunedKeys keys) {
  io::PickleValue state;
  state.kind = io::PickleValue::Kind::kDictionary;
  state.ordered = true;
  const auto add = [&](const std::string& key, const at::Tensor& tensor) {
    io::PickleValue name;
    name.kind = io::PickleValue::Kind::kString;
    name.string = key;
    io::PickleValue value;
    value.kind = io::PickleValue::Kind::kTensor;
    value.values = tensor;
    state.list.push_back(std::move(name));
    state.list.push_back(std::move(value));
  };
  for (std::int64_t i = 0; i < lens.num_layers(); ++i) {
    add(key_of(i, "weight", keys), lens.weights[static_cast<std::size_t>(i)]);
    if (!lens.biases.empty()) add(key_of(i, "bias", keys), lens.biases[static_cast<std::size_t>(i)]);
  }
  return state;
}

StoredTunedLens stored(const TunedParameters& parameters, const LensProvenance& provenance) {
  StoredTunedLens lens;
  for (std::int64_t i = 0; i < parameters.weights.size(0); ++i) {
    lens.weights.push_back(parameters.weights.select(0, i));
    if (parameters.biases.defined()) lens.biases.push_back(parameters.biases.select(0, i));
  }
  lens.provenance = provenance;
  return lens;
}

}  // namespace

StoredTunedLens read_tuned_lens(const fs::path& given) {
  const fs::path path = find_lens(given, LensKind::kTuned);
  std::error_code ignored;
  const bool folder = fs::is_directory(path, ignored);
  const fs::path file_path = folder ? path / kTunedParameters : path;
  // The configuration first: it is small, and more often missing.
  const fs::path config_path = path / kTunedConfig;
  const std::string config = folder ? util::read_file(config_path, kMaxConfig) : "";
  const io::TensorFile file = open_tensors(file_path);
  StoredTunedLens lens;
  lens.where = file_path.string();
  take_translators(file, lens);
  lens.described_in = folder ? config_path.string() : lens.where;
  lens.provenance = provenance_of(file.metadata(), kTunedType, lens.where);
  require_number(file.metadata(), "d_model", lens.hidden_size(), lens.where);
  require_number(file.metadata(), "num_layers", lens.num_layers(), lens.where);
  if (folder) {
    read_config(config, config_path.string(), lens);
    read_name(path, lens);
  } else if (const auto kept = file.metadata().find("config"); kept != file.metadata().end()) {
    read_config(kept->second, lens.where + ": __metadata__: config", lens);
  } else {
    const fs::path place = path.has_parent_path() ? path.parent_path() : ".";
    if (const std::optional<std::string> beside = tuned_config_in(place)) {
      // Of a folder whose params.pt was made into this file.
      const std::string where = (place / kTunedConfig).string();
      if (const std::vector<fs::path> others = lenses_beside(path); others.empty()) {
        lens.described_in = where;
        read_config(*beside, where, lens);
      } else {
        util::log_warning(cat(where, ": there is another lens in the folder, ",
                              util::in_quotes(others.front().filename().string()), ": for ", lens.where,
                              " it was not used"));
      }
    }
  }
  if (!lens.ignored.empty()) {
    util::log_warning(
        cat(lens.where, ": ", lens.ignored.size(),
            " tensors that belong to the model were ignored: ", util::join(lens.ignored, ", ")));
  }
  return lens;
}

void require_fit(const StoredTunedLens& lens, std::int64_t num_layers, std::int64_t hidden_size) {
  if (lens.num_layers() == num_layers && lens.hidden_size() == hidden_size) return;
  throw util::format_error({.what = "the lens does not fit the model",
                            .where = lens.where,
                            .expected = cat(num_layers, " translators of width ", hidden_size),
                            .found = cat(lens.num_layers(), " of width ", lens.hidden_size())});
}

TunedParameters tuned_parameters(const StoredTunedLens& lens, std::int64_t num_layers,
                                 std::int64_t hidden_size) {
  require_fit(lens, num_layers, hidden_size);
  const bool biased = !lens.biases.empty();
  TunedParameters parameters{
      .weights = at::empty({num_layers, hidden_size, hidden_size}, at::kFloat),
      .biases = biased ? at::empty({num_layers, hidden_size}, at::kFloat) : at::Tensor()};
  for (std::int64_t i = 0; i < num_layers; ++i) {
    const auto index = static_cast<std::size_t>(i);
    parameters.weights.select(0, i).copy_(
        checked_parameter(lens.weights[index], {hidden_size, hidden_size}, cat(i, ".weight"), lens.where));
    if (!biased) continue;
    parameters.biases.select(0, i).copy_(
        checked_parameter(lens.biases[index], {hidden_size}, cat(i, ".bias"), lens.where));
  }
  return parameters;
}

TunedParameters tuned_parameters(const StoredTunedLens& lens, const model::Model& model) {
  TunedParameters parameters = tuned_parameters(lens, model.spec().num_layers, model.spec().hidden_size);
  check_provenance(lens.provenance, lens.described_in, /*allow_mismatch=*/true, model);
  return parameters;
}

void write_tuned_lens_folder(const fs::path& folder, const StoredTunedLens& lens, TunedKeys keys) {
  util::create_folders(folder);
  util::StagingFolder work(folder);
  io::write_torch_archive(work.path() / kTunedParameters, state_dict(lens, keys));
  util::write_file(work.path() / kTunedConfig, config_text(lens));
  work.replace(folder, kTunedConfig);
}

void write_tuned_lens_folder(const fs::path& folder, const TunedParameters& parameters,
                             const LensProvenance& provenance) {
  write_tuned_lens_folder(folder, stored(parameters, provenance));
}

void write_tuned_lens_safetensors(const fs::path& file, const StoredTunedLens& lens) {
  io::NamedTensors tensors;
  for (std::int64_t i = 0; i < lens.num_layers(); ++i) {
    tensors.emplace_back(key_of(i, "weight", TunedKeys::kCurrent), lens.weights[static_cast<std::size_t>(i)]);
    if (lens.biases.empty()) continue;
    tensors.emplace_back(key_of(i, "bias", TunedKeys::kCurrent), lens.biases[static_cast<std::size_t>(i)]);
  }
  Metadata metadata = metadata_of(lens.provenance, kTunedType, lens.hidden_size());
  metadata["num_layers"] = std::to_string(lens.num_layers());
  if (!lens.config.empty()) metadata["config"] = lens.config;
  io::write_safetensors(file, tensors, metadata);
}

void write_tuned_lens_safetensors(const fs::path& file, const TunedParameters& parameters,
                                  const LensProvenance& provenance) {
  write_tuned_lens_safetensors(file, stored(parameters, provenance));
}

}  // namespace depthlens::lens
