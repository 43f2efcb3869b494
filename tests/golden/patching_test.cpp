// Activation patching against float64 (tools/scripts/make_patching_golden.py), and what must hold whatever
// the model: batches do not show, equal prompts change nothing, and layer L is all that the output sees.
#include "depthlens/decode/patching.hpp"

#include <ATen/TensorOperators.h>

#include <cmath>
#include <limits>

#include "depthlens/io/writers.hpp"
#include "depthlens/model/memory.hpp"
#include "depthlens/model/model.hpp"
#include "golden/golden_data.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/devices.hpp"
#include "support/scarce_backend.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens {
namespace {

namespace fs = std::filesystem;
using decode::LastPrediction;
using decode::Patcher;
using decode::PatchingPair;
using decode::PatchingResult;
using model::Model;

constexpr int kPairs = 2;
constexpr double kTolerance = 5e-5;  // nats, as for the logits of the golden models

class GoldenPairs {
 public:
  explicit GoldenPairs(const std::string& variant)
      : file_(io::TensorFile::open_safetensors(fs::path(DEPTHLENS_TEST_DATA) / "patching" /
                                               (variant + ".safetensors"))) {}

  PatchingPair pair(int p) const {
    const auto answers = tokens("answers", p);
    return {.source = tokens("source", p),
            .target = tokens("target", p),
            .source_answer = answers[0],
            .target_answer = answers[1]};
  }
  std::vector<decode::TokenId> tokens(const std::string& name, int p) const {
    const at::Tensor ids = view(name, p).to(at::kInt).contiguous();
    const auto* data = ids.const_data_ptr<std::int32_t>();
    return {data, data + ids.numel()};
  }
  std::vector<double> values(const std::string& name, int p) const {
    const at::Tensor numbers = view(name, p).contiguous();
    const auto* data = numbers.const_data_ptr<double>();
    return {data, data + numbers.numel()};
  }

