// Jacobians by vector-Jacobian products through the blocks, their sums, and the files of both.
#include "depthlens/train/jacobian.hpp"

#include <ATen/TensorIndexing.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/round.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "depthlens/compute/runtime.hpp"
#include "depthlens/lens/provenance.hpp"
#include "depthlens/model/finite.hpp"
#include "depthlens/model/memory.hpp"
#include "depthlens/train/file_names.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::train {
namespace {

namespace fs = std::filesystem;
using util::cat;

constexpr double kQuantum = 1.0 / (std::int64_t{1} << 32);

/// Bytes that a recorded pass takes for one token: with a third for what comes and goes, as measured.
std::int64_t bytes_of_token(const model::ArchSpec& spec) {
  return 4 * model::floats_of_recorded_pass(spec) * 4 / 3;
}

}  // namespace

JacobianFitter::JacobianFitter(const model::Model& model, const JacobianOptions& options)
    : model_(model), options_(options), most_tokens_(std::numeric_limits<std::int64_t>::max()) {
  DEPTHLENS_ASSERT(options.skip_first >= 0 && options.batch_rows >= 0 && options.memory_bytes >= 0);
  model.require_states_are_all("the fit of a Jacobian lens");
  if (model.streams_layers() && model.device().is_cuda()) {
    // What is recorded keeps the weights that it was made with.
    throw util::usage_error({.what = "a Jacobian fit keeps all blocks on the device",
                             .where = "--stream-layers",
                             .found = "--device " + model.device().str(),
                             .hint = "several cards share the blocks (--device cuda:0,cuda:1); --device cpu "
                                     "reads them from the files"});
  }
  if (model.spec().num_layers >= 2) return;
  throw util::usage_error({.what = "this model has no Jacobian lens",
                           .where = model.folder().string(),
                           .expected = "two blocks or more",
                           .found = cat(model.spec().num_layers)});
}

bool JacobianFitter::long_enough(const Prompt& prompt) const {
  return static_cast<std::int64_t>(prompt.size()) > options_.skip_first + 1;
}

std::int64_t JacobianFitter::batch_rows(std::int64_t num_tokens) const {
  const std::int64_t d = model_.spec().hidden_size;
  std::int64_t most = options_.batch_rows;
  if (most == 0) {
    const std::int64_t bytes =
        options_.memory_bytes > 0 ? options_.memory_bytes : model_.backend().work_sizes().bytes_recorded;
    most = bytes / (bytes_of_token(model_.spec()) * num_tokens);
  }
  most = std::clamp<std::int64_t>(std::min(most, most_tokens_ / num_tokens), 1, d);
  const std::int64_t passes = (d + most - 1) / most;
  return (d + passes - 1) / passes;  // passes of about one size
}

std::optional<std::vector<at::Tensor>> JacobianFitter::of_prompt(const Prompt& prompt,
                                                                 const RowProgress& progress) {
  DEPTHLENS_ASSERT(long_enough(prompt));
  // The last position is neither source nor target, and no other sees it; but rotary angles may go by the
  // length.
  const auto end = static_cast<std::int64_t>(prompt.size()) - 1;
  const std::int64_t T = model_.spec().angles_go_by_length(end + 1) ? end + 1 : end;
  std::optional<std::vector<at::Tensor>> jacobians;
  compute::retry_with_less(
      model_.device(), [&] { jacobians = of_prompt(prompt, T, batch_rows(T), progress); },
      [&] {
        const std::int64_t rows = batch_rows(T);
        most_tokens_ = rows / 2 * T;
        return rows > 1;
      });
  return jacobians;
}

