// Ten steps of lens training against PyTorch in float64 (tools/scripts/make_training_golden.py), and the
// files of a training.
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>

#include <cmath>
#include <fstream>
#include <numeric>

#include "depthlens/compute/runtime.hpp"
#include "depthlens/train/lens_folder.hpp"
#include "depthlens/train/tuned_trainer.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "golden/golden_data.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/devices.hpp"
#include "support/scarce_backend.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens {
namespace {

using train::Window;

struct Run {
  std::string name, checkpoint;
  train::OptimizerKind optimizer;
  train::Loss loss;
  train::Damping damping;
};

const std::vector<Run>& runs() {
  using Kind = train::OptimizerKind;
  static const std::vector<Run> all = {
      {"sgd-kl", "gpt2", Kind::kSgd, train::Loss::kKl, {}},
      {"adam-ce", "llama-gqa-sharded", Kind::kAdam, train::Loss::kCrossEntropy, {}},
      {"muon-kl", "neox-parallel", Kind::kMuon, train::Loss::kKl, {}},
      {"sgd-kl-damped",
       "llama-gqa-sharded",
       Kind::kSgd,
       train::Loss::kKl,
       {.tokens = {1, 4, 9}, .factor = 0.001, .mode = train::Damping::Mode::kPosition}}};
  return all;
}

io::TensorFile golden_run(const std::string& name) {
  return io::TensorFile::open_safetensors(std::filesystem::path(DEPTHLENS_TEST_DATA) / "training" /
                                          (name + ".safetensors"));
}

std::vector<Window> windows_of(const at::Tensor& step) {
  std::vector<Window> windows;
  for (std::int64_t w = 0; w < step.size(0); ++w) {
    Window& window = windows.emplace_back();
    for (std::int64_t t = 0; t < step.size(1); ++t)
      window.push_back(static_cast<train::TokenId>(step[w][t].item<std::int64_t>()));
  }
  return windows;
}

train::TrainSettings settings_of(const Run& run, std::int64_t steps) {
  train::OptimizerSettings optimizer = train::default_settings(run.optimizer, steps);
  if (run.optimizer == train::OptimizerKind::kMuon) optimizer.lr_scale = 0.1;  // the golden run has η = 0.01
  return {.steps = steps,
          .loss = run.loss,
          .optimizer = optimizer,
          .damping = run.damping,
          .precision = compute::Precision::kFloat32};
}

TEST_CASE("ten steps of training equal PyTorch's in float64, for every optimizer and loss") {
  for (const auto& [device, run] : test::on_placements(runs())) {
    INFO(run.name << " on " << device);
    const io::TensorFile expected = golden_run(run.name);
    const at::Tensor windows = expected.view("windows"), losses = expected.view("loss"),
                     norms = expected.view("gradient_norm");
    const auto model =
        model::Model::load(test::golden_model(run.checkpoint), {.backends = test::backends_on(device)});
    train::TunedTrainer trainer(*model, settings_of(run, windows.size(0)),
                                train::TunedTrainer::zeros(*model, true));
    CHECK(trainer.parameters().weights.device() == model->device());
    for (std::int64_t step = 0; step < windows.size(0); ++step) {
      const train::StepResult result = trainer.step(windows_of(windows[step]));
      CHECK(result.step == step + 1);
      CHECK(result.total_gradient_norm == Approx(norms[step].item<double>()).epsilon(1e-4));
      for (std::size_t i = 0; i < result.loss.size(); ++i)
        CHECK(result.loss[i] ==
              Approx(losses[step][static_cast<std::int64_t>(i)].item<double>()).margin(2e-5));
    }
    // Newton–Schulz' iteration enlarges differences of small singular values.
    const double tolerance = run.optimizer == train::OptimizerKind::kMuon ? 5e-4 : 2e-5;
    CHECK(test::max_abs_difference(trainer.parameters().weights, expected.view("weights")) < tolerance);
    CHECK(test::max_abs_difference(trainer.parameters().biases, expected.view("biases")) < tolerance);
  }
}

/// A trainer from zeros with the model that it keeps a reference to.
struct Trained {
  Trained(const std::string& checkpoint, const std::shared_ptr<test::ScarceBackend>& backend)
      : model(model::Model::load(test::golden_model(checkpoint), {.backends = {backend}})),
        trainer(*model, settings_of(runs()[0], 10), train::TunedTrainer::zeros(*model, true)) {}