 private:
  at::Tensor view(const std::string& name, int p) const { return file_.view(name + "." + std::to_string(p)); }
  io::TensorFile file_;
};

bool same(const LastPrediction& a, const LastPrediction& b) {
  return a.top1 == b.top1 && a.log_probability_difference == b.log_probability_difference && a.kl == b.kl;
}

TEST_CASE("effects of patching equal those of transformers with hooks in float64") {
  for (const auto& [device, variant] : test::on_placements(test::golden_variants_with_lenses())) {
    const auto model = Model::load(test::golden_model(variant), {.backends = test::backends_on(device)});
    const GoldenPairs golden(variant);
    for (int p = 0; p < kPairs; ++p) {
      INFO(variant << " on " << device << ", pair " << p);
      Patcher patcher(*model, {});
      const PatchingPair pair = golden.pair(p);
      const PatchingResult result = *patcher.patch(pair);
      REQUIRE(result.num_rows == model->spec().num_layers + 1);
      REQUIRE(result.length == pair.length());
      const auto difference = golden.values("difference", p), kl = golden.values("kl", p);
      REQUIRE(result.patched.size() == difference.size());
      for (std::int64_t layer = 0; layer < result.num_rows; ++layer) {
        for (std::int64_t position = 0; position < result.length; ++position) {
          INFO("layer " << layer << ", position " << position);
          const auto i = static_cast<std::size_t>(layer * result.length + position);
          const LastPrediction& found = result.at(layer, position);
          CHECK(std::abs(found.log_probability_difference - difference[i]) < kTolerance);
          CHECK(std::abs(found.kl - kl[i]) < kTolerance);
        }
      }
      CHECK(std::vector<decode::TokenId>{result.source.top1, result.target.top1} == golden.tokens("top1", p));
      const auto clean = golden.values("clean", p);
      CHECK(std::abs(result.source.log_probability_difference - clean[0]) < kTolerance);
      CHECK(std::abs(result.target.log_probability_difference - clean[1]) < kTolerance);
      CHECK(result.target.kl == 0);
      const decode::RunStatistics statistics = patcher.take_statistics();
      CHECK(statistics.self_checked_positions == 1);
      CHECK(statistics.final_layer_max_abs_error < kTolerance);
    }
  }
}

TEST_CASE("what cannot have an effect has none, and layer L at the last position is the source") {
  for (const auto& [device, variant] : test::on_placements(test::golden_variants_with_lenses())) {
    INFO(variant << " on " << device);
    const auto model = Model::load(test::golden_model(variant), {.backends = test::backends_on(device)});
    const PatchingPair pair = GoldenPairs(variant).pair(0);
    Patcher patcher(*model, {});
    const PatchingResult result = *patcher.patch(pair);
    const std::int64_t L = model->spec().num_layers, T = pair.length(), first = pair.first_different();
    REQUIRE(first == 3);
    std::int64_t different_tokens = 0;
    for (std::int64_t p = 0; p < T; ++p) {
      const auto i = static_cast<std::size_t>(p);
      if (pair.source[i] != pair.target[i]) {
        ++different_tokens;
      } else {
        CHECK(same(result.at(0, p), result.target));
      }
      for (std::int64_t layer = 0; layer <= L && p < first; ++layer)
        CHECK(same(result.at(layer, p), result.target));
      CHECK(same(result.at(L, p), p == T - 1 ? result.source : result.target));
    }
    const decode::RunStatistics statistics = patcher.take_statistics();
    CHECK(statistics.windows == 2 + different_tokens + (L - 1) * (T - first));
    CHECK(statistics.tokens == statistics.windows * T);
    // Whether these random models prefer the source's answer after the source is chance.
    const bool prefers = result.source.log_probability_difference > result.target.log_probability_difference;
    REQUIRE(result.restored(result.source).has_value() == prefers);
    CHECK(result.restored(result.target).value_or(0) == 0);
    CHECK(result.restored(result.source).value_or(1) == 1);
  }
}

TEST_CASE("a pair patched with itself changes nothing") {
  const auto model = Model::load(test::golden_model("llama-gqa-sharded"), {});
  PatchingPair pair = GoldenPairs("llama-gqa-sharded").pair(0);
  pair.source = pair.target;
  Patcher patcher(*model, {});
  const PatchingResult result = *patcher.patch(pair);
  CHECK(patcher.take_statistics().windows == 2);
  for (const LastPrediction& prediction : result.patched) CHECK(same(prediction, result.target));
  CHECK(same(result.source, result.target));
  CHECK_FALSE(result.restored(result.target));  // nothing to restore
}

TEST_CASE("patched runs have the same bits one by one and together") {
  for (const std::string& variant : test::golden_variants_with_lenses()) {
    INFO(variant);
    const auto model = Model::load(test::golden_model(variant), {});
    const PatchingPair pair = GoldenPairs(variant).pair(0);
    const PatchingResult together = *Patcher(*model, {}).patch(pair);
    const PatchingResult singly = *Patcher(*model, {.memory = 1}).patch(pair);
    for (std::size_t i = 0; i < together.patched.size(); ++i)
      CHECK(same(together.patched[i], singly.patched[i]));
  }
}

TEST_CASE("only pairs whose answers the model gives itself are patched, where that is wanted") {
  const auto model = Model::load(test::golden_model("gpt2"), {});
  PatchingPair pair = GoldenPairs("gpt2").pair(0);
  REQUIRE(GoldenPairs("gpt2").tokens("top1", 0) ==
          std::vector<decode::TokenId>{pair.source_answer, pair.target_answer});
  Patcher patcher(*model, {.predicted_only = true});
  CHECK(patcher.patch(pair));
  CHECK(patcher.take_statistics().windows > 2);
  std::swap(pair.source_answer, pair.target_answer);
  CHECK_FALSE(patcher.patch(pair));
  CHECK(patcher.take_statistics().windows == 2);  // the clean runs
  CHECK(Patcher(*model, {}).patch(pair));
}

TEST_CASE("a pair can be given up between two batches of runs") {
  const auto model = Model::load(test::golden_model("gpt2"), {});
  const PatchingPair pair = GoldenPairs("gpt2").pair(0);
  for (const int most : {0, 1, 3}) {  // one batch a layer
    int asked = 0;
    Patcher patcher(*model, {.should_stop = [&] { return asked++ == most; }});
    CHECK_FALSE(patcher.patch(pair));
    const decode::RunStatistics statistics = patcher.take_statistics();
    CHECK(statistics.stopped);
    CHECK((statistics.windows == 0) == (most == 0));
    CHECK(patcher.patch(pair));  // and taken up again, from its beginning
    CHECK_FALSE(patcher.take_statistics().stopped);
  }
}

TEST_CASE("so many patched runs are made at once as their memory holds, whatever mixes positions") {
  for (const std::string variant : {"gpt2", "mamba", "mamba2", "deepseek-v3", "lfm2", "qwen3-next"}) {
    INFO(variant);
    const auto model = Model::load(test::golden_model(variant), {});
    const model::ArchSpec& spec = model->spec();
    const PatchingPair pair = {.source = {1, 2, 3, 4, 5, 6, 7, 8},
                               .target = {1, 9, 8, 7, 6, 5, 4, 3},
                               .source_answer = 1,
                               .target_answer = 2};
    // The other half is for logits.
    const std::int64_t of_window = pair.length() * 4 * (spec.hidden_size + model::floats_of_pass(spec));
    REQUIRE(of_window > 32 * spec.vocab_size);
    for (const std::int64_t windows : {1, 3}) {
      int asked = 0;
      Patcher patcher(*model, {.memory = static_cast<std::uint64_t>(2 * windows * of_window),
                               .should_stop = [&] { return ++asked < 0; }});
      REQUIRE(patcher.patch(pair));
      const std::int64_t patched = pair.length() - 1;  // in each layer
      CHECK(asked == 1 + spec.num_layers * ((patched + windows - 1) / windows));
    }
  }
}

TEST_CASE("patched runs for which memory does not suffice are made fewer at once, and stay so") {
  const PatchingPair pair = GoldenPairs("gpt2").pair(0);
  const auto ample = Model::load(test::golden_model("gpt2"), {});
  const PatchingResult expected = *Patcher(*ample, {}).patch(pair);
  const auto backend = std::make_shared<test::ScarceBackend>(2 * pair.length());  // the clean runs fit
  const auto scarce = Model::load(test::golden_model("gpt2"), {.backends = {backend}});
  Patcher patcher(*scarce, {});
  for (int repeat = 0; repeat < 2; ++repeat) {
    const PatchingResult found = *patcher.patch(pair);
    REQUIRE(found.patched.size() == expected.patched.size());
    for (std::size_t i = 0; i < expected.patched.size(); ++i)
      CHECK(same(found.patched[i], expected.patched[i]));
    // The first layer of the first pair alone was too much.
    REQUIRE_FALSE(backend->refused.empty());
    for (std::size_t i = 1; i < backend->refused.size(); ++i)
      CHECK(backend->refused[i] < backend->refused[i - 1]);
  }
  const std::size_t windows = patcher.take_statistics().windows;
  Patcher other(*ample, {});
  other.patch(pair);
  other.patch(pair);
  CHECK(windows == static_cast<std::size_t>(other.take_statistics().windows));
}

TEST_CASE("other arithmetic is near") {
  const PatchingPair pair = GoldenPairs("llama-gqa-sharded").pair(0);
  const fs::path folder = test::golden_model("llama-gqa-sharded");
  const std::string device = GENERATE(from_range(test::devices()));
  INFO("on " << device);
  const auto exact = Model::load(folder, {}),
             rough = Model::load(folder, {.dtype = at::kBFloat16, .backends = test::backends_on(device)});
  const PatchingResult expected = *Patcher(*exact, {}).patch(pair);
  const PatchingResult found = *Patcher(*rough, {}).patch(pair);
  for (std::size_t i = 0; i < expected.patched.size(); ++i)
    CHECK(std::abs(found.patched[i].kl - expected.patched[i].kl) < 0.2);
}

TEST_CASE("weights that are not finite are named") {
  const test::TemporaryFolder folder;
  const fs::path source = test::golden_model("gpt2");
  fs::copy(source / "config.json", folder.path() / "config.json");
  const io::TensorFile weights = io::TensorFile::open_safetensors(source / "model.safetensors");
  io::NamedTensors tensors;
  for (const auto& [name, where] : weights.entries()) {
    at::Tensor tensor = weights.view(name).clone();
    if (name.find("h.1.mlp.c_proj.bias") != std::string::npos)
      tensor[3] = std::numeric_limits<float>::quiet_NaN();
    tensors.emplace_back(name, tensor);
  }
  io::write_safetensors(folder.path() / "model.safetensors", tensors, {});
  const std::string device = GENERATE(from_range(test::placements()));
  INFO("on " << device);
  const auto model = Model::load(folder.path(), {.backends = test::backends_on(device)});
  test::check_error(util::ErrorCode::kFormat,
                    {"not finite", "model.safetensors: transformer.h.1.mlp.c_proj.bias"},
                    [&] { Patcher(*model, {}).patch(GoldenPairs("gpt2").pair(0)); });
}

}  // namespace
}  // namespace depthlens
