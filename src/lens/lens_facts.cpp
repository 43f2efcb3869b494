// The words that those who publish lenses use for how they made them, and what follows.
#include "lens_facts.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <memory>
#include <regex>

#include "depthlens/model/model.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "plain_yaml.hpp"
#include "stored_lens.hpp"

namespace depthlens::lens {
namespace {

namespace fs = std::filesystem;
using util::cat;
using util::in_quotes;
using util::OrderedJson;

constexpr const char* kTarget = "target_layer";
constexpr const char* kPrompts = "prompts";
constexpr const char* kKind = "lens_kind";

/// A fact and the keys it goes by: ours first, where it can be written; then those of the reference
/// implementation, TransformerLens, neuronpedia's exports and jlens-mlx.
struct Known {
  const char* fact;
  std::vector<const char*> keys;
  bool decides = false;  ///< what the matrices mean: a file must not say two things of it, by any of the keys
};

const std::vector<Known>& known_facts() {
  static const std::vector<Known> all = {
      {"estimator", {"estimator", "method"}, true},
      {"lrp_mode", {"lrp_mode"}, true},
      {"anchor", {"anchor", "hook_convention", "capture_point", "hook_point", "hook_name"}, true},
      {"stream_reduce", {"stream_reduce"}, true},
      {kTarget, {kTarget}, true},
      {"weight_basis", {"weight_basis"}, true},
      {"compatibility_mode", {"compatibility_mode"}, true},
      {"fold_ln", {"fold_ln"}, true},
      {"center_writing_weights", {"center_writing_weights"}, true},
      {kPrompts, {"prompts_fitted", "n_prompts"}},
      {"max_length", {"max_length", "max_seq_len", "t_max"}},
      {"skip_first", {"skip_first", "skip_first_positions", "skip_first_n_positions"}},
      {"corpus", {"corpus", "dataset_id", "dataset", "dataset_name"}},
      {"dtype", {"fit_dtype", "dtype"}},
      {"transformers", {"transformers", "transformers_version"}},
      {"transformer_lens", {"transformer_lens", "transformer_lens_version"}},
      {"rope_theta", {"rope_theta"}},
      {"rope_scaling", {"rope_scaling"}},
      {"rope_parameters", {"rope_parameters"}},
      {"known_issue", {"known_issue"}},
      {kKind, {kKind, "kind", "lens_type"}}};
  return all;
}

constexpr const char* kModelKeys[] = {"model", "model_name", "model_id", "hf_model_name",
                                      "base_model_name_or_path"};
constexpr const char* kRevisionKeys[] = {"model_revision", "base_model_revision"};

/// What ties a lens to weights and data.
constexpr std::pair<const char*, std::optional<std::string> LensProvenance::*> kDigests[] = {
    {"unembed_hash", &LensProvenance::unembed_hash},
    {"model_digest", &LensProvenance::model_digest},
    {"data_digest", &LensProvenance::data_digest}};

/// Switches of which each must be off.
constexpr const char* kProcessing[] = {"compatibility_mode", "fold_ln", "center_writing_weights"};

/// A dictionary, or one in it, with its name for messages.
struct Place {
  std::shared_ptr<const OrderedJson> object;
  std::string where;
};

/// A dictionary that is one, or the text of one.
std::shared_ptr<const OrderedJson> dictionary_of(const OrderedJson& value) {
  if (value.is_object()) return {std::shared_ptr<const OrderedJson>(), &value};
  if (!value.is_string() || !util::trimmed(value.get_ref<const std::string&>()).starts_with('{'))
    return nullptr;
  auto parsed = json_of(value.get_ref<const std::string&>());
  return parsed && parsed->is_object() ? std::make_shared<const OrderedJson>(*std::move(parsed)) : nullptr;
}

/// The dictionary itself and those in it that describe a fit, outer ones first. They hold as long as
/// `fields`.
std::vector<Place> places_of(const OrderedJson& fields, const std::string& where) {
  std::vector<Place> all = {{dictionary_of(fields), where + ": "}};
  for (std::size_t i = 0; i < all.size() && all.size() < 32; ++i) {
    for (const char* name : {kHeader, "metadata", "provenance", "config", "source_config", "fit", "dataset",
                             "environment", "results", "lens", "processing"}) {
      if (!all[i].object->contains(name)) continue;
      if (auto inner = dictionary_of(all[i].object->at(name)))
        all.push_back({std::move(inner), cat(all[i].where, name, ".")});
    }
  }
  return all;
}

/// Whether the place tells of something else than model and fit.
bool is_aside(const Place& place) {
  return place.where.ends_with("dataset.") || place.where.ends_with("environment.") ||
         place.where.ends_with("results.");
}

/// The value of a key in one of the places, and where it stands.
struct Said {
  const OrderedJson* value = nullptr;
  std::string where = {};
};

Said look_up(const std::vector<Place>& places, const std::string& key) {
  for (const Place& place : places) {
    if (place.object->contains(key) && !place.object->at(key).is_null())
      return {&place.object->at(key), place.where + key};
  }
  return {};
}

std::string text_of(const OrderedJson& value) {
  return value.is_string() ? value.get<std::string>() : util::json_text(value);
}

/// Of a text of a file, as much as a message has room for.
std::string shown(const std::string& text) {
  constexpr std::size_t kMax = 300;
  return std::string(util::cut_utf8(text, kMax)) + (text.size() > kMax ? "…" : "");
}

bool contains_any(const std::string& text, std::initializer_list<const char*> parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const char* part) { return text.find(part) != std::string::npos; });
}

