// depthlens convert-lens: a lens from one file format to another, bit for bit.
#include <array>
#include <memory>

#include "command.hpp"
#include "depthlens/io/hub.hpp"
#include "depthlens/lens/file_names.hpp"
#include "depthlens/lens/lens_file.hpp"
#include "depthlens/lens/lens_types.hpp"
#include "depthlens/train/file_names.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "model_flags.hpp"

namespace depthlens::tool {
namespace {

namespace fs = std::filesystem;

struct ConvertOptions {
  CommonOptions common;
  std::string in;
  std::string out;
  bool overwrite = false;
  bool legacy_keys = false;
  bool offline = false;
};

/// Whether writing to `out` would replace what is read.
bool is_same(const fs::path& in, const fs::path& out) {
  std::error_code ignored;
  for (const fs::path& source : {in, in / lens::kTunedParameters, in / lens::kTunedConfig}) {
    for (const fs::path& target : {out, out / lens::kTunedParameters, out / lens::kTunedConfig}) {
      if (fs::equivalent(source, target, ignored)) return true;
    }
  }
  return false;
}

/// Throws where the record of a training, or what it goes on from, would stand beside a lens that is not of
/// it.
void check_no_training(const fs::path& out, bool is_folder) {
  const fs::path folder = is_folder ? out : out.parent_path();
  const auto files = is_folder ? std::array{train::kTunedRecord, train::kTunedCheckpoint}
                               : std::array{train::kJacobianRecord, train::kJacobianSums};
  if (!is_folder && out.filename() != train::kJacobianLens) return;
  for (const char* name : files) {
    if (!util::exists(folder / name)) continue;
    throw util::output_error({.what = "a lens was trained there, and what tells of it would tell of another",
                              .where = util::in_quotes((folder / name).string()),
                              .hint = "choose another OUT, or remove what is left of the training"});
  }
}

void write_tuned(const lens::StoredTunedLens& stored, const fs::path& out, bool legacy_keys) {
  const std::string extension = out.extension();
  if (extension == ".safetensors") return lens::write_tuned_lens_safetensors(out, stored);
  lens::write_tuned_lens_folder(out, stored,
                                legacy_keys ? lens::TunedKeys::kLegacy : lens::TunedKeys::kCurrent);
  const lens::LensProvenance& known = stored.provenance;
  if (known.steps || known.tokens || known.data_digest) {
    util::log_warning("steps, tokens and data_digest of the lens have no place in a tuned-lens folder");
  }
  if (stored.config.empty() && !known.model) {
    util::log_warning("the lens does not say which model it is for: base_model_name_or_path is empty");
  }
}

void run_convert_lens(const ConvertOptions& options) {
  const auto usage = [](const std::string& what, const std::string& expected) {
    return util::usage_error(
        {.what = what, .expected = expected, .hint = "depthlens convert-lens --help shows an example"});
  };
  if (options.in.empty() || options.out.empty()) throw usage("no lens to convert", "IN and OUT");
  apply_common_options(options.common);
  const io::Hub hub({.offline = options.offline});
  std::string named = options.in;
  const lens::LensType* const given = lens::take_type(named);
  const lens::LensType& type =
      given != nullptr ? *given
                       : *lens::find_lens_type(named.find(':') != std::string::npos ? lens::kJacobianType
                                                                                    : lens::kTunedType);
  const fs::path in = lens::place_of(type, named, hub);
  const fs::path out = options.out;
  if (is_same(in, out)) throw usage("IN and OUT are the same", "another OUT");
  std::error_code ignored;
  if (!options.overwrite && fs::exists(fs::symlink_status(out, ignored))) {
    throw util::output_error({.what = util::in_quotes(options.out) + " exists",
                              .hint = "choose another OUT, or replace it with --overwrite"});
  }

  lens::check_replaceable(out);
  const lens::StoredLens stored = lens::read_lens(in);
  if (given != nullptr && &lens::type_of(stored) != given) {
    throw util::usage_error({.what = "a lens of another type",
                             .where = util::in_quotes(options.in),
                             .expected = util::cat("a ", given->title, " lens"),
                             .found = util::cat("a ", lens::type_of(stored).title, " lens")});
  }
  const bool safetensors = out.extension() == ".safetensors";
  const auto* tuned = std::get_if<lens::StoredTunedLens>(&stored);
  if (options.legacy_keys && (tuned == nullptr || safetensors)) {
    throw usage("--legacy-keys is of tuned-lens folders only", "a tuned lens and a folder as OUT");
  }
  const util::FinishOnInterrupt finish;  // a folder has two files, which belong together
  if (out.has_parent_path()) util::create_folders(out.parent_path());
  if (tuned != nullptr) {
    if (!safetensors && (out.extension() == ".pt" || fs::is_regular_file(out, ignored))) {
      throw usage("a tuned lens cannot become " + util::in_quotes(options.out),
                  "FILE.safetensors, or a folder for config.json and params.pt");
    }
    if (!safetensors) check_no_training(out, /*is_folder=*/true);
    write_tuned(*tuned, out, options.legacy_keys);
  } else {
    const auto& jacobian = std::get<lens::StoredJacobianLens>(stored);
    if (safetensors) {
      lens::write_jacobian_lens_safetensors(out, jacobian);
    } else if (out.extension() == ".pt") {
      check_no_training(out, /*is_folder=*/false);
      lens::write_jacobian_lens_archive(out, jacobian);
      if (jacobian.provenance.steps || jacobian.provenance.tokens)
        util::log_warning("steps and tokens of the lens have no place in such an archive");
    } else {
      throw usage("a Jacobian lens cannot become " + util::in_quotes(options.out),
                  "FILE.safetensors or FILE.pt");
    }
  }
  util::log_info(util::cat(lens::type_of(stored).title, " lens written to ", options.out));
}

}  // namespace

std::function<void()> setup_convert_lens(CLI::App& app) {
  auto options = std::make_shared<ConvertOptions>();
  app.add_option(
         "in", options->in,
         "Lens to read: tuned-lens folder or params.pt, Jacobian lens .pt, .safetensors of either, or "
         "one of the hub: the model of a published tuned lens, or ORG/NAME:FILE of a Jacobian one; its type "
         "may stand before it, as in --lens")
      ->type_name("IN");
  app.add_option(
         "out", options->out,
         "What to write: FILE.safetensors; else a folder for a tuned lens, FILE.pt for a Jacobian one")
      ->type_name("OUT");
  app.add_flag("--overwrite", options->overwrite, "Replace OUT where it exists");
  app.add_flag("--legacy-keys", options->legacy_keys,
               "Tuned-lens folder with the key names of old releases (input_translator, layer_translators)");
  add_offline_option(app, options->offline);
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens convert-lens lens/EleutherAI/pythia-160m-deduped pythia.safetensors\n"
      "  depthlens convert-lens pythia.safetensors pythia-lens\n"
      "  depthlens convert-lens gpt2_jacobian_lens.pt gpt2-jacobian.safetensors\n"
      "Tensors keep their types and bits; the kind of IN is found from its content.");
  return [options] { run_convert_lens(*options); };
}

}  // namespace depthlens::tool
