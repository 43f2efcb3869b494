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
#include <set>
#include <utility>

#include "depthlens/io/writers.hpp"
#include "depthlens/lens/provenance.hpp"
#include "depthlens/model/finite.hpp"
#include "depthlens/model/memory.hpp"
#include "depthlens/train/file_names.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::train {
namespace {

namespace fs = std::filesystem;
using util::cat;

constexpr const char* kCheckpointFormat = "depthlens-jacobian-sums";
constexpr double kQuantum = 1.0 / (std::int64_t{1} << 32);

/// Bytes that a recorded pass takes for one token: with a third for what comes and goes, as measured.
std::int64_t bytes_of_token(const model::ArchSpec& spec) {
  return 4 * model::floats_of_recorded_pass(spec) * 4 / 3;
}

}  // namespace

JacobianFitter::JacobianFitter(const model::Model& model, const JacobianOptions& options)
    : model_(model), options_(options) {
  DEPTHLENS_ASSERT(options.skip_first >= 0 && options.batch_rows >= 0 && options.memory_bytes >= 0);
  model.require_states_are_all("the fit of a Jacobian lens");
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
  most = std::clamp<std::int64_t>(most, 1, d);
  const std::int64_t passes = (d + most - 1) / most;
  return (d + passes - 1) / passes;  // passes of about one size
}

std::optional<std::vector<at::Tensor>> JacobianFitter::of_prompt(const Prompt& prompt,
                                                                 const RowProgress& progress) const {
  DEPTHLENS_ASSERT(long_enough(prompt));
  const std::int64_t L = model_.spec().num_layers, d = model_.spec().hidden_size;
  // The last position is neither source nor target, and no other sees it; but rotary angles may go by the
  // length.
  const auto end = static_cast<std::int64_t>(prompt.size()) - 1;
  const std::vector<model::RopeSpec>& ropes = model_.spec().ropes;
  const bool length_counts = std::any_of(
      ropes.begin(), ropes.end(), [](const model::RopeSpec& rope) { return rope.depends_on_length(); });
  const std::int64_t T = length_counts ? end + 1 : end;
  const std::int64_t skip = options_.skip_first, counted = end - skip, B = batch_rows(T);

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

/// "0 2 5"
std::string numbers_text(const std::vector<std::int64_t>& numbers) {
  std::vector<std::string> texts;
  for (const std::int64_t number : numbers) texts.push_back(std::to_string(number));
  return util::join(texts, " ");
}

/// Refuses sums that do not belong to the same fit.
void require_same(const std::string& what, const std::string& where, const std::string& expected,
                  const std::string& found, const std::string& hint) {
  if (expected == found) return;
  throw util::usage_error({.what = what, .where = where, .expected = expected, .found = found, .hint = hint});
}

void require_same_settings(const JacobianSums& expected, const JacobianSums& found, const std::string& what,
                           const std::string& where, const std::string& hint) {
  const auto number = [&](const char* name, std::int64_t a, std::int64_t b) {
    require_same(what, where, cat(name, " ", a), cat(name, " ", b), hint);
  };
  number("hidden_size", expected.hidden_size, found.hidden_size);
  number("num_layers", expected.num_layers, found.num_layers);
  number("skip_first", expected.skip_first, found.skip_first);
  require_same(what, where, "model " + expected.model_fingerprint, "model " + found.model_fingerprint, hint);
  require_same(what, where, "arithmetic in " + expected.dtype, "arithmetic in " + found.dtype, hint);
  number("number of shards", expected.num_shards, found.num_shards);
  require_same(what, where, "list of prompts " + expected.list_digest, "list of prompts " + found.list_digest,
               hint);
}

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

}  // namespace

