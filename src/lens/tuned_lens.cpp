// The tuned lens (Belrose et al. 2023): h + W_i h + b_i at layer i, from a tuned-lens folder or our
// safetensors.
#include <algorithm>
#include <filesystem>
#include <map>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/io/hub_cache.hpp"
#include "depthlens/model/linear.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"
#include "lens_files.hpp"

namespace depthlens::lens {
namespace {

namespace fs = std::filesystem;

struct Translator {
  at::Tensor weight;  // [d, d], (out, in)
  at::Tensor bias;    // [d]
};

class TunedLens : public Lens {
 public:
  TunedLens(const LensRequest& request, std::vector<Translator> translators, Alignment alignment,
            at::Device device)
      : translators_(std::move(translators)), alignment_(alignment) {
    request_ = request;
    std::vector<at::Tensor> parameters;
    for (const Translator& translator : translators_) {
      parameters.push_back(translator.weight);
      if (translator.bias.defined()) parameters.push_back(translator.bias);
    }
    digest_ = parameter_digest(parameters);
    for (Translator& translator : translators_) {
      translator.weight = translator.weight.to(device);
      if (translator.bias.defined()) translator.bias = translator.bias.to(device);
    }
  }

  bool translates(std::int64_t layer) const override {
    const auto num_layers = static_cast<std::int64_t>(translators_.size());
    return layer < num_layers && (alignment_ == Alignment::kTrained || layer > 0);
  }

  at::Tensor translate(std::int64_t layer, const at::Tensor& states) const override {
    return apply_translator(alignment_ == Alignment::kTrained ? layer : layer - 1, states);
  }

  std::int64_t num_translators() const override { return static_cast<std::int64_t>(translators_.size()); }

  at::Tensor apply_translator(std::int64_t index, const at::Tensor& states) const override {
    const Translator& translator = translators_.at(static_cast<std::size_t>(index));
    return model::linear(states, translator.weight, translator.bias).add_(states);
  }

 private:
  std::vector<Translator> translators_;
  Alignment alignment_;
};

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
        index > 100000) {
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

void check_config(const fs::path& path, const model::ArchSpec& spec) {
  const util::Json document = util::parse_json(util::read_file(path, 1 << 20), path.string());
  const util::JsonView config(document, path.string());
  const auto expect = [&](const std::string& key, std::int64_t value) {
    if (config.at(key).as_integer(0, INT32_MAX) == value) return;
    throw util::format_error({.what = "the lens was made for another model",
                              .where = path.string() + ": " + key,
                              .expected = std::to_string(value),
                              .found = util::summary(config.at(key).raw())});
  };
  expect("d_model", spec.hidden_size);
  expect("num_hidden_layers", spec.num_layers);
  const std::string type = config.get_string("lens_type", "linear_tuned_lens");
  if (type != "linear_tuned_lens") config.at("lens_type").fail("linear_tuned_lens");
}

}  // namespace

std::unique_ptr<Lens> make_tuned_lens(const LensRequest& request, const model::Model& model,
                                      Alignment alignment) {
  const model::ArchSpec& spec = model.spec();
  const fs::path path = io::resolve_tuned_lens(request.path);
  io::TensorFile file;
  std::string where = path.string();
  if (fs::is_directory(path)) {
    check_config(path / "config.json", spec);
    where = (path / "params.pt").string();
    file = io::TensorFile::open_torch(path / "params.pt");
  } else {
    file = path.extension() == ".safetensors" ? io::TensorFile::open_safetensors(path)
                                              : io::TensorFile::open_torch(path);
  }

  std::map<std::string, std::string> names;  // current key → key in the file
  for (const auto& [name, entry] : file.entries()) {
    const std::string key = current_key(name);
    if (key.empty()) continue;
    if (!names.emplace(key, name).second) {
      throw util::format_error({.what = "two parameters for '" + key + "'", .where = where});
    }
  }
  const std::int64_t d = spec.hidden_size;
  std::vector<Translator> translators;
  for (std::int64_t i = 0; i < spec.num_layers; ++i) {
    const auto take = [&](const std::string& part, const std::vector<std::int64_t>& shape) {
      const std::string key = util::cat(i, ".", part);
      const auto found = names.find(key);
      if (found == names.end()) {
        throw util::format_error({.what = "the lens does not fit the model",
                                  .where = where,
                                  .expected = util::cat("translators 0 to ", spec.num_layers - 1),
                                  .found = "no parameter '" + key + "'"});
      }
      at::Tensor parameter = checked_parameter(file.view(found->second), shape, found->second, where);
      names.erase(found);
      return parameter;
    };
    Translator translator;
    translator.weight = take("weight", {d, d});
    // Lenses may have been trained without biases.
    if (i > 0 ? translators.front().bias.defined() : names.count("0.bias") > 0)
      translator.bias = take("bias", {d});
    translators.push_back(std::move(translator));
  }
  if (!names.empty()) {
    throw util::format_error({.what = "the lens does not fit the model",
                              .where = where,
                              .expected = util::cat("translators 0 to ", spec.num_layers - 1, " only"),
                              .found = "also '" + names.begin()->second + "'"});
  }
  return std::make_unique<TunedLens>(request, std::move(translators), alignment, model.device());
}

}  // namespace depthlens::lens