std::optional<std::vector<at::Tensor>> JacobianFitter::of_prompt(const Prompt& prompt, std::int64_t T,
                                                                 std::int64_t B,
                                                                 const RowProgress& progress) const {
  const std::int64_t L = model_.spec().num_layers, d = model_.spec().hidden_size;
  const auto end = static_cast<std::int64_t>(prompt.size()) - 1;
  const std::int64_t skip = options_.skip_first, counted = end - skip;

  at::Tensor after_first;  // [T, d], after block 0
  const auto keep = [&](std::int64_t layer, const at::Tensor& states) {
    if (layer == 1) after_first = states;
  };
  model::forward_finite(model_, {.tokens = {prompt.begin(), prompt.begin() + T}, .lengths = {T}}, keep,
                        [](std::int64_t row) { return cat("position ", row); });

  // B copies of the prompt, so that one backward pass gives B rows; recorded once for all passes.
  const c10::InferenceMode recording(false);
  std::vector<at::Tensor> states = {after_first.repeat({B, 1}).set_requires_grad(true)};
  const model::PackedWindows copies{.tokens = {},
                                    .lengths = std::vector<std::int64_t>(static_cast<std::size_t>(B), T)};
  model_.run_blocks(1, states.front(), copies,
                    [&](std::int64_t /*layer*/, const at::Tensor& state) { states.push_back(state); });
  const at::Tensor last = states.back();
  states.pop_back();

  std::vector<at::Tensor> jacobians;
  for (std::int64_t l = 0; l + 1 < L; ++l) jacobians.push_back(at::empty({d, d}, at::kDouble));
  for (std::int64_t row = 0; row < d; row += B) {
    const std::int64_t rows = std::min(B, d - row);
    // Copy b carries the unit vector of output row + b at all targets at once: the gradient at a source is
    // then the sum over targets.
    at::Tensor cotangents = at::zeros({B, T, d}, last.options().requires_grad(false));
    for (std::int64_t b = 0; b < rows; ++b)
      cotangents.select(0, b).narrow(0, skip, counted).select(1, row + b).fill_(1);
    const std::vector<at::Tensor> gradients =
        torch::autograd::grad({last}, states, {cotangents.view({B * T, d})}, /*retain_graph=*/row + B < d);
    std::vector<at::Tensor> means;  // [rows, d]
    for (const at::Tensor& gradient : gradients) {
      const at::Tensor of_sources = gradient.view({B, T, d}).narrow(0, 0, rows).narrow(1, skip, counted);
      means.push_back(of_sources.mean(1, /*keepdim=*/false, at::kDouble));
    }
    const at::Tensor rounded = (at::round(at::stack(means) / kQuantum) * kQuantum).to(at::kCPU);
    for (std::size_t l = 0; l < gradients.size(); ++l)
      jacobians[l].narrow(0, row, rows).copy_(rounded[static_cast<std::int64_t>(l)]);
    const bool go_on = !progress || progress(row + rows);
    if (!go_on && row + rows < d) return std::nullopt;
  }
  for (std::size_t l = 0; l < jacobians.size(); ++l) {
    if (at::isfinite(jacobians[l]).all().item<bool>()) continue;
    model::refuse_not_finite(model_, {.what = "a Jacobian is not finite", .where = cat("block ", l)});
  }
  return jacobians;
}

std::string prompts_digest(const std::vector<Prompt>& prompts) {
  util::Sha256 hash;
  for (const Prompt& prompt : prompts) {
    const auto length = static_cast<std::int64_t>(prompt.size());
    hash.update(&length, sizeof length);
    hash.update(prompt.data(), prompt.size() * sizeof(std::int64_t));
  }
  return hash.hex_digest();
}

namespace {

/// How far one more prompt moves each mean, relative to the mean.
std::vector<double> change_of_means(const JacobianSums& sums, const std::vector<at::Tensor>& jacobians) {
  std::vector<double> change;
  const auto n = static_cast<double>(sums.num_prompts);
  for (std::size_t l = 0; l < jacobians.size(); ++l) {
    const at::Tensor mean = sums.sums[l] / n;
    const double norm = at::linalg_vector_norm(mean).item<double>();
    const double moved = at::linalg_vector_norm(jacobians[l] - mean).item<double>() / (n + 1);
    change.push_back(norm > 0 ? moved / norm : 0);
  }
  return change;
}

/// Adds the next prompt's.
void add(JacobianSums& state, const Prompt& prompt, const std::vector<at::Tensor>& jacobians) {
  util::OrderedJson line = {{"prompt", state.next_prompt},
                            {"tokens", static_cast<std::int64_t>(prompt.size())},
                            {"change", nullptr}};
  if (state.num_prompts > 0) line["change"] = change_of_means(state, jacobians);
  state.convergence += util::json_text(line) + "\n";
  for (std::size_t l = 0; l < jacobians.size(); ++l) state.sums[l] += jacobians[l];
  ++state.num_prompts;
  ++state.next_prompt;
}

/// What a fit begins with: sums of nothing, or with `resume` the checkpoint where there is one.
JacobianSums beginning(const model::Model& model, const std::vector<Prompt>& prompts, const JacobianFit& fit,
                       const fs::path& checkpoint) {
  const std::int64_t d = model.spec().hidden_size;
  const std::string digest = prompts_digest(prompts);
  JacobianSums state{.fit = {.hidden_size = d,
                             .num_layers = model.spec().num_layers,
                             .skip_first = fit.options.skip_first,
                             .model_fingerprint = lens::model_fingerprint(model),
                             .model_files_digest = fit.model_files_digest,
                             .dtype = at::toString(model.dtype()),
                             .num_shards = fit.num_shards,
                             .list_digest = fit.list_digest.empty() ? digest : fit.list_digest},
                     .shards = {fit.shard},
                     .prompts_digests = {digest},
                     .num_listed = static_cast<std::int64_t>(prompts.size()),
                     .convergence = {},
                     .sums = {},
                     .where = {}};
  const bool exists = util::exists(checkpoint);
  if (exists && fit.resume) {
    JacobianSums saved = load_jacobian_sums(checkpoint);
    require_same_prompts(state, saved);
    return saved;
  }
  if (exists && !fit.overwrite) {
    throw util::output_error({.what = "the folder holds another fit",
                              .where = util::in_quotes(checkpoint.string()),
                              .hint = "resume it, overwrite it or choose another folder"});
  }
  const fs::path lens = fit.folder / kJacobianLens;
  if (!exists && !fit.overwrite && util::exists(lens)) {
    throw util::output_error({.what = "the folder holds a lens, and no sums to go on from",
                              .where = util::in_quotes(lens.string()),
                              .hint = "replace it with --overwrite, or choose another --out"});
  }
  for (std::int64_t l = 0; l + 1 < model.spec().num_layers; ++l)
    state.sums.push_back(at::zeros({d, d}, at::kDouble));
  return state;
}

}  // namespace

