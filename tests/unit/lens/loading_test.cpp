// Lens files made in memory for the tiny GPT-2 (3 blocks of width 16): what an untrained lens is, and each
// way in which a file can fail to fit.
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/decode/engine.hpp"
#include "depthlens/lens/lens.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/util/text.hpp"
#include "golden/golden_data.hpp"
#include "support/check_error.hpp"
#include "support/collecting_listener.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens {
namespace {

using lens::Alignment;
using test::check_error;
using test::CollectingListener;
using test::TemporaryFolder;
using util::cat;
using util::ErrorCode;

constexpr std::size_t kWidth = 16;
constexpr int kBlocks = 3;

struct Tensor {
  std::string name;
  std::vector<std::size_t> shape;
  std::vector<float> values;
  std::string dtype = "F32";
};

std::string safetensors(const std::vector<Tensor>& tensors) {
  std::string header = "{", data;
  for (const Tensor& tensor : tensors) {
    std::vector<std::string> sizes;
    for (const std::size_t size : tensor.shape) sizes.push_back(std::to_string(size));
    const std::size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * sizeof(float));
    header +=
        cat(header.size() > 1 ? "," : "", "\"", tensor.name, "\":{\"dtype\":\"", tensor.dtype,
            "\",\"shape\":[", util::join(sizes, ","), "],\"data_offsets\":[", begin, ",", data.size(), "]}");
  }
  header += "}";
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return bytes + header + data;
}

/// A tensor of zeros.
Tensor zeros(const std::string& name, const std::vector<std::size_t>& shape) {
  std::size_t count = 1;
  for (const std::size_t size : shape) count *= size;
  return {.name = name, .shape = shape, .values = std::vector<float>(count, 0.0F)};
}

std::vector<Tensor> untrained(int blocks = kBlocks, std::size_t width = kWidth, bool bias = true) {
  std::vector<Tensor> tensors;
  for (int i = 0; i < blocks; ++i) {
    tensors.push_back(zeros(cat(i, ".weight"), {width, width}));
    if (bias) tensors.push_back(zeros(cat(i, ".bias"), {width}));
  }
  return tensors;
}

std::vector<Tensor> identities(const std::vector<int>& blocks) {
  std::vector<Tensor> tensors;
  for (const int block : blocks) {
    Tensor& tensor = tensors.emplace_back(zeros(cat(block, ".jacobian"), {kWidth, kWidth}));
    for (std::size_t i = 0; i < kWidth; ++i) tensor.values[i * kWidth + i] = 1;
  }
  return tensors;
}

const model::Model& gpt2() {
  static const auto model = model::Model::load(test::golden_model("gpt2"), {});
  return *model;
}

std::unique_ptr<lens::Lens> load(const std::string& type, const std::filesystem::path& path,
                                 Alignment alignment = Alignment::kTrained) {
  return lens::load_lens({.name = type, .type = type, .path = path.string()}, gpt2(), alignment);
}

void check_refused(const std::string& type, const std::vector<Tensor>& tensors,
                   const std::vector<std::string>& parts) {
  const TemporaryFolder folder;
  const auto path = folder.write("lens.safetensors", safetensors(tensors));
  std::vector<std::string> all = parts;
  all.push_back("lens.safetensors");
  check_error(ErrorCode::kFormat, all, [&] { load(type, path); });
}

/// The readouts of a short text, by lens.
std::vector<CollectingListener::Position> read_out(const std::vector<const lens::Lens*>& lenses) {
  decode::Query query;
  query.tokens = {3, 1, 4, 15, 9, 26, 5};
  for (std::int64_t t = 0; t < 7; ++t) query.positions.push_back({.position = t, .target = 2, .watched = {}});
  CollectingListener listener(5);
  bool given = false;
  decode::Engine(gpt2(), lenses, {})
      .run(
          [&](decode::Query& next) {
            next = query;
            return !std::exchange(given, true);
          },
          {&listener});
  return listener.positions;
}

}  // namespace

