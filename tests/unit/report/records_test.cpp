// records.jsonl: the exact line of the contract, awkward token texts, and the limit of records.
#include "depthlens/report/records.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"
#include "depthlens/util/threads.hpp"
#include "support/catch.hpp"
#include "support/readout_builder.hpp"

using namespace depthlens;
using report::RecordWriter;
using test::ReadoutBuilder;
using util::OrderedJson;

namespace {

std::string name_of(decode::TokenId id) {
  return util::cat(" t", id);
}

/// The lines written for hand-made numbers.
std::vector<std::string> lines_of(const decode::ReadoutShape& shape, const decode::LayerReadout& readout,
                                  const decode::Query& query, report::RecordOptions options = {},
                                  std::function<std::string(decode::TokenId)> token_text = name_of) {
  std::vector<std::string> lines;
  RecordWriter writer(options, std::move(token_text),
                      [&](std::string_view line, std::int64_t /*item*/) { lines.emplace_back(line); });
  writer.begin(shape);
  for (std::int64_t p = 0; p < readout.num_positions; ++p)
    writer.accept({shape, readout, p, query, query.positions[static_cast<std::size_t>(p)]});
  return lines;
}

/// One position, one lens, layers 0 and 1, K = 2, numbers that float32 holds exactly or shows its rounding
/// with.
struct Example {
  decode::ReadoutShape shape{.lens_names = {"logit"},
                             .num_rows = 2,
                             .top_k = 2,
                             .num_groups = 0,
                             .vocab_size = 9,
                             .state_of = {0, 1},
                             .num_states = 2};
  decode::LayerReadout readout;
  decode::Query query;

  Example() {
    readout.num_positions = 1;
    readout.num_watched = 2;
    readout.top_ids = {4, 7, 7, 4};
    readout.top_logprobs = {-0.5F, -1.25F, -0.1F, -3.0F};
    readout.entropy = {1.5F, 0.25F};
    readout.kl_final = {2.0F, 0.0F};
    readout.kl_reverse = {1e-7F, 0.0F};
    readout.watched_ids = {7, 2};
    readout.watched_ranks = {2, 5, 1, 3};
    readout.watched_logprobs = {-1.25F, -4.0F, -0.1F, -6.5F};
    query.document = 3;
    query.window = 1;
    query.tokens = {0, 6, 2};
    query.positions = {{.position = 1, .target = 2, .watched = {}}};
  }
  std::string line(report::RecordOptions options = {},
                   std::function<std::string(decode::TokenId)> text = name_of) {
    return lines_of(shape, readout, query, options, std::move(text)).at(0);
  }
};

}  // namespace

TEST_CASE("records: the line of the contract, to the byte") {
  CHECK(
      Example().line() ==
      R"({"document": 3, "window": 1, "input": 0, "input_document": 0, "window_start": 0, "position": 1, "item": null, )"
      R"("token": {"id": 6, "text": " t6"}, "target": {"id": 2, "text": " t2"}, )"
      R"("final": {"id": 7, "text": " t7"}, )"
      R"("lenses": {"logit": {"top_ids": [[4, 7], [7, 4]], "top_tokens": [[" t4", " t7"], [" t7", " t4"]], )"
      R"("top_logprobs": [[-0.5, -1.25], [-0.1, -3]], "final_rank": [2, 1], "final_logprob": [-1.25, -0.1], )"
      R"("target_rank": [5, 3], "target_logprob": [-4, -6.5], "entropy": [1.5, 0.25], )"
      R"("kl_final": [2, 0], "kl_reverse": [1e-07, 0], "settled_layer": 1}}})"
      "\n");
}