JacobianSums fit_jacobians(const model::Model& model, const std::vector<Prompt>& prompts,
                           const JacobianFit& fit) {
  using Clock = std::chrono::steady_clock;
  const JacobianFitter fitter(model, fit.options);
  const fs::path checkpoint = fit.folder / kJacobianSums, convergence = fit.folder / kJacobianConvergence;
  const std::int64_t d = model.spec().hidden_size;

  JacobianSums state;
  state.hidden_size = d;
  state.num_layers = model.spec().num_layers;
  state.skip_first = fit.options.skip_first;
  state.model_fingerprint = lens::model_fingerprint(model);
  state.dtype = at::toString(model.dtype());
  state.prompts_digests = {prompts_digest(prompts)};
  state.shards = {fit.shard};
  state.num_shards = fit.num_shards;
  state.list_digest = fit.list_digest.empty() ? state.prompts_digests.front() : fit.list_digest;
  state.num_listed = static_cast<std::int64_t>(prompts.size());
  util::create_folders(fit.folder);
  const bool exists = util::exists(checkpoint);
  if (exists && fit.resume) {
    JacobianSums saved = load_jacobian_sums(checkpoint);
    const std::string what = "the checkpoint is of another fit", hint = "begin anew in another folder";
    require_same_settings(state, saved, what, checkpoint.string(), hint);
    require_same(what, checkpoint.string(), "prompts " + state.prompts_digests.front(),
                 "prompts " + util::join(saved.prompts_digests, ", "), hint);
    require_same(what, checkpoint.string(), "shard " + numbers_text(state.shards),
                 "shard " + numbers_text(saved.shards), hint);
    state = std::move(saved);
  } else if (exists && !fit.overwrite) {
    throw util::output_error({.what = "the folder holds another fit",
                              .where = util::in_quotes(checkpoint.string()),
                              .hint = "resume it, overwrite it or choose another folder"});
  } else {
    for (std::int64_t l = 0; l + 1 < state.num_layers; ++l)
      state.sums.push_back(at::zeros({d, d}, at::kDouble));
  }

  Clock::time_point written = Clock::now();
  const auto write = [&] {
    util::write_file(convergence, state.convergence);
    save_jacobian_sums(checkpoint, state);
    written = Clock::now();
  };
  const auto num_prompts = static_cast<std::int64_t>(prompts.size());
  while (state.next_prompt < num_prompts) {
    const std::int64_t index = state.next_prompt;
    const Prompt& prompt = prompts[static_cast<std::size_t>(index)];
    if (!fitter.long_enough(prompt)) {
      ++state.num_skipped;
      ++state.next_prompt;
      continue;
    }
    const auto report = [&](std::int64_t rows_done) {
      if (fit.progress) {
        fit.progress({.prompt = index, .num_prompts = num_prompts, .rows_done = rows_done, .num_rows = d});
      }
      return !fit.stop || !fit.stop();
    };
    std::optional<std::vector<at::Tensor>> jacobians;
    try {
      if (report(0)) jacobians = fitter.of_prompt(prompt, report);
    } catch (const util::Error& error) {
      write();
      if (error.code() != util::ErrorCode::kSelfCheck) throw;
      util::ErrorText text = error.text();
      text.where = cat("prompt ", index, ", ", text.where);
      throw util::Error(error.code(), text);
    }
    if (!jacobians) {
      write();
      throw util::interrupted_error();
    }
    util::OrderedJson line = {
        {"prompt", index}, {"tokens", static_cast<std::int64_t>(prompt.size())}, {"change", nullptr}};
    if (state.num_prompts > 0) line["change"] = change_of_means(state, *jacobians);
    state.convergence += line.dump() + "\n";
    for (std::size_t l = 0; l < jacobians->size(); ++l) state.sums[l] += (*jacobians)[l];
    ++state.num_prompts;
    ++state.next_prompt;
    if (std::chrono::duration<double>(Clock::now() - written).count() >= fit.checkpoint_seconds) write();
  }
  write();
  return state;
}

void save_jacobian_sums(const fs::path& path, const JacobianSums& sums) {
  io::NamedTensors tensors;
  for (std::size_t l = 0; l < sums.sums.size(); ++l) tensors.emplace_back(cat(l, ".sum"), sums.sums[l]);
  io::write_safetensors(path, tensors,
                        {{"format", kCheckpointFormat},
                         {"format_version", "1"},
                         {"hidden_size", cat(sums.hidden_size)},
                         {"num_layers", cat(sums.num_layers)},
                         {"skip_first", cat(sums.skip_first)},
                         {"model_fingerprint", sums.model_fingerprint},
                         {"prompts_digests", util::join(sums.prompts_digests, " ")},
                         {"num_prompts", cat(sums.num_prompts)},
                         {"num_skipped", cat(sums.num_skipped)},
                         {"next_prompt", cat(sums.next_prompt)},
                         {"num_listed", cat(sums.num_listed)},
                         {"shards", numbers_text(sums.shards)},
                         {"num_shards", cat(sums.num_shards)},
                         {"list_digest", sums.list_digest},
                         {"dtype", sums.dtype},
                         {"convergence", sums.convergence}});
}

