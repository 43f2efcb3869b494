// Files of Jacobian lenses: the published archive, and safetensors.
#include <algorithm>
#include <cmath>
#include <limits>

#include "depthlens/io/writers.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"
#include "lens_facts.hpp"
#include "stored_lens.hpp"

namespace depthlens::lens {
namespace {

namespace fs = std::filesystem;
using io::PickleValue;
using Kind = io::PickleValue::Kind;
using util::cat;
using util::OrderedJson;

constexpr const char* kDictionaryMark = "__dict__";
constexpr const char* kNumberMark = "__number__";

/// A plain value as JSON that `pickle_of` turns into the same value. Tuples become lists.
OrderedJson json_of_pickle(const PickleValue& value, const std::string& where) {
  switch (value.kind) {
    case Kind::kNone:
      return nullptr;
    case Kind::kBool:
      return value.boolean;
    case Kind::kInteger:
      return value.integer;
    case Kind::kNumber:
      if (std::isnan(value.number)) return {{kNumberMark, "nan"}};
      if (std::isinf(value.number)) return {{kNumberMark, value.number > 0 ? "inf" : "-inf"}};
      return value.number;
    case Kind::kString:
      if (!util::is_valid_utf8(value.string)) {
        throw util::format_error({.what = "a text that is not UTF-8", .where = where});
      }
      return value.string;
    case Kind::kList: {
      OrderedJson list = OrderedJson::array();
      for (const PickleValue& item : value.list) list.push_back(json_of_pickle(item, where));
      return list;
    }
    case Kind::kDictionary: {
      bool plain = true;
      OrderedJson object = OrderedJson::object();
      OrderedJson pairs = OrderedJson::array();
      for (std::size_t i = 0; i + 1 < value.list.size(); i += 2) {
        const OrderedJson key = json_of_pickle(value.list[i], where);
        const OrderedJson item = json_of_pickle(value.list[i + 1], cat(where, ".", util::summary(key)));
        plain = plain && key.is_string() && key != kDictionaryMark && key != kNumberMark;
        if (key.is_string()) object[key.get<std::string>()] = item;
        pairs.push_back(OrderedJson::array({key, item}));
      }
      if (plain) return object;
      return {{kDictionaryMark, pairs}};
    }
    case Kind::kTensor:
      break;
  }
  throw util::format_error(
      {.what = "a tensor that belongs to no Jacobian", .where = where, .expected = "tensors under 'J' only"});
}

PickleValue text_value(const std::string& text) {
  PickleValue value;
  value.kind = Kind::kString;
  value.string = text;
  return value;
}

PickleValue integer_value(std::int64_t integer) {
  PickleValue value;
  value.kind = Kind::kInteger;
  value.integer = integer;
  return value;
}

PickleValue pickle_of(const OrderedJson& json, const std::string& where) {
  const auto refuse = [&](const char* expected) {
    return util::format_error({.what = "an entry of the lens in a form that is not read",
                               .where = where,
                               .expected = expected,
                               .found = util::summary(json)});
  };
  PickleValue value;
  if (json.is_boolean()) {
    value.kind = Kind::kBool;
    value.boolean = json.get<bool>();
  } else if (json.is_number_integer()) {
    if (json.is_number_unsigned() && json.get<std::uint64_t>() > INT64_MAX)
      throw refuse("an integer of at most 64 bits with its sign");
    value = integer_value(json.get<std::int64_t>());
  } else if (json.is_number()) {
    value.kind = Kind::kNumber;
    value.number = json.get<double>();
  } else if (json.is_string()) {
    value = text_value(json.get<std::string>());
  } else if (json.is_array()) {
    value.kind = Kind::kList;
    for (const OrderedJson& item : json) value.list.push_back(pickle_of(item, where));
  } else if (json.is_object() && json.size() == 1 && json.contains(kNumberMark)) {
    value.kind = Kind::kNumber;
    const OrderedJson& text = json.front();
    if (text != "inf" && text != "-inf" && text != "nan") throw refuse("\"nan\", \"inf\" or \"-inf\"");
    value.number = text == "inf"    ? std::numeric_limits<double>::infinity()
                   : text == "-inf" ? -std::numeric_limits<double>::infinity()
                                    : std::numeric_limits<double>::quiet_NaN();
  } else if (json.is_object() && json.size() == 1 && json.contains(kDictionaryMark)) {
    value.kind = Kind::kDictionary;
    if (!json.front().is_array()) throw refuse("a list of pairs");
    for (const OrderedJson& pair : json.front()) {
      if (!pair.is_array() || pair.size() != 2) throw refuse("a list of pairs");
      value.list.push_back(pickle_of(pair.at(0), where));
      value.list.push_back(pickle_of(pair.at(1), where));
    }
  } else if (json.is_object()) {
    value.kind = Kind::kDictionary;
    for (const auto& item : json.items()) {
      value.list.push_back(text_value(item.key()));
      value.list.push_back(pickle_of(item.value(), where + "." + item.key()));
    }
  }
  return value;
}

bool can_be_written(const OrderedJson& json) {
  try {
    pickle_of(json, "");
    return true;
  } catch (const util::Error&) {
    return false;
  }
}

/// What the field `metadata` and LensProvenance have in common.
constexpr std::pair<const char*, std::optional<std::string> LensProvenance::*> kShared[] = {
    {"model", &LensProvenance::model},
    {"revision", &LensProvenance::revision},
    {"unembed_hash", &LensProvenance::unembed_hash},
    {"model_digest", &LensProvenance::model_digest},
    {"data_digest", &LensProvenance::data_digest}};

/// What the header of safetensors tells besides what is read elsewhere: each text as what it is the JSON of,
/// if that is no version and could be written again, else as itself. None of those that stand for nothing.
OrderedJson facts_of_header(const Metadata& metadata) {
  std::vector<std::string_view> own = {"format", "d_model", "steps", "tokens", "fields"};
  if (const auto format = metadata.find("format"); format != metadata.end() && format->second == kLensFormat)
    own.insert(own.end(), {"format_version", "lens_type", "config"});
  OrderedJson facts = OrderedJson::object();
  for (const auto& [key, text] : metadata) {
    const bool shared = std::any_of(std::begin(kShared), std::end(kShared),
                                    [&](const auto& known) { return key == known.first; });
    if (shared || std::find(own.begin(), own.end(), key) != own.end()) continue;
    if (text.empty() || text == "None" || text == "null") continue;
    const bool is_version = key.find("transformer") != std::string::npos || key.ends_with("version");
    const std::optional<OrderedJson> value = is_version ? std::nullopt : json_of(text);
    facts[key] = value && !value->is_null() && can_be_written(*value) ? *value : OrderedJson(text);
  }
  return facts;
}

/// Square matrices of one width, which the fields must agree with; adds what they tell of the provenance.
void check(StoredJacobianLens& lens) {
  if (lens.jacobians.empty())
    throw util::format_error({.what = "the lens holds no Jacobian", .where = lens.where});
  const at::Tensor& first = lens.jacobians.begin()->second;
  const std::int64_t d = first.dim() == 2 ? first.size(0) : 0;
  for (const auto& [block, jacobian] : lens.jacobians) {
    if (block < 0 || block >= kMaxBlocks) {
      throw not_a_lens(kJacobianType, lens.where, cat("blocks from 0 to ", kMaxBlocks - 1), cat(block));
    }
    require_shape(jacobian, {d, d}, cat("J[", block, "]"), lens.where);
  }
  if (lens.fields.contains("d_model") && lens.fields["d_model"] != d) {
    throw util::format_error({.what = "damaged lens",
                              .where = lens.where + ": d_model",
                              .expected = std::to_string(d) + ", the width of the Jacobians",
                              .found = util::json_text(lens.fields["d_model"])});
  }
  if (lens.fields.contains("source_layers")) {
    OrderedJson blocks = OrderedJson::array();
    for (const auto& [block, jacobian] : lens.jacobians) blocks.push_back(block);
    OrderedJson said = lens.fields["source_layers"];
    if (said.is_array()) std::sort(said.begin(), said.end());
    if (said != blocks) {
      throw util::format_error({.what = "damaged lens",
                                .where = lens.where + ": source_layers",
                                .expected = util::json_text(blocks) + ", the blocks in 'J'",
                                .found = util::json_text(lens.fields["source_layers"])});
    }
  }
  if (lens.fields.contains("n_prompts") && lens.fields["n_prompts"] == 0) {
    throw util::format_error(
        {.what = "the lens is the mean over no prompts", .where = lens.where + ": n_prompts"});
  }
  lens.described_in = lens.where;
  if (lens.fields.contains("metadata") && lens.fields["metadata"].is_object()) {
    const OrderedJson& metadata = lens.fields["metadata"];
    for (const auto& [key, member] : kShared) {
      if (metadata.contains(key) && metadata[key].is_string()) {
        take(lens.provenance.*member, metadata[key].get<std::string>(), cat(lens.where, ": metadata: ", key));
      }
    }
  }
  add_facts(lens.fields, lens.where, /*beside=*/false, lens.facts, lens.provenance);
}

/// The number of a block, which some write as text; nothing for another key.
std::optional<std::int64_t> block_of(const PickleValue& key) {
  std::int64_t block;
  if (key.kind == Kind::kInteger) return key.integer;
  if (key.kind == Kind::kString && util::parse_int(key.string, block)) return block;
  return std::nullopt;
}

/// What a dictionary without 'J' holds instead.
std::string keys_of(const PickleValue& root) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i + 1 < root.list.size() && names.size() < 6; i += 2) {
    if (root.list[i].kind == Kind::kString) names.push_back(util::in_quotes(root.list[i].string));
  }
  return names.empty() ? "" : "the keys " + util::join(names, ", ");
}

}  // namespace