TEST_CASE("records: of the fields that are wanted, in the order of a record, to the byte") {
  const auto lens_of = [](const std::string& fields, Example example = {}) {
    const std::string line = example.line({.fields = report::RecordFields::parse(fields)});
    const std::size_t begin = line.find("\"lenses\": ");
    CHECK(line.substr(0, begin) == Example().line().substr(0, begin));
    return line.substr(begin);
  };
  CHECK(lens_of("entropy,target_rank") ==
        "\"lenses\": {\"logit\": {\"target_rank\": [5, 3], \"entropy\": [1.5, 0.25]}}}\n");
  CHECK(lens_of("settled_layer") == "\"lenses\": {\"logit\": {\"settled_layer\": 1}}}\n");
  CHECK(lens_of("top_tokens") ==
        "\"lenses\": {\"logit\": {\"top_tokens\": [[\" t4\", \" t7\"], [\" t7\", \" t4\"]]}}}\n");
  CHECK(lens_of(util::join(report::RecordFields().names(), ",")) ==
        Example().line().substr(Example().line().find("\"lenses\": ")));
  Example last;
  last.readout.watched_ids = {7, decode::kNoToken};
  const std::string line = last.line({.fields = report::RecordFields::parse("target_rank,kl_final")});
  CHECK(line.find("{\"target_rank\": null, \"kl_final\": [2, 0]}") != std::string::npos);
}

TEST_CASE("records: no more predictions are asked for than are written") {
  const auto top_k = [](const std::string& fields) {
    return RecordWriter({.top_k = 7, .fields = report::RecordFields::parse(fields)}, name_of,
                        [](std::string_view, std::int64_t) {})
        .needs()
        .top_k;
  };
  CHECK(top_k("top_logprobs,entropy") == 7);
  CHECK(top_k("settled_layer") == 1);  // which looks at the first one
}

TEST_CASE("records: without a target its fields are null") {
  Example example;
  example.readout.watched_ids = {7, decode::kNoToken};
  example.query.positions[0].target = decode::kNoToken;
  const OrderedJson record = OrderedJson::parse(example.line());
  CHECK(record["target"].is_null());
  CHECK(record["lenses"]["logit"]["target_rank"].is_null());
  CHECK(record["lenses"]["logit"]["target_logprob"].is_null());
  CHECK(record["lenses"]["logit"]["final_rank"] == OrderedJson({2, 1}));
}

TEST_CASE("records: of facts the item's id, the place in the answer and its length") {
  Example example;
  const data::Task task{.kind = data::InputKind::kFacts,
                        .items = {{.id = "other"},
                                  {.id = "fact \"7\"\n",
                                   .context = {0},
                                   .answer = {6, 2, 4},
                                   .prompt_text = "a \"b\"",
                                   .answer_text = "c"}},
                        .classes = {},
                        .dropped = {}};
  example.query.positions[0].item = 1;  // position 1, of an answer that is predicted from 0 on
  const std::string line = example.line({.task = &task});
  CHECK(line.find(R"("position": 1, "item": "fact \"7\"\n", "answer_position": 2, "answer_length": 3, )"
                  R"("prompt": "a \"b\"", "answer": "c", "token": )") != std::string::npos);
  CHECK(OrderedJson::parse(line)["lenses"]["logit"].size() == 11);
}

TEST_CASE("records: of words the class, and the form that counts as well") {
  Example example;
  data::Task task{.kind = data::InputKind::kWords,
                  .items = {{.id = "s.2", .context = {0, 6}, .answer = {2}, .word_class = "NOUN"}},
                  .classes = {"NOUN"},
                  .dropped = {}};
  example.query.positions[0].item = 0;
  CHECK(example.line({.task = &task})
            .find(R"("item": "s.2", "class": "NOUN", "other_form": null, "prompt": "", )") !=
        std::string::npos);
  task.items[0].other_form = 3;
  CHECK(example.line({.task = &task}).find(R"("class": "NOUN", "other_form": {"id": 3, "text": )") !=
        std::string::npos);
}

TEST_CASE("records: of questions every option, through each lens") {
  Example example;
  data::Task task{.kind = data::InputKind::kQuestions, .items = {{.id = "q"}}, .classes = {}, .dropped = {}};
  task.items[0].context = {0, 6};
  task.items[0].answer = {2};
  task.items[0].options = {{.text = "\"yes\"", .id = 2}, {.text = "no", .id = 5}};
  example.query.positions[0].item = 0;
  example.query.positions[0].watched = {2, 5};
  // The widest question of the chunk has three options.
  example.readout.num_watched = 5;
  example.readout.watched_ids = {7, 2, 2, 5, decode::kNoToken};
  example.readout.watched_ranks = {2, 5, 5, 8, 0, 1, 3, 3, 9, 0};
  example.readout.watched_logprobs = {-1.25F, -4.0F, -4.0F, -5.5F, 0, -0.1F, -6.5F, -6.5F, -7.0F, 0};
  const std::string line = example.line({.task = &task});
  CHECK(line.find(R"("item": "q", "prompt": "", "answer": "", "token": )") != std::string::npos);
  CHECK(line.find(R"("settled_layer": 1, "options": [)"
                  R"({"text": "\"yes\"", "id": 2, "rank": [5, 3], "logprob": [-4, -6.5]}, )"
                  R"({"text": "no", "id": 5, "rank": [8, 9], "logprob": [-5.5, -7]}]}}})"
                  "\n") != std::string::npos);
}

