// Lenses and the decoder against float64, and the properties that hold for any model.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <cmath>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/compute/vocabulary_pass.hpp"
#include "depthlens/decode/engine.hpp"
#include "depthlens/lens/lens.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/util/text.hpp"
#include "golden/golden_data.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/collecting_listener.hpp"
#include "support/devices.hpp"
#include "support/kernels.hpp"
#include "support/other_pass.hpp"
#include "support/scarce_backend.hpp"

namespace depthlens {
namespace {

using decode::TokenId;
using lens::Alignment;
using test::CollectingListener;

std::vector<decode::Query> queries_of(const test::Reference& reference) {
  std::vector<decode::Query> queries;
  for (int sequence = 0; sequence < 2; ++sequence) {
    decode::Query query;
    query.document = sequence;
    for (const std::int64_t id : reference.tokens(sequence)) query.tokens.push_back(static_cast<TokenId>(id));
    const auto length = static_cast<std::int64_t>(query.tokens.size());
    for (std::int64_t t = 0; t < length; ++t) {
      query.positions.push_back(
          {.position = t,
           .target = t + 1 < length ? query.tokens[static_cast<std::size_t>(t) + 1] : decode::kNoToken,
           .watched = {}});
    }
    queries.push_back(query);
  }
  return queries;
}

decode::QuerySource source_of(const std::vector<decode::Query>& queries) {
  return [&queries, next = std::size_t{0}](decode::Query& query) mutable {
    if (next == queries.size()) return false;
    query = queries[next++];
    return true;
  };
}

CollectingListener read_out(const model::Model& model, const std::vector<std::string>& lens_texts,
                            Alignment alignment, const std::vector<decode::Query>& queries,
                            std::int64_t top_k = 10, decode::EngineOptions options = {}) {
  std::vector<lens::LensRequest> requests;
  for (const std::string& text : lens_texts) requests.push_back(lens::parse_lens_request(text));
  std::vector<std::unique_ptr<lens::Lens>> lenses;
  std::vector<const lens::Lens*> pointers;
  for (const auto& request : lens::with_names(requests)) {
    lenses.push_back(lens::load_lens(request, model, alignment));
    pointers.push_back(lenses.back().get());
  }
  CollectingListener listener(top_k);
  decode::Engine(model, pointers, options).run(source_of(queries), {&listener});
  return listener;
}

std::string lens_path(const std::string& variant, const std::string& name) {
  return (test::golden_model(variant) / "lens" / name).string();
}

/// Compares one lens of the readouts of sequence 0 with the reference arrays of that name.
void check_lens(const CollectingListener& found, std::int64_t lens, const test::Reference& reference,
                const std::string& name, bool all_fields, double margin) {
  const auto number = [&](const std::string& field, std::initializer_list<std::int64_t> at) {
    at::Tensor value = reference["readout." + name + "." + field];
    for (const std::int64_t i : at) value = value[i];
    return value.item<double>();
  };
  std::int64_t positions = 0;
  for (const auto& position : found.positions) {
    if (position.document != 0) continue;
    ++positions;
    const std::int64_t t = position.position;
    for (std::int64_t layer = 0; layer < found.shape.num_rows; ++layer) {
      INFO(name << ", layer " << layer << ", position " << t);
      const auto& row = position.lenses[static_cast<std::size_t>(lens)][static_cast<std::size_t>(layer)];
      CHECK(row.entropy == Approx(number("entropy", {layer, t})).margin(margin));
      for (std::int64_t k = 0; k < 10; ++k) {
        CHECK(row.top_ids[static_cast<std::size_t>(k)] ==
              static_cast<TokenId>(number("top_ids", {layer, t, k})));
      }
      if (!all_fields) continue;
      for (std::int64_t k = 0; k < 10; ++k) {
        CHECK(row.top_logprobs[static_cast<std::size_t>(k)] ==
              Approx(number("top_logprobs", {layer, t, k})).margin(margin));
      }
      CHECK(row.kl_final == Approx(number("kl_final", {layer, t})).margin(margin));
      CHECK(row.kl_reverse == Approx(number("kl_reverse", {layer, t})).margin(margin));
      CHECK(row.ranks[decode::kWatchedFinal] == static_cast<int>(number("final_rank", {layer, t})));
      CHECK(row.logprobs[decode::kWatchedFinal] ==
            Approx(number("final_logprob", {layer, t})).margin(margin));
      if (position.target == decode::kNoToken) continue;
      CHECK(row.ranks[decode::kWatchedTarget] == static_cast<int>(number("target_rank", {layer, t})));
      CHECK(row.logprobs[decode::kWatchedTarget] ==
            Approx(number("target_logprob", {layer, t})).margin(margin));
    }
    if (all_fields) {
      CHECK(position.settled_layers[static_cast<std::size_t>(lens)] ==
            static_cast<std::int64_t>(number("settled_layer", {t})));
    }
  }
  CHECK(positions == static_cast<std::int64_t>(reference.tokens(0).size()));
}

TEST_CASE("readouts of all lenses, from one forward pass, equal the float64 reference") {
  for (const auto& [device, variant] : test::on_placements(test::golden_variants_with_lenses())) {
    INFO(variant << " on " << device);
    const test::Reference reference(variant);
    const auto model =
        model::Model::load(test::golden_model(variant), {.backends = test::backends_on(device)});
    const auto queries = queries_of(reference);
    const auto found = read_out(
        *model,
        {"logit", "tuned:" + lens_path(variant, "tuned"), "jacobian:" + lens_path(variant, "jacobian.pt"),
         "ours=tuned:" + lens_path(variant, "tuned.safetensors")},
        Alignment::kTrained, queries);
    CHECK(found.shape.lens_names == std::vector<std::string>{"logit", "tuned", "jacobian", "ours"});
    const double margin = test::readout_margin(model->backend().kernel_name());
    check_lens(found, 0, reference, "logit", true, margin);
    check_lens(found, 1, reference, "tuned", true, margin);
    check_lens(found, 2, reference, "jacobian", true, margin);
    check_lens(found, 3, reference, "tuned", true, margin);
    const auto paper = read_out(*model, {"tuned:" + lens_path(variant, "tuned")}, Alignment::kPaper, queries);
    check_lens(paper, 0, reference, "tuned-paper", false, margin);
  }
}

TEST_CASE("every kernel of this processor gives the float64 reference, in the forward pass too") {
  for (const std::string& kernel : compute::processor_kernels(compute::Precision::kExact)) {
    for (const std::string& variant : test::golden_variants_with_lenses()) {
      INFO(kernel << ", " << variant);
      const test::Reference reference(variant);
      const auto model =
          model::Model::load(test::golden_model(variant), {.backends = {test::backend(kernel)}});
      const auto found = read_out(
          *model,
          {"logit", "tuned:" + lens_path(variant, "tuned"), "jacobian:" + lens_path(variant, "jacobian.pt")},
          Alignment::kTrained, queries_of(reference));
      const double margin = test::readout_margin(kernel);
      check_lens(found, 0, reference, "logit", true, margin);
      check_lens(found, 1, reference, "tuned", true, margin);
      check_lens(found, 2, reference, "jacobian", true, margin);
    }
  }
}

TEST_CASE("both files of a tuned lens have one digest") {
  const auto model = model::Model::load(test::golden_model("gpt2"), {});
  const auto digest = [&](const std::string& name) {
    return lens::load_lens({.name = "tuned", .type = "tuned", .path = lens_path("gpt2", name)}, *model,
                           Alignment::kTrained)
        ->digest();
  };
  CHECK(digest("tuned") == digest("tuned.safetensors"));
  CHECK(digest("tuned").size() == 64);
}

TEST_CASE("layer L is the model's own output for every lens, and its divergence from itself is 0") {
  for (const auto& [device, variant] : test::on_placements(test::golden_variants_with_lenses())) {
    INFO(variant << " on " << device);
    const test::Reference reference(variant);
    const auto model =
        model::Model::load(test::golden_model(variant), {.backends = test::backends_on(device)});
    const auto found = read_out(
        *model,
        {"logit", "tuned:" + lens_path(variant, "tuned"), "jacobian:" + lens_path(variant, "jacobian.pt")},
        Alignment::kTrained, queries_of(reference));
    const double margin = test::readout_margin(model->backend().kernel_name());
    for (const auto& position : found.positions) {
      const at::Tensor logits = reference["logits." + std::to_string(position.document)][position.position];
      const at::Tensor logprobs = logits.log_softmax(0);
      for (const auto& lens : position.lenses) {
        const auto& row = lens.back();
        CHECK(row.top_ids[0] == logits.argmax().item<std::int64_t>());
        CHECK(row.top_logprobs[0] == Approx(logprobs.max().item<double>()).margin(margin));
        CHECK(row.kl_final == 0);
        CHECK(row.kl_reverse == 0);
        CHECK(row.ranks[decode::kWatchedFinal] == 1);
        CHECK(row.top_ids == position.lenses.front().back().top_ids);
      }
    }
  }
}

TEST_CASE("probability mass of groups sums to 1 and equals the sum over tokens") {
  const std::string device = GENERATE(from_range(test::devices()));
  INFO("on " << device);
  const test::Reference reference("gpt2");
  const auto model = model::Model::load(test::golden_model("gpt2"), {.backends = test::backends_on(device)});
  const std::int64_t V = model->spec().vocab_size;
  CollectingListener listener(V);
  for (std::int64_t v = 0; v < V; ++v) listener.groups.push_back(static_cast<std::uint8_t>(v % 3));
  listener.num_groups = 3;
  const auto lens =
      lens::load_lens({.name = "logit", .type = "logit", .path = ""}, *model, Alignment::kTrained);
  const auto queries = queries_of(reference);
  decode::Engine(*model, {lens.get()}, {}).run(source_of(queries), {&listener});
  for (const auto& position : listener.positions) {
    for (const auto& row : position.lenses[0]) {
      double expected[3] = {};
      for (std::size_t k = 0; k < row.top_ids.size(); ++k)
        expected[row.top_ids[k] % 3] += std::exp(double{row.top_logprobs[k]});
      double entropy = 0;
      for (const float logprob : row.top_logprobs) entropy -= std::exp(double{logprob}) * logprob;
      CHECK(row.entropy == Approx(entropy).margin(1e-5));
      for (std::size_t g = 0; g < 3; ++g) CHECK(row.group_mass[g] == Approx(expected[g]).margin(1e-5));
      CHECK(row.group_mass[0] + row.group_mass[1] + row.group_mass[2] == Approx(1).margin(1e-6));
    }
  }
}

TEST_CASE("readouts depend neither on the memory for batches nor on the threads") {
  for (const std::string& variant : test::golden_variants_with_lenses()) {
    const test::Reference reference(variant);
    const auto model = model::Model::load(test::golden_model(variant), {});
    std::vector<decode::Query> queries;
    for (int repeat = 0; repeat < 20; ++repeat) {
      for (const auto& query : queries_of(reference)) queries.push_back(query);
    }
    const std::vector<std::string> lenses = {"logit", "tuned:" + lens_path(variant, "tuned")};
    const auto plain = read_out(*model, lenses, Alignment::kTrained, queries);
    const auto small = read_out(*model, lenses, Alignment::kTrained, queries, 10, {.memory = 100'000});
    CHECK((plain.positions == small.positions));
    const int threads = compute::num_threads();
    compute::set_threads(threads == 1 ? 2 : 1);
    const auto other = read_out(*model, lenses, Alignment::kTrained, queries);
    compute::set_threads(threads);
    CHECK((plain.positions == other.positions));
  }
}

namespace {

/// Multiplies other states than the final layer's by weights of its own.
class FaultyBackend : public compute::Backend {
 public:
  explicit FaultyBackend(double factor)
      : Backend({}, at::kCPU), real_(compute::Backend::create()), factor_(factor) {}
  std::string kernel_name(compute::Precision precision) const override {
    return real_->kernel_name(precision);
  }
  bool multiplies_stored(at::ScalarType type) const override { return real_->multiplies_stored(type); }
  compute::PackedRows pack(const at::Tensor& rows, compute::Precision precision) const override {
    return real_->pack(rows, precision);
  }
  std::unique_ptr<compute::VocabularyPass> vocabulary_pass(const compute::Unembedding& unembedding,
                                                           compute::Precision precision) const override {
    compute::Unembedding other = unembedding;
    other.weight = unembedding.weight.mul(factor_);
    return std::make_unique<test::OtherPass>(
        real_->vocabulary_pass(unembedding, precision),
        [faulty = std::shared_ptr(real_->vocabulary_pass(other, precision))](
            const compute::VocabularyPass& real, const compute::StateRows& rows, compute::Reducer& reducer) {
          (rows.first_state == 0 ? real : *faulty).run(rows, reducer);
        });
  }

 protected:
  at::Tensor product(const compute::PackedRows& rows, const at::Tensor& weight,
                     compute::Way way) const override {
    return way == compute::Way::kForward ? real_->linear(rows, weight, {}) : real_->linear_back(rows, weight);
  }
  bool takes_fewer_bits(compute::Precision /*precision*/) const override { return false; }

 private:
  std::shared_ptr<const compute::Backend> real_;
  double factor_;
};

}  // namespace

TEST_CASE("a kernel that is wrong at other layers than the last ends the run") {
  const test::Reference reference("llama-gqa-sharded");
  for (const double factor : {1.0, 1.0001, 1.5}) {
    INFO("weights times " << factor);
    const auto model = model::Model::load(test::golden_model("llama-gqa-sharded"),
                                          {.backends = {std::make_shared<FaultyBackend>(factor)}});
    const auto lens =
        lens::load_lens({.name = "logit", .type = "logit", .path = ""}, *model, Alignment::kTrained);
    CollectingListener listener(5);
    const decode::Engine engine(*model, {lens.get()}, {});
    const auto queries = queries_of(reference);
    const auto run = [&] { return engine.run(source_of(queries), {&listener}); };
    if (factor < 1.1) {
      CHECK(run().final_layer_max_abs_error < 1e-5);
      continue;
    }
    try {
      run();
      FAIL("nothing was found");
    } catch (const util::Error& error) {
      CHECK(error.code() == util::ErrorCode::kSelfCheck);
      CHECK(std::string(error.what()).find("of a layer differs from that of a plain matrix product") !=
            std::string::npos);
    }
  }
}

TEST_CASE("the run counts what it did, checks itself and can be stopped between batches") {
  const std::string device = GENERATE(from_range(test::placements()));
  INFO("on " << device);
  const test::Reference reference("llama-gqa-sharded");
  const auto model =
      model::Model::load(test::golden_model("llama-gqa-sharded"), {.backends = test::backends_on(device)});
  const auto lens =
      lens::load_lens({.name = "logit", .type = "logit", .path = ""}, *model, Alignment::kTrained);
  const auto queries = queries_of(reference);
  CollectingListener listener(5);
  decode::EngineOptions options;
  options.memory = 1;  // one window a batch
  const auto whole = decode::Engine(*model, {lens.get()}, options).run(source_of(queries), {&listener});
  CHECK(whole.windows == 2);
  CHECK(whole.tokens == 15);
  CHECK(whole.positions == 15);
  CHECK_FALSE(whole.stopped);
  CHECK(whole.self_checked_positions > 0);
  const std::string kernel = model->backend().kernel_name();
  CHECK(whole.final_layer_max_abs_error < (test::is_bfloat16(kernel) ? test::readout_margin(kernel) : 1e-5));
  CollectingListener until_stop(5);
  options.should_stop = [&] { return until_stop.positions.size() >= 10; };
  const auto stopped = decode::Engine(*model, {lens.get()}, options).run(source_of(queries), {&until_stop});
  CHECK(stopped.stopped);
  CHECK(stopped.windows == 1);
  CHECK(until_stop.positions.size() == 10);
}

TEST_CASE("a run is given up in the middle of a product, and shows nothing wrong before") {
  const test::Reference reference("llama-gqa-sharded");
  const auto queries = queries_of(reference);
  std::size_t shown = 0;
  bool has_ended = false;
  for (int most = 0; !has_ended; most = 2 * most + 1) {
    INFO("asked " << most << " times");
    std::atomic<int> asked = 0;
    std::atomic<bool> runs = false;
    const auto should_stop = [&] { return runs && asked++ >= most; };
    const auto model =
        model::Model::load(test::golden_model("llama-gqa-sharded"),
                           {.backends = {compute::Backend::create({.should_stop = should_stop})}});
    const auto lens =
        lens::load_lens({.name = "logit", .type = "logit", .path = ""}, *model, Alignment::kTrained);
    CollectingListener listener(5);
    decode::EngineOptions options;
    options.memory = 1;  // one window a batch
    options.should_stop = should_stop;
    runs = true;
    const auto run = decode::Engine(*model, {lens.get()}, options).run(source_of(queries), {&listener});
    has_ended = !run.stopped;
    CHECK(listener.positions.size() >= shown);
    shown = listener.positions.size();
    if (has_ended) CHECK(shown == 15);
    REQUIRE(most < 1'000'000);
  }
}

TEST_CASE("a batch for which memory does not suffice is halved, and those after it are smaller") {
  const test::Reference reference("llama-gqa-sharded");
  auto queries = queries_of(reference);
  for (int more = 0; more < 6; ++more) queries.push_back(queries[static_cast<std::size_t>(more)]);
  std::int64_t longest = 0, all = 0;
  for (const decode::Query& query : queries) {
    const auto tokens = static_cast<std::int64_t>(query.tokens.size());
    longest = std::max(longest, tokens);
    all += tokens;
  }
  const auto run_with = [&](const std::shared_ptr<test::ScarceBackend>& backend,
                            CollectingListener& listener) {
    const auto model = model::Model::load(test::golden_model("llama-gqa-sharded"), {.backends = {backend}});
    const auto lens =
        lens::load_lens({.name = "logit", .type = "logit", .path = ""}, *model, Alignment::kTrained);
    decode::EngineOptions options;
    // Memory for one batch of all, by the engine's own estimate.
    const auto& spec = model->spec();
    options.memory = 2 * static_cast<std::uint64_t>(
                             all * 4 * ((spec.num_layers + 9) * spec.hidden_size + 4 * spec.widest_mlp()));
    return decode::Engine(*model, {lens.get()}, options).run(source_of(queries), {&listener});
  };
  CollectingListener whole(5), parts(5);
  const auto ample = std::make_shared<test::ScarceBackend>(all),
             scarce = std::make_shared<test::ScarceBackend>(longest + 1);
  run_with(ample, whole);
  const auto run = run_with(scarce, parts);
  CHECK(ample->refused.empty());
  // First all eight windows, then four of them, then two; no batch of the other half is tried whole.
  CHECK(scarce->refused.size() >= 3);
  CHECK(scarce->refused.front() == all);
  CHECK(run.positions == all);
  REQUIRE(parts.positions.size() == whole.positions.size());
  for (std::size_t p = 0; p < whole.positions.size(); ++p) CHECK(parts.positions[p] == whole.positions[p]);

  test::check_error(util::ErrorCode::kInput,
                    {util::cat(longest, " tokens"), "memory does not suffice", "--max-length"},
                    [&] { run_with(std::make_shared<test::ScarceBackend>(longest - 1), parts); });
}

TEST_CASE("an error of who is shown positions ends a run, also one that tells of a device's memory") {
  struct Failing : CollectingListener {
    using CollectingListener::CollectingListener;
    void accept(const decode::PositionReadout& position) override {
      TORCH_CHECK_WITH(OutOfMemoryError, positions.size() != 3, "CUDA out of memory");
      CollectingListener::accept(position);
    }
  };
  const test::Reference reference("gpt2");
  std::vector<decode::Query> queries;
  for (int repeat = 0; repeat < 20; ++repeat) {
    for (const auto& query : queries_of(reference)) queries.push_back(query);
  }
  const auto model = model::Model::load(test::golden_model("gpt2"), {});
  const auto lens =
      lens::load_lens({.name = "logit", .type = "logit", .path = ""}, *model, Alignment::kTrained);
  for (const bool beside : {false, true}) {
    INFO("shown beside " << beside);
    decode::EngineOptions options;
    options.shows_beside = beside;
    options.memory = 1;  // one window a batch
    Failing listener(5);
    CHECK_THROWS_AS(decode::Engine(*model, {lens.get()}, options).run(source_of(queries), {&listener}),
                    c10::OutOfMemoryError);
    CHECK(listener.positions.size() == 3);
  }
}

TEST_CASE("a chunk for which memory does not suffice is halved, and lenses may translate more than one") {
  const std::string variant = "llama-gqa-sharded";
  const test::Reference reference(variant);
  std::vector<decode::Query> queries;
  for (std::int64_t repeat = 0; repeat < 20; ++repeat) {
    for (const auto& query : queries_of(reference)) {
      queries.push_back(query);
      queries.back().part = repeat;
    }
  }
  constexpr std::int64_t kMany = 1 << 20;
  struct Outcome {
    std::vector<std::int64_t> refused;
    decode::RunStatistics statistics;
    CollectingListener listener{5};
  };
  const auto run = [&](std::int64_t most_positions, std::int64_t of_chunk, std::int64_t translated) {
    const auto backend = std::make_shared<test::ScarceBackend>(kMany, most_positions);
    backend->sizes.positions_per_chunk = of_chunk;
    backend->sizes.positions_translated = translated;
    const auto model = model::Model::load(test::golden_model(variant), {.backends = {backend}});
    const auto lens = lens::load_lens({.name = "tuned", .type = "tuned", .path = lens_path(variant, "tuned")},
                                      *model, Alignment::kTrained);
    Outcome outcome;
    outcome.statistics =
        decode::Engine(*model, {lens.get()}, {}).run(source_of(queries), {&outcome.listener});
    outcome.refused = backend->refused;
    return outcome;
  };
  const Outcome whole = run(kMany, 512, 0);
  REQUIRE(whole.refused.empty());
  CHECK(whole.statistics.self_checked_positions == 4);
  for (const auto& [most, of_chunk, translated] :
       {std::tuple<std::int64_t, std::int64_t, std::int64_t>{kMany, 32, 1000},
        {kMany, 32, 70},
        {20, 64, 0},
        {20, 32, 1000},
        {1, 32, 100}}) {
    INFO("memory for " << most << " positions, chunks of " << of_chunk << ", lenses of " << translated);
    const Outcome parts = run(most, of_chunk, translated);
    CHECK(parts.refused.empty() == (most == kMany));
    // Each try takes half of what there was no memory for, and what is decoded later no more than that.
    for (std::size_t i = 1; i < parts.refused.size(); ++i)
      CHECK(parts.refused[i] <= parts.refused[i - 1] / 2);
    CHECK((parts.listener.positions == whole.listener.positions));
    CHECK(parts.statistics.self_checked_positions == whole.statistics.self_checked_positions);
    CHECK(parts.statistics.final_layer_max_abs_error == whole.statistics.final_layer_max_abs_error);
  }
  test::check_error(util::ErrorCode::kInput, {"memory", "at 1 positions", "--stream-layers"},
                    [&] { run(0, 32, 0); });
}

/// Keeps the sums of probability beside what it collects.
class SummingListener : public CollectingListener {
 public:
  using CollectingListener::CollectingListener;
  decode::Needs needs() const override {
    decode::Needs needs = CollectingListener::needs();
    needs.probability_sums = true;
    return needs;
  }
  void accept_sums(const decode::ProbabilitySums& run_sums) override {
    sums = run_sums;
    ++times;
  }
  decode::ProbabilitySums sums;
  int times = 0;
};

TEST_CASE("sums of probability over the run are those of float64 softmaxes, for every lens and layer") {
  for (const auto& [device, variant] : test::on_devices(test::golden_variants_with_lenses())) {
    INFO(variant << " on " << device);
    const test::Reference reference(variant);
    const auto model =
        model::Model::load(test::golden_model(variant), {.backends = test::backends_on(device)});
    const std::int64_t V = model->spec().vocab_size;
    const auto logit =
        lens::load_lens({.name = "logit", .type = "logit", .path = ""}, *model, Alignment::kTrained);
    const auto tuned = lens::load_lens(
        {.name = "tuned", .type = "tuned", .path = lens_path(variant, "tuned")}, *model, Alignment::kTrained);
    const auto queries = queries_of(reference);
    for (const std::uint64_t memory :
         {std::uint64_t{1}, std::uint64_t{256} << 20}) {  // one window a batch; all
      SummingListener listener(V);
      CollectingListener other(1);
      decode::EngineOptions options;
      options.memory = memory;
      const auto statistics = decode::Engine(*model, {logit.get(), tuned.get()}, options)
                                  .run(source_of(queries), {&other, &listener});
      REQUIRE(listener.times == 1);
      CHECK(listener.sums.log_small.empty());
      CHECK(listener.sums.positions == statistics.positions);
      // The last layer against the model's own logits in float64; the others against the readouts, which
      // other tests hold to float64.
      const at::Tensor last =
          at::cat({reference["logits.0"], reference["logits.1"]}).softmax(1).sum(0).contiguous();
      for (std::int64_t n = 0; n < 2; ++n) {
        for (std::int64_t row = 0; row < listener.shape.num_rows; ++row) {
          INFO("lens " << n << ", layer " << row);
          std::vector<double> expected(static_cast<std::size_t>(V));
          for (const auto& position : listener.positions) {
            const auto& readout = position.lenses[static_cast<std::size_t>(n)][static_cast<std::size_t>(row)];
            for (std::size_t k = 0; k < readout.top_ids.size(); ++k)
              expected[static_cast<std::size_t>(readout.top_ids[k])] +=
                  std::exp(double{readout.top_logprobs[k]});
          }
          const auto& found = listener.sums.sums[static_cast<std::size_t>(listener.shape.state(n, row))];
          REQUIRE(static_cast<std::int64_t>(found.size()) == V);
          double total = 0;
          for (std::size_t v = 0; v < found.size(); ++v) {
            CHECK(found[v] == Approx(expected[v]).epsilon(1e-5));
            if (row + 1 == listener.shape.num_rows)
              CHECK(found[v] == Approx(last.const_data_ptr<double>()[v]).epsilon(1e-4));
            total += found[v];
          }
          CHECK(total == Approx(static_cast<double>(statistics.positions)).epsilon(1e-6));
        }
      }
    }
  }
}

TEST_CASE("positions that are not accepted are read out, and kept from all listeners") {
  const test::Reference reference("gpt2");
  const auto model = model::Model::load(test::golden_model("gpt2"), {});
  const auto lens =
      lens::load_lens({.name = "logit", .type = "logit", .path = ""}, *model, Alignment::kTrained);
  const auto queries = queries_of(reference);
  CollectingListener all(5), first(5), second(5);
  decode::Engine(*model, {lens.get()}, {}).run(source_of(queries), {&all});
  std::vector<std::int64_t> asked;
  decode::EngineOptions options;
  options.accepts = [&](const decode::PositionReadout& position) {
    asked.push_back(position.where().position);
    return position.where().position % 3 == 1;
  };
  const auto statistics =
      decode::Engine(*model, {lens.get()}, options).run(source_of(queries), {&first, &second});
  CHECK(statistics.positions == 15);
  CHECK(asked == std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4});
  std::vector<CollectingListener::Position> expected;
  for (const auto& position : all.positions) {
    if (position.position % 3 == 1) expected.push_back(position);
  }
  REQUIRE(expected.size() == 5);
  CHECK((first.positions == expected));
  CHECK((second.positions == expected));
}

TEST_CASE("several listeners hear the same, each in the same order, with one thread and with many") {
  const test::Reference reference("gpt2");
  const auto model = model::Model::load(test::golden_model("gpt2"), {});
  const auto lens =
      lens::load_lens({.name = "logit", .type = "logit", .path = ""}, *model, Alignment::kTrained);
  std::vector<decode::Query> queries;
  for (int repeat = 0; repeat < 20; ++repeat) {
    for (decode::Query& query : queries_of(reference)) {
      query.document = static_cast<std::int64_t>(queries.size());
      query.part = query.document / 3;
      queries.push_back(std::move(query));
    }
  }
  /// Fails at a position, counted from 0.
  struct Failing : public CollectingListener {
    Failing(std::size_t last, std::string error_name)
        : CollectingListener(2), at(last), name(std::move(error_name)) {}
    void accept(const decode::PositionReadout& position) override {
      if (positions.size() == at) throw std::runtime_error(name);
      CollectingListener::accept(position);
    }
    std::size_t at;
    std::string name;
  };
  const int threads = compute::num_threads();
  std::vector<CollectingListener::Position> expected;
  for (const int count : {1, 2, 7}) {
    compute::set_threads(count);
    for (const bool beside : {false, true}) {
      INFO(count << " threads, beside " << beside);
      decode::EngineOptions options;
      options.shows_beside = beside;
      std::vector<CollectingListener> all(5, CollectingListener(5));
      std::vector<decode::Listener*> listeners;
      for (CollectingListener& listener : all) listeners.push_back(&listener);
      decode::Engine(*model, {lens.get()}, options).run(source_of(queries), listeners);
      if (expected.empty()) expected = all.front().positions;
      CHECK(expected.size() == 300);
      for (const CollectingListener& listener : all) CHECK((listener.positions == expected));

      Failing second(17, "second"), fourth(17, "fourth"), last(0, "last");
      CollectingListener first(2), third(2);
      CHECK_THROWS_WITH(decode::Engine(*model, {lens.get()}, options)
                            .run(source_of(queries), {&first, &second, &third, &fourth, &last}),
                        "second");
      CHECK(second.positions.size() == 17);
      CHECK(first.positions.size() > 17);
      CHECK(last.positions.empty());
    }
  }
  compute::set_threads(threads);
}

TEST_CASE("a source is asked again when all that it gave has been shown to the listeners") {
  const test::Reference reference("gpt2");
  const auto model = model::Model::load(test::golden_model("gpt2"), {});
  const auto lens =
      lens::load_lens({.name = "logit", .type = "logit", .path = ""}, *model, Alignment::kTrained);
  const auto queries = queries_of(reference);
  CollectingListener listener(5);
  // Rounds of two queries, one query, none. Each begins where the source is asked after an end.
  const std::vector<std::size_t> rounds = {2, 1, 0};
  std::vector<std::size_t> seen;  // positions that the listener had when a round began
  std::size_t round = 0, given = 0;
  const decode::QuerySource source = [&](decode::Query& query) {
    if (round == rounds.size()) return false;
    if (given == 0) seen.push_back(listener.positions.size());
    if (given == rounds[round]) {
      ++round;
      given = 0;
      return false;
    }
    query = queries[given++];
    return true;
  };
  const auto statistics = decode::Engine(*model, {lens.get()}, {}).run(source, {&listener});
  CHECK(seen == std::vector<std::size_t>{0, 15, 25});
  CHECK(round == rounds.size());
  CHECK(statistics.windows == 3);
  CHECK(statistics.positions == 25);
  for (std::size_t p = 0; p < 10; ++p) CHECK((listener.positions[15 + p] == listener.positions[p]));
}

/// A run of the logit lens and a tuned one over many windows, in parts of three of them, with little memory:
/// several batches, each of several chunks. What listeners and callbacks hear is kept as one list.
class Heard {
 public:
  explicit Heard(const std::string& device)
      : reference_("llama-gqa-sharded"),
        model_(model::Model::load(test::golden_model("llama-gqa-sharded"),
                                  {.backends = test::backends_on(device)})) {
    lenses_.push_back(
        lens::load_lens({.name = "logit", .type = "logit", .path = ""}, *model_, Alignment::kTrained));
    lenses_.push_back(
        lens::load_lens({.name = "tuned", .type = "tuned", .path = lens_path("llama-gqa-sharded", "tuned")},
                        *model_, Alignment::kTrained));
    for (int repeat = 0; repeat < 30; ++repeat) {
      for (decode::Query& query : queries_of(reference_)) {
        query.document = static_cast<std::int64_t>(queries_.size());
        query.part = query.document / kWindowsOfPart;
        queries_.push_back(std::move(query));
      }
    }
  }

  static constexpr std::int64_t kWindowsOfPart = 3;

  /// From this part on; returns the engine's statistics.
  decode::RunStatistics run(
      std::int64_t first_part, std::optional<bool> beside, bool with_sums,
      const std::function<void(const decode::PositionReadout&)>& on_position = {},
      const std::function<bool()>& should_stop = [] { return false; }) {
    lines.clear();
    positions.clear();
    threads.clear();
    Listener listener(*this, with_sums, on_position);
    decode::EngineOptions options;
    options.memory = std::uint64_t{1} << 18;
    options.shows_beside = beside;
    options.should_stop = should_stop;
    options.accepts = [&](const decode::PositionReadout& position) {
      hear(util::cat("accepts ", position.query().document, " ", position.where().position));
      return position.where().position != 2;
    };
    options.on_part_end = [&](std::int64_t part, const decode::RunStatistics& of_part) {
      hear(util::cat("part ", part, ": ", of_part.windows, " ", of_part.tokens, " ", of_part.positions, " ",
                     of_part.self_checked_positions, " ", of_part.final_layer_max_abs_error));
    };
    std::size_t next = static_cast<std::size_t>(first_part * kWindowsOfPart);
    const auto source = [&](decode::Query& query) {
      if (next == queries_.size()) return false;
      query = queries_[next++];
      return true;
    };
    return decode::Engine(*model_, {lenses_[0].get(), lenses_[1].get()}, options).run(source, {&listener});
  }

  std::int64_t num_parts() const { return queries_.back().part + 1; }

  std::vector<std::string> lines;
  std::vector<CollectingListener::Position> positions;
  std::set<std::thread::id> threads;

 private:
  void hear(const std::string& line) {
    lines.push_back(line);
    threads.insert(std::this_thread::get_id());
  }

  struct Listener : public CollectingListener {
    Listener(Heard& all, bool sums, std::function<void(const decode::PositionReadout&)> then)
        : CollectingListener(5), heard(all), with_sums(sums), on_position(std::move(then)) {}
    decode::Needs needs() const override {
      decode::Needs needs = CollectingListener::needs();
      needs.probability_sums = with_sums;
      return needs;
    }
    void begin(const decode::ReadoutShape& run_shape) override {
      CollectingListener::begin(run_shape);
      heard.hear("begin");
    }
    void accept(const decode::PositionReadout& position) override {
      if (on_position) on_position(position);
      CollectingListener::accept(position);
      heard.positions.push_back(CollectingListener::positions.back());
      heard.hear(util::cat("position ", position.query().document, " ", position.where().position));
    }
    void accept_sums(const decode::ProbabilitySums& sums) override {
      double all = 0;
      for (const auto& of_state : sums.sums) all += std::accumulate(of_state.begin(), of_state.end(), 0.0);
      heard.hear(util::cat("sums of ", sums.positions, ": ", all));
    }
    Heard& heard;
    bool with_sums;
    std::function<void(const decode::PositionReadout&)> on_position;
  };

  test::Reference reference_;
  std::shared_ptr<const model::Model> model_;
  std::vector<std::unique_ptr<lens::Lens>> lenses_;
  std::vector<decode::Query> queries_;
};

TEST_CASE("what is shown while the next chunk is read out is the same, in the same order, on one thread") {
  for (const std::string& device : test::devices()) {
    for (const bool with_sums : {false, true}) {
      INFO("on " << device << ", sums " << with_sums);
      Heard here(device), beside(device);
      const auto expected = here.run(0, false, with_sums);
      const auto found = beside.run(0, true, with_sums);
      CHECK(here.lines.size() > 800);
      CHECK(beside.lines == here.lines);
      CHECK((beside.positions == here.positions));
      CHECK(here.threads == std::set<std::thread::id>{std::this_thread::get_id()});
      CHECK(beside.threads.size() == 1);
      CHECK(beside.threads.count(std::this_thread::get_id()) == 0);
      CHECK(found.windows == expected.windows);
      CHECK(found.tokens == expected.tokens);
      CHECK(found.positions == expected.positions);
      CHECK(found.self_checked_positions == expected.self_checked_positions);
      CHECK(found.final_layer_max_abs_error == expected.final_layer_max_abs_error);
      // By default it is a question of the device.
      beside.run(beside.num_parts() - 1, {}, with_sums);
      CHECK((beside.threads.count(std::this_thread::get_id()) == 1) == (device == "cpu"));
    }
  }
}

TEST_CASE("an error of a listener comes out of the engine, and nothing is shown after it") {
  for (const std::string& device : test::devices()) {
    Heard heard(device);
    for (const bool beside : {false, true}) {
      for (const std::size_t most : {0, 1, 100, 250}) {
        INFO("on " << device << ", beside " << beside << ", after " << most);
        const auto fail = [&](const decode::PositionReadout&) {
          if (heard.positions.size() == most)
            throw util::output_error({.what = "the disk is full", .where = util::cat("at ", most)});
        };
        test::check_error(util::ErrorCode::kOutput, {"the disk is full", util::cat("at ", most)},
                          [&] { heard.run(0, beside, false, fail); });
        CHECK(heard.positions.size() == most);
        const std::string& last = heard.lines.back();
        CHECK((last.starts_with("accepts ") || last.starts_with("position ")));
      }
    }
  }
}

TEST_CASE(
    "a run that is stopped between chunks has shown whole chunks, and goes on from the part it was in") {
  for (const std::string& device : test::devices()) {
    Heard whole(device), stopped(device), rest(device);
    whole.run(0, false, false);
    const auto place_of = [](const CollectingListener::Position& position) {
      return std::pair(position.document, position.position);
    };
    std::size_t shown_before = 0;
    bool ended = false;
    int most = 1;
    for (; !ended; most += 2) {
      INFO("on " << device << ", asked " << most << " times");
      REQUIRE(most < 1000);
      std::atomic<int> asked = 0;
      const auto statistics = stopped.run(0, true, false, {}, [&] { return ++asked > most; });
      ended = !statistics.stopped;
      REQUIRE(stopped.positions.size() >= shown_before);
      shown_before = stopped.positions.size();
      REQUIRE(shown_before <= whole.positions.size());
      for (std::size_t p = 0; p < shown_before; ++p)
        REQUIRE(place_of(stopped.positions[p]) == place_of(whole.positions[p]));
      std::int64_t accepted = 0, parts = 0;
      for (const std::string& line : stopped.lines) {
        accepted += line.starts_with("accepts ") ? 1 : 0;
        parts += line.starts_with("part ") ? 1 : 0;
      }
      CHECK(statistics.positions == accepted);
      // What the parts that ended have shown, and a run of the others, are all.
      rest.run(parts, true, false);
      std::vector<std::pair<std::int64_t, std::int64_t>> all, expected;
      for (const auto& position : stopped.positions) {
        if (position.document / Heard::kWindowsOfPart < parts) all.push_back(place_of(position));
      }
      for (const auto& position : rest.positions) all.push_back(place_of(position));
      for (const auto& position : whole.positions) expected.push_back(place_of(position));
      REQUIRE(all == expected);
    }
    CHECK(shown_before == whole.positions.size());
    CHECK(most > 20);  // so often is asked in seven batches of several chunks
  }
}

TEST_CASE("an error of the source comes after all that was read out before has been shown") {
  const std::string device = GENERATE(from_range(test::devices()));
  const test::Reference reference("gpt2");
  const auto model = model::Model::load(test::golden_model("gpt2"), {.backends = test::backends_on(device)});
  const auto lens =
      lens::load_lens({.name = "logit", .type = "logit", .path = ""}, *model, Alignment::kTrained);
  const auto queries = queries_of(reference);
  CollectingListener listener(5);
  // The second batch fails as a source that cannot be read does.
  std::size_t given = 0;
  const auto source = [&](decode::Query& query) {
    if (given == 2) throw util::input_error({.what = "the file has changed"});
    query = queries[given++];
    return true;
  };
  decode::EngineOptions options;
  options.memory = 1;  // one window a batch
  options.shows_beside = true;
  test::check_error(util::ErrorCode::kInput, {"the file has changed"},
                    [&] { decode::Engine(*model, {lens.get()}, options).run(source, {&listener}); });
  CHECK(listener.positions.size() == queries.front().positions.size());
}

}  // namespace
}  // namespace depthlens