Anchor classify(const OrderedJson& value) {
  if (!value.is_string()) return Anchor::kUnknown;
  const std::string text = util::lower_case(value.get<std::string>());
  if (contains_any(text, {"attn", "attention", "mlp", "resid_mid", "o_proj", "hook_z", "ffn", "norm", "ln1",
                          "ln2", "head"}))
    return Anchor::kInside;
  if (text.size() > 200) return Anchor::kUnknown;
  // The whole of it: "not block_output" and "pre_block_output" are other places. A hook stands behind the
  // module that it is at, as in blocks.{layer}.hook_out.
  static const std::string hooked = R"(([a-z_]+\.)*((\{[a-z_]+\}|[0-9]+|\*|l|i)\.)?)";
  static const std::regex input(hooked + "(hook_in|(hook_)?resid_pre|(block|layer)[ _-]input)");
  static const std::regex output(hooked + "(hook_out|(hook_)?resid_post|(block|layer)[ _-]output)");
  // The module of a whole block, whose output a hook sees: model.layers.3, transformer.h.{layer}.
  static const std::regex block(R"((^|.*\.)(layers|blocks|h)\.(\{[a-z_]+\}|[0-9]+|\*|l|i))");
  if (std::regex_match(text, input)) return Anchor::kInput;
  return std::regex_match(text, output) || std::regex_match(text, block) ? Anchor::kOutput : Anchor::kUnknown;
}

/// The words of a text, in lower case; "j++" as "jpp".
std::vector<std::string> words_of(const OrderedJson& value) {
  std::string text = util::lower_case(text_of(value));
  for (std::size_t at = 0; (at = text.find("j++", at)) != std::string::npos;) text.replace(at, 3, "jpp");
  for (char& c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = ' ';
  }
  std::vector<std::string> words = util::split(text, ' ');
  words.erase(std::remove(words.begin(), words.end(), ""), words.end());
  return words;
}

bool is_in(std::initializer_list<const char*> list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

/// Whether a word names a mean Jacobian by plain derivatives.
bool names_jacobian(const std::string& word) {
  return is_in({"jacobian", "jacobians", "jlens", "vjp", "vjps", "jvp", "jvps"}, word);
}

/// "r-lens" → "rlens", "j lens" → "jlens".
std::vector<std::string> joined_words_of(const OrderedJson& value) {
  std::vector<std::string> all;
  for (const std::string& word : words_of(value)) {
    if (word == "lens" && !all.empty() && is_in({"j", "r"}, all.back())) {
      all.back() += word;
    } else {
      all.push_back(word);
    }
  }
  return all;
}

/// Whether a text names a lens of another estimator, whatever else it says.
bool names_another(const OrderedJson& value) {
  const std::vector<std::string> words = joined_words_of(value);
  return std::any_of(words.begin(), words.end(), [](const std::string& word) {
    return is_in({"relevance", "relp", "lrp", "rlens", "jpp", "attribution", "filtered", "inverse",
                  "inverted", "inv", "pinv", "pseudoinverse", "transpose", "transposed", "abs", "absolute"},
                 word);
  });
}

/// Whether an estimator is a mean Jacobian by plain derivatives: one of its words says so, and none of those
/// around turns that round.
bool is_jacobian(const OrderedJson& estimator) {
  if (names_another(estimator)) return false;
  const std::vector<std::string> words = joined_words_of(estimator);
  bool found = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (!names_jacobian(words[i])) continue;
    found = true;
    std::size_t before = i;  // of articles
    while (before > 0 && is_in({"a", "an", "the", "true", "plain"}, words[before - 1])) --before;
    if (before > 0 && is_in({"non", "not", "no", "anti", "without"}, words[before - 1])) return false;
    if (i + 1 < words.size() && is_in({"free", "less"}, words[i + 1])) return false;
  }
  return found;
}