TEST_CASE("records: token texts with quotes, control characters and invalid UTF-8 are valid JSON, ids stay") {
  for (const auto& [bytes, expected] : std::vector<std::pair<std::string, std::string>>{
           {"\"\\/", "\"\\/"},
           {std::string("\0\x01\x1f\x7f", 4), std::string("\0\x01\x1f\x7f", 4)},
           {"\n\t\r", "\n\t\r"},
           {"\u00e9\u2028\U0001F600", "\u00e9\u2028\U0001F600"},
           {"\xe2\x82", "\uFFFD"},
           {"a\xff"
            "b",
            "a\uFFFDb"},
           {"", ""}}) {
    Example example;
    const std::string line =
        example.line({}, [&](decode::TokenId id) { return id == 4 ? bytes : name_of(id); });
    CHECK(util::is_valid_utf8(line));
    CHECK(line.find('\n') == line.size() - 1);  // one line, whatever the token
    const OrderedJson lens = OrderedJson::parse(line)["lenses"]["logit"];
    CHECK(lens["top_tokens"][0][0] == expected);
    CHECK(lens["top_tokens"][1][1] == expected);
    CHECK(lens["top_ids"][0][0] == 4);
  }
}

TEST_CASE("records: numbers read back as the same float32") {
  for (const float value :
       {-0.1F, -1.0F / 3, -16777216.0F, -1e-30F, -3.4028235e38F, -1.17549435e-38F, -1e-45F}) {
    Example example;
    example.readout.top_logprobs[0] = value;
    const std::string line = example.line();
    const OrderedJson found = OrderedJson::parse(line)["lenses"]["logit"]["top_logprobs"][0][0];
    CHECK(static_cast<float>(found.get<double>()) == value);
  }
}

TEST_CASE("records: a number that is not finite is null, since JSON has no other word for it") {
  Example example;
  example.readout.watched_logprobs[1] = -std::numeric_limits<float>::infinity();
  example.readout.entropy[0] = std::numeric_limits<float>::quiet_NaN();
  const OrderedJson lens = OrderedJson::parse(example.line())["lenses"]["logit"];
  CHECK(lens["target_logprob"][0].is_null());
  CHECK(lens["target_logprob"][1] == -6.5);
  CHECK(lens["entropy"][0].is_null());
}

TEST_CASE("records: K is that of the records, or the run's where that is less") {
  Example example;
  const auto num_top = [&](std::int64_t top_k) {
    const OrderedJson lens = OrderedJson::parse(example.line({.top_k = top_k}))["lenses"]["logit"];
    CHECK(lens["top_ids"][1].size() == lens["top_tokens"][1].size());
    CHECK(lens["top_ids"][1].size() == lens["top_logprobs"][1].size());
    return lens["top_ids"][1].size();
  };
  CHECK(num_top(1) == 1);
  CHECK(num_top(2) == 2);
  CHECK(num_top(10) == 2);
  CHECK(RecordWriter({.top_k = 7}, name_of, [](std::string_view, std::int64_t) {}).needs().top_k == 7);
}