const PickleValue* find(const PickleValue& dictionary, const std::string& key) {
  if (dictionary.kind != Kind::kDictionary) return nullptr;
  for (std::size_t i = 0; i + 1 < dictionary.list.size(); i += 2) {
    const PickleValue& name = dictionary.list[i];
    if (name.kind == Kind::kString && name.string == key) return &dictionary.list[i + 1];
  }
  return nullptr;
}

StoredJacobianLens jacobian_lens_of(const PickleValue& root, const std::string& where) {
  const auto expect = [&](const PickleValue* value, Kind kind, const std::string& what) {
    if (value == nullptr || value->kind != kind) throw not_a_lens(kJacobianType, where, what, "");
  };
  expect(&root, Kind::kDictionary, "a dictionary with the key 'J'");
  const PickleValue* by_block = find(root, "J");
  if (by_block == nullptr && find(root, "jacobian_sum") != nullptr) {
    const PickleValue* done = find(root, "n_done");
    throw not_a_lens(kJacobianType, where, "a finished lens with the key 'J'",
                     done == nullptr || done->kind != Kind::kInteger
                         ? "a checkpoint of its fitting"
                         : cat("a checkpoint of its fitting, sums over ", done->integer, " prompts"));
  }
  if (const PickleValue* parameters = find(root, "parameters");
      by_block == nullptr && parameters != nullptr && find(*parameters, "jacobians") != nullptr) {
    throw not_a_lens(kJacobianType, where, "mean Jacobians under the key 'J'", "a fit of the J++ lens");
  }
  if (by_block == nullptr)
    throw not_a_lens(kJacobianType, where, "a dictionary of blocks under the key 'J'", keys_of(root));
  StoredJacobianLens lens;
  lens.where = where;
  expect(by_block, Kind::kDictionary, "a dictionary of blocks under the key 'J'");
  for (std::size_t i = 0; i + 1 < by_block->list.size(); i += 2) {
    const std::optional<std::int64_t> block = block_of(by_block->list[i]);
    if (!block) throw not_a_lens(kJacobianType, where, "integer keys in 'J'", "");
    expect(&by_block->list[i + 1], Kind::kTensor, "tensors in 'J'");
    if (!lens.jacobians.emplace(*block, io::tensor_view(by_block->list[i + 1].tensor)).second)
      throw not_a_lens(kJacobianType, where, "one Jacobian for a block", cat("several for block ", *block));
  }
  for (std::size_t i = 0; i + 1 < root.list.size(); i += 2) {
    const PickleValue& key = root.list[i];
    expect(&key, Kind::kString, "keys that are strings");
    if (key.string != "J")
      lens.fields[key.string] = json_of_pickle(root.list[i + 1], where + ": " + key.string);
  }
  check(lens);
  return lens;
}