JacobianSums load_jacobian_sums(const fs::path& path) {
  const io::TensorFile file = io::TensorFile::open_safetensors(path);
  const std::string where = path.string();
  const auto text = [&](const std::string& key) {
    const auto found = file.metadata().find(key);
    if (found != file.metadata().end()) return found->second;
    throw util::format_error({.what = "no checkpoint of Jacobians",
                              .where = where + ": __metadata__",
                              .expected = "the key '" + key + "'"});
  };
  const auto number = [&](const std::string& key) {
    const std::string value = text(key);
    std::int64_t result;
    if (util::parse_int(value, result) && result >= 0) return result;
    throw util::format_error({.what = "an unusable number",
                              .where = where + ": __metadata__: " + key,
                              .expected = "a number from 0",
                              .found = util::in_quotes(value)});
  };
  if (text("format") != kCheckpointFormat || text("format_version") != "1") {
    throw util::format_error({.what = "no checkpoint of Jacobians",
                              .where = where,
                              .expected = cat(kCheckpointFormat, ", version 1"),
                              .found = util::in_quotes(text("format") + ", " + text("format_version"))});
  }
  JacobianSums sums;
  sums.hidden_size = number("hidden_size");
  sums.num_layers = number("num_layers");
  sums.skip_first = number("skip_first");
  sums.model_fingerprint = text("model_fingerprint");
  sums.prompts_digests = util::split(text("prompts_digests"), ' ');
  sums.num_prompts = number("num_prompts");
  sums.num_skipped = number("num_skipped");
  sums.next_prompt = number("next_prompt");
  sums.num_listed = number("num_listed");
  sums.num_shards = number("num_shards");
  sums.shards.clear();
  for (const std::string& shard : util::split(text("shards"), ' ')) {
    std::int64_t& index = sums.shards.emplace_back();
    if (!util::parse_int(shard, index) || index < 0 || index >= sums.num_shards) {
      throw util::format_error({.what = "an unusable number",
                                .where = where + ": __metadata__: shards",
                                .expected = cat("numbers from 0 to ", sums.num_shards - 1),
                                .found = util::in_quotes(shard)});
    }
  }
  sums.list_digest = text("list_digest");
  sums.dtype = text("dtype");
  sums.convergence = text("convergence");
  sums.where = where;
  const auto sources = static_cast<std::int64_t>(file.entries().size());
  if (sources == 0 || sources != sums.num_layers - 1) {
    throw util::format_error({.what = "the checkpoint does not hold every block",
                              .where = where,
                              .expected = cat(sums.num_layers - 1, " sums"),
                              .found = cat(sources)});
  }
  for (std::int64_t l = 0; l < sources; ++l) {
    const std::string name = cat(l, ".sum");
    const at::Tensor sum = file.view(name);
    if (sum.scalar_type() != at::kDouble ||
        sum.sizes() != at::IntArrayRef({sums.hidden_size, sums.hidden_size}) ||
        !at::isfinite(sum).all().item<bool>()) {
      throw util::format_error({.what = "a sum of the checkpoint is unusable",
                                .where = where + ": " + name,
                                .expected = cat("finite numbers in float64, shape [", sums.hidden_size, ", ",
                                                sums.hidden_size, "]")});
    }
    sums.sums.push_back(sum.clone());  // the view is of the file, and sums are added to
  }
  return sums;
}

