// Whose states a folder holds.
#include "run/states_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "depthlens/decode/stored_states.hpp"
#include "depthlens/io/checkpoint.hpp"
#include "depthlens/util/descriptor.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::run {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndex = "states.json";
constexpr std::uint64_t kMaxIndex = std::uint64_t{256} << 20;  // it names all inputs

std::vector<fs::path> states_in(const fs::path& folder) {
  return util::entries_with(folder, ".safetensors");
}

/// What the folder says of the run whose states it holds; nothing where there is no such file, or another
/// program's.
std::optional<util::Json> index_of(const fs::path& folder) {
  const fs::path path = folder / kIndex;
  if (!util::exists(path)) return std::nullopt;
  util::Json index = util::parse_json(util::read_file(path, kMaxIndex), path.string());
  if (!index.is_object() || !index.contains("run") || !index.contains("of")) return std::nullopt;
  return index;
}

/// The digest of that run; "" where nothing says so.
std::string run_of(const fs::path& folder) {
  const auto index = index_of(folder);
  return index ? util::JsonView(*index, (folder / kIndex).string()).at("run").as_string() : "";
}

[[noreturn]] void refuse(const fs::path& folder, const std::string& what) {
  throw util::output_error({.what = what,
                            .where = "--save-states " + folder.string(),
                            .hint = "choose another folder, or replace them with --overwrite"});
}

/// Kept to itself by one process while this lives, where the file system has locks for folders: else of two
/// shares that start at once the second one would take what the first has just written for another run's.
class HeldFolder {
 public:
  explicit HeldFolder(const fs::path& folder)
      : opened_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    while (::flock(opened_.get(), LOCK_EX | LOCK_NB) != 0 && (errno == EWOULDBLOCK || errno == EINTR)) {
      if (util::interrupted()) throw util::interrupted_error();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

 private:
  util::Descriptor opened_;
};

/// The part that a window lies in.
std::int64_t part_of(const Plan& plan, const Place& window) {
  std::int64_t first = 0, end = plan.num_parts();
  while (end - first > 1) {
    const std::int64_t middle = first + (end - first) / 2;
    (plan.begin(middle) <= window ? first : end) = middle;
  }
  return first;
}

}  // namespace

void check_states_folder(const fs::path& folder, bool overwrite) {
  const std::vector<fs::path> files = states_in(folder);
  for (const fs::path& file : files) {
    if (decode::place_of_states(file)) continue;
    throw util::output_error(
        {.what = "the folder for states holds other files, which would be read with them",
         .where = util::in_quotes(file.string()),
         .hint = "choose another folder for --save-states"});
  }
  if (util::exists(folder / kIndex) && !index_of(folder)) {
    throw util::output_error({.what = "not of states that a run has saved, and nothing else is replaced",
                              .where = util::in_quotes((folder / kIndex).string()),
                              .hint = "choose another folder for --save-states"});
  }
  if (!overwrite && !files.empty() && run_of(folder).empty())
    refuse(folder, "the folder for states holds some already");
}

std::optional<SavedStates> saved_states(const fs::path& folder) {
  const auto index = index_of(folder);
  if (!index) return std::nullopt;
  const util::JsonView view(*index, (folder / kIndex).string());
  const util::JsonView settings = view.at("of").at("settings");
  SavedStates saved{.bos = std::nullopt, .model_digest = view.at("of").get_string("model", "")};
  if (settings.has("bos"))
    saved.bos = static_cast<text::TokenId>(settings.at("bos").as_integer(0, INT32_MAX));
  if (settings.has("layers")) {
    const util::JsonView layers = settings.at("layers");
    for (std::size_t i = 0; i < layers.size(); ++i)
      saved.layers.push_back(layers.at(i).as_integer(i == 0 ? 0 : saved.layers.back() + 1, INT32_MAX));
  }
  return saved;
}

PreparedStates prepare_states_folder(const fs::path& folder, const util::OrderedJson& identity,
                                     bool has_done_parts, bool overwrite) {
  check_states_folder(folder, overwrite);
  const std::string run = util::sha256(util::json_text(identity));
  if (run_of(folder) == run) return {.run = run};
  if (has_done_parts) {
    throw util::usage_error({.what = "the states of what was done before are not in this folder",
                             .where = "--save-states " + folder.string(),
                             .expected = "the folder that the run was begun with",
                             .hint = "give that one, or begin anew with --overwrite"});
  }
  util::create_folders(folder);
  const HeldFolder held(folder);
  const std::string before = run_of(folder);
  if (before == run) return {.run = run};  // another share has made it ready
  const std::vector<fs::path> others = states_in(folder);
  // One that has saved none yet may be about to.
  if (!(others.empty() && before.empty()) && !overwrite)
    refuse(folder, "the folder for states holds those of another run");
  std::error_code ignored;
  for (const fs::path& file : others) fs::remove(file, ignored);
  const util::OrderedJson index = {{"run", run}, {"of", identity}};
  util::write_file(folder / kIndex, util::json_text(index, 2) + "\n");
  return {.run = run, .replaced = !others.empty()};
}

void check_still_states_of(const std::string& run, const fs::path& folder) {
  if (run_of(folder) == run) return;
  throw util::output_error({.what = "another run has taken the folder for states",
                            .where = "--save-states " + folder.string(),
                            .hint = "its own states are there now; the tables of this run are whole"});
}

void give_back_states_folder(const std::string& run, const fs::path& folder) {
  const HeldFolder held(folder);
  std::error_code ignored;
  if (run_of(folder) == run && states_in(folder).empty()) fs::remove(folder / kIndex, ignored);
}

void check_done_states(const fs::path& folder, const Plan& plan, const PartSet& done, std::int64_t windows) {
  std::int64_t found = 0;
  for (const fs::path& file : states_in(folder)) {
    const auto window = decode::place_of_states(file);
    if (!window || !done.contains(part_of(plan, {window->document, window->window}))) continue;
    io::TensorFile::open_safetensors(file);  // throws where it was cut
    ++found;
  }
  if (found == windows) return;
  throw util::input_error({.what = "some of the states that were saved before are not there",
                           .where = "--save-states " + folder.string(),
                           .expected = util::cat(windows, " files of windows that are done"),
                           .found = util::cat(found),
                           .hint = "put them back, or begin anew with --overwrite"});
}

}  // namespace depthlens::run