/// Whether all words of an estimator are such as are known to say nothing else.
bool is_plain(const OrderedJson& estimator) {
  const std::vector<std::string> words = joined_words_of(estimator);
  return std::all_of(words.begin(), words.end(), [](const std::string& word) {
    return names_jacobian(word) || word.find_first_not_of("0123456789v") == std::string::npos ||
           is_in({"lens",     "mean",      "average",    "averaged",  "avg",       "expected",   "exact",
                  "autograd", "autodiff",  "reverse",    "forward",   "backward",  "mode",       "full",
                  "plain",    "raw",       "standard",   "reference", "batched",   "chunked",    "vmap",
                  "corpus",   "over",      "per",        "prompt",    "prompts",   "token",      "tokens",
                  "position", "positions", "the",        "of",        "by",        "via",        "with",
                  "and",      "fit",       "fitting",    "fitted",    "sum",       "summed",     "sums",
                  "target",   "targets",   "source",     "sources",   "cotangent", "cotangents", "upstream",
                  "vendored", "release",   "unmodified", "fp32",      "fp16",      "float32",    "float16",
                  "bf16",     "bfloat16",  "t"},
                 word);
  });
}

bool is_raw(const OrderedJson& basis) {
  const std::vector<std::string> words = words_of(basis);
  const auto has = [&](std::initializer_list<const char*> list) {
    return std::any_of(words.begin(), words.end(),
                       [&](const std::string& word) { return is_in(list, word); });
  };
  return has({"raw"}) && !has({"not", "non", "folded", "centred", "centered", "processed"});
}

/// Whether a switch is plainly off. Anything else may mean that it is on.
bool is_off(const OrderedJson& value) {
  if (!value.is_string()) return value == false || value == 0;
  const std::string text = util::lower_case(value.get<std::string>());
  return text == "false" || text == "no" || text == "off";
}

/// Whether two values of what decides mean the same, in whatever words.
bool mean_the_same(const std::string& fact, const OrderedJson& a, const OrderedJson& b) {
  if (a == b || a.is_structured() || b.is_structured()) return a == b;
  if (fact == "estimator") return is_jacobian(a) == is_jacobian(b);
  if (fact == "anchor") return classify(a) == classify(b);
  if (fact == "weight_basis") return is_raw(a) && is_raw(b);
  const bool is_switch =
      std::find(std::begin(kProcessing), std::end(kProcessing), fact) != std::end(kProcessing);
  return is_switch && is_off(a) == is_off(b);
}

util::Error two_things(const std::string& of, const std::string& where, const std::string& first,
                       const std::string& second) {
  return util::format_error({.what = "the lens says two things of " + of,
                             .where = where,
                             .expected = shown(first) + ", as elsewhere in the file",
                             .found = shown(second)});
}

/// Whether two names are of one model, as far as names tell: by their last parts.
bool same_name(const std::string& a, const std::string& b) {
  const auto last = [](const std::string& text) {
    const std::string trimmed = text.substr(0, text.find_last_not_of('/') + 1);
    return util::lower_case(trimmed.substr(trimmed.rfind('/') + 1));
  };
  return last(a) == last(b);
}

PlainYaml read_beside(const fs::path& path) {
  const std::string text = util::read_file(path, util::kMaxSettingsFile);
  if (path.extension() == ".yaml") return parse_plain_yaml(text);
  return {.fields = util::parse_ordered_json(text, path.string())};
}

/// What could not be read says nothing of the lens, whatever stands there.
void warn_of_unread(const fs::path& path, const PlainYaml& read) {
  if (read.num_unread == 0) return;
  const std::string more = read.num_unread == 1 ? "" : cat(" and ", read.num_unread - 1, " more");
  util::log_warning(
      cat(path.string(), ": ", read.first_unread, more,
          " could not be read, and what it says of the lens does not count: of YAML, nested keys "
          "with values in one line, and lists of such values, are read"));
}