TEST_CASE("tuned lens: untrained, it is the logit lens at every layer, to the last bit") {
  const TemporaryFolder folder;
  const auto logit = load("logit", "");
  for (const bool bias : {true, false}) {
    const auto path = folder.write("lens.safetensors", safetensors(untrained(kBlocks, kWidth, bias)));
    for (const Alignment alignment : {Alignment::kTrained, Alignment::kPaper}) {
      const auto tuned = load("tuned", path, alignment);
      const auto positions = read_out({logit.get(), tuned.get()});
      REQUIRE(positions.size() == 7);
      for (const auto& position : positions) CHECK((position.lenses[0] == position.lenses[1]));
    }
  }
}

TEST_CASE("tuned lens: which layers it translates, under either alignment") {
  const TemporaryFolder folder;
  const auto path = folder.write("lens.safetensors", safetensors(untrained()));
  const auto translated = [](const lens::Lens& lens) {
    std::string layers;
    for (std::int64_t layer = 0; layer <= kBlocks; ++layer) layers += lens.translates(layer) ? 'x' : '.';
    return layers;
  };
  CHECK(translated(*load("tuned", path)) == "xxx.");
  CHECK(translated(*load("tuned", path, Alignment::kPaper)) == ".xx.");
  CHECK(translated(*load("logit", "")) == "....");
}

TEST_CASE("tuned lens: layer i uses translator i, in the paper's alignment translator i - 1") {
  const TemporaryFolder folder;
  std::vector<Tensor> tensors = untrained();
  for (int i = 0; i < kBlocks; ++i)
    tensors[static_cast<std::size_t>(2 * i + 1)].values.assign(kWidth, static_cast<float>(10 * (i + 1)));
  const auto path = folder.write("lens.safetensors", safetensors(tensors));
  const at::Tensor states = gpt2().head().norm_weight.view({1, -1});  // any state of the right width
  const auto added = [&](const lens::Lens& lens, std::int64_t layer) {
    return (lens.translate(layer, states) - states).mean().item<double>();
  };
  const auto trained = load("tuned", path), paper = load("tuned", path, Alignment::kPaper);
  CHECK(added(*trained, 0) == Approx(10));
  CHECK(added(*trained, 1) == Approx(20));
  CHECK(added(*trained, 2) == Approx(30));
  CHECK(added(*paper, 1) == Approx(10));
  CHECK(added(*paper, 2) == Approx(20));
}

TEST_CASE("tuned lens: the digest tells lenses apart and does not depend on the file") {
  const TemporaryFolder folder;
  std::vector<Tensor> tensors = untrained();
  const auto zero = folder.write("zero.safetensors", safetensors(tensors));
  std::reverse(tensors.begin(), tensors.end());
  const auto reversed = folder.write("reversed.safetensors", safetensors(tensors));
  tensors.front().values[0] = 1e-6F;
  const auto changed = folder.write("changed.safetensors", safetensors(tensors));
  CHECK(load("tuned", zero)->digest() == load("tuned", reversed)->digest());
  CHECK(load("tuned", zero)->digest() != load("tuned", changed)->digest());
  CHECK(load("logit", "")->digest().empty());
}

TEST_CASE("tuned lens: another width, another depth, a missing or an additional parameter") {
  check_refused("tuned", untrained(kBlocks, 8),
                {"does not fit", "expected 3 translators of width 16", "found 3 of width 8"});
  check_refused("tuned", untrained(kBlocks - 1), {"expected 3 translators", "found 2 of width 16"});
  check_refused("tuned", untrained(kBlocks + 1), {"expected 3 translators", "found 4 of width 16"});
  check_refused("tuned", {}, {"not a tuned lens"});
  std::vector<Tensor> tensors = untrained();
  tensors.pop_back();
  check_refused("tuned", tensors, {"biases for all translators or for none", "none for 2"});
  tensors = untrained();
  tensors.push_back(zeros("extra", {4}));
  check_refused("tuned", tensors, {"'extra'"});
  tensors = untrained();
  tensors[1].shape = {4, 4};
  check_refused("tuned", tensors, {"0.bias", "[16]", "[4, 4]"});
}