TEST_CASE("records: several lenses and positions, in order, each with its own numbers") {
  ReadoutBuilder builder({"logit", "a.b-2"}, 3, 6, 4);
  const std::vector<std::vector<double>> first = {{0, 1, 2, 3, 4, 5}, {5, 4, 3, 2, 1, 0}, {0, 3, 0, 0, 0, 1}};
  const std::vector<std::vector<double>> other = {{2, 2, 2, 0, 0, 0}, {0, 9, 0, 0, 0, 0}, {0, 3, 0, 0, 0, 1}};
  builder.add(2, 1, {first, other}, 0, 0, 0);
  builder.add(1, decode::kNoToken, {other, first}, 0, 0, 1);
  std::string text;
  RecordWriter writer({.top_k = 4}, name_of, [&](std::string_view line, std::int64_t) { text += line; });
  builder.show(writer);
  const auto lines = util::split(text, '\n');
  REQUIRE(lines.size() == 3);
  for (std::size_t p = 0; p < 2; ++p) {
    const OrderedJson record = OrderedJson::parse(lines[p]);
    const test::BuiltPosition& built = builder.positions()[p];
    CHECK(record["position"] == p);
    CHECK(record["token"]["id"] == built.token);
    CHECK(record["final"] == OrderedJson({{"id", 1}, {"text", " t1"}}));
    std::vector<std::string> names;
    for (const auto& item : record["lenses"].items()) names.push_back(item.key());
    CHECK(names == std::vector<std::string>{"logit", "a.b-2"});
    for (std::size_t n = 0; n < 2; ++n) {
      const OrderedJson& lens = record["lenses"][names[n]];
      for (std::size_t layer = 0; layer < 3; ++layer) {
        const test::BuiltRow& row = built.lenses[n][layer];
        for (std::size_t k = 0; k < 4; ++k) {
          CHECK(lens["top_ids"][layer][k] == row.order[k]);
          CHECK(lens["top_tokens"][layer][k] == name_of(row.order[k]));
          CHECK(lens["top_logprobs"][layer][k].get<float>() == ReadoutBuilder::logprob(row, row.order[k]));
        }
        CHECK(lens["final_rank"][layer] == row.final_rank);
        CHECK(lens["final_logprob"][layer].get<float>() == ReadoutBuilder::logprob(row, 1));
        CHECK(lens["entropy"][layer].get<float>() == static_cast<float>(row.entropy));
        CHECK(lens["kl_final"][layer].get<float>() == static_cast<float>(row.kl_final));
        CHECK(lens["kl_reverse"][layer].get<float>() == static_cast<float>(row.kl_reverse));
        if (built.target != decode::kNoToken)
          CHECK(lens["target_rank"][layer] == ReadoutBuilder::rank(row, built.target));
      }
    }
  }
  // Through "logit" the first position's top-1 are 5, 0, 1; through "a.b-2" they are 0, 1, 1.
  CHECK(OrderedJson::parse(lines[0])["lenses"]["logit"]["settled_layer"] == 2);
  CHECK(OrderedJson::parse(lines[0])["lenses"]["a.b-2"]["settled_layer"] == 1);
}

TEST_CASE("records: what is not wanted gets no line, and a line comes with its item") {
  ReadoutBuilder builder({"logit"}, 1, 3, 1);
  for (int p = 0; p < 5; ++p) builder.add(p % 3, 0, {{{1, 2, 0}}}, 0, 0, p);
  std::vector<std::int64_t> positions, items;
  RecordWriter writer(
      {.top_k = 1}, name_of,
      [&](std::string_view line, std::int64_t item) {
        positions.push_back(OrderedJson::parse(line)["position"].get<std::int64_t>());
        items.push_back(item);
      },
      [&] { return positions.size() < 2; });
  builder.show(writer);
  CHECK(positions == std::vector<std::int64_t>{0, 1});
  CHECK(items == std::vector<std::int64_t>{-1, -1});
}