/// The name that neuronpedia gives the lens of a model: that of the model without its organisation.
std::string expected_stem(const std::string& model) {
  std::string name = model.substr(model.rfind('/') + 1);
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '_' && c != '-') c = '-';
  }
  return name + "_jacobian_lens";
}

/// Rotary settings of a config.json or of a lens as they matter: {"rope_theta", "rope_type", …}, a plain type
/// left out, or {"by_layer": {kind of layer: settings}}.
OrderedJson rope_settings(const OrderedJson& settings) {
  const auto plain = [](const OrderedJson& object, OrderedJson& out) {
    for (const auto& [key, value] : object.items()) {
      if (value.is_null() || value.is_structured()) continue;
      const std::string name = key == "type" ? "rope_type" : key;
      if (name == "rope_type" && value == "default") continue;
      out[name] = value;
    }
  };
  OrderedJson out = OrderedJson::object();
  const auto object = [&](const char* key) -> const OrderedJson* {
    return settings.contains(key) && settings.at(key).is_object() ? &settings.at(key) : nullptr;
  };
  if (settings.contains("rope_theta") && settings.at("rope_theta").is_number())
    out["rope_theta"] = settings.at("rope_theta");
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const OrderedJson* found = object(key);
    if (found == nullptr) continue;
    const bool by_layer =
        !found->empty() &&
        std::all_of(found->begin(), found->end(), [](const OrderedJson& value) { return value.is_object(); });
    if (!by_layer) {
      plain(*found, out);
      continue;
    }
    for (const auto& [kind, value] : found->items()) {
      OrderedJson one = OrderedJson::object();
      plain(value, one);
      out["by_layer"][kind] = one;
    }
  }
  return out;
}

bool same_setting(const OrderedJson& a, const OrderedJson& b) {
  if (!a.is_number() || !b.is_number()) return a == b;
  const auto x = a.get<double>(), y = b.get<double>();
  return std::abs(x - y) <= 1e-6 * std::max(std::abs(x), std::abs(y));
}

/// Whether what the lens says agrees with the model's settings. `whole`: it says all there is to scaling.
bool rope_agrees(const OrderedJson& of_lens, const OrderedJson& of_model, bool whole) {
  for (const auto& [key, value] : of_lens.items()) {
    if (key == "by_layer") continue;
    if (of_model.contains(key) ? !same_setting(value, of_model.at(key)) : key == "rope_type") return false;
  }
  return !whole || of_lens.contains("rope_type") == of_model.contains("rope_type");
}

/// The settings of a kind of layer, where those of all are the same for each.
bool rope_agrees_by_layer(const OrderedJson& of_lens, const OrderedJson& of_model, bool whole) {
  if (!of_lens.contains("by_layer") && !of_model.contains("by_layer"))
    return rope_agrees(of_lens, of_model, whole);
  const OrderedJson& kinds = (of_lens.contains("by_layer") ? of_lens : of_model).at("by_layer");
  const auto of_kind = [](const OrderedJson& settings, const std::string& kind) -> const OrderedJson* {
    if (!settings.contains("by_layer")) return &settings;
    return settings.at("by_layer").contains(kind) ? &settings.at("by_layer").at(kind) : nullptr;
  };
  for (const auto& [kind, ignored] : kinds.items()) {
    const OrderedJson *a = of_kind(of_lens, kind), *b = of_kind(of_model, kind);
    if (a == nullptr || b == nullptr || !rope_agrees(*a, *b, whole)) return false;
  }
  return true;
}

