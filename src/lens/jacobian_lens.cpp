// The Jacobian lens (2026): J_l h with the mean Jacobian of the last residual state with respect to the state
// after block l (from 0), which is layer l + 1 here. Layers without one are decoded as by the logit lens.
#include <filesystem>
#include <map>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/model/linear.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "lens_files.hpp"

namespace depthlens::lens {
namespace {

namespace fs = std::filesystem;
using io::PickleValue;

class JacobianLens : public Lens {
 public:
  /// `jacobians`: layer → [d, d].
  JacobianLens(const LensRequest& request, std::map<std::int64_t, at::Tensor> jacobians, at::Device device)
      : jacobians_(std::move(jacobians)) {
    request_ = request;
    std::vector<at::Tensor> parameters;
    for (const auto& [layer, jacobian] : jacobians_) parameters.push_back(jacobian);
    digest_ = parameter_digest(parameters);
    for (auto& [layer, jacobian] : jacobians_) jacobian = jacobian.to(device);
  }

  bool translates(std::int64_t layer) const override { return jacobians_.count(layer) > 0; }
  at::Tensor translate(std::int64_t layer, const at::Tensor& states) const override {
    return model::linear(states, jacobians_.at(layer), {});
  }

 private:
  std::map<std::int64_t, at::Tensor> jacobians_;
};

/// The value of `key` in a dictionary, or nullptr.
const PickleValue* find(const PickleValue& dictionary, const std::string& key) {
  for (std::size_t i = 0; i + 1 < dictionary.list.size(); i += 2) {
    const PickleValue& name = dictionary.list[i];
    if (name.kind == PickleValue::Kind::kString && name.string == key) return &dictionary.list[i + 1];
  }
  return nullptr;
}

}  // namespace

std::unique_ptr<Lens> make_jacobian_lens(const LensRequest& request, const model::Model& model,
                                         Alignment /*alignment*/) {
  const model::ArchSpec& spec = model.spec();
  const fs::path path = request.path;
  const std::string where = path.string();
  const std::int64_t d = spec.hidden_size;
  std::map<std::int64_t, at::Tensor> jacobians;

  const auto add = [&](std::int64_t block, const at::Tensor& tensor, const std::string& name) {
    if (block < 0 || block >= spec.num_layers) {
      throw util::format_error({.what = "the lens does not fit the model",
                                .where = where,
                                .expected = util::cat("blocks 0 to ", spec.num_layers - 1),
                                .found = name});
    }
    const at::Tensor jacobian = checked_parameter(tensor, {d, d}, name, where);
    if (block + 1 < spec.num_layers)
      jacobians.emplace(block + 1, jacobian);  // layer L is the model's own output
  };

  if (path.extension() == ".safetensors") {
    const io::TensorFile file = io::TensorFile::open_safetensors(path);
    for (const auto& [name, entry] : file.entries()) {
      const std::size_t dot = name.find('.');
      std::int64_t block;
      if (dot == std::string::npos || name.substr(dot) != ".jacobian" ||
          !util::parse_int(name.substr(0, dot), block)) {
        throw util::format_error({.what = "not a Jacobian lens",
                                  .where = where,
                                  .expected = "tensors named 'N.jacobian'",
                                  .found = name});
      }
      add(block, file.view(name), name);
    }
  } else {
    const PickleValue root = io::read_torch_archive(path);
    const auto expect = [&](const PickleValue* value, PickleValue::Kind kind, const std::string& what) {
      if (value != nullptr && value->kind == kind) return;
      throw util::format_error({.what = "not a Jacobian lens", .where = where, .expected = what});
    };
    expect(&root, PickleValue::Kind::kDictionary, "a dictionary with the key 'J'");
    const PickleValue* width = find(root, "d_model");
    if (width != nullptr && width->kind == PickleValue::Kind::kInteger && width->integer != d) {
      throw util::format_error({.what = "the lens was made for another model",
                                .where = where + ": d_model",
                                .expected = std::to_string(d),
                                .found = std::to_string(width->integer)});
    }
    const PickleValue* by_block = find(root, "J");
    expect(by_block, PickleValue::Kind::kDictionary, "a dictionary of blocks under the key 'J'");
    for (std::size_t i = 0; i + 1 < by_block->list.size(); i += 2) {
      expect(&by_block->list[i], PickleValue::Kind::kInteger, "integer keys in 'J'");
      expect(&by_block->list[i + 1], PickleValue::Kind::kTensor, "tensors in 'J'");
      const std::int64_t block = by_block->list[i].integer;
      add(block, io::tensor_view(by_block->list[i + 1].tensor), util::cat("J[", block, "]"));
    }
  }
  if (jacobians.empty()) throw util::format_error({.what = "the lens holds no Jacobian", .where = where});
  return std::make_unique<JacobianLens>(request, std::move(jacobians), model.device());
}

}  // namespace depthlens::lens
