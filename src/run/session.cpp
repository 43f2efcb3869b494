// Opens what the shared flags ask for.
#include "depthlens/run/session.hpp"

#include <algorithm>
#include <map>

#include "depthlens/compute/runtime.hpp"
#include "depthlens/io/hub_cache.hpp"
#include "depthlens/io/model_files.hpp"
#include "depthlens/text/tokenizer_files.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "run/words.hpp"

namespace depthlens::run {
namespace {

namespace fs = std::filesystem;

at::ScalarType scalar_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::kBfloat16:
      return at::kBFloat16;
    case Dtype::kFloat16:
      return at::kHalf;
    case Dtype::kAuto:  // no faster type keeps the promised accuracy
    case Dtype::kFloat32:
      break;
  }
  return at::kFloat;
}

}  // namespace

fs::path demo_model() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
  // Installed it is at ../share; in build/bin the source tree's counts.
  for (const fs::path& place : {program / "../share/depthlens/demo", program / "../../data/demo"}) {
    if (fs::exists(place / "config.json", error)) return fs::weakly_canonical(place, error);
  }
  throw util::input_error({.what = "the demo model is not beside the program",
                           .where = program.string(),
                           .hint = "name a model with --model"});
}

Session::Session(const ModelOptions& options) : options_(options), folder_(options.folder) {
  DEPTHLENS_ASSERT(!folder_.empty());
  using compute::Precision;
  backends_ = compute::Backend::create_all({.device = options.device,
                                            .kernel = options.kernel,
                                            .kernel_cache = options.kernel_cache,
                                            .decode = options.decode,
                                            .should_stop = options.should_stop});
  if (options.decode == Precision::kFast && decoder().decode_precision() != Precision::kFast) {
    util::log_info(util::cat("--decode fast is exact here: ", decoder().kernel_name(),
                             " has no quicker product of fewer bits"));
  }
  spec_ = model::read_config(folder_);
  tokenizer_ = text::load_tokenizer(folder_);

  if (options.add_bos == YesNoAuto::kYes || (options.add_bos == YesNoAuto::kAuto && tokenizer_->adds_bos())) {
    bos_ = tokenizer_->bos();
    if (!bos_) {
      throw util::usage_error({.what = "the model's tokenizer has no BOS token",
                               .where = "--add-bos " + name_of(kYesNoAuto, options.add_bos)});
    }
    check_in_vocabulary({*bos_});
  }
  // A default is an upper bound: a model that allows less is no reason for a warning.
  max_length_ = std::min(options.max_length.value_or(options.default_max_length), spec_.max_positions);
  if (options.max_length && max_length_ < *options.max_length) {
    util::log_warning(util::cat("windows of ", max_length_,
                                " tokens, the most this model allows (--max-length ", *options.max_length,
                                ")"));
  }
  if (max_length_ < (bos_ ? 2 : 1)) {
    throw util::usage_error({.what = "a window has no room for text",
                             .where = util::cat("--max-length ", max_length_),
                             .expected = "at least 2 with BOS"});
  }
}

util::OrderedJson describe_rotary(const model::ArchSpec& spec) {
  using Scaling = model::RopeSpec::Scaling;
  static const std::map<Scaling, std::string> names = {
      {Scaling::kNone, "none"},     {Scaling::kLinear, "linear"}, {Scaling::kDynamic, "dynamic"},
      {Scaling::kLlama3, "llama3"}, {Scaling::kYarn, "yarn"},     {Scaling::kLongRope, "longrope"}};
  util::OrderedJson all = util::OrderedJson::array();
  for (std::size_t r = 0; r < spec.ropes.size(); ++r) {
    const model::RopeSpec& rope = spec.ropes[r];
    std::vector<std::size_t> blocks;
    for (std::size_t i = 0; i < spec.blocks.size(); ++i) {
      if (spec.blocks[i].rope == static_cast<int>(r)) blocks.push_back(i);
    }
    if (blocks.empty()) continue;
    util::OrderedJson one = {
        {"blocks", nullptr}, {"base", rope.theta}, {"dims", rope.dims}, {"scaling", names.at(rope.scaling)}};
    if (blocks.size() < spec.blocks.size()) one["blocks"] = blocks;
    if (rope.scaling != Scaling::kNone) one["factor"] = rope.factor;
    if (rope.scaling != Scaling::kNone && rope.scaling != Scaling::kLinear)
      one["original_max_positions"] = rope.original_max_positions;
    if (rope.amplitude != 1) one["amplitude"] = rope.amplitude;
    if (rope.long_amplitude > 0) one["long_amplitude"] = rope.long_amplitude;
    if (rope.still_pairs > 0) one["still_pairs"] = rope.still_pairs;
    all.push_back(std::move(one));
  }
  return all;
}