JacobianSums merge_jacobian_sums(const std::vector<JacobianSums>& parts) {
  DEPTHLENS_ASSERT(!parts.empty());
  JacobianSums whole;
  std::set<std::int64_t> seen;
  std::set<std::string> digests;
  for (const JacobianSums& part : parts) {
    const std::string where = part.where.empty() ? cat("part ", &part - parts.data()) : part.where;
    require_same_settings(parts.front(), part, "the sums are of different fits", where,
                          "join the shards of one fit: the same model, text and flags");
    for (const std::int64_t shard : part.shards) {
      if (seen.insert(shard).second) continue;
      throw util::usage_error(
          {.what = cat("shard ", shard, " of ", part.num_shards, " twice"), .where = where});
    }
    for (const std::string& digest : part.prompts_digests) {
      if (digests.insert(digest).second) continue;
      throw util::usage_error({.what = "two of the sums are of the same prompts", .where = where});
    }
    if (part.num_prompts + part.num_skipped != part.num_listed) {
      throw util::usage_error({.what = "an unfinished fit",
                               .where = where,
                               .expected = cat(part.num_listed, " prompts"),
                               .found = cat(part.num_prompts + part.num_skipped),
                               .hint = "go on with it by --resume first"});
    }
    if (whole.sums.empty()) {
      whole = part;
      for (at::Tensor& sum : whole.sums) sum = sum.clone();
      continue;
    }
    whole.prompts_digests.insert(whole.prompts_digests.end(), part.prompts_digests.begin(),
                                 part.prompts_digests.end());
    whole.shards.insert(whole.shards.end(), part.shards.begin(), part.shards.end());
    whole.num_listed += part.num_listed;
    whole.num_prompts += part.num_prompts;
    whole.num_skipped += part.num_skipped;
    for (std::size_t l = 0; l < whole.sums.size(); ++l) whole.sums[l] += part.sums[l];
  }
  whole.next_prompt = 0;
  whole.convergence = "";
  return whole;
}

void require_all_shards(const JacobianSums& sums) {
  std::vector<std::string> missing;
  for (std::int64_t shard = 0; shard < sums.num_shards; ++shard) {
    if (std::find(sums.shards.begin(), sums.shards.end(), shard) == sums.shards.end())
      missing.push_back(cat(shard, "/", sums.num_shards));
  }
  if (missing.empty()) return;
  throw util::usage_error({.what = cat(missing.size(), " of ", sums.num_shards, " shards are missing"),
                           .where = "--from-sums",
                           .expected = util::join(missing, ", ") + " too"});
}

namespace {

/// The mean of block `l` in `dtype`.
at::Tensor mean_of(const JacobianSums& sums, std::size_t l, at::ScalarType dtype) {
  if (sums.num_prompts == 0) {
    throw util::self_check_error({.what = "the Jacobian lens has no prompts",
                                  .expected = cat("a prompt of more than ", sums.skip_first + 1, " tokens"),
                                  .found = cat(sums.num_skipped, " that are too short")});
  }
  const at::Tensor mean = (sums.sums[l] / static_cast<double>(sums.num_prompts)).to(dtype);
  if (!at::isfinite(mean).all().item<bool>()) {
    throw util::self_check_error({.what = cat("a mean Jacobian passes the range of ", at::toString(dtype)),
                                  .where = cat("block ", l),
                                  .hint = "store the lens in float32"});
  }
  return mean;
}

}  // namespace

lens::StoredJacobianLens jacobian_lens(const JacobianSums& sums, const lens::LensProvenance& provenance,
                                       at::ScalarType dtype) {
  require_all_shards(sums);
  lens::StoredJacobianLens lens;
  util::OrderedJson blocks = util::OrderedJson::array();
  for (std::size_t l = 0; l < sums.sums.size(); ++l) {
    lens.jacobians.emplace(l, mean_of(sums, l, dtype));
    blocks.push_back(l);
  }
  lens.fields = {{"n_prompts", sums.num_prompts},
                 {"source_layers", blocks},
                 {"d_model", sums.hidden_size},
                 {"metadata",
                  {{"estimator", "jacobian_lens"},
                   {"anchor", "resid_post"},
                   {"target_layer", sums.num_layers - 1},
                   {"num_layers", sums.num_layers},
                   {"skip_first", sums.skip_first},
                   {"prompts_too_short", sums.num_skipped},
                   {"model_fingerprint", sums.model_fingerprint}}}};
  lens.provenance = provenance;
  lens.provenance.data_digest = sums.list_digest;
  return lens;
}

}  // namespace depthlens::train