/// Whether config.yaml or config.json in the folder of a lens is of this one, as far as it tells.
bool is_of(const fs::path& file, const fs::path& config, const PlainYaml& read) {
  const std::vector<Place> places = places_of(read.fields, config.string());
  for (const Place& place : places) {
    const bool is_file = place.where.ends_with(": ") || place.where.ends_with("lens.");
    if (!is_file || !place.object->contains("file") || !place.object->at("file").is_string()) continue;
    const std::string name = fs::path(place.object->at("file").get<std::string>()).filename().string();
    if (name == file.filename().string()) return true;
    if (!util::exists(file.parent_path() / name)) {
      util::log_warning(cat(place.where, "file: it is of ", in_quotes(name),
                            ", which is not there, and not of ", in_quotes(file.filename().string()),
                            ": it was not used"));
    }
    return false;
  }
  const Said model = look_up(places, "hf_model_name");
  const std::string stem = model.value != nullptr && model.value->is_string()
                               ? expected_stem(model.value->get<std::string>())
                               : "";
  if (stem == file.stem().string()) return true;
  const std::vector<fs::path> others = lenses_beside(file);
  if (others.empty()) return true;
  const bool is_of_another = std::any_of(
      others.begin(), others.end(), [&](const fs::path& other) { return other.stem().string() == stem; });
  if (model.value == nullptr) warn_of_unread(config, read);  // the model may stand there
  if (!is_of_another) {
    util::log_warning(cat(config.string(), ": there is another lens in the folder, ",
                          in_quotes(others.front().filename().string()),
                          ", and which one it describes it does not tell: it was not used"));
  }
  return false;
}

/// Why a file beside a lens is of another one; "" where it may be of this. One that has its name is, whatever
/// number of prompts it counts.
std::string why_of_another(const StoredJacobianLens& lens, const std::vector<LensFact>& facts,
                           const LensProvenance& told, bool has_its_name) {
  const std::optional<std::string>& model = lens.provenance.model;
  if (model && told.model && !same_name(*model, *told.model))
    return cat("made for ", in_quotes(*told.model), ", but ", lens.where, " for ", in_quotes(*model));
  const LensFact *prompts = find_fact(lens.facts, kPrompts), *fitted = find_fact(facts, kPrompts);
  // Others may be the number that was asked for.
  if (has_its_name || prompts == nullptr || fitted == nullptr || !fitted->where.ends_with("prompts_fitted"))
    return {};
  if (fitted->value == prompts->value) return {};
  return cat("prompts_fitted: ", text_of(fitted->value), " prompts, but ", util::json_text(prompts->value),
             " in ", lens.where);
}

/// What a file beside a lens says otherwise than the lens itself, of its digests or of what decides its
/// meaning; "" where it does not.
std::string contradiction(const StoredJacobianLens& lens, const std::vector<LensFact>& facts,
                          const LensProvenance& told) {
  for (const auto& [key, member] : kDigests) {
    const std::optional<std::string>&here = told.*member, &there = lens.provenance.*member;
    if (here && there && here != there)
      return cat(key, " ", shown(*here), ", but ", shown(*there), " of ", lens.where);
  }
  for (const LensFact& fact : facts) {
    const LensFact* known = find_fact(lens.facts, fact.name);
    const bool decides = std::any_of(known_facts().begin(), known_facts().end(),
                                     [&](const Known& one) { return one.decides && one.fact == fact.name; });
    if (known == nullptr || !decides || fact.name == kTarget) continue;
    if (!mean_the_same(fact.name, fact.value, known->value))
      return cat(fact.name, " ", shown(text_of(fact.value)), ", but ", shown(text_of(known->value)), " in ",
                 known->where);
  }
  return {};
}

/// "5.11.0" → 5011; nothing where it is no version.
std::optional<int> version_of(const OrderedJson& value) {
  if (!value.is_string()) return std::nullopt;
  const std::vector<std::string> parts = util::split(value.get<std::string>(), '.');
  std::int64_t major = 0, minor = 0;
  if (parts.size() < 2 || !util::parse_int(parts[0], major) || !util::parse_int(parts[1], minor))
    return std::nullopt;
  if (major < 0 || major > 1000 || minor < 0 || minor > 999) return std::nullopt;
  return static_cast<int>(major * 1000 + minor);
}

}  // namespace

const LensFact* find_fact(const std::vector<LensFact>& facts, const std::string& name) {
  const auto found =
      std::find_if(facts.begin(), facts.end(), [&](const LensFact& fact) { return fact.name == name; });
  return found == facts.end() ? nullptr : &*found;
}

