// Checks of where results go.
#include "outputs.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "depthlens/lens/file_names.hpp"
#include "depthlens/report/record_file.hpp"
#include "depthlens/report/run_folder.hpp"
#include "depthlens/train/file_names.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tool {

namespace fs = std::filesystem;

void check_replaceable(const fs::path& file, const std::string& kind,
                       const std::function<bool(std::string_view head)>& is_one) {
  std::error_code ignored;
  const fs::file_status status = fs::status(file, ignored);
  if (!fs::exists(status) || fs::is_directory(status)) return;  // writing tells of a folder
  std::string head(4096, '\0');
  if (fs::is_regular_file(status)) {
    std::ifstream stream(file, std::ios::binary);
    stream.read(head.data(), static_cast<std::streamsize>(head.size()));
    head.resize(static_cast<std::size_t>(stream.gcount()));
    if (is_one(head)) return;
  }
  throw util::output_error(
      {.what = util::cat(util::in_quotes(file.string()), " is not ", kind, ", and nothing else is replaced"),
       .hint = "choose another --out, or remove that file"});
}

void check_not_replaced(const std::string& flag, const std::vector<std::string>& inputs,
                        const fs::path& out) {
  constexpr std::string_view kOfResults[] = {report::kRunFile,
                                             report::kSummaryFile,
                                             report::kRecordFiles[0],
                                             report::kRecordFiles[1],
                                             "report.html",
                                             "tables",
                                             "replicates",
                                             "parts",
                                             lens::kTunedParameters,
                                             lens::kTunedConfig,
                                             train::kTunedRecord,
                                             train::kTunedLog,
                                             train::kTunedCheckpoint,
                                             train::kJacobianLens,
                                             train::kJacobianRecord,
                                             train::kJacobianSums,
                                             train::kJacobianConvergence};
  std::error_code ignored;
  const fs::path target = fs::weakly_canonical(out, ignored);
  for (const std::string& input : inputs) {
    if (!fs::exists(input, ignored)) continue;
    const fs::path place = fs::weakly_canonical(input, ignored).lexically_relative(target);
    if (place.empty() || *place.begin() == "..") continue;
    const bool is_result = std::find(std::begin(kOfResults), std::end(kOfResults), place.begin()->string()) !=
                           std::end(kOfResults);
    if (!is_result && place != ".") continue;
    if (place == "." && fs::is_directory(input, ignored)) continue;
    throw util::usage_error({.what = "the result would replace what is read",
                             .where = flag + " " + input,
                             .expected = "another --out",
                             .found = util::in_quotes(out.string())});
  }
}

void check_place(const std::string& flag, const fs::path& folder, const fs::path& out) {
  std::error_code ignored;
  const fs::path place =
      fs::weakly_canonical(folder, ignored).lexically_relative(fs::weakly_canonical(out, ignored));
  for (const char* own : {"parts", "tables", "replicates"}) {
    if (place.empty() || *place.begin() != own) continue;
    throw util::usage_error({.what = "a folder that the run keeps for itself",
                             .where = flag + " " + folder.string(),
                             .expected = "another one"});
  }
}

}  // namespace depthlens::tool
