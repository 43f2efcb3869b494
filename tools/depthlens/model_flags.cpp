// Flags of models and lenses.
#include "model_flags.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <utility>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/lens/lens.hpp"
#include "depthlens/lens/lens_types.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tool {

std::string requested_kernel() {
  const char* name = std::getenv("DEPTHLENS_KERNEL");
  return name != nullptr ? name : "";
}

namespace {

/// $XDG_CACHE_HOME/depthlens or ~/.cache/depthlens; empty where neither is known.
std::filesystem::path kernel_cache() {
  const auto value_of = [](const char* name) {
    const char* value = std::getenv(name);
    return std::filesystem::path(value != nullptr ? value : "");
  };
  if (const auto cache = value_of("XDG_CACHE_HOME"); cache.is_absolute()) return cache / "depthlens";
  if (const auto home = value_of("HOME"); home.is_absolute()) return home / ".cache" / "depthlens";
  return {};
}

}  // namespace

void add_offline_option(CLI::App& app, bool& offline) {
  app.add_flag("--offline", offline, "Make no connection: models and lenses are here or in the hub cache");
}

void add_model_option(CLI::App& app, ModelOptions& options) {
  options.kernel = requested_kernel();
  options.kernel_cache = kernel_cache();
  app.add_option(
         "--model", options.model,
         "Folder in Hugging Face layout, or ORG/NAME[@REVISION] of the hub, fetched where the hub cache "
         "does not have it (default: the demo model)")
      ->type_name("PATH|ID");
  add_offline_option(app, options.offline);
}

void add_bos_option(CLI::App& app, ModelOptions& options) {
  add_choice(app, "--add-bos", options.add_bos, run::kYesNoAuto,
             "Begin every window with BOS: as the model's tokenizer does it, or always, or never");
}

void add_arithmetic_options(CLI::App& app, ModelOptions& options) {
  add_choice(app, "--dtype", options.dtype, run::kDtypes, "Arithmetic of the forward pass");
  app.add_option("--device", options.device,
                 "cpu, cuda or cuda:N; several cards with commas share the model's blocks")
      ->type_name("DEVICE,...")
      ->delimiter(',')
      ->capture_default_str();
  app.add_flag("--stream-layers", options.stream_layers,
               "Keep only one block's weights in memory: each is read from disk when many windows need it");
}

void add_run_options(CLI::App& app, ModelOptions& options) {
  add_model_option(app, options);
  add_arithmetic_options(app, options);
  add_repeatable(
      app, "--lens", options.lenses,
      util::cat("[NAME=]", lens::lens_words(), "; or of the hub ", util::join(lens::hub_lens_words(), ", "),
                "; may be given several times (default: logit)"),
      /*lists=*/false)  // so that what follows may be the text of show
      ->type_name("LENS");
  add_choice(app, "--lens-alignment", options.alignment, run::kAlignments,
             "Which tuned translator serves a layer: the one trained on it, or the paper's scripts' (one "
             "layer off)");
  app.add_flag("--allow-lens-mismatch", options.allow_lens_mismatch,
               "Warn of a lens that was made for another model, instead of refusing it");
  app.add_option("--max-length", options.max_length,
                 util::cat("Tokens of a window, BOS included; at most what the model allows (default ",
                           options.default_max_length, ")"))
      ->check(integer(1, std::int64_t{1} << 24));
  add_bos_option(app, options);
}

std::filesystem::path model_folder(const ModelOptions& options, io::ModelParts parts) {
  if (options.model.empty()) return run::demo_model();
  try {
    return io::Hub({.offline = options.offline}).model(options.model, parts);
  } catch (const util::Error& error) {
    util::ErrorText text = error.text();
    if (text.where.empty()) text.where = "--model";
    throw util::Error(error.code(), text);
  }
}

namespace {

/// A device that is not there is told before anything large is fetched.
void check_devices(const ModelOptions& options) {
  if (options.device == "cpu") return;
  const std::vector<std::string> names = util::split(options.device, ',');
  // A block on the processor would keep all cards waiting.
  if (names.size() > 1 && std::find(names.begin(), names.end(), "cpu") != names.end()) {
    throw util::usage_error({.what = "the processor in a list of devices",
                             .where = "--device " + options.device,
                             .expected = "cpu alone, or cards (cuda:0,cuda:1)",
                             .hint = "--stream-layers runs a model that the cards' memory does not hold"});
  }
  compute::Backend::require_devices(options.device);
}

}  // namespace

ModelOptions located(ModelOptions options) {
  options.requests.clear();
  for (const std::string& text : options.lenses) {
    options.requests.push_back(lens::parse_lens_request(text));
    options.requests.back().allow_mismatch = options.allow_lens_mismatch;
  }
  options.requests = lens::with_names(std::move(options.requests));
  check_devices(options);
  options.folder = model_folder(options);
  const io::Hub hub({.offline = options.offline});
  for (lens::LensRequest& request : options.requests) lens::locate(request, hub);
  return options;
}

ModelOptions located(const ModelOptions& options, const run::Run& run, const CommonOptions& common) {
  return located(run.on_this_rank(options, /*threads_given=*/common.threads > 0));
}

std::vector<Condition> lens_conditions(const ModelOptions& options) {
  bool any_alignment = false, any_file = false;
  for (const std::string& text : options.lenses) {
    const lens::LensType* type = lens::find_lens_type(lens::parse_lens_request(text).type);
    any_alignment = any_alignment || type->has_alignment;
    any_file = any_file || type->files;
  }
  std::vector<std::string> titles, words;
  for (const lens::LensType& type : lens::lens_types()) {
    if (!type.has_alignment) continue;
    titles.push_back(type.title);
    words.push_back(type.words());
  }
  return {{.flags = {"--lens-alignment"},
           .holds = any_alignment,
           .needs = util::cat("a ", lens::either(titles), " lens (--lens ", lens::either(words), ")")},
          {.flags = {"--allow-lens-mismatch"},
           .holds = any_file,
           .needs = util::cat("a lens from a file (--lens ", lens::lens_file_words(), ")")}};
}

}  // namespace depthlens::tool