TEST_CASE("lenses: parameters that are not finite, or no floating-point numbers") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<Tensor> tensors = untrained();
    tensors[2].values[255] = bad;
    check_refused("tuned", tensors, {"not finite", "1.weight"});
    std::vector<Tensor> jacobians = identities({0, 1});
    jacobians[1].values[7] = bad;
    check_refused("jacobian", jacobians, {"not finite", "J[1]"});
  }
  std::vector<Tensor> tensors = untrained();
  tensors[0].dtype = "I32";
  check_refused("tuned", tensors, {"0.weight", "floating-point"});
}

TEST_CASE("lenses: a file of the other type is refused") {
  check_refused("tuned", identities({0, 1}), {"not a tuned lens", "'0.jacobian' without '0.weight'"});
  check_refused("jacobian", untrained(), {"not a Jacobian lens", "N.jacobian"});
}

TEST_CASE("lenses: files that are no tensors, or not there") {
  const TemporaryFolder folder;
  for (const char* name : {"lens.safetensors", "lens.pt"}) {
    const auto path = folder.write(name, "this is no lens, but it is long enough for a header");
    for (const char* type : {"tuned", "jacobian"}) {
      INFO(type << " " << name);
      check_error(ErrorCode::kFormat, {name}, [&] { load(type, path); });
    }
  }
  for (const char* type : {"tuned", "jacobian"}) {
    check_error(ErrorCode::kInput, {"none"}, [&] { load(type, folder.path() / "none.safetensors"); });
    check_error(ErrorCode::kInput, {"none"}, [&] { load(type, folder.path() / "none.pt"); });
  }
}

TEST_CASE("tuned lens: a folder whose config.json tells of another model or kind of lens") {
  const auto refused = [&](const std::string& config, const std::vector<std::string>& parts) {
    const TemporaryFolder folder;
    std::filesystem::copy_file(test::golden_model("gpt2") / "lens" / "tuned" / "params.pt",
                               folder.path() / "params.pt");
    folder.write("config.json", config);
    check_error(ErrorCode::kFormat, parts, [&] { load("tuned", folder.path()); });
    check_error(ErrorCode::kFormat, parts, [&] { load("tuned", folder.path() / "params.pt"); });
  };
  refused(R"({"d_model": 768, "num_hidden_layers": 3})",
          {"config.json", "d_model", "expected 16, found 768"});
  refused(R"({"d_model": 16, "num_hidden_layers": 12})", {"num_hidden_layers", "expected 3, found 12"});
  refused(R"({"d_model": 16})", {"missing key 'num_hidden_layers'"});
  refused(R"({"d_model": 16, "num_hidden_layers": 3, "lens_type": "mlp"})", {"lens_type", "found \"mlp\""});
  refused("{", {"not valid JSON", "config.json"});
}

TEST_CASE(
    "jacobian lens: identities are the logit lens; blocks without one, layer 0 and layer L are left alone") {
  const TemporaryFolder folder;
  const auto logit = load("logit", "");
  const auto lens = load("jacobian", folder.write("lens.safetensors", safetensors(identities({1, 2}))));
  CHECK_FALSE(lens->translates(0));
  CHECK_FALSE(lens->translates(1));  // block 0 has none
  CHECK(lens->translates(2));
  CHECK_FALSE(lens->translates(3));  // the model's own output
  for (const auto& position : read_out({logit.get(), lens.get()})) {
    for (std::size_t layer = 0; layer <= kBlocks; ++layer) {
      CHECK(position.lenses[0][layer].top_ids == position.lenses[1][layer].top_ids);
      CHECK(position.lenses[0][layer].entropy == Approx(position.lenses[1][layer].entropy).margin(1e-6));
    }
  }
}

TEST_CASE("jacobian lens: blocks that the model lacks, another width, and none of use") {
  check_refused("jacobian", identities({0, 3}), {"does not fit", "blocks 0 to 2", "found block 3"});
  check_refused("jacobian", identities({-1}), {"blocks from 0", "found -1"});
  check_refused("jacobian", {zeros("0.jacobian", {8, 8})},
                {"does not fit", "of width 16", "found block 0 of width 8"});
  check_refused("jacobian", {}, {"holds no Jacobian"});
  check_refused("jacobian", identities({2}), {"holds no Jacobian"});  // of layer L only
  check_refused("jacobian", {zeros("x.jacobian", {16, 16})}, {"not a Jacobian lens", "found 'x.jacobian'"});
}

}  // namespace depthlens