  std::shared_ptr<const model::Model> model;
  train::TunedTrainer trainer;
};

TEST_CASE("a step for which memory does not suffice is made of smaller batches and chunks") {
  constexpr std::int64_t kMany = 1 << 20;
  const auto backend_with = [](std::int64_t most_rows, std::int64_t most_positions) {
    return std::make_shared<test::ScarceBackend>(most_rows, most_positions);
  };
  Window longer;
  for (train::TokenId t = 0; t < 96; ++t) longer.push_back(t * 7 % 33);
  const std::vector<Window> three = windows_of(golden_run("sgd-kl").view("windows")[0]);  // of 12 tokens each
  struct Case {
    std::string checkpoint;
    std::vector<Window> windows;
    std::int64_t most_rows, most_positions;  // of a product; of a pass, to which all states are one's
    std::int64_t refused;
  };
  for (const auto& [checkpoint, windows, most_rows, most_positions, refused] :
       {Case{"gpt2", three, 20, kMany, 36}, Case{"gpt2", three, kMany, 20 * 4, 36 * 4},
        Case{"mamba", {longer}, kMany, 32 * 3, 96 * 3}}) {
    INFO(checkpoint << ", " << most_rows << " rows, " << most_positions << " positions");
    const auto backend = backend_with(most_rows, most_positions);
    Trained scarce(checkpoint, backend), whole(checkpoint, backend_with(kMany, kMany));
    const std::vector<double> kl = Trained(checkpoint, backend_with(most_rows, most_positions))
                                       .trainer.mean_kl(windows),
                              whole_kl = whole.trainer.mean_kl(windows);
    for (std::size_t i = 0; i < whole_kl.size(); ++i) CHECK(kl[i] == Approx(whole_kl[i]).margin(1e-6));
    for (int step = 0; step < 3; ++step) {
      const train::StepResult expected = whole.trainer.step(windows), found = scarce.trainer.step(windows);
      CHECK(found.positions == expected.positions);
      CHECK(found.total_gradient_norm == Approx(expected.total_gradient_norm).epsilon(1e-5));
      for (std::size_t i = 0; i < expected.loss.size(); ++i)
        CHECK(found.loss[i] == Approx(expected.loss[i]).margin(1e-6));
    }
    CHECK(backend->refused == std::vector<std::int64_t>{refused});  // what follows is smaller at once
    CHECK(test::max_abs_difference(scarce.trainer.parameters().weights, whole.trainer.parameters().weights) <
          1e-6);
  }

  // Where the smallest parts do not fit either, nothing has changed.
  Trained never("mamba", backend_with(kMany, 32 * 3 - 1));
  bool of_device = false;
  try {
    never.trainer.step({longer});
  } catch (const std::exception& error) {
    of_device = compute::is_out_of_device_memory(error);
  }
  CHECK(of_device);
  CHECK(never.trainer.steps_done() == 0);
  CHECK(never.trainer.parameters().weights.abs().max().item<float>() == 0);
}

/// Everything needed to train on a golden checkpoint.
struct Setup {
  explicit Setup(const Run& run, std::int64_t steps, const std::string& device = "cpu")
      : file(golden_run(run.name)), run_steps(steps) {
    model = model::Model::load(test::golden_model(run.checkpoint), {.backends = test::backends_on(device)});
    settings = settings_of(run, steps);
    settings.damping = {};
    plan.windows = [this](std::int64_t step) { return windows_of(file.view("windows")[step]); };
    plan.validation = windows_of(file.view("windows")[9]);
    plan.validate_every = 2;
    plan.checkpoint_every = 3;
    plan.settings = {{"steps", steps}, {"optimizer", run.name}};
  }
  train::TunedTrainer trainer() const { return {*model, settings, train::TunedTrainer::zeros(*model, true)}; }