TEST_CASE("records: many positions at once give the bytes that they give one by one, on any threads") {
  ReadoutBuilder builder({"logit", "tuned"}, 3, 40, 5);
  for (int p = 0; p < 331; ++p) {
    std::vector<std::vector<std::vector<double>>> logits(2, std::vector<std::vector<double>>(3));
    for (std::size_t n = 0; n < 2; ++n) {
      for (std::size_t row = 0; row < 3; ++row) {
        for (std::size_t v = 0; v < 40; ++v)
          logits[n][row].push_back(
              std::sin(static_cast<double>((p + 3) * (v + 7) * (row == 2 ? 3 : row + n))));
      }
    }
    builder.add(p % 40, p % 7 == 0 ? decode::kNoToken : p * 3 % 40, logits, p / 100, 0, p % 100);
  }
  const decode::LayerReadout readout = builder.layer_readout();
  std::vector<decode::Query> queries;
  for (const test::BuiltPosition& built : builder.positions()) {
    decode::Query& query = queries.emplace_back();
    query.document = built.document;
    query.tokens.assign(static_cast<std::size_t>(built.position) + 1, built.token);
    query.positions = {{.position = built.position, .target = built.target, .watched = {}}};
  }
  std::vector<decode::PositionReadout> positions;
  for (std::size_t p = 0; p < queries.size(); ++p) {
    positions.emplace_back(builder.shape(), readout, static_cast<std::int64_t>(p), queries[p],
                           queries[p].positions[0]);
  }
  // In what order texts are asked for is nobody's business, but each is asked for once.
  struct Written {
    std::string text;
    std::size_t lines = 0;
    std::vector<int> asked = std::vector<int>(40);
  };
  const auto write = [&](std::size_t most, const auto& show) {
    Written all;
    RecordWriter writer(
        {.top_k = 5},
        [&](decode::TokenId id) {
          ++all.asked.at(static_cast<std::size_t>(id));
          return name_of(id);
        },
        [&](std::string_view line, std::int64_t item) {
          CHECK(item == -1);
          all.text += line;
          ++all.lines;
        },
        [&] { return most == 0 || all.lines < most; });
    writer.begin(builder.shape());
    show(writer);
    CHECK(*std::max_element(all.asked.begin(), all.asked.end()) == 1);
    return all;
  };
  for (const std::size_t most : {0, 1, 16, 17, 100, 330, 331, 332}) {
    const Written one_by_one = write(most, [&](RecordWriter& writer) {
      for (const decode::PositionReadout& position : positions) writer.accept(position);
    });
    CHECK(one_by_one.lines == (most == 0 ? 331 : std::min<std::size_t>(most, 331)));
    for (const int count : {1, 2, 7}) {
      INFO(most << " lines, " << count << " threads");
      util::Threads threads(count);
      const Written at_once =
          write(most, [&](RecordWriter& writer) { writer.accept_all(positions, threads); });
      CHECK(at_once.text == one_by_one.text);
      const Written in_chunks = write(most, [&](RecordWriter& writer) {
        const std::span<const decode::PositionReadout> all = positions;
        for (std::size_t first = 0, size = 1; first < all.size(); first += size, size = size * 3 % 64 + 1) {
          size = std::min(size, all.size() - first);
          writer.accept_all(all.subspan(first, size), threads);
        }
      });
      CHECK(in_chunks.text == one_by_one.text);
    }
  }
}

TEST_CASE(
    "records: lines are asked for, and an error of who takes them comes out, in the order of positions") {
  ReadoutBuilder builder({"logit"}, 1, 3, 1);
  for (int p = 0; p < 200; ++p) builder.add(p % 3, 0, {{{1, 2, 0}}}, 0, 0, p);
  const decode::LayerReadout readout = builder.layer_readout();
  decode::Query query;
  query.tokens.assign(200, 0);
  for (int p = 0; p < 200; ++p) query.positions.push_back({.position = p, .target = 0, .watched = {}});
  std::vector<decode::PositionReadout> positions;
  for (std::size_t p = 0; p < 200; ++p)
    positions.emplace_back(builder.shape(), readout, static_cast<std::int64_t>(p), query, query.positions[p]);
  for (const int count : {1, 2, 7}) {
    util::Threads threads(count);
    std::size_t lines = 0;
    RecordWriter writer({.top_k = 1}, name_of, [&](std::string_view, std::int64_t) {
      if (lines == 77) throw std::runtime_error("the disk is full");
      ++lines;
    });
    writer.begin(builder.shape());
    CHECK_THROWS_WITH(writer.accept_all(positions, threads), "the disk is full");
    CHECK(lines == 77);
  }
}

TEST_CASE("records: a token's text is asked for once") {
  ReadoutBuilder builder({"logit"}, 2, 3, 3);
  for (int p = 0; p < 4; ++p) builder.add(0, 1, {{{1, 2, 0}, {0, 1, 2}}}, 0, 0, p);
  std::vector<int> asked(3, 0);
  RecordWriter writer(
      {.top_k = 3},
      [&](decode::TokenId id) {
        ++asked.at(static_cast<std::size_t>(id));
        return name_of(id);
      },
      [](std::string_view, std::int64_t) {});
  builder.show(writer);
  CHECK(asked == std::vector<int>{1, 1, 1});
}