void add_facts(const OrderedJson& fields, const std::string& where, bool beside, std::vector<LensFact>& facts,
               LensProvenance& provenance) {
  const std::vector<Place> places = places_of(fields, where);
  for (const char* key : kModelKeys) {
    for (const Place& place : places) {
      if (is_aside(place) || !place.object->contains(key) || !place.object->at(key).is_string()) continue;
      const auto name = place.object->at(key).get<std::string>();
      if (name.empty()) continue;
      if (!provenance.model) provenance.model = name;
      if (!beside && !same_name(*provenance.model, name))
        throw two_things("its model", place.where + key, in_quotes(*provenance.model), in_quotes(name));
    }
  }
  for (const char* key : kRevisionKeys) {
    const Said said = look_up(places, key);
    if (!provenance.revision && said.value != nullptr && said.value->is_string() && *said.value != "")
      provenance.revision = said.value->get<std::string>();
  }
  for (const auto& [key, member] : kDigests) {
    for (const Place& place : places) {
      if (!place.object->contains(key) || !place.object->at(key).is_string() || place.object->at(key) == "")
        continue;
      take(provenance.*member, place.object->at(key).get<std::string>(), place.where + key);
    }
  }
  const bool converted =
      beside && fields.contains("lens") && fields["lens"].is_object() && fields["lens"].contains("file");
  for (const Known& known : known_facts()) {
    if (find_fact(facts, known.fact) != nullptr) continue;
    // Exports that were converted count the target from the blocks that there are, which may lack the last.
    if (converted && std::string(known.fact) == kTarget) continue;
    const bool rope = std::string(known.fact).rfind("rope_", 0) == 0;
    std::optional<LensFact> fact;
    for (const char* key : known.keys) {
      for (const Place& place : places) {
        if (!place.object->contains(key) || (known.decides && is_aside(place))) continue;
        const OrderedJson* value = &place.object->at(key);
        std::string told_by = place.where + key;
        if (std::string(known.fact) == "corpus" && value->is_object() && value->contains("name")) {
          value = &value->at("name");
          told_by += ".name";
        }
        // What decides is never passed over: `check_meaning` refuses lists and dictionaries of it.
        const bool fits = !value->is_structured() || known.decides || (rope && value->is_object());
        if (value->is_null() || !fits) continue;
        if (!fact) {
          fact = LensFact{known.fact, *value, told_by, beside};
        } else if (known.decides && !mean_the_same(known.fact, fact->value, *value)) {
          throw two_things(cat("its ", known.fact), told_by, text_of(fact->value), text_of(*value));
        }
      }
    }
    if (fact) facts.push_back(std::move(*fact));
  }
}

void add_facts_beside(const fs::path& file, StoredJacobianLens& lens) {
  fs::path sidecar = file;
  sidecar.replace_extension(".sidecar.json");
  for (const fs::path& path :
       {sidecar, file.parent_path() / "config.yaml", file.parent_path() / "config.json"}) {
    std::error_code ignored;
    if (!fs::is_regular_file(path, ignored)) continue;
    const PlainYaml read = read_beside(path);
    const OrderedJson& fields = read.fields;
    if (!fields.is_object()) continue;
    // A model's own, or a tuned lens's.
    if (path != sidecar && (fields.contains("model_type") || fields.contains("architectures") ||
                            (fields.contains("lens_type") && fields["lens_type"] == kTunedConfigType)))
      continue;
    if (path != sidecar && !is_of(file, path, read)) continue;
    LensProvenance told;
    std::vector<LensFact> facts;
    add_facts(fields, path.string(), /*beside=*/true, facts, told);
    const std::string of_another = why_of_another(lens, facts, told, path == sidecar);
    const std::string otherwise = of_another.empty() ? contradiction(lens, facts, told) : "";
    if (path == sidecar && !otherwise.empty()) {
      throw util::format_error({.what = "the lens and the file that goes with it say two things",
                                .where = path.string(),
                                .found = otherwise,
                                .hint = "one of them is of another lens"});
    }
    if (!of_another.empty() || !otherwise.empty()) {
      util::log_warning(
          cat(path.string(), ": ", of_another, otherwise, ": it describes another lens, and was not used"));
      continue;
    }
    warn_of_unread(path, read);
    for (LensFact& fact : facts) {
      // What counts layers in two ways is compared with the model's.
      const LensFact* known = find_fact(lens.facts, fact.name);
      if (known == nullptr || (fact.name == kTarget && known->value != fact.value))
        lens.facts.push_back(std::move(fact));
    }
    if (!lens.provenance.model && told.model) {
      lens.provenance.model = told.model;
      lens.described_in = path.string();
    }
    if (!lens.provenance.revision) lens.provenance.revision = told.revision;
    for (const auto& [key, member] : kDigests) {
      if (!(lens.provenance.*member)) lens.provenance.*member = told.*member;
    }
    lens.beside.push_back({path.string(), fields});
  }
}

