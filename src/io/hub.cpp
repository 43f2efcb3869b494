// What a name needs: which files of which repository, whether the cache has them, and how they are fetched.
#include "depthlens/io/hub.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <system_error>
#include <utility>

#include "depthlens/io/model_files.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/folders.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "hub_download.hpp"
#include "hub_environment.hpp"

namespace depthlens::io {
namespace {

namespace fs = std::filesystem;
using util::cat;
using util::in_quotes;

/// Beside config.json and the weights: what tokenizers are read from, and what the loaders warn of.
constexpr std::array<const char*, 14> kSmallFiles = {"tokenizer.json",
                                                     "tekken.json",
                                                     "tokenizer.model",
                                                     "tiktoken.model",
                                                     "vocab.json",
                                                     "merges.txt",
                                                     "tokenizer_config.json",
                                                     "special_tokens_map.json",
                                                     "added_tokens.json",
                                                     "generation_config.json",
                                                     "adapter_config.json",
                                                     "quantize_config.json",
                                                     "quant_config.json",
                                                     "hf_quant_config.json"};
/// Those of them that are asked for one by one where the hub has no list.
constexpr std::size_t kAskedFor = 10;

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string in_folder(const std::string& folder, const std::string& name) {
  return folder.empty() ? name : folder + "/" + name;
}

bool is_lens_file(const std::string& path) {
  return path.ends_with(".pt") || path.ends_with(".safetensors");
}

/// What readers of a Jacobian lens look for beside it.
std::vector<std::string> files_beside_lens(const std::string& path) {
  const std::string folder = parent_of(path);
  return {in_folder(folder, "config.yaml"), in_folder(folder, "config.json"),
          in_folder(folder, fs::path(path).stem().string() + ".sidecar.json")};
}

/// The lens files in a folder of a snapshot, and below it.
util::FilesBelow lenses_below(const fs::path& folder) {
  util::FilesBelow found = util::files_below(folder);
  std::erase_if(found.files, [](const fs::path& file) { return !is_lens_file(file.filename().string()); });
  return found;
}

/// Whether a lens is named by its place on this machine: a path that can be nothing else, a file, or a folder
/// that is no model's. Throws where nothing else can be meant, and nothing is there.
bool is_path_of_lens(const std::string& text) {
  const fs::path path(text);
  const bool only_path = looks_like_path(text);
  if (only_path && (text.empty() || !util::exists(path)))
    throw util::input_error({.what = "no lens at " + in_quotes(text)});
  if (only_path || util::is_file(path)) return true;
  if (!util::is_folder(path)) return false;
  if (!util::exists(path / "config.json")) return true;
  const util::FilesBelow lenses = lenses_below(path);
  // Of a folder with too many files to know, `find_lens` says so.
  return lenses.cut || std::any_of(lenses.files.begin(), lenses.files.end(), [](const fs::path& file) {
           const std::string name = file.filename().string();
           return name != "model.safetensors" && !name.starts_with("model-");
         });
}

/// Files of one commit on their way into a snapshot. Contents are fetched first; then all of them get their
/// names at once, what others are found by last: so that an end in between leaves nothing that looks whole.
class Gathering {
 public:
  /// Of `revision`, whose commit is settled by the first file that is looked up.
  Gathering(const CachedRepository& cached, const HubClientSettings& settings, std::string revision)
      : cached_(cached),
        settings_(settings),
        client_(settings),
        revision_(std::move(revision)),
        before_(cached.reference(revision_)) {
    if (is_commit(revision_)) commit_ = revision_;
  }

  const CachedRepository& cached() const { return cached_; }
  const std::string& commit() const { return commit_; }
  std::string in_words() const { return in_quotes(cached_.repository().name); }

  /// Takes the names of files in `folder` from the hub's list from now on, where it has one.
  void take_list(const std::string& folder, bool recursive) {
    listed_folder_ = folder;
    list_ = client_.list(cached_.repository(), commit_, folder, recursive);
    const bool lacks = std::any_of(found_.begin(), found_.end(), [&](const std::string& path) {
      return is_told_by_list(path) && !listed(path);
    });
    if (!lacks) return;
    util::log_detail(cat("the list of ", in_words(), " lacks files that are there, and is not used"));
    list_.reset();
  }
  const std::optional<std::vector<HubFile>>& list() const { return list_; }

