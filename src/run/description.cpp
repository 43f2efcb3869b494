// Runs as JSON.
#include "depthlens/run/description.hpp"

#include <algorithm>
#include <array>

#include "depthlens/experiments/patching.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::run {
namespace {

using util::JsonView;
using util::OrderedJson;

constexpr std::int64_t kMax = std::int64_t{1} << 62;
constexpr std::array<const char*, 5> kInputKinds = {"corpus", "words", "facts", "questions", "pairs"};
constexpr std::array<const char*, 3> kWatchKinds = {"token", "target", "distractor"};

/// The place of a name among `names`.
template <typename Names>
std::size_t place_among(const JsonView& name, const Names& names) {
  const std::string text = name.as_string();
  const auto found = std::find(names.begin(), names.end(), text);
  if (found == names.end()) name.fail("a name that this version knows");
  return static_cast<std::size_t>(found - names.begin());
}

std::vector<std::int64_t> integers(const JsonView& json) {
  if (!json.is_array()) json.fail("a list of numbers");
  std::vector<std::int64_t> all;
  for (std::size_t i = 0; i < json.size(); ++i) all.push_back(json.at(i).as_integer(0, kMax));
  return all;
}

std::vector<std::string> strings(const JsonView& json) {
  if (!json.is_array()) json.fail("a list of texts");
  std::vector<std::string> all;
  for (std::size_t i = 0; i < json.size(); ++i) all.push_back(json.at(i).as_string());
  return all;
}

OrderedJson counts_json(const data::TokenCounts& counts) {
  OrderedJson ids = OrderedJson::array(), numbers = OrderedJson::array();
  for (const text::TokenId id : counts.by_frequency()) {
    ids.push_back(id);
    numbers.push_back(counts.count(id));
  }
  return {{"ids", ids}, {"counts", numbers}};
}

data::TokenCounts read_counts(const JsonView& json, std::int64_t vocab_size) {
  const JsonView ids = json.at("ids");
  const std::vector<std::int64_t> numbers = integers(json.at("counts"));
  if (!ids.is_array() || ids.size() != numbers.size()) ids.fail("as many ids as counts");
  data::TokenCounts counts;
  for (std::size_t i = 0; i < numbers.size(); ++i)
    counts.add(static_cast<text::TokenId>(ids.at(i).as_integer(0, vocab_size - 1)), numbers[i]);
  return counts;
}

OrderedJson watch_json(const experiments::Watch& watch) {
  OrderedJson tokens = OrderedJson::array(), pairs = OrderedJson::array();
  for (const experiments::WatchedToken& token : watch.tokens)
    tokens.push_back({{"kind", kWatchKinds[static_cast<std::size_t>(token.kind)]},
                      {"id", token.id},
                      {"name", token.name}});
  for (const experiments::WatchedPair& pair : watch.pairs)
    pairs.push_back({{"first", pair.first}, {"second", pair.second}, {"name", pair.name}});
  return {{"tokens", tokens}, {"pairs", pairs}};
}

experiments::Watch read_watch(const JsonView& json) {
  experiments::Watch watch;
  const JsonView tokens = json.at("tokens"), pairs = json.at("pairs");
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const JsonView token = tokens.at(i);
    watch.tokens.push_back(
        {.kind = static_cast<experiments::WatchedToken::Kind>(place_among(token.at("kind"), kWatchKinds)),
         .id = static_cast<decode::TokenId>(token.at("id").as_integer(-1, INT32_MAX)),
         .name = token.at("name").as_string()});
  }
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto last = static_cast<std::int64_t>(watch.tokens.size()) - 1;
    watch.pairs.push_back({.first = static_cast<std::size_t>(pairs.at(i).at("first").as_integer(0, last)),
                           .second = static_cast<std::size_t>(pairs.at(i).at("second").as_integer(0, last)),
                           .name = pairs.at(i).at("name").as_string()});
  }
  return watch;
}

