// Log and checkpoints of a training, and the loop that writes them.
#include "depthlens/train/lens_folder.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>

#include "depthlens/io/metadata_reader.hpp"
#include "depthlens/lens/file_names.hpp"
#include "depthlens/train/file_names.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"
#include "train/checkpoint_file.hpp"

namespace depthlens::train {
namespace {

namespace fs = std::filesystem;
using util::OrderedJson;

/// Written when a training has ended.
constexpr const char* kOfLens[] = {lens::kTunedParameters, lens::kTunedConfig, kTunedRecord};
constexpr const char* kNoCheckpoint = "not a checkpoint of a training";
constexpr CheckpointKind kCheckpoint = {"depthlens training checkpoint", "3", kNoCheckpoint};
constexpr const char* kLogTensor = "log";

std::map<std::string, at::Tensor> tensors_of(const TunedTrainer& trainer, const KeptLens& best) {
  std::map<std::string, at::Tensor> tensors = trainer.state();
  if (best.parameters.weights.defined()) tensors.emplace("best.weights", best.parameters.weights);
  if (best.parameters.biases.defined()) tensors.emplace("best.biases", best.parameters.biases);
  return tensors;
}

}  // namespace

std::string different_setting(const OrderedJson& before, const OrderedJson& now) {
  const auto has_digest = [](const OrderedJson& settings) {
    return settings.is_object() && settings.contains("init_digest");
  };
  const bool by_digest = has_digest(before) && has_digest(now);
  for (const auto& item : now.items()) {
    if (by_digest && item.key() == "init") continue;
    const OrderedJson old =
        before.is_object() && before.contains(item.key()) ? before[item.key()] : OrderedJson();
    if (old != item.value())
      return util::cat(item.key(), " was ", util::json_text(old), " and is now ",
                       util::json_text(item.value()));
  }
  return before.size() == now.size() ? "" : "the checkpoint has other settings";
}

void require_recorded(const OrderedJson& record, const lens::StoredLens& lens, const std::string& where) {
  if (!record.is_object() || !record.contains(kLensDigest)) return;
  const std::string digest = lens::lens_digest(lens);
  if (record[kLensDigest] == digest) return;
  throw util::format_error(
      {.what = "the lens is not the one that was trained there",
       .where = where,
       .expected = util::json_text(record[kLensDigest]) + ", as the record beside it has its digest",
       .found = digest,
       .hint = "it was put there later: move it to another folder"});
}

LensFolder::LensFolder(fs::path path, bool overwrite, bool resume)
    : path_(std::move(path)), resumes_(resume && util::exists(path_ / kTunedCheckpoint)) {
  lens::check_replaceable(path_);
  util::create_folders(path_);
  for (const char* name : {kOfLens[0], kOfLens[1], kOfLens[2], kTunedCheckpoint, kTunedLog, "run.json"}) {
    const bool is_run = name == std::string("run.json");
    if (resumes_ || (overwrite && !is_run) || !util::exists(path_ / name)) continue;
    if (is_run) {
      throw util::output_error({.what = "the folder holds a run",
                                .where = util::in_quotes((path_ / name).string()),
                                .hint = "choose another --out"});
    }
    throw util::output_error({.what = "the folder is in use",
                              .where = util::in_quotes((path_ / name).string()),
                              .hint = resume ? "it holds no training to go on with: replace it with "
                                               "--overwrite, or choose another --out"
                                             : "go on with that training by --resume, replace it with "
                                               "--overwrite, or choose another --out"});
  }
}

void LensFolder::log(const LogLine& line, Loss loss) {
  OrderedJson json = {{"step", line.step}};
  if (line.result) {
    json["learning_rate"] = line.result->learning_rate;
    json["positions"] = line.result->positions;
    json[loss == Loss::kKl ? "kl" : "cross_entropy"] = line.result->loss;
    json["gradient_norm"] = line.result->gradient_norm;
    json["total_gradient_norm"] = line.result->total_gradient_norm;
  }
  json["validation_kl"] = line.validation_kl ? OrderedJson(*line.validation_kl) : OrderedJson(nullptr);
  log_ += util::json_text(json) + "\n";
}

void LensFolder::save(const TunedTrainer& trainer, const KeptLens& best, const OrderedJson& settings) const {
  io::NamedTensors tensors;
  for (const auto& [name, tensor] : tensors_of(trainer, best)) tensors.emplace_back(name, tensor);
  // The log too: training.jsonl may be cut or changed until the training goes on.
  tensors.emplace_back(kLogTensor, at::from_blob(const_cast<char*>(log_.data()),
                                                 {static_cast<std::int64_t>(log_.size())}, at::kByte));
  write_checkpoint(path_ / kTunedCheckpoint, kCheckpoint, tensors,
                   {{"steps_done", std::to_string(trainer.steps_done())},
                    {"best_step", std::to_string(best.step)},
                    {"best_kl", util::json_text(OrderedJson(best.kl.value_or(0)))},
                    {"settings", util::json_text(settings)}});
  remove_lens();
  util::write_file(path_ / kTunedLog, log_);
}

void LensFolder::remove_lens() const {
  for (const char* name : kOfLens) {
    std::error_code ignored;
    fs::remove(path_ / name, ignored);
  }
}

bool LensFolder::has_lens_of(const OrderedJson& settings) const {
  const fs::path record = path_ / kTunedRecord;
  for (const char* name : kOfLens) {
    if (!util::exists(path_ / name)) return false;
  }
  OrderedJson json;
  std::optional<lens::StoredTunedLens> lens;
  try {
    json = util::parse_ordered_json(util::read_file(record, util::kMaxSettingsFile), record.string());
    if (json.is_object() && json.contains(kLensDigest)) lens = lens::read_tuned_lens(path_);
  } catch (const util::Error&) {
    return false;  // damaged: written again
  }
  if (!json.is_object() || !json.contains("settings") ||
      !different_setting(json["settings"], settings).empty())
    return false;
  if (lens) require_recorded(json, *lens, path_.string());
  return true;
}

void LensFolder::restore(TunedTrainer& trainer, KeptLens& best, const OrderedJson& settings) {
  const fs::path file_path = path_ / kTunedCheckpoint;
  const std::string where = file_path.string();
  const io::TensorFile file = open_checkpoint_file(file_path, kCheckpoint);
  const auto damaged = [&](const std::string& what) {
    return util::format_error({.what = kNoCheckpoint, .where = where, .found = what});
  };
  const io::MetadataReader metadata(file.metadata(), where, kNoCheckpoint);
  const OrderedJson before = util::parse_ordered_json(metadata.text("settings"), where);
  if (const std::string other = different_setting(before, settings); !other.empty()) {
    throw util::usage_error({.what = "the training was begun with other settings",
                             .where = where,
                             .found = other,
                             .hint = "give the same flags, or begin anew with --overwrite"});
  }
  const std::int64_t steps_done = metadata.number("steps_done");
  if (steps_done > trainer.settings().steps) throw damaged(util::cat(steps_done, " steps"));
  best.step = metadata.number("best_step", -1);
  const OrderedJson best_kl = util::parse_ordered_json(metadata.text("best_kl"), where);
  if (best.step >= 0 && best_kl.is_number()) best.kl = best_kl.get<double>();
  if (best.step >= 0) {
    best.parameters = TunedTrainer::zeros_like(trainer.parameters());
  }

  std::map<std::string, at::Tensor> stored;
  for (const auto& [name, tensor] : tensors_of(trainer, best)) {
    if (!file.has(name)) throw damaged("no tensor " + util::in_quotes(name));
    const at::Tensor values = file.view(name);
    if (values.sizes() != tensor.sizes() || values.scalar_type() != tensor.scalar_type())
      throw damaged("the tensor " + util::in_quotes(name) + " of another shape or type");
    stored.emplace(name, values);
  }
  if (best.step >= 0) {
    best.parameters.weights.copy_(stored.at("best.weights"));
    if (best.parameters.biases.defined()) best.parameters.biases.copy_(stored.at("best.biases"));
  }
  trainer.restore(stored, steps_done);

  const at::Tensor log = file.has(kLogTensor) ? file.view(kLogTensor) : at::Tensor();
  if (!log.defined() || log.scalar_type() != at::kByte || log.dim() != 1) throw damaged("no log");
  log_.assign(static_cast<const char*>(log.const_data_ptr()), log.nbytes());
  // The end may have come between checkpoint and log, or before an older lens was removed.
  if (const fs::path path = path_ / kTunedLog; !util::exists(path) || util::read_file(path) != log_)
    util::write_file(path, log_);
  if (steps_done < trainer.settings().steps || !has_lens_of(settings)) remove_lens();
}

std::optional<KeptLens> run_training(TunedTrainer& trainer, LensFolder& folder, const TrainingPlan& plan) {
  const c10::InferenceMode inference;
  const Loss loss = trainer.settings().loss;
  const std::int64_t steps = trainer.settings().steps;
  KeptLens best;
  const auto validated = [&](LogLine& line) {
    line.validation_kl = trainer.mean_kl(plan.validation);
    const double kl = mean_over_layers(*line.validation_kl);
    if (!plan.keep_best || (best.kl && kl >= *best.kl)) return;
    best.step = line.step;
    best.kl = kl;
    const lens::TunedParameters& now = trainer.parameters();
    best.parameters = {.weights = now.weights.clone(),
                       .biases = now.biases.defined() ? now.biases.clone() : at::Tensor()};
  };
  const bool validates = plan.validate_every > 0 && !plan.validation.empty();
  if (folder.resumes()) {
    folder.restore(trainer, best, plan.settings);
  } else {
    LogLine first;
    if (validates) validated(first);
    folder.log(first, loss);
    plan.on_step(first);
  }
  std::int64_t saved = -1;
  const auto save = [&] {
    if (saved == trainer.steps_done()) return;
    trainer.require_finite();  // no loss has told of the last step yet
    folder.save(trainer, best, plan.settings);
    saved = trainer.steps_done();
  };
  while (trainer.steps_done() < steps) {
    if (plan.should_stop()) {
      save();
      return std::nullopt;
    }
    LogLine line;
    line.result = trainer.step(plan.windows(trainer.steps_done()));
    line.step = line.result->step;
    const bool last = line.step == steps;
    if (validates && (last || line.step % plan.validate_every == 0)) validated(line);
    folder.log(line, loss);
    plan.on_step(line);
    if (last || (plan.checkpoint_every > 0 && line.step % plan.checkpoint_every == 0)) save();
  }
  if (best.step >= 0) return best;
  return KeptLens{.step = steps, .parameters = trainer.parameters()};
}

}  // namespace depthlens::train
