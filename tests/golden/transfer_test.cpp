// Translators on other layers against a plain computation in float64, and the tables of eval-lens.
#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>

#include <cmath>
#include <map>
#include <utility>

#include "depthlens/decode/engine.hpp"
#include "depthlens/experiments/evaluation.hpp"
#include "depthlens/experiments/experiment.hpp"
#include "depthlens/lens/lens.hpp"
#include "depthlens/model/model.hpp"
#include "golden/golden_data.hpp"
#include "support/catch.hpp"
#include "support/devices.hpp"

namespace depthlens {
namespace {

using decode::TokenId;
using lens::Alignment;

decode::QuerySource first_sequence(const test::Reference& reference) {
  return [tokens = reference.tokens(0), done = false](decode::Query& query) mutable {
    if (std::exchange(done, true)) return false;
    for (const std::int64_t id : tokens) query.tokens.push_back(static_cast<TokenId>(id));
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      const TokenId target = t + 1 < tokens.size() ? query.tokens[t + 1] : decode::kNoToken;
      query.positions.push_back({.position = static_cast<std::int64_t>(t), .target = target, .watched = {}});
    }
    return true;
  };
}

std::string lens_file() {
  return (test::golden_model("gpt2") / "lens" / "tuned.safetensors").string();
}

std::unique_ptr<lens::Lens> tuned_lens(const model::Model& model, Alignment alignment) {
  return lens::load_lens({.name = "tuned", .type = "tuned", .path = lens_file()}, model, alignment);
}

/// Tables of eval-lens of the first sequence: with `per_group` translators a group of the engine's.
std::vector<tables::Table> evaluation_tables(const model::Model& model, const lens::Lens& lens,
                                             std::int64_t per_group) {
  const test::Reference reference("gpt2");
  tables::State state;
  const experiments::Context context{.state = &state, .buckets = {}};
  std::vector<std::unique_ptr<lens::Lens>> views;
  std::vector<std::unique_ptr<decode::Listener>> listeners;
  decode::EngineOptions options;
  for (std::int64_t first = 0; first < lens.num_translators(); first += per_group) {
    std::vector<const lens::Lens*> pointers;
    std::vector<experiments::TranslatorView> expected;
    for (std::int64_t i = first; i < std::min(first + per_group, lens.num_translators()); ++i) {
      views.push_back(lens::make_transfer_lens(lens, i));
      pointers.push_back(views.back().get());
      expected.push_back({.lens = lens.request().name, .translator = i});
    }
    listeners.push_back(experiments::make_transfer_listener(context, std::move(expected)));
    options.more_groups.push_back({std::move(pointers), {listeners.back().get()}});
  }
  options.on_part_end = [&](std::int64_t, const decode::RunStatistics&) { state.commit(); };
  const auto evaluation =
      experiments::make_evaluation(context, {.size = {.tokens = 1, .bytes = 1},
                                             .transfer = {{lens.request().name, lens.num_translators()}},
                                             .num_layers = model.spec().num_layers});
  decode::Engine(model, {&lens}, options).run(first_sequence(reference), {evaluation.get()});
  return evaluation->tables();
}

tables::Table transfer_table(const model::Model& model, const lens::Lens& lens, std::int64_t per_group) {
  return evaluation_tables(model, lens, per_group).back();
}

tables::Table quality_table(const model::Model& model, const lens::Lens& lens) {
  return evaluation_tables(model, lens, 2).front();
}

double number(const tables::Cell& cell) {
  return std::get<double>(cell);
}

TEST_CASE("each translator on each layer equals a plain computation in float64") {
  const std::string device = GENERATE(from_range(test::devices()));
  INFO("on " << device);
  const auto model = model::Model::load(test::golden_model("gpt2"), {.backends = test::backends_on(device)});
  const auto lens = tuned_lens(*model, Alignment::kTrained);
  const tables::Table table = transfer_table(*model, *lens, 2);

  const test::Reference reference("gpt2");
  const auto lens_values = io::TensorFile::open_safetensors(lens_file());
  const auto weights = io::TensorFile::open_safetensors(test::golden_model("gpt2") / "model.safetensors");
  std::map<std::string, at::Tensor> head;
  for (const auto& [name, entry] : weights.entries()) {
    for (const std::string key : {"ln_f.weight", "ln_f.bias", "wte.weight"}) {
      if (name.ends_with(key)) head[key] = weights.view(name).to(at::kDouble);
    }
  }
  REQUIRE(head.size() == 3);
  const auto log_probabilities = [&](const at::Tensor& states) {
    const at::Tensor centred = states - states.mean(1, true);
    const at::Tensor normed = centred / (centred.square().mean(1, true) + 1e-5).sqrt();
    return at::mm(normed * head["ln_f.weight"] + head["ln_f.bias"], head["wte.weight"].t()).log_softmax(1);
  };
  const at::Tensor states = reference["states.0"];  // [L + 1, T, d]
  const std::int64_t L = states.size(0) - 1;
  const at::Tensor final_logprobs = log_probabilities(states[L]);
  REQUIRE(table.rows.size() == static_cast<std::size_t>(L * L));
  for (std::int64_t i = 0; i < L; ++i) {
    const at::Tensor weight = lens_values.view(std::to_string(i) + ".weight").to(at::kDouble);
    const at::Tensor bias = lens_values.view(std::to_string(i) + ".bias").to(at::kDouble);
    for (std::int64_t j = 0; j < L; ++j) {
      INFO("translator " << i << ", layer " << j);
      const at::Tensor state = states[j];
      const at::Tensor logprobs = log_probabilities(state + at::mm(state, weight.t()) + bias);
      const double kl = (final_logprobs.exp() * (final_logprobs - logprobs)).sum(1).mean().item<double>();
      const double agreement =
          logprobs.argmax(1).eq(final_logprobs.argmax(1)).to(at::kDouble).mean().item<double>();
      const auto& row = table.rows[static_cast<std::size_t>(i * L + j)];
      CHECK(std::get<std::int64_t>(row[1]) == i);
      CHECK(std::get<std::int64_t>(row[2]) == j);
      CHECK(std::get<std::int64_t>(row[3]) == states.size(1));
      CHECK(number(row[4]) == Approx(kl).margin(2e-5));
      CHECK(number(row[5]) == agreement);
    }
  }
}

TEST_CASE("on its own layer a translator does what lens.quality says, in runs of any size") {
  const auto model = model::Model::load(test::golden_model("gpt2"), {});
  const std::int64_t L = model->spec().num_layers;
  const auto lens = tuned_lens(*model, Alignment::kTrained);
  const tables::Table quality = quality_table(*model, *lens);
  const tables::Table alone = transfer_table(*model, *lens, 1), together = transfer_table(*model, *lens, L);
  CHECK((alone.rows == together.rows));
  for (std::int64_t i = 0; i < L; ++i) {
    const auto& own = alone.rows[static_cast<std::size_t>(i * L + i)];
    CHECK(number(own[4]) == Approx(number(quality.rows[static_cast<std::size_t>(i)][3])).epsilon(1e-12));
  }
  // Translators keep their numbers whatever the alignment: the paper's layer i + 1 is translator i there.
  const auto paper = tuned_lens(*model, Alignment::kPaper);
  CHECK((transfer_table(*model, *paper, L).rows == alone.rows));
  const tables::Table paper_quality = quality_table(*model, *paper);
  for (std::int64_t i = 0; i + 1 < L; ++i) {
    const auto& shifted = alone.rows[static_cast<std::size_t>(i * L + i + 1)];
    CHECK(number(shifted[4]) ==
          Approx(number(paper_quality.rows[static_cast<std::size_t>(i + 1)][3])).epsilon(1e-12));
  }
}

TEST_CASE("bits per byte equal the reference divergences, recomputed") {
  const std::string device = GENERATE(from_range(test::devices()));
  INFO("on " << device);
  const auto model = model::Model::load(test::golden_model("gpt2"), {.backends = test::backends_on(device)});
  const auto lens = tuned_lens(*model, Alignment::kTrained);
  const experiments::TextSize size{.tokens = 10, .bytes = 37};
  const tables::Table bits = experiments::bits_per_byte_table(quality_table(*model, *lens), size);
  const test::Reference reference("gpt2");
  const at::Tensor kl = reference["readout.tuned.kl_final"],
                   logprob = reference["readout.tuned.target_logprob"];
  REQUIRE(bits.rows.size() == static_cast<std::size_t>(kl.size(0)));
  for (std::int64_t layer = 0; layer < kl.size(0); ++layer) {
    const auto& row = bits.rows[static_cast<std::size_t>(layer)];
    const double targets = static_cast<double>(kl.size(1) - 1);
    const double loss = -logprob[layer].narrow(0, 0, kl.size(1) - 1).sum().item<double>() / targets;
    CHECK(number(row[2]) == Approx(kl[layer].mean().item<double>() * 10 / 37 / std::log(2)).margin(2e-5));
    CHECK(number(row[5]) == Approx(loss * 10 / 37 / std::log(2)).margin(2e-5));
  }
}

}  // namespace
}  // namespace depthlens
