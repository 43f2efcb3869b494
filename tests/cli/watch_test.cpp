// --watch, --watch-pair and --positions sample:N, and what records tell of a place in the input.
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "desk.hpp"

namespace depthlens::test {
namespace {

using Words = std::vector<std::string>;

using util::Json;
using util::OrderedJson;

using Place = std::tuple<std::int64_t, std::int64_t, std::int64_t>;  // document, window, position

std::map<Place, Json> by_place(const FinishedRun& run) {
  std::map<Place, Json> all;
  for (const Json& record : run.records)
    all[{record.at("document"), record.at("window"), record.at("position")}] = record;
  return all;
}

const Json& watched(const Json& record, const std::string& token) {
  for (const Json& one : record.at("lenses").at("logit").at("watched")) {
    if (one.at("text") == token) return one;
  }
  throw std::out_of_range("no watched token " + token);
}

}  // namespace

TEST_CASE("watched tokens: the tables are the means of the records") {
  const Desk desk;
  const std::string text = desk.model.text_file();
  const FinishedRun run =
      desk.analyzed({text}, "out",
                    {"--max-length", "16", "--watch", " ", "--watch", "#target", "--watch", "#5",
                     "--watch-pair", "a,#target", "--watch", "a", "--watch-pair", "a,#target"});
  CHECK(run.run.at("settings").at("watch").size() == 4);
  CHECK(run.run.at("settings").at("watch_pairs") == OrderedJson::array({"a,#target"}));
  CHECK(run.run.at("settings").at("watch_pair_tokens") == OrderedJson::array({OrderedJson::array({3, 1})}));
  const std::string five = run.run.at("settings").at("watch")[2].at("text");
  CHECK(run.run.at("settings").at("watch")[2].at("id") == 5);

  const auto rows = run.rows("watch.rank");
  std::set<std::string> tokens;
  for (const Json& row : rows) {
    const std::string token = row.at("token");
    tokens.insert(token);
    const auto layer = row.at("layer").get<std::size_t>();
    INFO(token << " at layer " << layer);
    double ranks = 0, logprobs = 0;
    std::int64_t count = 0;
    for (const Json& record : run.records) {
      const Json& one = watched(record, token);
      CHECK(one.at("id").is_null() == (token == "#target" && record.at("target").is_null()));
      if (one.at("id").is_null()) {
        CHECK(one.at("rank").is_null());
        continue;
      }
      if (token == "#target") {
        CHECK(one.at("id") == record.at("target").at("id"));
        CHECK(one.at("rank") == record.at("lenses").at("logit").at("target_rank"));
      } else {
        CHECK(one.at("id") == row.at("token_id"));
      }
      ranks += one.at("rank").at(layer).get<double>();
      logprobs += one.at("logprob").at(layer).get<double>();
      ++count;
    }
    CHECK(row.at("count") == count);
    CHECK(row.at("mean_rank").get<double>() == Approx(ranks / static_cast<double>(count)).epsilon(1e-12));
    CHECK(row.at("mean_logprob").get<double>() ==
          Approx(logprobs / static_cast<double>(count)).epsilon(1e-6));
  }
  CHECK(tokens == std::set<std::string>{" ", "#target", five, "a"});
  for (const Json& row : run.rows("watch.difference")) {
    const auto layer = row.at("layer").get<std::size_t>();
    double sum = 0;
    std::int64_t count = 0;
    for (const Json& record : run.records) {
      if (record.at("target").is_null()) continue;
      sum += watched(record, "a").at("logprob").at(layer).get<double>() -
             watched(record, "#target").at("logprob").at(layer).get<double>();
      ++count;
    }
    CHECK(row.at("count") == count);
    CHECK(row.at("mean_difference").get<double>() ==
          Approx(sum / static_cast<double>(count)).epsilon(1e-6).margin(1e-6));
  }
}

TEST_CASE("watched tokens: texts of several tokens, unknown ids and unusable pairs are refused") {
  const Desk desk;
  const std::string text = desk.model.text_file();
  const auto refused = [&](const std::vector<std::string>& flags, const std::vector<std::string>& parts) {
    check_error(desk.command("analyze", {text}, "out", flags), 2, parts);
    check_nothing_written(desk.model.beside("out"));
  };
  refused({"--watch", "a, b"}, {"not one token", "--watch 'a, b'", "'a' (#", "#ID"});
  refused({"--watch", "#67"}, {"no such token", "--watch '#67'", "from 0 to 66"});
  refused({"--watch", "#-1"}, {"no such token"});
  refused({"--watch-pair", "a"}, {"not a pair of tokens", "one comma"});
  refused({"--watch-pair", "a,b,c"}, {"not a pair of tokens"});
  refused({"--watch-pair", "a,a"}, {"one token with itself"});
  refused({"--watch", "#distractor"}, {"a text has no distractor", "--watch #distractor"});
  check_error(desk.command("analyze", {text}, "out", {"--watch", "\xff"}), 2, {"UTF-8"});
}

TEST_CASE("watched tokens: of a byte and a piece with one text the piece is meant") {
  const Desk desk;
  const std::string out = desk.model.beside("out").string();
  check_done({"analyze", "--input", desk.file("text.txt", "A stone fell."), "--out", out, "--watch", ".",
              "--watch", "#49"});
  const FinishedRun run = FinishedRun::read(out);
  const Json& watched = run.run.at("settings").at("watch");
  CHECK(watched[0].at("text") == ".");
  CHECK(watched[1].at("text") == ". (#49)");  // <0x2E>
  // The text's own full stop.
  CHECK(run.records.back().at("token").at("id") == watched[0].at("id"));
}

TEST_CASE("watched tokens of facts: the gold answer and a given wrong one") {
  const Desk desk;
  const std::string facts =
      desk.file("facts.jsonl",
                "{\"id\": 1, \"prompt\": \"the rain\", \"answer\": \"falls\", \"distractor\": \"on\"}\n"
                "{\"id\": 2, \"prompt\": \"a boat\", \"answer\": \"in\"}\n"
                "{\"id\": 3, \"prompt\": \"a boat\", \"answer\": \"sails\", \"distractor\": \"sinks\"}\n");
  const FinishedRun run = desk.analyzed(
      {facts}, "out", {"--experiment", "facts", "--keep", "all", "--watch-pair", "#target,#distractor"});
  std::int64_t with_distractor = 0;
  for (const Json& record : run.records) {
    const Json& wrong = watched(record, "#distractor");
    CHECK(watched(record, "#target").at("id") == record.at("target").at("id"));
    const bool has = record.at("answer_position") == 1 && !wrong.at("id").is_null();
    if (!has) CHECK(wrong.at("id").is_null());
    if (has) CHECK(wrong.at("id") != record.at("target").at("id"));
    with_distractor += has ? 1 : 0;
  }
  CHECK(with_distractor >= 1);
  for (const Json& row : run.rows("watch.difference")) CHECK(row.at("count") == with_distractor);
  check_error(desk.command("analyze", {desk.file("none.jsonl", "{\"prompt\": \"a\", \"answer\": \"b\"}\n")},
                           "none", {"--experiment", "facts", "--watch", "#distractor"}),
              2, {"no item has a distractor"});
}

TEST_CASE("a sample of positions: those of the whole input, each in its own context") {
  const Desk desk;
  const std::string one =
      desk.file("one.jsonl",
                "{\"id\": \"x\", \"text\": \"the rain falls on the boat, and it sails.\"}\n"
                "{\"id\": 7, \"text\": \"a boat\"}\n{\"text\": \"rain on rain on rain\"}\n");
  const std::string two = desk.model.text_file("two.txt");
  const std::vector<std::string> small = {"--max-length", "16"};
  const FinishedRun all = desk.analyzed({one, two}, "all", small);
  const auto places = by_place(all);
  const auto total = static_cast<std::int64_t>(all.records.size());

  // Where they are: items and inputs, and windows one behind the other.
  std::map<std::int64_t, std::int64_t> lengths;  // tokens of a document so far
  for (const Json& record : all.records) {
    const auto document = record.at("document").get<std::int64_t>();
    CHECK(record.at("input") == (document < 3 ? 0 : 1));
    CHECK(record.at("input_document") == (document < 3 ? document : document - 3));
    const Json item = document == 0 ? Json("x") : document == 1 ? Json(7) : Json();
    CHECK(record.at("item") == item);
    if (record.at("position") == 0) CHECK(record.at("window_start") == lengths[document]);
    ++lengths[document];  // this tokenizer puts no BOS before a window
  }

  const std::vector<std::string> twenty = small + std::vector<std::string>{"--positions", "sample:20"};
  const FinishedRun sample = desk.analyzed({one, two}, "sample", twenty);
  CHECK(sample.records.size() == 20);
  CHECK(sample.run.at("counts").at("positions") == 20);
  CHECK(sample.run.at("settings").at("positions") == "sample:20");
  Place before{-1, 0, 0};
  for (const auto& [place, record] : by_place(sample)) {
    CHECK(before < place);
    before = place;
    const Json& whole = places.at(place);
    for (const char* key : {"token", "target", "final", "item", "input", "window_start"})
      CHECK(record.at(key) == whole.at(key));
    const Json &own = record.at("lenses").at("logit"), &others = whole.at("lenses").at("logit");
    for (std::size_t layer = 0; layer < own.at("entropy").size(); ++layer) {
      CHECK(own.at("entropy")[layer].get<double>() ==
            Approx(others.at("entropy")[layer].get<double>()).margin(1e-5));
    }
  }
  CHECK(lasting_files(desk.model.beside("sample")) == [&] {
    desk.analyzed({one, two}, "again", twenty);
    return lasting_files(desk.model.beside("again"));
  }());
  const FinishedRun other =
      desk.analyzed({one, two}, "other", twenty + std::vector<std::string>{"--seed", "1"});
  const auto drawn = [](const FinishedRun& run) {
    std::set<Place> all_places;
    for (const auto& [place, record] : by_place(run)) all_places.insert(place);
    return all_places;
  };
  CHECK(drawn(other) != drawn(sample));

  const FinishedRun more =
      desk.analyzed({one, two}, "more", small + std::vector<std::string>{"--positions", "sample:100000"});
  CHECK(static_cast<std::int64_t>(more.records.size()) == total);
  CHECK(contains(more.run.at("warnings").dump(), "all are taken"));
  for (const char* text : {"sample:0", "sample:", "sample:x", "sample:-3", "some"}) {
    check_error(desk.command("analyze", {two}, "none", {"--positions", text}), 2,
                {"--positions", "sample:N"});
  }
}

TEST_CASE("what a settings file names and is not there is reported with the file, its line and the key") {
  const Desk desk;
  const std::string text = desk.model.text_file();
  const auto refused = [&](const std::string& line, int status, const std::string& what) {
    const std::string settings = desk.file("settings.toml", "limit = 3\n" + line + "\n");
    const std::vector<std::string> command =
        line.rfind("model", 0) == 0
            ? std::vector<std::string>{"analyze", "--input", text, "--out", desk.model.beside("out").string()}
            : desk.command("analyze", {text}, "out", {});
    const std::string key = line.substr(0, line.find(' '));
    check_error(command + std::vector<std::string>{"--config", settings}, status,
                {what, "settings.toml line 2: " + key});
  };
  refused("token-counts = \"none.json\"", 3, "cannot read 'none.json'");
  refused("model = \"nowhere\"", 3, "the model 'nowhere'");
  refused("lens = [\"logit\", \"tuned:nolens\"]", 3, "the tuned lens of 'nolens' is not on this machine");
  refused("watch = [\"a, b\"]", 2, "not one token");
}

TEST_CASE("what else is asked for changes no number, also where rotary angles go by the length of a window") {
  Desk desk{.model =
                SmallModel("llama-dynamic")};  // angles of windows of 6 tokens at the most are as trained
  const std::string text = desk.file("t.txt", small_text());
  const Words windows = {"--max-length", "12"};
  const auto all = by_place(desk.analyzed({text}, "all", windows));
  const FinishedRun sample = desk.analyzed({text}, "sample", windows + Words{"--positions", "sample:9"});
  REQUIRE(sample.records.size() == 9);
  for (const auto& [place, record] : by_place(sample))
    CHECK(record.at("lenses") == all.at(place).at("lenses"));

  std::string sentence;
  int id = 0;
  for (const auto& [word, tag] : {std::pair{"it", "PRON"}, {"is", "VERB"}, {"a", "DET"}, {"boat", "NOUN"}})
    sentence += std::to_string(++id) + "\t" + word + "\t_\t" + tag + "\t_\t_\t_\t_\t_\t_\n";
  const std::string words = desk.file("w.conllu", sentence + "\n");
  const auto of_verb = [&](const std::string& classes) {
    const FinishedRun run =
        desk.analyzed({words}, classes,
                      windows + Words{"--experiment", "pos", "--classes", classes, "--keep", "all",
                                      "--min-prompt-chars", "0", "--whitespace-retry", "no"});
    for (const Json& record : run.records) {
      if (record.at("class") == "VERB") return record.at("lenses");
    }
    return Json();
  };
  const Json alone = of_verb("VERB");
  CHECK_FALSE(alone.is_null());
  CHECK(of_verb("VERB,NOUN") == alone);
}

}  // namespace depthlens::test