StoredJacobianLens jacobian_lens_of(const io::TensorFile& file) {
  StoredJacobianLens lens;
  lens.where = file.source();
  for (const auto& [name, entry] : file.entries()) {
    const std::size_t dot = name.find('.');
    std::int64_t block;
    const bool ours =
        dot == std::string::npos || name.substr(dot) == ".jacobian";  // or jlens-mlx': the number
    if (!ours || !util::parse_int(name.substr(0, dot), block)) {
      throw not_a_lens(kJacobianType, lens.where, "tensors named 'N.jacobian'", util::in_quotes(name));
    }
    if (!lens.jacobians.emplace(block, file.view(name)).second) {
      throw not_a_lens(kJacobianType, lens.where, "one Jacobian for a block", util::in_quotes(name));
    }
  }
  lens.provenance = provenance_of(file.metadata(), kJacobianType, lens.where);
  if (const auto fields = file.metadata().find("fields"); fields != file.metadata().end()) {
    const std::string where = lens.where + ": __metadata__: fields";
    lens.fields = util::parse_ordered_json(fields->second, where);
    if (!lens.fields.is_object()) {
      throw util::format_error({.what = "unexpected value",
                                .where = where,
                                .expected = "an object",
                                .found = lens.fields.type_name()});
    }
    if (lens.fields.contains("J")) {
      throw util::format_error({.what = "unexpected value",
                                .where = where,
                                .expected = "the entries beside 'J'",
                                .found = "'J' among them"});
    }
    pickle_of(lens.fields, where);  // throws where they could not be written again
  }
  if (const OrderedJson header = facts_of_header(file.metadata()); !header.empty()) {
    OrderedJson& known = lens.fields[kHeader];
    if (!known.is_object()) known = OrderedJson::object();
    known.update(header);
  }
  check(lens);
  require_number(file.metadata(), "d_model", lens.hidden_size(), lens.where);
  return lens;
}