OrderedJson evaluation_json(const experiments::EvaluationContext& evaluation) {
  OrderedJson transfer = OrderedJson::array();
  for (const auto& [lens, translators] : evaluation.transfer) transfer.push_back({lens, translators});
  return {{"tokens", evaluation.size.tokens},
          {"bytes", evaluation.size.bytes},
          {"transfer", transfer},
          {"layers", evaluation.num_layers}};
}

/// Of a run of so many layers, the last one among them.
experiments::EvaluationContext read_evaluation(const JsonView& json, std::int64_t num_rows) {
  experiments::EvaluationContext evaluation;
  evaluation.size.tokens = json.at("tokens").as_integer(0, kMax);
  evaluation.size.bytes = json.at("bytes").as_integer(0, kMax);
  evaluation.num_layers = json.at("layers").as_integer(0, num_rows);
  const JsonView transfer = json.at("transfer");
  for (std::size_t i = 0; i < transfer.size(); ++i) {
    evaluation.transfer.emplace_back(transfer.at(i).at(0).as_string(),
                                     transfer.at(i).at(1).as_integer(0, num_rows));
  }
  return evaluation;
}

OrderedJson shape_json(const decode::ReadoutShape& shape) {
  return {{"lenses", shape.lens_names}, {"rows", shape.num_rows},        {"layers", shape.layers},
          {"top_k", shape.top_k},       {"groups", shape.num_groups},    {"vocab_size", shape.vocab_size},
          {"state_of", shape.state_of}, {"num_states", shape.num_states}};
}

decode::ReadoutShape read_shape(const JsonView& json) {
  constexpr std::int64_t kMaxRows = 100'000;
  decode::ReadoutShape shape;
  shape.lens_names = strings(json.at("lenses"));
  shape.num_rows = json.at("rows").as_integer(1, kMaxRows);
  shape.layers = integers(json.at("layers"));
  shape.num_groups = json.at("groups").as_integer(0, 256);
  shape.vocab_size = json.at("vocab_size").as_integer(0, INT32_MAX);
  shape.top_k = json.at("top_k").as_integer(0, shape.vocab_size);
  shape.state_of = integers(json.at("state_of"));
  shape.num_states = json.at("num_states").as_integer(0, static_cast<std::int64_t>(shape.state_of.size()));
  if (!shape.layers.empty() && static_cast<std::int64_t>(shape.layers.size()) != shape.num_rows)
    json.at("layers").fail(util::cat(shape.num_rows, " layers"));
  const bool fits = static_cast<std::int64_t>(shape.state_of.size()) == shape.num_lenses() * shape.num_rows &&
                    std::all_of(shape.state_of.begin(), shape.state_of.end(),
                                [&](std::int64_t state) { return state < shape.num_states; });
  if (!fits) json.at("state_of").fail("a state for each lens and layer");
  return shape;
}

}  // namespace

util::OrderedJson RunContext::json() const {
  // What is as always is left out: states that were saved before there was a choice say the same.
  OrderedJson of_records = {{"write", records.write}, {"top_k", records.top_k}, {"most", records.most}};
  if (records.format != report::RecordFormat::kJsonl)
    of_records["format"] = report::kRecordFormatNames[static_cast<std::size_t>(records.format)];
  if (records.fields.is_chosen()) of_records["fields"] = records.fields.names();
  OrderedJson dropped_by_name = OrderedJson::object(), all_groups = OrderedJson::array();
  for (const auto& [reason, count] : dropped) dropped_by_name[data::name_of(reason)] = count;
  for (const auto& [key, name] : groups) all_groups.push_back({key, name});
  return {
      {"input", kInputKinds[static_cast<std::size_t>(input)]},
      {"experiments", experiments},
      {"seed", seed},
      {"edges", edges},
      {"token_counts", counts_json(counts)},
      {"task", {{"classes", task.classes}, {"option_labels", task.option_labels}, {"groups", all_groups}}},
      {"watch", watch_json(watch)},
      {"evaluation", evaluation ? evaluation_json(*evaluation) : OrderedJson()},
      {"shape", shape_json(shape)},
      {"records", of_records},
      {"draws_page", draws_page},
      {"keeps_all", keeps_all},
      {"num_parts", num_parts},
      {"plan", plan},
      {"num_items", num_items},
      {"num_documents", num_documents},
      {"dropped", dropped_by_name}};
}