  io::TensorFile file;
  std::int64_t run_steps;
  std::shared_ptr<const model::Model> model;
  train::TrainSettings settings;
  train::TrainingPlan plan;
};

TEST_CASE("a training that was stopped and resumed ends with the bits of one that was not") {
  for (const auto& [device, run] : test::on_devices(runs())) {
    INFO(run.name << " on " << device);
    const test::TemporaryFolder temporary;
    Setup setup(run, 9, device);
    train::TunedTrainer whole = setup.trainer();
    train::LensFolder whole_folder(temporary.path() / "whole", false, false);
    const auto expected = train::run_training(whole, whole_folder, setup.plan);
    REQUIRE(expected);

    train::TunedTrainer first = setup.trainer();
    train::LensFolder folder(temporary.path() / "parts", false, false);
    setup.plan.should_stop = [&first] { return first.steps_done() == 5; };
    CHECK_FALSE(train::run_training(first, folder, setup.plan));
    train::TunedTrainer second = setup.trainer();
    train::LensFolder again(temporary.path() / "parts", false, true);
    setup.plan.should_stop = [] { return false; };
    const auto found = train::run_training(second, again, setup.plan);
    REQUIRE(found);
    CHECK(at::equal(found->parameters.weights, expected->parameters.weights));
    CHECK(at::equal(found->parameters.biases, expected->parameters.biases));
    for (const char* name : {"training.jsonl", "checkpoint.safetensors"}) {
      CHECK(util::read_file(temporary.path() / "parts" / name) ==
            util::read_file(temporary.path() / "whole" / name));
    }
    const auto finished = train::run_training(second, again, setup.plan);
    REQUIRE(finished);
    CHECK(at::equal(finished->parameters.weights, expected->parameters.weights));
  }
}

TEST_CASE("the log has a line for each step, with validation before, during and after") {
  const test::TemporaryFolder temporary;
  const Setup setup(runs()[0], 5);
  train::TunedTrainer trainer = setup.trainer();
  train::LensFolder folder(temporary.path() / "lens", false, false);
  const std::vector<double> untrained = trainer.mean_kl(setup.plan.validation);
  train::run_training(trainer, folder, setup.plan);
  std::ifstream file(temporary.path() / "lens" / "training.jsonl");
  std::vector<util::Json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(util::parse_json(line, "training.jsonl"));
  REQUIRE(lines.size() == 6);
  CHECK(lines[0]["validation_kl"].get<std::vector<double>>() == untrained);
  CHECK_FALSE(lines[0].contains("kl"));
  for (std::size_t step = 1; step < lines.size(); ++step) {
    CHECK(lines[step]["step"] == step);
    CHECK(lines[step]["kl"].size() == 3);
    CHECK(lines[step]["gradient_norm"].size() == 3);
    CHECK(lines[step]["validation_kl"].is_null() == (step != 2 && step != 4 && step != 5));
    CHECK(lines[step]["learning_rate"].get<double>() ==
          Approx(0.1 * (5 - static_cast<double>(step - 1)) / 5));
  }
  CHECK(lines[5]["validation_kl"].get<std::vector<double>>() == trainer.mean_kl(setup.plan.validation));
}

TEST_CASE("the best lens is kept where that is asked for") {
  const test::TemporaryFolder temporary;
  const std::string device = GENERATE(from_range(test::devices()));
  INFO("on " << device);
  Setup setup(runs()[2], 9, device);  // Muon at this rate makes this tiny lens worse in the end
  setup.plan.keep_best = true;
  setup.plan.validate_every = 1;
  train::TunedTrainer trainer = setup.trainer();
  train::LensFolder folder(temporary.path() / "lens", false, false);
  double least = 1e9;
  std::int64_t least_step = -1;
  setup.plan.on_step = [&](const train::LogLine& line) {
    const auto& kl = line.validation_kl.value();
    const double mean = std::accumulate(kl.begin(), kl.end(), 0.0) / static_cast<double>(kl.size());
    if (mean < least) least_step = line.step;
    least = std::min(least, mean);
  };
  const auto kept = train::run_training(trainer, folder, setup.plan);
  REQUIRE(kept);
  train::TunedTrainer judge(*setup.model, setup.settings, kept->parameters);
  const auto kl = judge.mean_kl(setup.plan.validation);
  CHECK(kept->step == least_step);
  CHECK(kept->kl == least);
  CHECK(std::accumulate(kl.begin(), kl.end(), 0.0) / static_cast<double>(kl.size()) == least);
}

TEST_CASE("a checkpoint of other settings, a damaged one and a folder in use are refused") {
  const test::TemporaryFolder temporary;
  Setup setup(runs()[0], 6);
  const auto path = temporary.path() / "lens";
  train::TunedTrainer trainer = setup.trainer();
  train::LensFolder folder(path, false, false);
  setup.plan.should_stop = [&trainer] { return trainer.steps_done() == 4; };
  train::run_training(trainer, folder, setup.plan);
  const auto code_of = [](const auto& action) {
    try {
      action();
    } catch (const util::Error& error) {
      return static_cast<int>(error.code());
    }
    return 0;
  };
  const auto resume = [&] {
    train::TunedTrainer again = setup.trainer();
    train::LensFolder same(path, false, true);
    train::run_training(again, same, setup.plan);
  };
  CHECK(code_of([&] { train::LensFolder(path, false, false); }) == 6);
  CHECK(code_of([&] { train::LensFolder(path, true, false); }) == 0);
  CHECK(code_of([&] { CHECK_FALSE(train::LensFolder(temporary.path() / "none", false, true).resumes()); }) ==
        0);
  temporary.write("lens only/params.pt", "a lens without a training");
  CHECK(code_of([&] { train::LensFolder(temporary.path() / "lens only", false, true); }) == 6);
  CHECK(code_of(resume) == 0);  // stops at once, with what it had
  const std::string checkpoint = util::read_file(path / "checkpoint.safetensors");
  util::write_file(path / "checkpoint.safetensors",
                   std::string_view(checkpoint).substr(0, checkpoint.size() / 2));
  CHECK(code_of(resume) == 4);
  // One bit of the tensors, or another number of steps.
  std::string last = checkpoint, middle = checkpoint, steps = checkpoint;
  last.back() = static_cast<char>(last.back() ^ 1);
  middle[middle.size() / 2] = static_cast<char>(middle[middle.size() / 2] ^ 4);
  const std::string written = R"("steps_done":"4")";
  REQUIRE(steps.find(written) != steps.npos);
  steps[steps.find(written) + written.size() - 2] = '3';
  for (const std::string& damaged : {last, middle, steps}) {
    util::write_file(path / "checkpoint.safetensors", damaged);
    test::check_error(util::ErrorCode::kFormat, {"is damaged", "checkpoint.safetensors", "SHA-256"}, resume);
  }
  util::write_file(path / "checkpoint.safetensors", checkpoint);
  // The log is the checkpoint's, whatever the file holds.
  const std::string log = util::read_file(path / "training.jsonl");
  for (const std::string& damaged : {std::string(), log.substr(0, log.size() - 9), log + "{\"step\": 5",
                                     log + log, std::string("no JSON\n")}) {
    util::write_file(path / "training.jsonl", damaged);
    CHECK(code_of(resume) == 0);
    CHECK(util::read_file(path / "training.jsonl") == log);
  }
  setup.plan.settings["optimizer"] = "adam";
  CHECK(code_of(resume) == 2);
}

TEST_CASE("an older lens does not stand beside the training that takes its place") {
  const test::TemporaryFolder temporary;
  Setup setup(runs()[0], 6);
  const auto path = temporary.path() / "lens";
  for (const char* name : {"params.pt", "training.json"}) temporary.write(std::string("lens/") + name, "old");
  temporary.write("lens/config.json", R"({"d_model": 16})");
  train::TunedTrainer trainer = setup.trainer();
  train::LensFolder folder(path, true, false);
  CHECK(util::exists(path / "params.pt"));
  setup.plan.should_stop = [&trainer] { return trainer.steps_done() == 1; };
  CHECK_FALSE(train::run_training(trainer, folder, setup.plan));
  for (const char* name : {"params.pt", "config.json", "training.json"})
    CHECK_FALSE(util::exists(path / name));
  CHECK(util::exists(path / "checkpoint.safetensors"));
}

TEST_CASE("whenever a training ends, its folder has a whole one to go on with, old or new") {
  const test::TemporaryFolder temporary;
  Setup setup(runs()[0], 6);
  const auto path = temporary.path() / "lens";
  const auto train = [&](bool resume, std::int64_t stop_after) {
    train::TunedTrainer trainer = setup.trainer();
    setup.plan.should_stop = [&, stop_after] { return trainer.steps_done() == stop_after; };
    train::LensFolder folder(path, !resume, resume);
    return train::run_training(trainer, folder, setup.plan).has_value();
  };
  const auto all_there = [&] {
    return util::exists(path / "params.pt") && util::exists(path / "training.json");
  };
  temporary.write("lens/params.pt", "old");
  temporary.write("lens/training.json", R"({"settings": {"of": "another"}})");
  temporary.write("lens/config.json", R"({"d_model": 16})");
  temporary.write("lens/training.jsonl", "old");

  // No room for the first checkpoint: what was there stays, the log too.
  temporary.write("lens/checkpoint.safetensors/in the way", "");
  test::check_error(util::ErrorCode::kOutput, {"checkpoint.safetensors"}, [&] { train(false, 1); });
  CHECK(all_there());
  CHECK(util::read_file(path / "training.jsonl") == "old");
  std::filesystem::remove_all(path / "checkpoint.safetensors");

  // An end between the checkpoint, the removal of the old lens, and the log.
  train(false, 2);
  const std::string log = util::read_file(path / "training.jsonl");
  for (const bool has_log : {true, false}) {
    temporary.write("lens/params.pt", "old");
    temporary.write("lens/training.json", R"({"settings": {"of": "another"}})");
    if (has_log) temporary.write("lens/training.jsonl", "old");
    if (!has_log) std::filesystem::remove(path / "training.jsonl");
    CHECK_FALSE(train(true, 2));
    CHECK(util::read_file(path / "training.jsonl") == log);
    CHECK_FALSE(util::exists(path / "params.pt"));
  }

  // Of a training at its end the lens stays that its record says to be of it, and no other.
  CHECK(train(true, -1));
  for (const std::string& settings : {std::string(R"({"of": "another"})"), setup.plan.settings.dump()}) {
    temporary.write("lens/params.pt", "a lens");
    temporary.write("lens/config.json", R"({"d_model": 16})");
    temporary.write("lens/training.json", "{\"settings\": " + settings + "}");
    CHECK(train(true, -1));
    CHECK(all_there() == (settings == setup.plan.settings.dump()));
  }
  // One that the record has the digest of, and that cannot be read, is none.
  temporary.write("lens/params.pt", "a lens");
  temporary.write("lens/training.json",
                  "{\"settings\": " + setup.plan.settings.dump() + ", \"lens_digest\": \"0\"}");
  CHECK(train(true, -1));
  CHECK_FALSE(all_there());
  // One whose file is gone is to be written again: the record goes too.
  std::filesystem::remove(path / "params.pt");
  CHECK(train(true, -1));
  CHECK_FALSE(util::exists(path / "training.json"));
  temporary.write("lens/training.json", "{\"settings\": ");
  CHECK(train(true, -1));
  CHECK_FALSE(all_there());
}

TEST_CASE("weights stay as they are with biases alone, and a step that is not finite changes nothing") {
  const std::string device = GENERATE(from_range(test::devices()));
  INFO("on " << device);
  const Setup setup(runs()[0], 3, device);
  train::TrainSettings settings = setup.settings;
  settings.bias_only = true;
  train::TunedTrainer trainer(*setup.model, settings, train::TunedTrainer::zeros(*setup.model, true));
  trainer.step(setup.plan.windows(0));
  CHECK(trainer.parameters().weights.abs().max().item<double>() == 0);
  CHECK(trainer.parameters().biases.abs().max().item<double>() > 0);

  lens::TunedParameters broken = train::TunedTrainer::zeros(*setup.model, true);
  broken.biases[1][2] = std::nan("");
  train::TunedTrainer stuck(*setup.model, setup.settings, broken);
  CHECK_THROWS_WITH(stuck.step(setup.plan.windows(0)), ContainsSubstring("not a finite number"));
  CHECK(stuck.steps_done() == 0);
  CHECK(stuck.parameters().weights.abs().max().item<double>() == 0);
}

TEST_CASE("a training that diverges is refused, and leaves its last good checkpoint") {
  const std::string device = GENERATE(from_range(test::devices()));
  INFO("on " << device);
  // Finite, but no norm can take its square: it would count as zero.
  Setup setup(runs()[0], 4, device);
  lens::TunedParameters large = train::TunedTrainer::zeros(*setup.model, true);
  large.biases[1][0] = 1e20;
  train::TunedTrainer stuck(*setup.model, setup.settings, large);
  CHECK_THROWS_WITH(stuck.step(setup.plan.windows(0)), ContainsSubstring("not a finite number"));
  CHECK_THROWS_WITH(stuck.mean_kl(setup.plan.validation), ContainsSubstring("held out KL"));
  stuck.require_finite();

  // The last step overflows, of which no loss tells.
  setup.settings.optimizer.lr_scale = 1e30;
  setup.settings.optimizer.weight_decay = 1e30;
  setup.plan.validation.clear();
  setup.plan.checkpoint_every = 1;
  const test::TemporaryFolder temporary;
  for (const std::int64_t steps : {1, 2, 3, 4}) {
    INFO(steps << " steps");
    const std::string path = temporary.path() / std::to_string(steps);
    setup.settings.steps = steps;
    train::LensFolder folder(path, false, false);
    train::TunedTrainer trainer = setup.trainer();
    try {
      const auto lens = train::run_training(trainer, folder, setup.plan);
      REQUIRE(lens);
      CHECK(lens->parameters.weights.isfinite().all().item<bool>());
      CHECK(steps < 3);
    } catch (const util::Error& error) {
      CHECK_THAT(error.what(), ContainsSubstring("not finite") || ContainsSubstring("not a finite number"));
    }
    const std::filesystem::path checkpoint = std::filesystem::path(path) / "checkpoint.safetensors";
    if (!std::filesystem::exists(checkpoint)) continue;
    const io::TensorFile saved = io::TensorFile::open_safetensors(checkpoint);
    CHECK(saved.view("parameters.weights").isfinite().all().item<bool>());
    CHECK(saved.view("parameters.biases").isfinite().all().item<bool>());
  }
}

TEST_CASE("training has the same bits whatever the number of threads in its vocabulary products") {
  for (const auto precision : {compute::Precision::kFloat32, compute::Precision::kFast}) {
    Setup setup(runs()[0], 3);
    setup.settings.precision = precision;
    train::TunedTrainer trainer = setup.trainer();
    const auto once = trainer.step(setup.plan.windows(0));
    const int threads = compute::num_threads();
    compute::set_threads(threads == 1 ? 2 : 1);
    train::TunedTrainer other = setup.trainer();
    const auto twice = other.step(setup.plan.windows(0));
    compute::set_threads(threads);
    CHECK(once.loss == twice.loss);
    CHECK(at::equal(trainer.parameters().weights, other.parameters().weights));
  }
}

}  // namespace
}  // namespace depthlens