  /// What the hub has by that name; nothing where it has none, which is kept in mind.
  std::optional<HubFile> find(const std::string& path) {
    std::optional<HubFile> file = listed(path);
    if (!is_told_by_list(path) || (file && file->etag.empty())) {
      HubClient::Lookup looked =
          client_.look_up(cached_.repository(), commit_.empty() ? revision_ : commit_, path);
      if (commit_.empty()) commit_ = looked.commit;
      file = std::move(looked.file);
      if (file) found_.push_back(path);
    }
    if (!file && !commit_.empty()) absent_.push_back(path);
    return file;
  }

  /// What every snapshot of this kind has.
  HubFile require(const std::string& path, const std::string& hint = "") {
    if (auto file = find(path)) return *file;
    throw util::input_error({.what = cat(in_words(), " has no ", path), .where = place(), .hint = hint});
  }
  std::string place() const {
    const Repository& repository = cached_.repository();
    return shown_address(settings_.endpoint + "/" + repository.address_prefix() + repository.name +
                         (revision_ == "main" ? "" : "/tree/" + revision_));
  }

  /// Wants the file in the snapshot, where it is not there yet, or of another size, or, being small, of
  /// another content.
  void want(HubFile file) {
    if (cached_.has(commit_, file.path)) {
      cached_.mark_present(commit_, file.path);
      const fs::path there = cached_.snapshot(commit_) / file.path;
      std::error_code ignored;
      const bool small = file.etag.size() == 40;
      if (small ? has_content(there, file) : !file.size || fs::file_size(there, ignored) == *file.size)
        return;
      util::log_info(cat(there.string(), ": another content than the hub's, and replaced"));
    }
    wanted_.push_back(std::move(file));
  }
  /// Fetches the contents of all that is wanted so far.
  void fetch() {
    bytes_ += fetch_blobs(cached_, wanted_, settings_, !is_hub_switch_on("HF_HUB_DISABLE_PROGRESS_BARS"));
  }
  /// The content of a wanted file that was fetched, or of one in the snapshot.
  std::string content(const HubFile& file) const {
    const bool fetched = std::any_of(wanted_.begin(), wanted_.end(),
                                     [&](const HubFile& one) { return one.path == file.path; });
    return util::read_file(fetched ? cached_.blob(file.etag) : cached_.snapshot(commit_) / file.path);
  }

  /// Names what was fetched, in the order in which it was wanted.
  void finish() {
    for (const HubFile& file : wanted_) cached_.put_in_snapshot(commit_, file.path, file.etag);
    try {
      for (const std::string& path : absent_) cached_.mark_absent(commit_, path);
      cached_.write_reference(revision_, commit_, before_);
    } catch (const util::Error& error) {
      if (!wanted_.empty()) throw;
      util::log_detail(error.what());  // all was there, in a cache that is not ours to write to
    }
    if (wanted_.empty()) return;
    util::log_info(cat(cached_.repository().name, ": ", wanted_.size(),
                       wanted_.size() == 1 ? " file, " : " files, ", util::as_bytes(bytes_), " fetched, in ",
                       cached_.snapshot(commit_).string()));
  }

 private:
  /// Whether the list says if there is such a file.
  bool is_told_by_list(const std::string& path) const { return list_ && parent_of(path) == listed_folder_; }
  std::optional<HubFile> listed(const std::string& path) const {
    if (!is_told_by_list(path)) return std::nullopt;
    const auto found =
        std::find_if(list_->begin(), list_->end(), [&](const HubFile& file) { return file.path == path; });
    return found == list_->end() ? std::nullopt : std::optional(*found);
  }