JacobianSums fit_jacobians(const model::Model& model, const std::vector<Prompt>& prompts,
                           const JacobianFit& fit) {
  using Clock = std::chrono::steady_clock;
  JacobianFitter fitter(model, fit.options);
  util::create_folders(fit.folder);
  const fs::path checkpoint = fit.folder / kJacobianSums;
  JacobianSums state = beginning(model, prompts, fit, checkpoint);

  const auto num_prompts = static_cast<std::int64_t>(prompts.size());
  const fs::path convergence = fit.folder / kJacobianConvergence;
  if (!state.where.empty() && state.next_prompt == num_prompts) {  // saved at its end
    if (!util::exists(convergence) || util::read_file(convergence) != state.convergence)
      util::write_file(convergence, state.convergence);
    return state;
  }
  Clock::time_point written = Clock::now();
  const auto write = [&] {
    save_jacobian_sums(checkpoint, state);
    if (state.next_prompt < num_prompts) {
      for (const char* name : {kJacobianLens, kJacobianRecord}) {
        std::error_code ignored;
        fs::remove(fit.folder / name, ignored);
      }
    }
    util::write_file(convergence, state.convergence);
    written = Clock::now();
  };
  // A fit of nothing would stand in the next one's way, and take the lens that is there with it.
  const auto keep = [&] {
    if (state.next_prompt > 0) write();
  };
  const auto report = [&](std::int64_t rows_done) {
    if (fit.progress) {
      fit.progress({.prompt = state.next_prompt,
                    .num_prompts = num_prompts,
                    .rows_done = rows_done,
                    .num_rows = model.spec().hidden_size});
    }
    return !fit.stop || !fit.stop();
  };
  while (state.next_prompt < num_prompts) {
    const Prompt& prompt = prompts[static_cast<std::size_t>(state.next_prompt)];
    if (!fitter.long_enough(prompt)) {
      ++state.num_skipped;
      ++state.next_prompt;
      continue;
    }
    std::optional<std::vector<at::Tensor>> jacobians;
    try {
      if (report(0)) jacobians = fitter.of_prompt(prompt, report);
    } catch (const util::Error& error) {
      keep();
      if (error.code() != util::ErrorCode::kSelfCheck) throw;
      util::ErrorText text = error.text();
      text.where = cat("prompt ", state.next_prompt, ", ", text.where);
      throw util::Error(error.code(), text);
    }
    if (!jacobians) {
      keep();
      util::log_warning(
          state.next_prompt > 0
              ? cat("stopped after ", state.next_prompt, " of ", num_prompts, " prompts; ",
                    fit.folder.string(), " holds what was finished; --resume goes on")
              : cat("stopped before the first of ", num_prompts, " prompts was done; nothing was saved"));
      throw util::interrupted_error();
    }
    add(state, prompt, *jacobians);
    if (std::chrono::duration<double>(Clock::now() - written).count() >= fit.checkpoint_seconds) write();
  }
  write();
  return state;
}

}  // namespace depthlens::train