StoredJacobianLens read_jacobian_lens(const fs::path& given) {
  const fs::path path = find_lens(given, LensKind::kJacobian);
  StoredJacobianLens lens = is_safetensors(path)
                                ? jacobian_lens_of(io::TensorFile::open_safetensors(path))
                                : jacobian_lens_of(io::read_torch_archive(path), path.string());
  add_facts_beside(path, lens);
  return lens;
}

std::vector<std::int64_t> layers_of(const StoredJacobianLens& stored) {
  // The state before block l is the state after block l - 1, layer l.
  const std::int64_t shift = anchor_of(stored.facts) == Anchor::kInput ? 0 : 1;
  std::vector<std::int64_t> layers;
  for (const auto& [block, jacobian] : stored.jacobians) layers.push_back(block + shift);
  return layers;
}

void write_jacobian_lens_archive(const fs::path& file, const StoredJacobianLens& lens) {
  OrderedJson fields = fields_with_facts(lens);
  if (!fields.contains("source_layers")) {
    fields["source_layers"] = OrderedJson::array();
    for (const auto& [block, jacobian] : lens.jacobians) fields["source_layers"].push_back(block);
  }
  if (!fields.contains("d_model")) fields["d_model"] = lens.hidden_size();
  LensProvenance told;  // under whatever key
  std::vector<LensFact> ignored;
  add_facts(fields, lens.where, /*beside=*/false, ignored, told);
  for (const auto& [key, member] : kShared) {
    const std::optional<std::string>& value = lens.provenance.*member;
    if (!value || told.*member == value) continue;
    OrderedJson& place = place_for_facts(fields);
    if (!place.contains(key) || place.at(key).is_null()) place[key] = *value;
  }
  PickleValue by_block;
  by_block.kind = Kind::kDictionary;
  for (const auto& [block, jacobian] : lens.jacobians) {
    PickleValue tensor;
    tensor.kind = Kind::kTensor;
    tensor.values = jacobian;
    by_block.list.push_back(integer_value(block));
    by_block.list.push_back(std::move(tensor));
  }
  PickleValue root = pickle_of(fields, lens.where + ": fields");
  root.list.insert(root.list.begin(), {text_value("J"), std::move(by_block)});
  io::write_torch_archive(file, root);
}

void write_jacobian_lens_safetensors(const fs::path& file, const StoredJacobianLens& lens) {
  io::NamedTensors tensors;
  for (const auto& [block, jacobian] : lens.jacobians)
    tensors.emplace_back(cat(block, ".jacobian"), jacobian);
  Metadata metadata = metadata_of(lens.provenance, kJacobianType, lens.hidden_size());
  if (const OrderedJson fields = fields_with_facts(lens); !fields.empty()) {
    pickle_of(fields, lens.where + ": fields");  // throws where it could not be read again
    metadata["fields"] = util::json_text(fields);
  }
  io::write_safetensors(file, tensors, metadata);
}

}  // namespace depthlens::lens
