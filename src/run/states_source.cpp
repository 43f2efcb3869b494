// Files of residual states → queries.
#include <filesystem>
#include <map>
#include <set>
#include <tuple>

#include "depthlens/run/session.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "run/states_folder.hpp"
#include "run/words.hpp"

namespace depthlens::run {
namespace {

namespace fs = std::filesystem;
using util::cat;

/// The files that `given` names: itself, or those of a folder in the order of their names.
std::vector<fs::path> files_of(const fs::path& given) {
  if (!util::is_folder(given)) {
    if (!util::exists(given))
      throw util::input_error({.what = "there are no such states", .where = "--states " + given.string()});
    return {given};
  }
  for (const fs::path& lock : util::entries_with(given, ".lock")) {
    fs::path file = lock;
    file.replace_extension();
    if (file.extension() == ".safetensors" && !util::exists(file))
      util::log_warning(lock.string() +
                        ": there are no states beside it: they are still to be written, or were given up");
  }
  const std::vector<fs::path> files = util::entries_with(given, ".safetensors");
  if (!files.empty()) return files;
  throw util::input_error({.what = "the folder holds no stored states",
                           .where = "--states " + given.string(),
                           .expected = "files NAME.safetensors"});
}

std::string in_words(const std::vector<std::int64_t>& layers) {
  std::vector<std::string> names;
  for (const std::int64_t layer : layers) names.push_back(std::to_string(layer));
  return "layers " + util::join(names, ", ");
}

}  // namespace

StatesSource::StatesSource(const InputOptions& options, const std::vector<std::string>& paths,
                           std::vector<std::int64_t> layers, const Session& session, std::uint64_t seed)
    : TextSource(options),
      expected_({.layers = std::move(layers),
                 .hidden_size = session.spec().hidden_size,
                 .vocab_size = session.spec().vocab_size}) {
  for (const std::string& path : paths) {
    for (const fs::path& file : files_of(path)) files_.push_back(file);
  }
  std::set<fs::path> distinct;
  for (const fs::path& file : files_) {
    std::error_code ignored;
    if (!distinct.insert(fs::weakly_canonical(file, ignored)).second)
      throw util::usage_error({.what = "the same stored states twice", .where = "--states " + file.string()});
  }
  if (options.limit > 0 && files_.size() > static_cast<std::size_t>(options.limit))
    files_.resize(static_cast<std::size_t>(options.limit));
  const std::int64_t L = session.spec().num_layers;
  const auto all_layers = [&] {
    std::vector<std::int64_t> all;
    for (std::int64_t layer = 0; layer <= L; ++layer) all.push_back(layer);
    return all;
  };
  std::map<fs::path, std::optional<SavedStates>> saved_in;
  for (const fs::path& file : files_) {
    const fs::path folder = file.parent_path();
    const auto [found, is_new] = saved_in.try_emplace(folder);
    if (!is_new) continue;
    found->second = saved_states(folder);
    if (!found->second) continue;
    SavedStates& saved = *found->second;
    models_.emplace_back(folder, saved.model_digest);
    const bool are_all = saved.layers.empty();
    if (are_all) saved.layers = all_layers();
    if (saved.layers.back() != L) {
      throw util::usage_error({.what = "the stored states are of a model with another number of blocks",
                               .where = folder.string(),
                               .expected = cat("layer ", L, ", the last one of this model, as the last"),
                               .found = in_words(saved.layers) + ", as its states.json says"});
    }
    if (expected_.layers.empty()) expected_.layers = saved.layers;
    if (expected_.layers != saved.layers) {
      throw util::usage_error(
          {.what = "the stored states are of other layers",
           .where = folder.string(),
           .expected = in_words(expected_.layers),
           .found = (are_all ? "all layers" : in_words(saved.layers)) + ", as its states.json says",
           .hint = "--state-layers is not needed for states of --save-states"});
    }
    if (are_all)
      expected_.hint = cat("all layers of a model are in ", folder.string(), ", as its states.json says");
  }
  if (expected_.layers.empty()) expected_.layers = all_layers();
  std::vector<std::string> names;
  util::Progress progress("looking at states", "tokens", 0);
  for (std::size_t f = 0; f < files_.size(); ++f) {
    const decode::StoredStates states(files_[f], expected_);
    if (options.positions != "all") states.check_values();  // the engine looks at what it is asked for
    names.push_back(files_[f].string());
    std::error_code error;
    stamps_.push_back({fs::file_size(files_[f], error), fs::last_write_time(files_[f], error)});
    data::InputSummary& input = inputs_.files.emplace_back();
    input.path = files_[f].string();
    input.documents = 1;
    const std::optional<SavedStates>& saved = saved_in.at(files_[f].parent_path());
    bos_.push_back(saved ? saved->bos : session.bos());
    for (std::size_t t = num_bos(states, f); t < states.tokens().size(); ++t) {
      survey_.counts.add(states.tokens()[t]);
      ++input.tokens;
    }
    ++inputs_.documents;
    const auto length = static_cast<std::int64_t>(states.tokens().size());
    if (length == 0) {
      ++inputs_.dropped[data::Drop::kNoTokens];
    } else {
      add_window({.document = static_cast<std::int64_t>(f)}, length);
    }
    lengths_.push_back(length);
    progress.advance(length);
  }
  progress.finish();
  if (survey_.windows == 0)
    throw util::input_error({.what = "the stored states hold no token", .where = inputs_.files.front().path});
  end_survey(seed);
  digests_ = std::make_unique<util::FileDigests>("", std::move(names));
}

std::vector<std::string> StatesSource::compared_with(const model::OutputHead& head,
                                                     const std::string& model_digest) const {
  std::vector<std::string> warnings;
  std::vector<std::string> normed;
  for (std::size_t f = 0; f < files_.size(); ++f) {
    if (decode::StoredStates(files_[f], expected_).look_normed(head)) normed.push_back(files_[f].string());
  }
  if (!normed.empty()) {
    warnings.push_back(
        cat(normed.front(), normed.size() > 1 ? cat(" and ", normed.size() - 1, " more") : std::string(),
            ": the states of layer ", expected_.layers.back(),
            " look as if the final norm had been applied to them, as to the last of hidden_states in "
            "transformers; they are read as states before it"));
  }
  for (const auto& [folder, theirs] : models_) {
    if (theirs.empty() || theirs == model_digest) continue;
    warnings.push_back(util::cat(folder.string(), ": the states were made by a model of another digest (",
                                 theirs, ", here ", model_digest, "); they are read out by this one's head"));
  }
  return warnings;
}

void StatesSource::complete_inputs() {
  for (std::size_t f = 0; f < files_.size(); ++f) inputs_.files[f].sha256 = digests_->get()[f].sha256;
}

std::string StatesSource::size() const {
  return util::cat(counted(survey_.positions, "position"), " of stored states in ",
                   counted(survey_.windows, "file"));
}

void StatesSource::check_unchanged() {
  for (std::size_t f = 0; f < files_.size(); ++f) {
    std::error_code error;
    if (stamps_[f] == std::pair(fs::file_size(files_[f], error), fs::last_write_time(files_[f], error)))
      continue;
    throw util::input_error(
        {.what = "the stored states changed while they were read", .where = files_[f].string()});
  }
}

std::size_t StatesSource::num_bos(const decode::StoredStates& states, std::size_t f) const {
  return bos_[f] && !states.tokens().empty() && states.tokens()[0] == *bos_[f] ? 1 : 0;
}

void StatesSource::begin_part(std::int64_t part) {
  std::tie(next_file_, end_file_) = plan_.items(part, files_.size());
  first_position_ = plan_.weight_before(part);
}

bool StatesSource::next(decode::Query& query) {
  while (next_file_ < end_file_) {
    const std::size_t f = next_file_++;
    const std::int64_t length = lengths_[f], first = first_position_;
    first_position_ += length;
    if (length == 0) continue;
    const std::vector<std::int64_t> positions = chosen(first, length);
    if (positions.empty()) continue;
    query = {.document = static_cast<std::int64_t>(f),
             .input = static_cast<std::int64_t>(f),
             .tokens = {},
             .positions = {}};
    query.states = std::make_shared<const decode::StoredStates>(files_[f], expected_);
    query.tokens = query.states->tokens();
    query.num_bos = static_cast<std::int64_t>(num_bos(*query.states, f));
    DEPTHLENS_ASSERT(static_cast<std::int64_t>(query.tokens.size()) == length);
    add_positions(query, positions);
    return true;
  }
  return false;
}

}  // namespace depthlens::run