std::vector<LensFact> told_of(const StoredJacobianLens& lens, const std::string& key) {
  std::vector<LensFact> all;
  const auto look_in = [&](const OrderedJson& fields, const std::string& where, bool beside) {
    for (const Place& place : places_of(fields, where)) {
      // There "layers" may be those of the lens.
      if (is_aside(place) || place.where.ends_with("lens.")) continue;
      if (place.object->contains(key) && !place.object->at(key).is_null())
        all.push_back({key, place.object->at(key), place.where + key, beside});
    }
  };
  look_in(lens.fields, lens.where, false);
  for (const auto& [where, fields] : lens.beside) look_in(fields, where, true);
  return all;
}

OrderedJson& place_for_facts(OrderedJson& fields) {
  for (const char* name : {"metadata", "provenance", "fit", "config"}) {
    if (!fields.contains(name) || fields.at(name).is_null()) fields[name] = OrderedJson::object();
    if (fields.at(name).is_object()) return fields.at(name);
  }
  throw util::format_error({.what = "what is known of the lens has no place in its entries",
                            .where = "metadata, provenance, fit, config",
                            .expected = "a dictionary, or nothing",
                            .found = "other values in all four"});
}

OrderedJson fields_with_facts(const StoredJacobianLens& lens) {
  OrderedJson fields = lens.fields;
  for (const LensFact& fact : lens.facts) {
    if (!fact.beside || fact.name == kPrompts || find_fact(lens.facts, fact.name) != &fact) continue;
    OrderedJson& place = place_for_facts(fields);
    if (!place.contains(fact.name) || place.at(fact.name).is_null()) place[fact.name] = fact.value;
  }
  return fields;
}

Anchor anchor_of(const std::vector<LensFact>& facts) {
  const LensFact* anchor = find_fact(facts, "anchor");
  return anchor == nullptr ? Anchor::kOutput : classify(anchor->value);
}

void check_meaning(const StoredJacobianLens& lens) {
  const auto refuse = [&](const LensFact& fact, const std::string& what, const std::string& expected,
                          const std::string& hint) {
    throw util::format_error({.what = what,
                              .where = fact.where,
                              .expected = expected,
                              .found = shown(text_of(fact.value)),
                              .hint = hint});
  };
  for (const Known& known : known_facts()) {
    const LensFact* fact = known.decides ? find_fact(lens.facts, known.fact) : nullptr;
    if (fact == nullptr || !fact->value.is_structured()) continue;
    refuse(*fact, cat("the lens tells its ", known.fact, " in a form that is not read"),
           cat("one value, not a ", fact->value.is_array() ? "list" : "dictionary"), "");
  }
  const char* const hint =
      "its matrices are no Jacobians: changed backward rules, or filtered ones, make another lens";
  for (const char* key : {kKind, "kind", "lens_type"}) {
    for (const LensFact& kind : told_of(lens, key)) {
      if (names_another(kind.value))
        refuse(kind, "a lens of another estimator", "a mean Jacobian ('jacobian_lens')", hint);
    }
  }
  const LensFact* estimator = find_fact(lens.facts, "estimator");
  if (estimator != nullptr && is_jacobian(estimator->value) && !is_plain(estimator->value)) {
    util::log_warning(cat(estimator->where, ": taken for a mean Jacobian, in words that are not all known: ",
                          shown(text_of(estimator->value))));
  }
  if (estimator != nullptr && !is_jacobian(estimator->value)) {
    refuse(*estimator, "a lens of another estimator", "a mean Jacobian ('jacobian_lens')", hint);
  }
  if (const LensFact* mode = find_fact(lens.facts, "lrp_mode"); mode != nullptr && mode->value != "none") {
    refuse(*mode, "a lens of another estimator", "none: a Jacobian by plain derivatives",
           "rules of relevance propagation make another lens");
  }
  const LensFact* anchor = find_fact(lens.facts, "anchor");
  switch (anchor_of(lens.facts)) {
    case Anchor::kOutput:
    case Anchor::kInput:
      break;
    case Anchor::kInside:
      refuse(*anchor, "the lens is anchored inside a block",
             "the residual state before or after a block (resid_pre, resid_post)",
             "layers here are residual states between blocks");
      break;
    case Anchor::kUnknown:
      refuse(*anchor, "the lens is anchored at an unknown place",
             "resid_post, hook_out or block_output; resid_pre, hook_in or block_input", "");
      break;
  }
  if (const LensFact* reduce = find_fact(lens.facts, "stream_reduce");
      reduce != nullptr && reduce->value != "none") {
    refuse(*reduce, "the lens reads several residual streams", "none: a model of one stream", "");
  }
  if (const LensFact* basis = find_fact(lens.facts, "weight_basis");
      basis != nullptr && !is_raw(basis->value)) {
    refuse(*basis, "the lens was fitted on processed weights", "raw_huggingface",
           "folding a norm changes the states");
  }
  for (const char* name : kProcessing) {
    const LensFact* fact = find_fact(lens.facts, name);
    if (fact == nullptr || is_off(fact->value)) continue;
    refuse(*fact, "the lens was fitted on processed weights", "false", "folding a norm changes the states");
  }
}

