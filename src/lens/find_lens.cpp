// The one lens that a folder holds.
#include <algorithm>
#include <string>
#include <vector>

#include "depthlens/lens/file_names.hpp"
#include "depthlens/lens/lens_file.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/folders.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"
#include "stored_lens.hpp"

namespace depthlens::lens {
namespace {

namespace fs = std::filesystem;
using util::cat;
using util::in_quotes;

struct Candidates {
  std::vector<fs::path> lenses;
  std::vector<fs::path> others;  // checkpoints of a fitting, and damaged files: the reader tells what one is
  bool cut = false;              // there are more files than were looked at
};

/// What a file that may be anything is.
void look_at(const fs::path& file, LensKind kind, Candidates& found) {
  std::error_code ignored;
  if (file.extension() != ".pt" && file.extension() != ".safetensors") return;
  if (!fs::is_regular_file(file, ignored)) return;
  try {
    // A tuned lens in an archive stands in a folder as params.pt.
    if (kind == LensKind::kTuned && !is_safetensors(file)) return;
    const FileHolds holds = contents_of(file);
    if ((holds == FileHolds::kJacobianLens && kind != LensKind::kTuned) ||
        (holds == FileHolds::kTunedLens && kind != LensKind::kJacobian)) {
      found.lenses.push_back(file);
    } else if (holds == FileHolds::kFit) {
      found.others.push_back(file);
    }
  } catch (const util::Error&) {
    found.others.push_back(file);
  }
}

Candidates candidates_in(const fs::path& folder, LensKind kind, std::size_t most) {
  Candidates found;
  const util::FilesBelow below = util::files_below(folder, most);
  found.cut = below.cut;
  for (const fs::path& file : below.files) {
    if (file.filename() != kTunedParameters) {
      look_at(file, kind, found);
    } else if (kind != LensKind::kJacobian) {
      found.lenses.push_back(file.parent_path());
    }
  }
  std::sort(found.lenses.begin(), found.lenses.end());
  return found;
}

/// Whether a folder's config.json is that of a lens. Throws where it cannot be read.
bool has_lens_config(const fs::path& folder) {
  constexpr std::uint64_t kMax = 1 << 20;
  const std::string where = (folder / kTunedConfig).string();
  const util::Json document = util::parse_config(util::read_file(where, kMax), where);
  const util::JsonView view(document, where);
  return view.has("d_model") && !view.has("model_type") && !view.has("architectures");
}

/// The tuned-lens folder whose params.pt the file is; "" where it is none of such a folder.
fs::path folder_of_parameters(const fs::path& file) {
  if (file.filename() != kTunedParameters || !util::exists(file)) return {};
  const fs::path folder = file.has_parent_path() ? file.parent_path() : ".";
  return util::exists(folder / kTunedConfig) && has_lens_config(folder) ? folder : fs::path();
}

}  // namespace

std::vector<fs::path> lenses_beside(const fs::path& file) {
  Candidates found;
  for (const fs::path& path : util::entries_of(file.has_parent_path() ? file.parent_path() : ".")) {
    std::error_code ignored;
    if (path.filename() == file.filename() || fs::equivalent(path, file, ignored)) continue;
    if (path.filename() == kTunedParameters) {
      found.lenses.push_back(path);
    } else {
      look_at(path, LensKind::kAny, found);
    }
  }
  std::sort(found.lenses.begin(), found.lenses.end());
  return found.lenses;
}

fs::path find_lens_or_none(const fs::path& path, LensKind kind, std::size_t most) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    const fs::path folder = kind == LensKind::kJacobian ? fs::path() : folder_of_parameters(path);
    return folder.empty() ? path : folder;
  }
  if (kind != LensKind::kJacobian && fs::exists(path / kTunedParameters, ignored)) return path;
  const Candidates found = candidates_in(path, kind, most);
  const auto name_of = [&](const fs::path& lens) {
    return in_quotes(fs::relative(lens, path, ignored).string());
  };
  if (found.cut && found.lenses.size() < 2) {
    throw util::input_error(
        {.what = "too many files below " + in_quotes(path.string()) + " to know the lenses among them",
         .expected = cat("no more than ", util::with_thousands(static_cast<std::int64_t>(most)),
                         " files and folders"),
         .found = found.lenses.empty() ? "more, and no lens among the first"
                                       : "more, and among the first " + name_of(found.lenses.front()),
         .hint = "name the lens's own folder, or its file"});
  }
  if (found.lenses.size() == 1) return found.lenses.front();
  if (found.lenses.empty()) return found.others.size() == 1 ? found.others.front() : fs::path();
  constexpr std::size_t kShown = 4;
  std::vector<std::string> names;
  for (const fs::path& lens : found.lenses) names.push_back(name_of(lens));
  throw util::input_error(
      {.what = "several lenses in " + in_quotes(path.string()),
       .expected = "one",
       .found = cat(found.lenses.size(), found.cut ? " or more: " : ": ", util::join_first(names, kShown)),
       .hint = "name one of them"});
}

fs::path find_lens(const fs::path& path, LensKind kind) {
  fs::path found = find_lens_or_none(path, kind);
  if (!found.empty()) return found;
  for (const LensType& type : lens_types()) {
    if (!type.files || (kind != LensKind::kAny && kind != type.files->kind)) continue;
    throw util::input_error({.what = cat("no ", kind == LensKind::kAny ? "" : type.title + " ", "lens in ",
                                         in_quotes(path.string())),
                             .expected = type.files->expected});
  }
  DEPTHLENS_ASSERT(false);
  return {};
}

void check_replaceable(const fs::path& target) {
  std::error_code ignored;
  const auto refuse = [](const fs::path& file) {
    throw util::output_error({.what = in_quotes(file.string()) + " is no lens, and nothing else is replaced",
                              .hint = "choose another place for the lens, or remove that file"});
  };
  if (fs::is_directory(target, ignored)) {
    const fs::path config = target / kTunedConfig;
    if (!util::exists(config)) return;
    try {
      if (has_lens_config(target)) return;
    } catch (const util::Error& error) {
      if (error.code() == util::ErrorCode::kInput) throw;
      // No lens either.
    }
    refuse(config);
  }
  if (!util::exists(target)) return;
  try {
    read_lens(target);
  } catch (const util::Error&) {
    refuse(target);
  }
}

}  // namespace depthlens::lens
