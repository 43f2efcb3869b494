// A model with its tokenizer and lenses, as the shared flags ask for them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/lens/lens.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/run/choices.hpp"
#include "depthlens/text/tokenizer.hpp"
#include "depthlens/util/digest.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::run {

/// Arithmetic of the forward pass. `kAuto`: float32.
enum class Dtype { kAuto, kFloat32, kBfloat16, kFloat16 };
inline constexpr Choice<Dtype> kDtypes[] = {{Dtype::kAuto, "auto"},
                                            {Dtype::kFloat32, "float32"},
                                            {Dtype::kBfloat16, "bfloat16"},
                                            {Dtype::kFloat16, "float16"}};

inline constexpr Choice<compute::Precision> kDecodePrecisions[] = {{compute::Precision::kExact, "exact"},
                                                                   {compute::Precision::kFast, "fast"}};

inline constexpr Choice<lens::Alignment> kAlignments[] = {{lens::Alignment::kTrained, "trained"},
                                                          {lens::Alignment::kPaper, "paper"}};

struct ModelOptions {
  std::string model;                  ///< as it was named; "": the demo model
  std::filesystem::path folder = {};  ///< where that is
  bool offline = false;               ///< nothing is fetched from the hub
  Dtype dtype = Dtype::kAuto;
  std::string device = "cpu";  ///< one, or several cards with commas (compute::BackendOptions)
  compute::Precision decode = compute::Precision::kExact;  ///< one of `kDecodePrecisions`
  /// What follows the forward pass multiplies with as few bits as `kFast` says.
  bool is_for_fast_products = false;
  std::string kernel;                       ///< as DEPTHLENS_KERNEL names it; "": the quickest
  std::filesystem::path kernel_cache = {};  ///< of cards (compute::BackendOptions)
  std::function<bool()> should_stop = {};   ///< gives up products (compute::BackendOptions)
  bool stream_layers = false;
  bool head_only = false;  ///< states come from elsewhere: the model's blocks are not needed
  std::vector<std::string> lenses = {"logit"};   ///< as they were named
  std::vector<lens::LensRequest> requests = {};  ///< what that asks for, and where it is
  lens::Alignment alignment = lens::Alignment::kTrained;
  bool allow_lens_mismatch = false;
  std::optional<std::int64_t> max_length = {};  ///< where the user gives one; the model may allow less
  std::int64_t default_max_length = 512;
  YesNoAuto add_bos = YesNoAuto::kAuto;  ///< BOS before every window; `kAuto`: as the tokenizer does it
};

/// Opens things in the order of their cost, so that a mistake is reported before anything large is loaded.
class Session {
 public:
  /// Makes the backend, reads config.json and the tokenizer, checks the flags. `folder` and `requests` say
  /// where everything is.
  explicit Session(const ModelOptions& options);
  /// Loads the weights and lenses. Without digests nothing is hashed: an answer in the terminal does not
  /// wait.
  void load(bool with_digests = true);

  const text::Tokenizer& tokenizer() const { return *tokenizer_; }
  const model::ArchSpec& spec() const { return spec_; }
  const model::Model& model() const { return *model_; }
  std::vector<const lens::Lens*> lenses() const;

  std::optional<text::TokenId> bos() const { return bos_; }
  util::OrderedJson describe_bos() const;  ///< its id, or null
  std::int64_t max_length() const { return max_length_; }
  bool angles_go_by_length() const;  ///< those of the model, in a window of this run
  const std::filesystem::path& folder() const { return folder_; }

  /// For the log, once the model is loaded: "GPTNeoXForCausalLM, 12 blocks, 162,322,944 parameters".
  std::string summary() const;

  /// Throws a format error where an id lies beyond the model's vocabulary.
  void check_in_vocabulary(const std::vector<text::TokenId>& tokens) const;

  /// `lenses` of run.json.
  util::OrderedJson describe_lenses() const;
  /// `model` and `tokenizer`, with the digests of their files where `load` has begun them: wait for these,
  /// and throw an input error where a file cannot be read.
  util::OrderedJson describe_model() const;
  util::OrderedJson describe_tokenizer() const;
  /// What of the arithmetic stands under `volatile`: the kernel, how weights are read.
  util::OrderedJson describe_arithmetic() const;

 private:
  /// The last device has the head, and decodes.
  const compute::Backend& decoder() const { return *backends_.back(); }

  ModelOptions options_;
  std::filesystem::path folder_;
  model::ArchSpec spec_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::optional<text::TokenId> bos_;
  std::int64_t max_length_ = 0;
  std::vector<std::shared_ptr<const compute::Backend>> backends_;
  std::shared_ptr<const model::Model> model_;
  std::vector<std::unique_ptr<lens::Lens>> lenses_;
  std::vector<std::optional<std::string>> lens_commits_;
  std::unique_ptr<util::FileDigests> model_digests_, tokenizer_digests_;
};

/// `rotary` of run.json and of `info`: the rotary settings of a model, one object for each kind of block:
/// which blocks (null: all of them), base, scaling and what it is made of. Empty where positions are not
/// rotated.
util::OrderedJson describe_rotary(const model::ArchSpec& spec);

/// Begins to hash the files of a model folder, and of its tokenizer: large weights beside other work, on a
/// quarter of the threads and four at the most.
std::unique_ptr<util::FileDigests> begin_model_digests(const std::filesystem::path& folder);
std::unique_ptr<util::FileDigests> begin_tokenizer_digests(const std::filesystem::path& folder);

/// The folder of the bundled demo model, beside the program or where it was installed.
std::filesystem::path demo_model();
}  // namespace depthlens::run