RunContext RunContext::from_json(const JsonView& json) {
  RunContext context;
  context.input = static_cast<data::InputKind>(place_among(json.at("input"), kInputKinds));
  context.experiments = json.at("experiments").as_string();
  const JsonView seed = json.at("seed");
  if (!seed.is_integer()) seed.fail("an integer");
  context.seed = seed.raw().get<std::uint64_t>();
  context.edges = integers(json.at("edges"));
  if (!data::are_bucket_edges(context.edges)) json.at("edges").fail("rising edges of buckets");
  context.shape = read_shape(json.at("shape"));
  context.counts = read_counts(json.at("token_counts"), context.shape.vocab_size);
  const JsonView task = json.at("task"), groups = task.at("groups");
  if (data::is_task(context.input)) context.task.kind = context.input;
  context.task.classes = strings(task.at("classes"));
  context.task.option_labels = strings(task.at("option_labels"));
  for (std::size_t i = 0; i < groups.size(); ++i)
    context.groups.emplace_back(groups.at(i).at(0).as_integer(0, kMax), groups.at(i).at(1).as_string());
  context.watch = read_watch(json.at("watch"));
  if (json.has("evaluation"))
    context.evaluation = read_evaluation(json.at("evaluation"), context.shape.num_rows);
  const JsonView records = json.at("records");
  context.records = {.write = records.at("write").as_bool(),
                     .top_k = records.at("top_k").as_integer(0, kMax),
                     .most = records.at("most").as_integer(0, kMax)};
  if (records.has("format")) {
    context.records.format =
        static_cast<report::RecordFormat>(place_among(records.at("format"), report::kRecordFormatNames));
  }
  if (records.has("fields")) context.records.fields = report::RecordFields::from_json(records.at("fields"));
  context.draws_page = json.at("draws_page").as_bool();
  context.keeps_all = json.at("keeps_all").as_bool();
  context.num_parts = json.at("num_parts").as_integer(0, kMax);
  context.plan = json.at("plan").as_string();
  context.num_items = json.at("num_items").as_integer(0, kMax);
  context.num_documents = json.at("num_documents").as_integer(0, kMax);
  const JsonView dropped = json.at("dropped");
  for (std::size_t reason = 0; reason < data::kNumDrops; ++reason) {
    const auto drop = static_cast<data::Drop>(reason);
    if (dropped.has(data::name_of(drop)))
      context.dropped[drop] = dropped.at(data::name_of(drop)).as_integer(0, kMax);
  }
  return context;
}

experiments::Context RunContext::of(tables::State& state, const data::Task* with_items) const {
  return {.state = &state,
          .buckets = data::make_buckets(counts, edges, shape.vocab_size),
          .counts = &counts,
          .task = !data::is_task(input)   ? nullptr
                  : with_items != nullptr ? with_items
                                          : &task,
          .seed = seed,
          .watch = &watch};
}

std::vector<std::unique_ptr<experiments::Experiment>> RunContext::make_experiments(
    const experiments::Context& context) const {
  if (evaluation) {
    std::vector<std::unique_ptr<experiments::Experiment>> all;
    all.push_back(experiments::make_evaluation(context, *evaluation));
    return all;
  }
  return experiments::make_experiments(experiments, context);
}

