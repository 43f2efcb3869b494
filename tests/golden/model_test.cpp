// Every family and variant against float64: residual states, logits, batches, tokens of several windows.
#include "depthlens/model/model.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <regex>
#include <utility>

#include "depthlens/compute/log_probabilities.hpp"
#include "golden/golden_data.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/devices.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens {
namespace {

using model::Model;

std::vector<at::Tensor> run(const Model& model, const model::PackedWindows& windows) {
  std::vector<at::Tensor> states;
  model.forward(windows, [&](std::int64_t layer, const at::Tensor& state) {
    REQUIRE(layer == static_cast<std::int64_t>(states.size()));
    states.push_back(state);
  });
  return states;
}

model::PackedWindows pack(const std::vector<std::vector<std::int64_t>>& windows) {
  model::PackedWindows packed;
  for (const auto& window : windows) {
    packed.tokens.insert(packed.tokens.end(), window.begin(), window.end());
    packed.lengths.push_back(static_cast<std::int64_t>(window.size()));
  }
  return packed;
}

at::Tensor logits(const Model& model, const at::Tensor& state) {
  const compute::Unembedding& unembedding = model.head().unembedding;
  const auto& [scale, cap] = unembedding.transform;
  const at::Tensor made =
      model.backend().linear(model.head().normed(state), unembedding.weight, unembedding.bias) * scale;
  return cap > 0 ? (made / cap).tanh() * cap : made;
}

void check_variant(const std::filesystem::path& folder, const std::string& variant, double tolerance,
                   const model::LoadOptions& options = {}) {
  const test::Reference reference(variant);
  const auto model = Model::load(folder, options);
  INFO(variant << " on " << model->device_names());
  CHECK(model->device() == (options.backends.empty() ? at::kCPU : options.backends.back()->device()));
  if (options.backends.size() == 2) {
    CHECK(model->backend_of(0).device() == options.backends.front()->device());
    CHECK(model->backend_of(model->spec().num_layers - 1).device() == model->device());
  }
  for (int sequence = 0; sequence < 2; ++sequence) {
    const std::string suffix = "." + std::to_string(sequence);
    const auto states = run(*model, pack({reference.tokens(sequence)}));
    REQUIRE(static_cast<std::int64_t>(states.size()) == model->spec().num_layers + 1);
    const at::Tensor expected = reference["states" + suffix];  // [L + 1, T, d]
    for (std::size_t layer = 0; layer < states.size(); ++layer) {
      INFO("layer " << layer);
      CHECK(states[layer].device() == model->device());
      CHECK(test::max_abs_difference(states[layer], expected.select(0, static_cast<std::int64_t>(layer))) <
            tolerance);
    }
    CHECK(test::max_abs_difference(logits(*model, states.back()), reference["logits" + suffix]) < tolerance);
  }
}

TEST_CASE("states and logits equal the float64 reference in every family, on every device") {
  for (const auto& [device, variant] : test::on_placements(test::golden_variants()))
    check_variant(test::golden_model(variant), variant, 5e-5, {.backends = test::backends_on(device)});
}

TEST_CASE("every layer is decoded by the model's whole readout, on every device") {
  int number = 0;
  for (const auto& [device, variant] : test::on_devices(test::golden_variants())) {
    const test::Reference reference(variant);
    if (!reference.has("layer_logits.1")) continue;
    ++number;
    INFO(variant << " on " << device);
    const auto model = Model::load(test::golden_model(variant), {.backends = test::backends_on(device)});
    const auto pass =
        model->backend().vocabulary_pass(model->head().unembedding, compute::Precision::kFloat32);
    const at::Tensor expected = reference["layer_logits.1"];  // [L + 1, T, V]
    const auto states = run(*model, pack({reference.tokens(1)}));
    for (std::size_t layer = 0; layer < states.size(); ++layer) {
      INFO("layer " << layer);
      const at::Tensor found = compute::logits(*pass, pass->pack(model->head().normed(states[layer]), 1));
      CHECK(test::max_abs_difference(found, expected.select(0, static_cast<std::int64_t>(layer))) < 5e-5);
    }
  }
  CHECK(number >= 36);
}

TEST_CASE("an older spelling of config.json means the same model") {
  int number = 0;
  for (const std::string& variant : test::golden_variants()) {
    const test::TemporaryFolder folder;
    const auto source = test::golden_model(variant);
    if (!std::filesystem::exists(source / "config.old.json")) continue;
    ++number;
    std::filesystem::copy(source / "model.safetensors", folder.path() / "model.safetensors");
    std::filesystem::copy(source / "config.old.json", folder.path() / "config.json");
    check_variant(folder.path(), variant, 5e-5);
  }
  CHECK(number >= 7);
}

TEST_CASE("bfloat16 arithmetic stays near the float64 reference") {
  const std::vector<std::string> variants = {"gpt2", "llama-gqa-sharded", "neox-parallel", "mistral-window"};
  for (const auto& [device, variant] : test::on_placements(variants))
    check_variant(test::golden_model(variant), variant, 0.5,
                  {.dtype = at::kBFloat16, .backends = test::backends_on(device)});
}

TEST_CASE("blocks that are read when their turn comes give the same bits") {
  for (const auto& [device, variant] : test::on_placements(test::golden_variants())) {
    INFO(variant << " on " << device);
    const test::Reference reference(variant);
    const auto kept = Model::load(test::golden_model(variant), {.backends = test::backends_on(device)});
    const auto streamed = Model::load(test::golden_model(variant),
                                      {.backends = test::backends_on(device), .stream_layers = true});
    CHECK(streamed->streams_layers());
    CHECK(streamed->num_parameters() == kept->num_parameters());
    const auto first = reference.tokens(0), second = reference.tokens(1);
    // Of a mixture, few tokens choose some of the experts, and many all of them.
    for (const auto& windows :
         {pack({first, second}), pack({first, second}), pack({first, first, second, second, first, first})}) {
      const auto expected = run(*kept, windows), states = run(*streamed, windows);
      for (std::size_t layer = 0; layer < expected.size(); ++layer)
        CHECK(at::equal(states[layer], expected[layer]));
    }
  }
}

TEST_CASE("a block that cannot be read is reported when its turn comes, whoever reads it") {
  const test::TemporaryFolder folder;
  for (const auto& file : std::filesystem::directory_iterator(test::golden_model("gpt2-bin"))) {
    if (file.is_regular_file()) std::filesystem::copy(file.path(), folder.path() / file.path().filename());
  }
  std::uint64_t place = 0;
  {
    const io::TensorFile weights = io::open_checkpoint(folder.path());
    for (const auto& [name, entry] : weights.entries()) {
      if (name.ends_with("h.1.mlp.c_fc.weight")) place = entry.offset;
    }
  }
  REQUIRE(place > 0);
  {
    std::fstream file(folder.path() / "pytorch_model.bin", std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(place));
    const int byte = file.get();
    file.seekp(static_cast<std::streamoff>(place));
    file.put(static_cast<char>(byte ^ 1));
  }
  const auto windows = pack({test::Reference("gpt2-bin").tokens(0)});
  const auto whole = run(*Model::load(test::golden_model("gpt2-bin"), {}), windows);
  REQUIRE(whole.size() == 3);
  for (const std::string& placement : test::placements()) {
    INFO(placement);
    const auto model =
        Model::load(folder.path(), {.backends = test::backends_on(placement), .stream_layers = true});
    for (int pass = 0; pass < 2; ++pass) {
      std::int64_t shown = 0;
      test::check_error(util::ErrorCode::kFormat, {"CRC-32", "pytorch_model.bin"}, [&] {
        model->forward(windows, [&](std::int64_t layer, const at::Tensor& states) {
          CHECK(layer == shown++);
          CHECK(test::max_abs_difference(states, whole[static_cast<std::size_t>(layer)]) < 5e-5);
        });
      });
      CHECK(shown == 2);
    }
  }
}

TEST_CASE("a pass over streamed blocks may be given up, while the next one is being read") {
  const std::string variant = "llama-gqa-sharded";
  const auto windows = pack({test::Reference(variant).tokens(0)});
  for (const std::string& placement : test::placements()) {
    INFO(placement);
    const auto model = Model::load(test::golden_model(variant),
                                   {.backends = test::backends_on(placement), .stream_layers = true});
    const auto expected = run(*model, windows);
    for (std::int64_t last = 0; last < model->spec().num_layers; ++last) {
      std::int64_t shown = 0;
      test::check_error(util::ErrorCode::kInterrupted, {}, [&] {
        model->forward(windows, [&](std::int64_t layer, const at::Tensor&) {
          ++shown;
          if (layer == last) throw util::interrupted_error();
        });
      });
      CHECK(shown == last + 1);
    }
    const auto again = run(*model, windows);
    for (std::size_t layer = 0; layer < expected.size(); ++layer)
      CHECK(at::equal(again[layer], expected[layer]));
  }
}

std::vector<std::shared_ptr<const compute::Backend>> several_backends(std::size_t count,
                                                                      const std::string& kernel = "") {
  std::vector<std::shared_ptr<const compute::Backend>> all;
  for (std::size_t i = 0; i < count; ++i) all.push_back(compute::Backend::create({.kernel = kernel}));
  return all;
}

TEST_CASE("several devices hold about the same bytes each, in the order of the blocks") {
  for (const std::string variant : {"gpt2", "llama-gqa-sharded", "mixtral"}) {
    const io::TensorFile file = io::open_checkpoint(test::golden_model(variant));
    for (const std::size_t count : {2, 3}) {
      INFO(variant << " on " << count << " devices");
      const auto backends = several_backends(count, "aten");  // which keeps all weights in float32
      const auto model = Model::load(test::golden_model(variant), {.backends = backends});
      const auto device_of = [&](std::int64_t block) {
        const auto found = std::find_if(backends.begin(), backends.end(), [&](const auto& backend) {
          return backend.get() == &model->backend_of(block);
        });
        return static_cast<std::size_t>(found - backends.begin());
      };
      std::vector<double> bytes(count, 0), of_blocks(static_cast<std::size_t>(model->spec().num_layers), 0);
      for (const auto& [name, entry] : file.entries()) {
        if (name.ends_with(".attn.bias") || name.ends_with(".masked_bias")) continue;  // masks
        const auto length = 4 * static_cast<double>(c10::multiply_integers(entry.shape));
        std::smatch number;
        if (std::regex_search(name, number, std::regex("\\.([0-9]+)\\."))) {
          const std::int64_t block = std::stoll(number[1]);
          bytes[device_of(block)] += length;
          of_blocks[static_cast<std::size_t>(block)] += length;
        } else if (name.find("wte") != std::string::npos || name.find("wpe") != std::string::npos ||
                   name.find("embed_tokens") != std::string::npos) {
          bytes.front() += length;
          if (model->spec().tied_unembedding && name.find("wpe") == std::string::npos) bytes.back() += length;
        } else {
          bytes.back() += length;
        }
      }
      CHECK(device_of(0) == 0);
      CHECK(device_of(model->spec().num_layers - 1) == count - 1);
      const double share = std::accumulate(bytes.begin(), bytes.end(), 0.0) / static_cast<double>(count);
      const double largest = *std::max_element(of_blocks.begin(), of_blocks.end());
      REQUIRE(largest > 0);
      for (const double of_device : bytes) CHECK(std::abs(of_device - share) <= largest);
    }
  }
}

TEST_CASE("batches are sized for the device with the least memory, and messages name all devices") {
  const auto with_memory = [](std::uint64_t bytes) { return compute::Backend::create({.memory = bytes}); };
  for (const auto& [first, last] : {std::pair(700, 500), std::pair(500, 700)}) {
    const auto model = Model::load(test::golden_model("gpt2"),
                                   {.backends = {with_memory(first), with_memory(600), with_memory(last)}});
    CHECK(model->memory() == 500);
    CHECK(model->device_names() == "cpu,cpu,cpu");
  }
}

TEST_CASE("devices without a block change nothing") {
  for (const std::string variant : {"llama", "gpt2", "mixtral"}) {
    INFO(variant);
    const auto windows = pack({test::Reference(variant).tokens(0)});
    const auto expected = run(*Model::load(test::golden_model(variant), {}), windows);
    for (const bool streamed : {false, true}) {
      const auto model = Model::load(test::golden_model(variant),
                                     {.backends = several_backends(7), .stream_layers = streamed});
      const auto states = run(*model, windows);
      for (std::size_t layer = 0; layer < expected.size(); ++layer)
        CHECK(at::equal(states[layer], expected[layer]));
    }
  }
}

TEST_CASE("a forward pass brings token and position numbers to a device, and takes nothing from it") {
  const auto guarded = test::guarded_device();
  if (!guarded) {
    WARN("a card takes the guarded device's place");
    return;
  }
  for (const std::string& variant : test::golden_variants_with_lenses()) {
    INFO(variant);
    const test::Reference reference(variant);
    const auto model = Model::load(test::golden_model(variant), {.backends = test::backends_on(*guarded)});
    const auto windows = pack({reference.tokens(0), reference.tokens(1)});
    const auto before = test::guarded_counts();
    run(*model, windows);
    const auto after = test::guarded_counts();
    // A number of eight bytes for each token; its place likewise, or a sine and a cosine for each two
    // dimensions. Attention of windows of two lengths: for each row of either, padding included, where it is
    // from, and where it goes.
    const auto& ropes = model->spec().ropes;
    const std::int64_t for_place = ropes.empty() ? 8 : 4 * ropes.front().dims;
    const auto tokens = static_cast<std::int64_t>(windows.tokens.size());
    REQUIRE(windows.lengths[0] != windows.lengths[1]);
    const std::int64_t padded = 2 * std::max(windows.lengths[0], windows.lengths[1]);
    CHECK(after.bytes_in - before.bytes_in == tokens * (8 + for_place) + 8 * (padded + tokens));
    CHECK(after.bytes_out == before.bytes_out);
    CHECK(after.operations > before.operations);
  }
}

TEST_CASE("a batch of windows equals its singles, to the last bit") {
  for (const std::string& variant : test::golden_variants()) {
    INFO(variant);
    const test::Reference reference(variant);
    const auto model = Model::load(test::golden_model(variant), {});
    const auto check = [&](const auto& first, const auto& second) {
      INFO("windows of " << first.size() << " and " << second.size());
      // Neighbours of one length are one call of attention.
      const auto together = run(*model, pack({first, first, second, first}));
      const auto alone_first = run(*model, pack({first})), alone_second = run(*model, pack({second}));
      for (std::size_t layer = 0; layer < together.size(); ++layer) {
        INFO("layer " << layer);
        CHECK(at::equal(together[layer], at::cat({alone_first[layer], alone_first[layer], alone_second[layer],
                                                  alone_first[layer]})));
      }
    };
    check(reference.tokens(0), reference.tokens(1));
    // Longer than what libtorch computes in one piece.
    const auto of_length = [&](std::size_t length) {
      auto tokens = reference.tokens(0);
      while (tokens.size() < length) tokens.push_back(tokens[tokens.size() % 7]);
      tokens.resize(length);
      return tokens;
    };
    for (const auto& [first, second] : {std::pair{23, 9}, {16, 33}}) {
      if (std::max(first, second) <= model->spec().max_positions)
        check(of_length(static_cast<std::size_t>(first)), of_length(static_cast<std::size_t>(second)));
    }
  }
}

TEST_CASE("a token is not influenced by what follows it") {
  for (const std::string& variant : test::golden_variants()) {
    INFO(variant);
    const test::Reference reference(variant);
    const auto model = Model::load(test::golden_model(variant), {});
    auto tokens = reference.tokens(0);
    const auto before = run(*model, pack({tokens}));
    tokens.back() = (tokens.back() + 1) % model->spec().vocab_size;
    const auto after = run(*model, pack({tokens}));
    const auto kept = static_cast<std::int64_t>(tokens.size()) - 1;
    for (std::size_t layer = 0; layer < before.size(); ++layer) {
      CHECK(at::equal(before[layer].narrow(0, 0, kept), after[layer].narrow(0, 0, kept)));
      CHECK_FALSE(at::equal(before[layer].narrow(0, kept, 1), after[layer].narrow(0, kept, 1)));
    }
  }
}

TEST_CASE("load: a config that has been read is handed on, and not read again") {
  const test::TemporaryFolder folder;
  const std::filesystem::path from = test::golden_model("neox-parallel");
  for (const auto& file : std::filesystem::directory_iterator(from))
    std::filesystem::copy(file.path(), folder.path() / file.path().filename());
  const model::ArchSpec config = model::read_config(folder.path());
  const auto reference = Model::load(from, {});
  CHECK(Model::load(folder.path(), {})->spec() == reference->spec());
  std::filesystem::remove(folder.path() / "config.json");
  CHECK(Model::load(folder.path(), {.config = config})->spec() == reference->spec());
  test::check_error(util::ErrorCode::kInput, {"config.json"}, [&] { Model::load(folder.path(), {}); });
}

}  // namespace
}  // namespace depthlens
