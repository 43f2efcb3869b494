// The file of the sums, their merge and their mean.
#include "depthlens/train/jacobian_sums.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>

#include <optional>
#include <set>

#include "depthlens/io/metadata_reader.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"
#include "train/checkpoint_file.hpp"

namespace depthlens::train {
namespace {

namespace fs = std::filesystem;
using util::cat;

constexpr const char* kNoSums = "no checkpoint of Jacobians";
constexpr CheckpointKind kSums = {"depthlens-jacobian-sums", "3", kNoSums};

/// "0 2 5"
std::string numbers_text(const std::vector<std::int64_t>& numbers) {
  std::vector<std::string> texts;
  for (const std::int64_t number : numbers) texts.push_back(std::to_string(number));
  return util::join(texts, " ");
}

std::vector<std::string> in_words(const JacobianIdentity& fit) {
  return {cat("hidden_size ", fit.hidden_size),     cat("num_layers ", fit.num_layers),
          cat("skip_first ", fit.skip_first),       "model " + fit.model_fingerprint,
          "model files " + fit.model_files_digest,  "arithmetic in " + fit.dtype,
          cat("number of shards ", fit.num_shards), "list of prompts " + fit.list_digest};
}

/// Throws a usage error of that text with the first fact that `found` does not share with `expected`.
void require_same(const std::vector<std::string>& expected, const std::vector<std::string>& found,
                  util::ErrorText text) {
  const auto [one, other] = std::mismatch(expected.begin(), expected.end(), found.begin());
  if (one == expected.end()) return;
  text.expected = *one;
  text.found = *other;
  throw util::usage_error(text);
}

/// The shards that a checkpoint names, each below `num_shards`.
std::vector<std::int64_t> read_shards(const std::string& text, std::int64_t num_shards,
                                      const std::string& where) {
  std::vector<std::int64_t> shards;
  for (const std::string& shard : util::split(text, ' ')) {
    std::int64_t& index = shards.emplace_back();
    if (util::parse_int(shard, index) && index >= 0 && index < num_shards) continue;
    throw util::format_error({.what = kNoSums,
                              .where = where + ": __metadata__: shards",
                              .expected = cat("numbers from 0 to ", num_shards - 1),
                              .found = util::in_quotes(shard)});
  }
  return shards;
}

/// A sum of the checkpoint, copied: the view is of the file, and sums are added to.
at::Tensor read_sum(const io::TensorFile& file, const std::string& name, std::int64_t hidden_size) {
  const at::Tensor sum = file.view(name);
  if (sum.scalar_type() == at::kDouble && sum.sizes() == at::IntArrayRef({hidden_size, hidden_size}) &&
      at::isfinite(sum).all().item<bool>())
    return sum.clone();
  throw util::format_error(
      {.what = "a sum of the checkpoint is unusable",
       .where = file.source() + ": " + name,
       .expected = cat("finite numbers in float64, shape [", hidden_size, ", ", hidden_size, "]")});
}

/// Everything but the sums.
JacobianSums read_facts(const io::TensorFile& file) {
  const std::string& where = file.source();
  const io::MetadataReader metadata(file.metadata(), where, kNoSums);
  JacobianSums sums{.fit = {.hidden_size = metadata.number("hidden_size"),
                            .num_layers = metadata.number("num_layers"),
                            .skip_first = metadata.number("skip_first"),
                            .model_fingerprint = metadata.text("model_fingerprint"),
                            .model_files_digest = metadata.text("model_files_digest"),
                            .dtype = metadata.text("dtype"),
                            .num_shards = metadata.number("num_shards"),
                            .list_digest = metadata.text("list_digest")},
                    .prompts_digests = util::split(metadata.text("prompts_digests"), ' '),
                    .num_listed = metadata.number("num_listed"),
                    .num_prompts = metadata.number("num_prompts"),
                    .num_skipped = metadata.number("num_skipped"),
                    .next_prompt = metadata.number("next_prompt"),
                    .convergence = metadata.text("convergence"),
                    .sums = {},
                    .where = where};
  sums.shards = read_shards(metadata.text("shards"), sums.fit.num_shards, where);
  return sums;
}

/// The means of the blocks in `dtype`; nothing where one of them passes its range.
std::optional<std::vector<at::Tensor>> means_of(const JacobianSums& sums, at::ScalarType dtype) {
  std::vector<at::Tensor> means;
  for (const at::Tensor& sum : sums.sums) {
    means.push_back((sum / static_cast<double>(sums.num_prompts)).to(dtype));
    if (!at::isfinite(means.back()).all().item<bool>()) return std::nullopt;
  }
  return means;
}

}  // namespace

void save_jacobian_sums(const fs::path& path, const JacobianSums& sums) {
  io::NamedTensors tensors;
  for (std::size_t l = 0; l < sums.sums.size(); ++l) tensors.emplace_back(cat(l, ".sum"), sums.sums[l]);
  write_checkpoint(path, kSums, tensors,
                   {{"hidden_size", cat(sums.fit.hidden_size)},
                    {"num_layers", cat(sums.fit.num_layers)},
                    {"skip_first", cat(sums.fit.skip_first)},
                    {"model_fingerprint", sums.fit.model_fingerprint},
                    {"model_files_digest", sums.fit.model_files_digest},
                    {"prompts_digests", util::join(sums.prompts_digests, " ")},
                    {"num_prompts", cat(sums.num_prompts)},
                    {"num_skipped", cat(sums.num_skipped)},
                    {"next_prompt", cat(sums.next_prompt)},
                    {"num_listed", cat(sums.num_listed)},
                    {"shards", numbers_text(sums.shards)},
                    {"num_shards", cat(sums.fit.num_shards)},
                    {"list_digest", sums.fit.list_digest},
                    {"dtype", sums.fit.dtype},
                    {"convergence", sums.convergence}});
}

JacobianSums load_jacobian_sums(const fs::path& path) {
  const io::TensorFile file = open_checkpoint_file(path, kSums);
  JacobianSums sums = read_facts(file);
  const auto sources = static_cast<std::int64_t>(file.entries().size());
  if (sources == 0 || sources != sums.fit.num_layers - 1) {
    throw util::format_error({.what = "the checkpoint does not hold every block",
                              .where = sums.where,
                              .expected = cat(sums.fit.num_layers - 1, " sums"),
                              .found = cat(sources)});
  }
  for (std::int64_t l = 0; l < sources; ++l)
    sums.sums.push_back(read_sum(file, cat(l, ".sum"), sums.fit.hidden_size));
  return sums;
}

void require_same_prompts(const JacobianSums& begun, const JacobianSums& saved) {
  const auto words = [](const JacobianSums& sums) {
    std::vector<std::string> all = in_words(sums.fit);
    all.push_back("prompts " + util::join(sums.prompts_digests, ", "));
    all.push_back("shard " + numbers_text(sums.shards));
    return all;
  };
  require_same(words(begun), words(saved),
               {.what = "the checkpoint is of another fit",
                .where = saved.where,
                .hint = "begin anew with --overwrite, or in another folder"});
}

JacobianSums merge_jacobian_sums(const std::vector<JacobianSums>& parts) {
  DEPTHLENS_ASSERT(!parts.empty());
  JacobianSums whole;
  std::set<std::int64_t> seen;
  for (const JacobianSums& part : parts) {
    const std::string where = part.where.empty() ? cat("part ", &part - parts.data()) : part.where;
    require_same(in_words(parts.front().fit), in_words(part.fit),
                 {.what = "the sums are of different fits",
                  .where = where,
                  .hint = "join the shards of one fit: the same model, text and flags"});
    for (const std::int64_t shard : part.shards) {
      if (seen.insert(shard).second) continue;
      throw util::usage_error(
          {.what = cat("shard ", shard, " of ", part.fit.num_shards, " twice"), .where = where});
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
  const std::set<std::int64_t> there(sums.shards.begin(), sums.shards.end());
  const std::int64_t num_missing = sums.fit.num_shards - static_cast<std::int64_t>(there.size());
  if (num_missing <= 0) return;
  constexpr std::size_t kShown = 20;
  std::vector<std::string> missing;
  for (std::int64_t shard = 0; shard < sums.fit.num_shards && missing.size() <= kShown; ++shard) {
    if (there.count(shard) == 0) missing.push_back(cat(shard, "/", sums.fit.num_shards));
  }
  throw util::usage_error({.what = cat(num_missing, " of ", sums.fit.num_shards, " shards are missing"),
                           .where = "--from-sums",
                           .expected = util::join_first(missing, kShown) + " too"});
}

lens::StoredJacobianLens jacobian_lens(const JacobianSums& sums, const lens::LensProvenance& provenance,
                                       at::ScalarType dtype) {
  require_all_shards(sums);
  lens::StoredJacobianLens lens;
  util::OrderedJson blocks = util::OrderedJson::array();
  if (sums.num_prompts == 0) {
    throw util::self_check_error(
        {.what = "the Jacobian lens has no prompts",
         .expected = cat("a prompt of more than ", sums.fit.skip_first + 1, " tokens"),
         .found = cat(sums.num_skipped, " that are too short")});
  }
  std::optional<std::vector<at::Tensor>> means = means_of(sums, dtype);
  if (!means) means = means_of(sums, at::kFloat);
  if (!means) throw util::self_check_error({.what = "a mean Jacobian passes the range of float32"});
  for (std::size_t l = 0; l < means->size(); ++l) {
    lens.jacobians.emplace(l, (*means)[l]);
    blocks.push_back(l);
  }
  lens.fields = {{"n_prompts", sums.num_prompts},
                 {"source_layers", blocks},
                 {"d_model", sums.fit.hidden_size},
                 {"metadata",
                  {{"estimator", "jacobian_lens"},
                   {"anchor", "resid_post"},
                   {"target_layer", sums.fit.num_layers - 1},
                   {"num_layers", sums.fit.num_layers},
                   {"skip_first", sums.fit.skip_first},
                   {"prompts_too_short", sums.num_skipped},
                   {"model_fingerprint", sums.fit.model_fingerprint}}}};
  lens.provenance = provenance;
  lens.provenance.data_digest = sums.fit.list_digest;
  return lens;
}

}  // namespace depthlens::train