std::vector<tables::Table> RunContext::tables(tables::State& state) const {
  if (input == data::InputKind::kPairs)
    return {experiments::PatchingEffect(state, shape.num_rows, seed).table()};
  std::vector<tables::Table> all;
  for (const auto& experiment : make_experiments(of(state))) {
    experiment->begin(shape);
    for (tables::Table& table : experiment->tables()) all.push_back(std::move(table));
  }
  return all;
}

OrderedJson identity_of(const OrderedJson& run) {
  const auto get = [](const OrderedJson& object, const char* key) -> OrderedJson {
    return object.is_object() && object.contains(key) ? object.at(key) : OrderedJson();
  };
  OrderedJson identity = {{"depthlens", get(run, "depthlens")},
                          {"model", get(get(run, "model"), "digest")},
                          {"dtype", get(get(run, "model"), "dtype")},
                          {"tokenizer", get(get(run, "tokenizer"), "digest")},
                          {"lenses", OrderedJson::array()},
                          {"inputs", OrderedJson::array()},
                          {"token_counts", get(get(run, "token_counts"), "sha256")},
                          {"settings", get(run, "settings")}};
  // A file's place is no part of what it says.
  if (identity["settings"].is_object() && get(identity["settings"], "token_counts") != "input")
    identity["settings"].erase("token_counts");
  // Which of a machine's cards it was changes nothing, nor how many.
  if (const OrderedJson device = get(identity["settings"], "device"); device.is_string()) {
    const std::string name = device.get<std::string>();
    identity["settings"]["device"] = name.substr(0, name.find_first_of(":,"));
  }
  for (const OrderedJson& lens : get(run, "lenses"))
    identity["lenses"].push_back(
        {{"name", get(lens, "name")}, {"type", get(lens, "type")}, {"digest", get(lens, "digest")}});
  // The same bytes can be read as other documents: a file's name says how.
  for (const OrderedJson& input : get(run, "inputs")) {
    identity["inputs"].push_back({{"sha256", get(input, "sha256")},
                                  {"documents", get(input, "documents")},
                                  {"bytes", get(input, "bytes")}});
  }
  return identity;
}

std::string difference_of(const OrderedJson& a, const OrderedJson& b) {
  if (a == b) return "";
  if (a.is_object() && b.is_object()) {
    for (const auto& [key, value] : a.items()) {
      const OrderedJson other = b.contains(key) ? b.at(key) : OrderedJson();
      if (const std::string inner = difference_of(value, other); !inner.empty())
        return key + (inner.front() == ':' || inner.front() == '[' ? "" : ".") + inner;
    }
    for (const auto& [key, value] : b.items()) {
      if (!a.contains(key)) return key + difference_of(OrderedJson(), value);
    }
  }
  if (a.is_array() && b.is_array() && a.size() == b.size()) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (const std::string inner = difference_of(a[i], b[i]); !inner.empty())
        return util::cat("[", i, "]", inner.front() == ':' || inner.front() == '[' ? "" : ".", inner);
    }
  }
  if (a.is_array() && b.is_array() && a.size() != b.size())
    return util::cat(": a list of ", a.size(), " and one of ", b.size());
  const auto text_of = [](const OrderedJson& value) { return util::json_text(value); };
  const std::string text_a = text_of(a), text_b = text_of(b);
  // Long ones from a little before they differ.
  constexpr std::size_t kMaxShown = 60, kBefore = 10;
  const auto differs = static_cast<std::size_t>(
      std::mismatch(text_a.begin(), text_a.end(), text_b.begin(), text_b.end()).first - text_a.begin());
  const std::size_t first = differs + kBefore > kMaxShown ? differs - kBefore : 0;
  const auto shown = [&](const std::string& text) {
    return util::cat(first > 0 ? "…" : "", util::valid_utf8(text.substr(first, kMaxShown)),
                     text.size() > first + kMaxShown ? "…" : "");
  };
  return util::cat(": ", shown(text_a), " and ", shown(text_b));
}

}  // namespace depthlens::run