std::unique_ptr<util::FileDigests> begin_model_digests(const fs::path& folder) {
  return std::make_unique<util::FileDigests>(folder, io::model_files(folder),
                                             std::clamp(compute::num_threads() / 4, 1, 4));
}

std::unique_ptr<util::FileDigests> begin_tokenizer_digests(const fs::path& folder) {
  return std::make_unique<util::FileDigests>(folder, text::tokenizer_files(folder));
}

void Session::load(bool with_digests) {
  if (with_digests) {
    model_digests_ = begin_model_digests(folder_);
    tokenizer_digests_ = begin_tokenizer_digests(folder_);
  }
  // Sixteen bits are far more than what is decoded or learnt with eight can tell.
  const bool rounds_later =
      options_.is_for_fast_products || decoder().decode_precision() == compute::Precision::kFast;
  model_ = model::Model::load(
      folder_, {.dtype = scalar_type(options_.dtype),
                .products = options_.dtype == Dtype::kAuto && rounds_later ? compute::Precision::kExact
                                                                           : compute::Precision::kFloat32,
                .backends = backends_,
                .stream_layers = options_.stream_layers,
                .head_only = options_.head_only,
                .config = spec_});
  for (const lens::LensRequest& request : options_.requests) {
    lenses_.push_back(lens::load_lens(request, *model_, options_.alignment));
    lens_commits_.push_back(io::hub_commit(request.place()));
  }
}

std::vector<const lens::Lens*> Session::lenses() const {
  std::vector<const lens::Lens*> all;
  for (const auto& lens : lenses_) all.push_back(lens.get());
  return all;
}

util::OrderedJson Session::describe_bos() const {
  return bos_ ? util::OrderedJson(*bos_) : util::OrderedJson();
}

std::string Session::summary() const {
  return util::cat(spec_.architecture, ", ", counted(spec_.num_layers, "block"), ", ",
                   util::with_thousands(model_->num_parameters()), " parameters");
}

void Session::check_in_vocabulary(const std::vector<text::TokenId>& tokens) const {
  for (const text::TokenId id : tokens) {
    if (id < spec_.vocab_size) continue;
    throw util::format_error(
        {.what = "the tokenizer does not fit the model",
         .where = folder_.string(),
         .expected = util::cat("token ids below ", spec_.vocab_size, ", the model's vocabulary"),
         .found = util::cat(id, " for ", util::in_quotes(tokenizer_->token_text(id)))});
  }
}

bool Session::angles_go_by_length() const {
  return spec_.angles_go_by_length(max_length_);
}

util::OrderedJson Session::describe_model() const {
  util::OrderedJson described = {
      {"path", options_.model.empty() ? "data/demo" : options_.model},
      {"architecture", spec_.architecture},
      {"layers", spec_.num_layers},
      {"hidden_size", spec_.hidden_size},
      {"vocab_size", spec_.vocab_size},
      {"rotary", describe_rotary(spec_)},
      {"parameters", model_->num_parameters()},
      {"dtype", name_of(kDtypes, options_.dtype == Dtype::kAuto ? Dtype::kFloat32 : options_.dtype)}};
  if (const auto commit = io::hub_commit(folder_)) described["revision"] = *commit;
  if (model_digests_) described.update(util::digest_json(model_digests_->get()));
  return described;
}

util::OrderedJson Session::describe_tokenizer() const {
  util::OrderedJson described = {{"kind", tokenizer_->kind()}, {"size", tokenizer_->size()}};
  if (tokenizer_digests_) described.update(util::digest_json(tokenizer_digests_->get()));
  return described;
}

util::OrderedJson Session::describe_arithmetic() const {
  // Cards of one kind have the same.
  std::vector<std::string> kernels;
  for (const auto& backend : backends_) {
    if (const std::string name = backend->kernel_name();
        std::count(kernels.begin(), kernels.end(), name) == 0)
      kernels.push_back(name);
  }
  return {{"kernel", util::join(kernels, ", ")},
          {"decode", name_of(kDecodePrecisions, decoder().decode_precision())},
          {"stream_layers", options_.stream_layers}};
}

util::OrderedJson Session::describe_lenses() const {
  util::OrderedJson all = util::OrderedJson::array();
  const auto or_null = [](const std::string& text) -> util::OrderedJson {
    if (text.empty()) return nullptr;
    return text;
  };
  for (const auto& lens : lenses_) {
    const lens::LensRequest& request = lens->request();
    all.push_back({{"name", request.name},
                   {"type", request.type},
                   {"path", or_null(request.path)},
                   {"digest", or_null(lens->digest())}});
    if (const auto& commit = lens_commits_[all.size() - 1]) all.back()["revision"] = *commit;
    if (!lens->about().empty()) all.back()["about"] = lens->about();
  }
  return all;
}

}  // namespace depthlens::run