  const CachedRepository& cached_;
  const HubClientSettings& settings_;
  HubClient client_;
  std::string revision_, before_, commit_;
  std::string listed_folder_;
  std::optional<std::vector<HubFile>> list_;
  std::vector<HubFile> wanted_;
  std::vector<std::string> found_;  // when they were asked for by themselves
  std::vector<std::string> absent_;
  std::uint64_t bytes_ = 0;
};

/// Whether the snapshot has the weights that its loader will take; `reason` tells what is missing.
bool has_weights(const CachedRepository& cached, const std::string& commit, std::string& reason) {
  const fs::path snapshot = cached.snapshot(commit);
  const fs::path config = snapshot / "config.json";
  std::vector<std::string> names = weight_file_names();
  if (cached.has(commit, "config.json")) {
    if (auto named = weights_named_by(util::read_file(config), config.string())) names = {*named};
  }
  for (const std::string& name : names) {
    if (!cached.has(commit, name)) continue;
    if (!name.ends_with(".json")) return true;
    const std::vector<std::string> shards =
        shards_of_index(util::read_file(snapshot / name), (snapshot / name).string());
    const auto missing = std::count_if(shards.begin(), shards.end(),
                                       [&](const std::string& shard) { return !cached.has(commit, shard); });
    if (missing > 0)
      reason = cat(missing, " of ", shards.size(), " shards are missing in ", snapshot.string());
    return missing == 0;
  }
  reason = cat("no weights in ", snapshot.string());
  return false;
}

bool has_tokenizer(const CachedRepository& cached, const std::string& commit, std::string& reason) {
  const auto has = [&](const char* name) { return cached.has(commit, name); };
  const auto absent = [&](const char* name) { return cached.knows_absent(commit, name); };
  constexpr std::array<const char*, 4> kAlone = {"tokenizer.json", "tekken.json", "tokenizer.model",
                                                 "tiktoken.model"};
  if (std::any_of(kAlone.begin(), kAlone.end(), has) || (has("vocab.json") && has("merges.txt"))) return true;
  if (std::all_of(kAlone.begin(), kAlone.end(), absent) && (absent("vocab.json") || absent("merges.txt")))
    return true;  // nothing to be had
  reason = cat("no tokenizer in ", cached.snapshot(commit).string());
  return false;
}

std::string why_absent(const CachedRepository& cached, const std::string& commit, const std::string& path) {
  return cached.knows_absent(commit, path) ? cat("the hub has no ", path, " in this repository")
                                           : cat("no ", path, " in ", cached.snapshot(commit).string());
}

/// What of a model is on the hub, into the snapshot.
void gather_model(Gathering& gathering, ModelParts parts) {
  const HubFile config = gathering.require(
      "config.json",
      "depthlens reads models in Hugging Face layout, as save_pretrained of transformers writes them");
  gathering.take_list("", /*recursive=*/false);
  for (std::size_t i = 0; i < (gathering.list() ? kSmallFiles.size() : kAskedFor); ++i) {
    if (auto file = gathering.find(kSmallFiles[i])) gathering.want(std::move(*file));
  }
  gathering.want(config);
  std::optional<HubFile> weights;
  if (parts == ModelParts::kAll) {
    gathering.fetch();
    const auto named = weights_named_by(gathering.content(config), gathering.place() + "/config.json");
    if (named) {
      weights = gathering.require(*named, "config.json names it as the model's weights");
    } else {
      for (const std::string& name : weight_file_names()) {
        if ((weights = gathering.find(name))) break;
      }
    }
    if (!weights) {
      std::vector<std::string> names;
      if (gathering.list()) {
        for (const HubFile& file : *gathering.list()) names.push_back(file.path);
      }
      constexpr std::size_t kShown = 12;
      throw util::input_error({.what = gathering.in_words() + " has no weights that depthlens reads",
                               .where = gathering.place(),
                               .expected = util::join(weight_file_names(), ", "),
                               .found = util::join_first(names, kShown)});
    }
  }
  std::vector<std::string> shards;
  if (weights && weights->path.ends_with(".json")) {
    gathering.want(*weights);
    gathering.fetch();
    shards = shards_of_index(gathering.content(*weights), gathering.place() + "/" + weights->path);
  }
  for (const std::string& shard : shards) {
    if (!is_valid_hub_path(shard)) {
      throw util::format_error({.what = "the index names an unusable file",
                                .where = gathering.place() + "/" + weights->path,
                                .found = in_quotes(shard)});
    }
    gathering.want(gathering.require(shard, "the index of the weights names it"));
  }
  if (weights && shards.empty()) gathering.want(*weights);
  gathering.fetch();
  gathering.finish();
}

Repository tuned_lens_repository() {
  Repository repository{.type = RepositoryType::kSpace, .name = hub_variable("TUNED_LENS_REPO_ID")};
  if (repository.name.empty()) repository.name = "AlignmentResearch/tuned-lens";
  const std::string type = hub_variable("TUNED_LENS_REPO_TYPE");
  if (!is_valid_repository_name(repository.name)) {
    throw util::usage_error({.what = "TUNED_LENS_REPO_ID is no hub id",
                             .expected = "ORG/NAME",
                             .found = in_quotes(repository.name)});
  }
  if (type == "model") {
    repository.type = RepositoryType::kModel;
  } else if (type == "dataset") {
    repository.type = RepositoryType::kDataset;
  } else if (!type.empty() && type != "space") {
    throw util::usage_error({.what = "unknown TUNED_LENS_REPO_TYPE",
                             .expected = "space, model or dataset",
                             .found = in_quotes(type)});
  }
  return repository;
}

const char* kJacobianLenses = "neuronpedia/jacobian-lens";

void warn_of_legacy(const CacheFolder& cache) {
  if (!cache.legacy) return;
  util::log_warning("found in TRANSFORMERS_CACHE, which is deprecated: set HF_HUB_CACHE=" +
                    cache.path.string());
}

/// The last part of a model's name, in lower case.
std::string stem_of(const std::string& name) {
  return util::lower_case(name.substr(name.rfind('/') + 1));
}

/// The models for which the tuned lenses' repository has a whole lens. Where it has no list, as on some
/// mirrors, those of `names`.
std::vector<std::string> models_with_tuned_lens(HubClient& client, const Repository& repository,
                                                const std::vector<std::string>& names) {
  const std::string begin = "lens/", config = "/config.json", weights = "/params.pt";
  std::set<std::string> files;
  std::vector<std::string> models;
  if (const auto list = client.list(repository, "main", "lens", /*recursive=*/true)) {
    for (const HubFile& file : *list) files.insert(file.path);
  } else {
    for (const std::string& name : names) {
      for (const std::string& file : {begin + name + config, begin + name + weights}) {
        if (client.look_up(repository, "main", file).file) files.insert(file);
      }
    }
  }
  for (const std::string& file : files) {
    if (!file.starts_with(begin) || !file.ends_with(weights)) continue;
    const std::string name = file.substr(begin.size(), file.size() - begin.size() - weights.size());
    if (files.count(begin + name + config) > 0) models.push_back(name);
  }
  return models;
}

}  // namespace

struct Hub::Wanted {
  std::string what;                      ///< "the model 'org/name'"
  std::string given;                     ///< as `depthlens download` takes it
  std::vector<Repository> repositories;  ///< under each of its names, the given one first
  std::string revision;
  std::string reason = {};  ///< why there is no path of that name
  /// Where it is in a snapshot; nothing where something is missing, and why.
  std::function<std::optional<fs::path>(const CachedRepository&, const std::string& commit,
                                        std::string& reason)>
      find = {};
  /// Whether nothing else can belong to what was found.
  std::function<bool(const CachedRepository&, const std::string& commit)> is_certain =
      [](const CachedRepository&, const std::string&) { return true; };
  /// Told where it is not certain, and the hub may not be asked; "": nothing.
  std::function<std::string(const CachedRepository&, const std::string& commit)> doubt =
      [](const CachedRepository&, const std::string&) { return std::string(); };
  std::function<void(Gathering&)> gather = {};
};

Hub::Hub(HubOptions options) : options_(options) {
  if (options_.offline) offline_ = "--offline";
  for (const char* name : {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}) {
    if (hub_variable(name).empty()) continue;
    if (offline_.empty() && is_hub_switch_on(name)) offline_ = cat(name, "=", hub_variable(name));
    break;  // the first one that is set decides
  }
}

const HubClientSettings& Hub::settings() const {
  if (!settings_) {
    settings_ = read_hub_client_settings();
    settings_->pause = options_.pause;
  }
  return *settings_;
}

fs::path Hub::get(const Wanted& wanted) const {
  const std::vector<CacheFolder> caches = hub_cache_folders();
  std::string reason = wanted.reason;
  std::vector<std::string> looked_at;
  std::optional<fs::path> found;
  std::optional<std::pair<Repository, std::string>> begun;  // a snapshot to be completed
  std::optional<util::Error> damage;                        // the first
  const bool asks = options_.refresh && !is_offline();
  for (const CacheFolder& cache : caches) {
    for (const Repository& repository : wanted.repositories) {
      const CachedRepository cached(cache.path, repository);
      looked_at.push_back(cached.folder().string());
      if (!cached.exists()) continue;
      try {
        const auto commit = cached.commit_of(wanted.revision);
        if (!commit) {
          if (reason.empty())
            reason = cat("no revision ", in_quotes(wanted.revision), " in ", cached.folder().string());
          continue;
        }
        std::string why;
        const auto path = wanted.find(cached, *commit, why);
        const bool is_certain = path && !asks && wanted.is_certain(cached, *commit);
        if (path && !asks && (is_offline() || is_certain)) {
          if (const std::string doubt = is_certain ? "" : wanted.doubt(cached, *commit); !doubt.empty())
            util::log_warning(cat(wanted.what, ": ", offline_, " forbids to ask ", doubt));
          warn_of_legacy(cache);
          return *path;
        }
        if (path && !found) found = path;
        if (!path) reason = why;
        if (!cache.legacy && !begun) begun = {repository, *commit};
      } catch (const util::Error& error) {
        if (error.code() == util::ErrorCode::kInterrupted) throw;
        if (!damage) damage = error;
        if (reason.empty()) reason = error.what();
      }
    }
  }
  const std::string places = looked_at.empty() || caches.empty()
                                 ? "nowhere, since neither HF_HUB_CACHE, HF_HOME nor HOME is set"
                                 : util::join(looked_at, ", ");
  if (damage && !found && !asks) {
    util::ErrorText text = damage->text();
    text.hint = cat(is_offline() ? "with a network: " : "", "depthlens download ", wanted.given, " mends it");
    throw util::Error(damage->code(), text);
  }
  if (is_offline() || caches.empty() || caches.front().legacy) {
    throw util::input_error({.what = wanted.what + " is not on this machine",
                             .where = "looked in " + places,
                             .found = reason,
                             .hint = is_offline() ? cat(offline_,
                                                        " forbids to fetch it; with a network: depthlens "
                                                        "download ",
                                                        wanted.given)
                                                  : "HF_HUB_CACHE names the folder that it is fetched to"});
  }

  const Repository& repository = begun ? begun->first : wanted.repositories.front();
  const CachedRepository cached(caches.front().path, repository);
  const bool completes = begun && !asks;
  try {
    Gathering gathering(cached, settings(), completes ? begun->second : wanted.revision);
    wanted.gather(gathering);
    std::string why;
    if (const auto path = wanted.find(cached, gathering.commit(), why)) return *path;
    throw util::input_error({.what = wanted.what + " is not whole", .found = why});
  } catch (const util::Error& refused) {
    const util::Error error = settings().without_token(refused);
    const bool unreachable = dynamic_cast<const HubUnreachable*>(&refused) != nullptr;
    const bool wrong = error.code() == util::ErrorCode::kUsage;  // whatever the cache has
    // Who asks for the present commit is told that he cannot have it.
    const bool good_enough = unreachable || ((!asks || is_commit(wanted.revision)) && !wrong);
    if (found && good_enough && error.code() != util::ErrorCode::kInterrupted) {
      util::log_warning(cat(wanted.what, ": ", error.what(), "; taken from the cache as it is there"));
      return *found;
    }
    util::ErrorText text = error.text();
    if (unreachable) {
      text.found +=
          cat("; ", wanted.what, " is not on this machine", reason.empty() ? "" : " (" + reason + ")");
    } else if (completes && !found && error.code() == util::ErrorCode::kInput) {
      text.found +=
          cat(text.found.empty() ? "" : "; ", "asked for commit ", begun->second, ", since ", reason);
      if (text.hint.empty() && !is_commit(wanted.revision))
        text.hint = cat("depthlens download ", wanted.given, " fetches the present commit");
    }
    throw util::Error(error.code(), text);
  }
}

fs::path Hub::model(const std::string& path_or_id, ModelParts parts) const {
  const fs::path path(path_or_id);
  if (util::is_file(path / "config.json")) return path;
  const bool folder = util::is_folder(path), adapter = util::exists(path / "adapter_config.json");
  if (util::is_file(path)) {
    throw util::input_error({.what = "a model is a folder",
                             .expected = "a folder with config.json, or a name on the hub",
                             .found = "the file " + in_quotes(path_or_id)});
  }
  if (looks_like_path(path_or_id)) {
    throw util::input_error(
        {.what = folder ? "no model in the folder " + in_quotes(path_or_id)
                        : "no folder " + in_quotes(path_or_id),
         .expected = folder ? "config.json in it" : "",
         .hint = adapter ? "there is only an adapter: merge it into its base model and save that" : ""});
  }
  const HubId id = parse_hub_id(path_or_id);
  Wanted wanted{.what = "the model " + in_quotes(path_or_id),
                .given = path_or_id,
                .repositories = {},
                .revision = id.revision};
  for (const std::string& name : with_aliases(id.name))
    wanted.repositories.push_back({.type = RepositoryType::kModel, .name = name});
  if (folder) wanted.reason = cat("a folder ", in_quotes(path_or_id), " without config.json");
  wanted.find = [parts, path_or_id, tells = !options_.refresh](
                    const CachedRepository& cached, const std::string& commit,
                    std::string& reason) -> std::optional<fs::path> {
    if (!cached.has(commit, "config.json")) {
      reason = why_absent(cached, commit, "config.json");
      return std::nullopt;
    }
    if (!has_tokenizer(cached, commit, reason)) return std::nullopt;
    if (parts == ModelParts::kAll && !has_weights(cached, commit, reason)) return std::nullopt;
    const char* settings_file = "tokenizer_config.json";
    if (tells && !cached.has(commit, settings_file) && !cached.knows_absent(commit, settings_file)) {
      util::log_info(cat(path_or_id, ": no ", settings_file,
                         " in the cache, and nothing says that the hub has none; depthlens download ",
                         path_or_id, " would tell"));
    }
    return cached.snapshot(commit);
  };
  wanted.gather = [parts](Gathering& gathering) { gather_model(gathering, parts); };
  return get(wanted);
}

fs::path Hub::tuned_lens(const std::string& path_or_id) const {
  if (is_path_of_lens(path_or_id)) return path_or_id;
  const HubId id = parse_hub_id(path_or_id);
  const std::vector<std::string> names = with_aliases(id.name);
  Wanted wanted{.what = "the tuned lens of " + in_quotes(path_or_id),
                .given = "tuned:" + path_or_id,
                .repositories = {tuned_lens_repository()},
                .revision = id.revision};
  wanted.find = [names](const CachedRepository& cached, const std::string& commit,
                        std::string& reason) -> std::optional<fs::path> {
    for (const std::string& name : names) {
      const std::string folder = "lens/" + name;
      const char* missing = nullptr;
      for (const char* file : {"params.pt", "config.json"}) {
        if (!cached.has(commit, in_folder(folder, file))) missing = file;
      }
      if (missing == nullptr) return cached.snapshot(commit) / folder;
      if (reason.empty()) reason = why_absent(cached, commit, in_folder(folder, missing));
    }
    return std::nullopt;
  };
  wanted.gather = [names](Gathering& gathering) {
    for (const std::string& name : names) {
      const std::string folder = "lens/" + name;
      const auto config = gathering.find(folder + "/config.json");
      if (!config) continue;
      gathering.want(*config);
      gathering.want(gathering.require(folder + "/params.pt"));
      gathering.fetch();
      return gathering.finish();
    }
    throw util::input_error({.what = cat("no tuned lens is published for ", in_quotes(names.front())),
                             .where = gathering.place() + "/lens",
                             .hint = "depthlens download --lenses " + names.front() +
                                     " tells which lenses there are; depthlens train-lens trains one"});
  };
  return get(wanted);
}

fs::path Hub::jacobian_lens(const std::string& path_or_file) const {
  if (is_path_of_lens(path_or_file)) return path_or_file;
  if (path_or_file.find(':') == std::string::npos) {
    throw util::input_error({.what = "no lens at " + in_quotes(path_or_file),
                             .expected = "a file, or ORG/NAME[@REVISION]:FILE of the hub"});
  }
  const HubFileId id = parse_hub_file_id(path_or_file);
  const std::string& file = id.file;
  Wanted wanted{.what = "the Jacobian lens " + in_quotes(path_or_file),
                .given = "jacobian:" + path_or_file,
                .repositories = {{.type = RepositoryType::kModel, .name = id.id.name}},
                .revision = id.id.revision};
  wanted.find = [file](const CachedRepository& cached, const std::string& commit,
                       std::string& reason) -> std::optional<fs::path> {
    const fs::path place = cached.snapshot(commit) / file;
    if (is_lens_file(file)) {
      if (util::is_file(place)) return place;
      reason = why_absent(cached, commit, file);
      return std::nullopt;
    }
    const auto [lenses, cut] = lenses_below(place);
    if (lenses.size() == 1 && !cut) return lenses.front();
    reason = cat(cut              ? "too many files to know the lenses"
                 : lenses.empty() ? "no lens"
                                  : "several lenses",
                 " in ", place.string());
    return std::nullopt;
  };
  // What stands beside a lens may change what it means, and only the hub knows all that a folder has.
  wanted.is_certain = [file](const CachedRepository& cached, const std::string& commit) {
    if (!is_lens_file(file)) return false;
    const std::vector<std::string> beside = files_beside_lens(file);
    return std::all_of(beside.begin(), beside.end(), [&](const std::string& path) {
      return cached.has(commit, path) || cached.knows_absent(commit, path);
    });
  };
  wanted.doubt = [file](const CachedRepository& cached, const std::string& commit) -> std::string {
    if (!is_lens_file(file)) return {};
    const std::vector<std::string> beside = files_beside_lens(file);
    const auto is_there = [&](const std::string& path) { return cached.has(commit, path); };
    if (std::any_of(beside.begin(), beside.end(), is_there)) return {};  // as the whole folder was fetched
    return cat("whether the hub has files beside it that tell what it means: ", util::join(beside, ", "));
  };
  wanted.gather = [file](Gathering& gathering) {
    std::optional<HubFile> lens;
    if (is_lens_file(file)) {
      if (gathering.commit().empty()) lens = gathering.require(file);  // settles the commit
      gathering.take_list(parent_of(file), /*recursive=*/false);
      lens = gathering.require(file);
    } else {
      gathering.find(in_folder(file, "config.yaml"));  // settles the commit
      gathering.take_list(file, /*recursive=*/true);
      std::vector<std::string> names;
      for (const HubFile& one : gathering.list().value_or(std::vector<HubFile>())) {
        if (is_lens_file(one.path)) names.push_back(one.path);
      }
      util::ErrorText text{.where = gathering.place(),
                           .expected = "one .pt or .safetensors",
                           .found = util::join(names, ", "),
                           .hint = "name the file: jacobian:ORG/NAME:FILE"};
      if (!gathering.list()) {
        text.what =
            cat("the hub has no list of the files in ", in_quotes(file), " of ", gathering.in_words());
        throw util::input_error(text);
      }
      text.what = cat(names.empty() ? "no lens" : "several lenses", " in ", in_quotes(file), " of ",
                      gathering.in_words());
      if (names.empty()) throw util::input_error(text);
      if (names.size() > 1) throw util::usage_error(text);
      lens = gathering.require(names.front());
    }
    for (const std::string& path : files_beside_lens(lens->path)) {
      if (auto beside = gathering.find(path)) gathering.want(std::move(*beside));
    }
    gathering.want(*lens);
    gathering.fetch();
    gathering.finish();
  };
  const fs::path found = get(wanted);
  if (!is_lens_file(file) && is_offline()) {
    util::log_warning(cat("jacobian:", path_or_file, ": taken for ", found.string(),
                          ", the only lens of that folder on this machine; ", offline_,
                          " forbids to ask whether the hub has others"));
  }
  return found;
}

std::string with_file(const std::string& path_or_file, const fs::path& found) {
  const std::size_t colon = path_or_file.find(':');
  const auto commit = hub_commit(found);
  if (colon == std::string::npos || !commit || is_lens_file(path_or_file)) return path_or_file;
  const std::string place = found.generic_string(), before = cat("/snapshots/", *commit, "/");
  const std::size_t at = place.rfind(before);
  return at == std::string::npos ? path_or_file
                                 : path_or_file.substr(0, colon + 1) + place.substr(at + before.size());
}

Hub::PublishedLenses Hub::published_lenses(const std::string& model) const {
  const HubId id = parse_hub_id(model);
  if (is_offline()) {
    throw util::usage_error(
        {.what = "the hub is to be asked, and " + offline_ + " forbids it", .where = "--lenses"});
  }
  if (id.revision != "main") {
    throw util::usage_error({.what = "lenses are published for a model, whatever its revision",
                             .where = "--lenses",
                             .expected = id.name,
                             .found = in_quotes(model)});
  }
  const std::vector<std::string> names = with_aliases(id.name);
  std::set<std::string> stems;
  for (const std::string& name : names) stems.insert(stem_of(name));
  PublishedLenses found;
  const auto add = [&](const std::string& lens, const std::string& stem, bool of_model) {
    const bool similar = std::any_of(stems.begin(), stems.end(), [&](const std::string& wanted) {
      return stem.starts_with(wanted) || wanted.starts_with(stem);
    });
    if (of_model || similar) (of_model ? found.of_model : found.of_similar).push_back(lens);
  };
  std::vector<util::Error> unknown;  // what could not be asked
  HubClient client(settings());
  try {
    try {
      const bool any_organization = id.name.find('/') == std::string::npos;
      for (const std::string& name : models_with_tuned_lens(client, tuned_lens_repository(), names)) {
        const bool named = std::find(names.begin(), names.end(), name) != names.end();
        add("tuned:" + name, stem_of(name), named || (any_organization && stems.count(stem_of(name)) > 0));
      }
    } catch (const HubUnreachable&) {
      throw;
    } catch (const util::Error& error) {  // a mirror may have the one and not the other
      if (error.code() == util::ErrorCode::kInterrupted) throw;
      unknown.push_back(settings().without_token(error));
    }
    // STEM_jacobian_lens.pt in folders by model.
    const Repository jacobian{.type = RepositoryType::kModel, .name = kJacobianLenses};
    const auto files = client.list(jacobian, "main", "", /*recursive=*/true);
    if (!files) {
      unknown.push_back(
          util::input_error({.what = cat("the hub has no list of the files of ", kJacobianLenses),
                             .where = shown_address(settings().endpoint)}));
    }
    for (const HubFile& file : files.value_or(std::vector<HubFile>())) {
      const std::string name = stem_of(file.path), end = "_jacobian_lens.pt";
      if (!name.ends_with(end)) continue;
      const std::string stem = name.substr(0, name.size() - end.size());
      add(cat("jacobian:", kJacobianLenses, ":", file.path), stem, stems.count(stem) > 0);
    }
  } catch (const HubUnreachable& error) {
    throw settings().without_token(error);
  }
  if (found.of_model.empty() && !unknown.empty()) throw unknown.front();
  for (const util::Error& error : unknown) util::log_warning(error.what());
  return found;
}

}  // namespace depthlens::io