void check_rope(const std::vector<LensFact>& facts, const model::Model& model, bool allow_mismatch) {
  const LensFact* first = nullptr;
  OrderedJson said = OrderedJson::object();
  for (const char* name : {"rope_theta", "rope_scaling", "rope_parameters"}) {
    const LensFact* fact = find_fact(facts, name);
    if (fact == nullptr) continue;
    if (first == nullptr) first = fact;
    said[name] = fact->value;
  }
  const LensFact* library = find_fact(facts, "transformers");
  if (first == nullptr && library == nullptr) return;

  const fs::path path = model.folder() / "config.json";
  OrderedJson config =
      util::parse_ordered_config(util::read_file(path, util::kMaxSettingsFile), path.string());
  if (config.contains("text_config") && config["text_config"].is_object()) {
    const OrderedJson inner = config["text_config"];
    config = inner;
  }
  const OrderedJson of_model = rope_settings(config);
  const auto tell = [&](const std::string& where, const std::string& expected, const std::string& found) {
    const util::Error error = util::format_error({.what = "the lens was fitted under other RoPE settings",
                                                  .where = where,
                                                  .expected = expected,
                                                  .found = found,
                                                  .hint = "--allow-lens-mismatch makes this a warning"});
    if (!allow_mismatch) throw error;
    util::log_warning(error.what());
  };
  if (first != nullptr) {
    const OrderedJson of_lens = rope_settings(said);
    const bool whole = said.contains("rope_scaling") || said.contains("rope_parameters");
    if (!rope_agrees_by_layer(of_lens, of_model, whole))
      tell(first->where, util::json_text(of_model) + ", as " + path.string() + " has it",
           shown(util::json_text(of_lens)));
  }
  // transformers 5.0 to 5.12 scaled the positions of all layers of OLMo 3 by YaRN; the model was trained with
  // those of full-attention layers scaled, and 5.13 does so again. Published lenses were fitted with 5.11.
  if (library == nullptr) return;
  const std::optional<int> version = version_of(library->value);
  const bool olmo3 = config.contains("model_type") && config["model_type"] == "olmo3";
  bool scaled = of_model.contains("rope_type");
  for (const OrderedJson& kind :
       of_model.contains("by_layer") ? of_model.at("by_layer") : OrderedJson::array())
    scaled = scaled || kind.contains("rope_type");
  if (olmo3 && scaled && version && *version >= 5000 && *version < 5013) {
    tell(library->where,
         "transformers before 5.0 or from 5.13 on, which scale the positions of full-attention layers only",
         text_of(library->value) + ", which scaled those of sliding-window layers too");
  }
}

OrderedJson facts_json(const std::vector<LensFact>& facts) {
  OrderedJson told = OrderedJson::object();
  for (const LensFact& fact : facts) {
    if (!told.contains(fact.name)) told[fact.name] = fact.value;
  }
  return told;
}

OrderedJson about_lens(const StoredLens& stored) {
  OrderedJson about = OrderedJson::object();
  const auto add = [&](const LensProvenance& provenance, const std::vector<LensFact>& facts) {
    if (provenance.model) about["model"] = *provenance.model;
    if (provenance.revision) about["revision"] = *provenance.revision;
    about.update(facts_json(facts));
  };
  std::visit([&](const auto& lens) { add(lens.provenance, lens.facts); }, stored);
  return about;
}

}  // namespace depthlens::lens
