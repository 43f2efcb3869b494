// report.html: what goes into it, what stays out, and that nothing in a run can break it.
#include "depthlens/report/page.hpp"

#include <algorithm>
#include <cmath>

#include "depthlens/report/run_folder.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using report::PageRecords;
using report::PageRun;
using test::check_error;
using test::TemporaryFolder;
using util::ErrorCode;
using util::Json;

namespace {

constexpr std::int64_t kLayers = 2;

std::string run_json(const Json& changes = Json::object()) {
  Json run = {{"schema_version", 1},
              {"status", "complete"},
              {"model", {{"path", "data/demo"}, {"layers", kLayers}}},
              {"lenses", {{{"name", "logit"}}, {{"name", "tuned"}}}},
              {"counts", {{"records", 0}}},
              {"volatile", {{"host", "a-very-host"}}}};
  run.update(changes);
  return run.dump();
}

std::string summary_json(const Json& row = {"logit", 0, 0.123456789}) {
  return Json{{"schema_version", 1},
              {"tables",
               {{"flips.changes",
                 {{"columns", Json::array({"lens", "layer", "share"})}, {"rows", Json::array({row})}}}}}}
      .dump();
}

PageRun described(const std::string& run, const std::string& summary, const std::filesystem::path& folder) {
  const Json document = Json::parse(summary);
  return report::describe_run(Json::parse(run), report::read_summary({document, "summary.json"}),
                              (folder / "run.json").string());
}

/// A record of one token `text`, whose layers all guess it and one more.
Json record(std::int64_t window, std::int64_t position, const std::string& text = " a") {
  const Json token = {{"id", 7}, {"text", text}};
  const Json readout = {
      {"top_ids", {{7, 9}, {7, 9}, {9, 7}}},
      {"top_tokens",
       Json::array({Json::array({text, "b"}), Json::array({text, "b"}), Json::array({"b", text})})},
      {"top_logprobs", {{-0.5, -1.25}, {-0.5, nullptr}, {-0.1, -9}}},
      {"final_rank", {2, 2, 1}},
      {"target_rank", {1, 1, 70'000}},
      {"entropy", {1.5, 1.25, 0.0004}},
      {"kl_final", {3, 2, 0}},
  };
  return {{"document", 0},
          {"window", window},
          {"position", position},
          {"item", nullptr},
          {"token", token},
          {"target", token},
          {"final", {{"id", 9}, {"text", "b"}}},
          {"lenses", {{"logit", readout}, {"tuned", readout}}}};
}

PageRecords records_of(const std::vector<Json>& all) {
  PageRecords records({"logit", "tuned"}, kLayers + 1);
  for (const Json& each : all) records.add(each.dump(), "records.jsonl line 1");
  return records;
}

/// The number with index `index` of a packed text, read as page/data.js reads it.
std::int64_t unpacked(const std::string& packed, std::size_t index) {
  const std::string digits =
      "!#$%'()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~";
  std::int64_t number = 0;
  for (std::size_t place = 0; place < 3; ++place) {
    number = number * 89 + static_cast<std::int64_t>(digits.find(packed.at(3 * index + place)));
  }
  return number;
}
constexpr std::int64_t kNone = 89 * 89 * 89 - 1;

/// The text between the tags of the page's data.
std::string data_of(const std::string& page) {
  const std::string opening = "<script type=\"application/json\" id=\"data\">";
  const std::size_t begin = page.find(opening) + opening.size();
  return page.substr(begin, page.find("</script>", begin) - begin);
}

std::string write_run(const TemporaryFolder& folder, const std::string& run, const std::string& summary,
                      const std::string& records = "") {
  folder.write("run.json", run);
  folder.write("summary.json", summary);
  if (!records.empty()) folder.write("records.jsonl", records);
  return report::run_page(folder.path());
}

}  // namespace

TEST_CASE("page records: numbers are packed as the scripts unpack them") {
  const Json packed = Json::parse(*records_of({record(0, 0)}).json(100'000));
  CHECK(packed.at("lenses") == Json::array({"logit", "tuned"}));
  CHECK(packed.at("rows") == 3);
  CHECK(packed.at("predictions") == 2);
  CHECK(packed.at("ids") == Json::array({7, 9}));
  CHECK(packed.at("texts") == Json::array({" a", "b"}));
  const Json& window = packed.at("windows").at(0);
  CHECK(window.at("document") == 0);
  CHECK(window.at("item").is_null());
  const Json& first = window.at("records").at(0);
  CHECK(first.at(0) == 0);  // position
  CHECK(first.at(1) == 0);  // token
  CHECK(first.at(2) == 0);  // target
  CHECK(first.at(3) == 1);  // final
  const std::string numbers = first.at(4);
  const std::vector<std::int64_t> expected = {0, 500, 1, 1250,  2, 1,      1500, 3000,  // layer 0
                                              0, 500, 1, kNone, 2, 1,      1250, 2000,  // layer 1
                                              1, 100, 0, 9000,  1, 70'000, 0,    0};    // layer 2
  REQUIRE(numbers.size() == 2 * 3 * expected.size());                                   // two lenses
  for (std::size_t i = 0; i < 2 * expected.size(); ++i) {
    CHECK(unpacked(numbers, i) == expected[i % expected.size()]);
  }
}

TEST_CASE("page records: what an item, a document and watched tokens are") {
  Json fact = record(0, 5);
  fact.update({{"item", "f"},
               {"answer_position", 2},
               {"answer_length", 3},
               {"prompt", "The <b>"},
               {"answer", "a b c"}});
  const auto watched = [](const char* text, std::int64_t rank) -> Json {
    return {{"text", text}, {"id", 7}, {"rank", {rank, rank, 1}}, {"logprob", {-2.5, nullptr, -0.5}}};
  };
  for (const char* lens : {"logit", "tuned"}) {
    fact["lenses"][lens]["options"] = Json::array({watched("yes", 3), watched("no", 4)});
    fact["lenses"][lens]["watched"] = Json::array({watched(" w", 5)});
  }
  const std::string text = *records_of({fact}).json(100'000);
  CHECK(text.find('<') == std::string::npos);
  const Json packed = Json::parse(text);
  const Json& window = packed.at("windows").at(0);
  CHECK(window.at("item") == "f");
  CHECK(window.at("prompt") == "The <b>");
  CHECK(window.at("answer") == "a b c");
  CHECK(window.at("answer_length") == 3);
  CHECK(window.at("options") == Json::array({"yes", "no"}));
  CHECK(window.at("watched") == Json::array({" w"}));
  const Json& first = window.at("records").at(0);
  CHECK(first.at(5) == 2);  // answer position
  const std::string numbers = first.at(4);
  constexpr std::size_t kStride = 8 + 6;  // two predictions and four numbers; rank and −log p of three tokens
  REQUIRE(numbers.size() == 2 * 3 * kStride * 3);
  const std::vector<std::int64_t> layer0 = {3, 2500, 4, 2500, 5, 2500},
                                  layer1 = {3, kNone, 4, kNone, 5, kNone};
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(unpacked(numbers, 8 + i) == layer0[i]);
    CHECK(unpacked(numbers, kStride + 8 + i) == layer1[i]);
    CHECK(unpacked(numbers, 3 * kStride + 8 + i) == layer0[i]);  // the second lens
  }
  fact["lenses"]["tuned"].erase("watched");
  PageRecords records({"logit", "tuned"}, kLayers + 1);
  check_error(ErrorCode::kFormat, {"line 4", "watched tokens"},
              [&] { records.add(fact.dump(), "records.jsonl line 4"); });

  Json document = record(1, 0);
  document.update({{"item", 9007199254740993}, {"input", 1}, {"input_document", 0}, {"window_start", 511}});
  const Json other = Json::parse(*records_of({document}).json(100'000)).at("windows").at(0);
  CHECK(other.at("item") == "9007199254740993");
  for (const std::int64_t item : {std::int64_t{9007199254740993}, std::int64_t{-9007199254740993}}) {
    document["item"] = item;  // as a signed number
    CHECK(Json::parse(*records_of({document}).json(100'000)).at("windows").at(0).at("item") ==
          std::to_string(item));
  }
  CHECK(other.at("input") == 1);
  CHECK(other.at("window_start") == 511);
}

TEST_CASE("page records: what records have no field of is packed as none, predictions not at all") {
  const auto numbers_of = [](const std::string& list) {
    PageRecords records({"logit"}, kLayers + 1, report::kMaxPageBytes, report::RecordFields::parse(list));
    Json made = record(0, 0);
    made["lenses"].erase("tuned");
    Json& lens = made["lenses"]["logit"];
    lens["watched"] = {{{"text", "w"}, {"id", 4}, {"rank", {4, 3, 2}}, {"logprob", {-0.25, -0.5, -1}}}};
    const report::RecordFields fields = report::RecordFields::parse(list);
    for (const char* name : report::kRecordFieldNames) {
      const std::vector<std::string> kept = fields.names();
      if (std::find(kept.begin(), kept.end(), name) == kept.end()) lens.erase(name);
    }
    records.add(made.dump(), "records.jsonl line 1");
    const Json packed = Json::parse(*records.json(100'000));
    const std::string text = packed.at("windows").at(0).at("records").at(0).at(4);
    std::vector<std::int64_t> numbers;  // of layer 0
    for (std::size_t i = 0; i < text.size() / 9; ++i) numbers.push_back(unpacked(text, i));
    return std::pair(packed.at("predictions").get<int>(), numbers);
  };
  using Packed = std::pair<int, std::vector<std::int64_t>>;
  CHECK(numbers_of("final_rank,entropy") == Packed(0, {2, kNone, 1500, kNone}));
  CHECK(numbers_of("settled_layer") == Packed(0, {kNone, kNone, kNone, kNone}));
  CHECK(numbers_of("top_ids,top_logprobs,kl_final") == Packed(0, {kNone, kNone, kNone, 3000}));
  CHECK(numbers_of("top_ids,top_tokens,target_rank") ==
        Packed(2, {0, kNone, 1, kNone, kNone, 1, kNone, kNone}));
  CHECK(numbers_of("watched") == Packed(0, {kNone, kNone, kNone, kNone, 4, 250}));

  // What the list names has to be there.
  PageRecords records({"logit", "tuned"}, kLayers + 1, report::kMaxPageBytes,
                      report::RecordFields::parse("entropy"));
  Json changed = record(0, 0);
  changed["lenses"]["logit"].erase("entropy");
  check_error(ErrorCode::kFormat, {"line 1", "missing key", "entropy"},
              [&] { records.add(changed.dump(), "records.jsonl line 1"); });
}

TEST_CASE("page: compressed records make the page that plain ones make") {
  const TemporaryFolder folder;
  std::string lines;
  for (std::int64_t window = 0; window < 3; ++window) lines += record(window, 0).dump() + "\n";
  const std::string run = run_json({{"counts", {{"records", 3}}}});
  const std::string plain = write_run(folder, run, summary_json(), lines);
  std::filesystem::remove(folder.path() / "records.jsonl");
  report::RecordFile file(folder.path(), report::RecordFormat::kJsonlZstd);
  file.write(lines);
  file.commit();
  CHECK(report::run_page(folder.path()) == plain);
  check_error(ErrorCode::kFormat, {"record_fields", "a list of fields"}, [&] {
    folder.write("run.json", run_json({{"settings", {{"record_fields", "entropy"}}}}));
    report::run_page(folder.path());
  });
}

TEST_CASE("page records: a first window that does not fit is kept with fewer predictions") {
  std::vector<Json> all;
  for (std::int64_t position = 0; position < 6; ++position) all.push_back(record(0, position));
  const PageRecords records = records_of(all);
  const std::string whole = *records.json(100'000);
  CHECK_FALSE(Json::parse(whole).contains("predictions_left_out"));
  // Two lenses and three layers lose a prediction of six digits each, in six records.
  const Json slim = Json::parse(*records.json(whole.size() - 3 * 36));
  REQUIRE(slim.at("windows").size() == 1);
  REQUIRE(slim.at("windows").at(0).at("records").size() == 6);
  CHECK(slim.at("predictions") == 1);
  CHECK(slim.at("predictions_left_out") == 1);
  const std::string packed = slim.at("windows").at(0).at("records").at(5).at(4);
  const std::vector<std::int64_t> expected = {0, 500, 2, 1,      1500, 3000,  // layer 0
                                              0, 500, 2, 1,      1250, 2000,  // layer 1
                                              1, 100, 1, 70'000, 0,    0};    // layer 2
  REQUIRE(packed.size() == 2 * 3 * expected.size());
  for (std::size_t i = 0; i < 2 * expected.size(); ++i) {
    CHECK(unpacked(packed, i) == expected[i % expected.size()]);
  }
}

TEST_CASE("page records: of a long prompt the end is kept") {
  Json item = record(0, 0);
  item.update({{"item", "q"}, {"prompt", std::string(5000, 'x') + "\u00e9\u00e9Answer:"}, {"answer", "a"}});
  const std::string prompt = Json::parse(*records_of({item}).json(100'000)).at("windows").at(0).at("prompt");
  CHECK(prompt.size() < 1300);
  CHECK(prompt.starts_with("\u2026x"));
  CHECK(prompt.ends_with("\u00e9\u00e9Answer:"));
}

TEST_CASE("page records: whole windows in order, as many as fit; the first is cut where it must be") {
  std::vector<Json> all;
  for (std::int64_t window = 0; window < 3; ++window) {
    for (std::int64_t position = 0; position < 4; ++position) all.push_back(record(window, position));
  }
  const PageRecords records = records_of(all);
  const std::string whole = *records.json(100'000);
  const auto sizes = [&](std::size_t budget) {
    std::vector<std::size_t> found;
    const std::string text = *records.json(budget);
    CHECK(text.size() <= budget);
    const Json packed = Json::parse(text);
    for (const Json& window : packed.at("windows")) found.push_back(window.at("records").size());
    return found;
  };
  CHECK(sizes(whole.size() + 64) == std::vector<std::size_t>{4, 4, 4});
  CHECK(sizes(whole.size() - 10) == std::vector<std::size_t>{4, 4});
  CHECK(sizes(whole.size() / 2) == std::vector<std::size_t>{4});
  CHECK(sizes(whole.size() / 4) == std::vector<std::size_t>{2});
  CHECK_FALSE(records.json(0));
}

TEST_CASE("page records: enough is enough, and the page stays below its bound") {
  PageRecords records({"logit", "tuned"}, kLayers + 1);
  std::int64_t count = 0;
  while (!records.full()) {
    records.add(record(count / 100, count % 100).dump(), "a record");
    ++count;
  }
  const std::int64_t size = records.size();
  records.add("not even JSON", "a record");
  CHECK(records.size() == size);
  const PageRun run = described(run_json(), summary_json(), "run");
  const std::string page = report::run_page(run, records);
  CHECK(page.size() < report::kMaxPageBytes);
  CHECK(page.size() > report::kMaxPageBytes * 9 / 10);
}

TEST_CASE("page records: what does not fit the run is an error with its place") {
  PageRecords records({"logit", "tuned"}, kLayers + 1);
  const auto refused = [&](const Json& changed, const std::vector<std::string>& parts) {
    check_error(ErrorCode::kFormat, parts, [&] { records.add(changed.dump(), "records.jsonl line 4"); });
  };
  check_error(ErrorCode::kFormat, {"records.jsonl line 4", "JSON"},
              [&] { records.add("{\"document\": 0", "records.jsonl line 4"); });
  Json changed = record(0, 0);
  changed["lenses"].erase("tuned");
  refused(changed, {"records.jsonl line 4", "the lenses that run.json names"});
  for (const char* key : {"top_ids", "top_tokens", "top_logprobs", "final_rank", "entropy", "kl_final"}) {
    changed = record(0, 0);
    changed["lenses"]["logit"][key].erase(0);
    refused(changed, {"records.jsonl line 4", key, "an array of 3 values"});
    changed["lenses"]["logit"].erase(key);
    refused(changed, {"missing key", key});
  }
  changed = record(0, 0);
  changed["lenses"]["logit"]["top_ids"][1] = {7};
  refused(changed, {"top_tokens[1]", "an array of 1 values"});
  changed = record(0, 0);
  changed["lenses"]["logit"]["final_rank"][0] = -1;
  refused(changed, {"final_rank[0]"});
  changed = record(0, 0);
  changed["token"] = 3;
  refused(changed, {"token"});
}

TEST_CASE("page: whatever a token is, the data stays one script element and reads back") {
  const std::string hostile =
      "</script><img src=x onerror=alert(1)><!--\"'&\xe2\x80\xa8\xe2\x80\xa9\x01\xe2\x80\xae{{script}}";
  const PageRun run =
      described(run_json({{"settings", {{hostile, hostile}}}}), summary_json({hostile, 0, 0.5}), "run");
  const std::string page = report::run_page(run, records_of({record(0, 0, hostile)}));
  const std::string data = data_of(page);
  for (const char* part : {"<", ">", "&", "\xe2\x80\xa8", "\xe2\x80\xa9", "\x01"}) {
    CHECK(data.find(part) == std::string::npos);
  }
  const Json read = Json::parse(data);
  CHECK(read.at("records").at("texts").at(0) == hostile);
  CHECK(read.at("runs").at(0).at("run").at("settings").at(hostile) == hostile);
  CHECK(read.at("runs").at(0).at("tables").at("flips.changes").at("rows").at(0).at(0) == hostile);
  CHECK(page.find("<img") == std::string::npos);
}

TEST_CASE("page: nothing volatile, no reference to anything outside, a strict policy") {
  const PageRun run = described(run_json(), summary_json(), "run");
  const PageRun other =
      described(run_json({{"volatile", {{"host", "elsewhere"}}}}), summary_json(), "another");
  const std::string page = report::run_page(run, records_of({record(0, 0)}));
  CHECK(page == report::run_page(other, records_of({record(0, 0)})));
  CHECK(page.find("a-very-host") == std::string::npos);
  CHECK(page.find("default-src 'none'") != std::string::npos);
  CHECK(page.find("unsafe") == std::string::npos);
  for (const char* part : {" src=", "<link", "@import", "url(", "innerHTML", "eval("}) {
    INFO(part);
    CHECK(page.find(part) == std::string::npos);
  }
  CHECK(Json::parse(data_of(page)).at("runs").at(0).at("tables").at("flips.changes").at("rows").at(0).at(2) ==
        0.123457);
}

TEST_CASE("page: a run folder is read, with and without records") {
  const TemporaryFolder folder;
  const Json without = Json::parse(data_of(write_run(folder, run_json(), summary_json())));
  CHECK(without.at("records").is_null());
  const std::string line = record(0, 0).dump() + "\n";
  const std::string page = write_run(folder, run_json({{"counts", {{"records", 1}}}}), summary_json(), line);
  const PageRun run = described(run_json({{"counts", {{"records", 1}}}}), summary_json(), folder.path());
  CHECK(page == report::run_page(run, records_of({record(0, 0)})));
}

TEST_CASE("page: documents and windows can be chosen") {
  const TemporaryFolder folder;
  const auto of = [](std::int64_t document, std::int64_t window, const Json& item) {
    Json made = record(window, 0);
    made["document"] = document;
    made["item"] = item;
    return made.dump() + "\n";
  };
  std::string lines;
  for (std::int64_t window = 0; window < 3; ++window) lines += of(0, window, nullptr);
  lines += of(1, 0, "1-2") + of(2, 0, "poem") + of(4, 0, 77) + of(4, 1, 77);
  folder.write("run.json", run_json({{"counts", {{"records", 7}, {"documents", 6}}}}));
  folder.write("summary.json", summary_json());
  folder.write("records.jsonl", lines);
  using Places = std::vector<std::pair<std::int64_t, std::int64_t>>;
  Json read;
  const auto places = [&](const std::vector<std::string>& documents,
                          const std::vector<std::string>& windows) {
    read = Json::parse(data_of(report::run_page(folder.path(), {documents, windows}))).at("records");
    Places found;
    for (const Json& window : read.at("windows"))
      found.emplace_back(window.at("document"), window.at("window"));
    return found;
  };
  CHECK(places({}, {}).size() == 7);
  CHECK_FALSE(read.contains("chosen"));
  CHECK(places({"0"}, {}) == Places{{0, 0}, {0, 1}, {0, 2}});
  CHECK(read.at("chosen") == Json{{"flags", "--document 0"}, {"positions", 3}, {"windows", 3}});
  CHECK(places({"0"}, {"1-9"}) == Places{{0, 1}, {0, 2}});
  CHECK(places({}, {"1"}) == Places{{0, 1}, {4, 1}});
  CHECK(places({"1-2"}, {}) == Places{{1, 0}, {2, 0}});
  CHECK(places({"id:1-2"}, {}) == Places{{1, 0}});
  CHECK(places({"poem", "0,4"}, {"0"}) == Places{{0, 0}, {2, 0}, {4, 0}});
  CHECK(places({"id:77"}, {}) == Places{{4, 0}, {4, 1}});

  const auto refused = [&](const std::vector<std::string>& documents, const std::vector<std::string>& windows,
                           const std::vector<std::string>& parts) {
    check_error(ErrorCode::kUsage, parts, [&] { places(documents, windows); });
  };
  refused({"6"}, {}, {"no such document", "--document '6'", "0 to 4", "6 documents"});
  refused({"0", "3"}, {}, {"has no record", "--document '3'", "--max-records"});
  refused({"77"}, {}, {"no such document", "'77'"});
  refused({"ode"}, {}, {"no record has this id", "'ode'"});
  refused({"4"}, {"2"}, {"no such window", "--window '2'", "windows 0 to 1"});
  refused({"4-1"}, {}, {"ends before it begins", "id:4-1"});
  refused({}, {"last"}, {"not a window", "an index"});
  refused({"id:"}, {}, {"--document", "an index, a range such as 3-9, or the id"});
  folder.write("records.jsonl", lines.substr(0, lines.size() / 2));
  check_error(ErrorCode::kFormat, {"JSON"}, [&] { places({"4"}, {}); });
}

TEST_CASE("page: a bound of its own") {
  const TemporaryFolder folder;
  std::string lines;
  for (std::int64_t window = 0; window < 40; ++window) lines += record(window, 0).dump() + "\n";
  folder.write("run.json", run_json({{"counts", {{"records", 40}}}}));
  folder.write("summary.json", summary_json());
  folder.write("records.jsonl", lines);
  const std::size_t all = report::run_page(folder.path()).size();
  const std::string page = report::run_page(folder.path(), {}, all - 1000);
  CHECK(page.size() < all - 1000);
  CHECK(page.size() > all - 2000);
  const Json records = Json::parse(data_of(page)).at("records");
  CHECK(records.at("max_bytes") == all - 1000);
  CHECK(records.at("windows").size() < 40);
  check_error(ErrorCode::kUsage, {"--max-size", "bytes", "found 5,000 bytes"},
              [&] { report::run_page(folder.path(), {}, 5000); });
  // Room for the tables, and none for a record.
  folder.write("records.jsonl", "");
  folder.write("run.json", run_json());
  const std::size_t tables = report::run_page(folder.path()).size();
  folder.write("records.jsonl", lines);
  folder.write("run.json", run_json({{"counts", {{"records", 40}}}}));
  check_error(ErrorCode::kUsage, {"no place for a record", "--max-size"},
              [&] { report::run_page(folder.path(), {}, tables + 200); });
  // Tables that leave none at the page's own bound: the page says so.
  Json summary = Json::parse(summary_json());
  summary["tables"]["long.words"] = {
      {"columns", {"word"}}, {"units", Json::object()}, {"rows", Json::array()}};
  const std::string word(1000, 'x');
  for (int i = 0; i < 2000; ++i) summary["tables"]["long.words"]["rows"].push_back({word});
  folder.write("summary.json", summary.dump());
  const Json without = Json::parse(data_of(report::run_page(folder.path())));
  CHECK(without.at("records").is_null());
  CHECK(without.at("records_beyond").at("max_bytes") == 2'000'000);
  CHECK(without.at("records_beyond").at("bytes") > 2'000'000);
}

TEST_CASE("runs whose folders differ in bytes that are no UTF-8 have names of their own") {
  CHECK(report::distinct_names({"/a/run\xff", "/a/run\xfe", "/a/other"}) ==
        std::vector<std::string>{"run\uFFFD", "run\uFFFD (2)", "other"});
}

TEST_CASE("page: damaged run folders are told apart") {
  const TemporaryFolder folder;
  check_error(ErrorCode::kInput, {"no such run folder"}, [&] { report::run_page(folder.path() / "none"); });
  check_error(ErrorCode::kInput, {"no finished run", folder.path().string()},
              [&] { report::run_page(folder.path()); });
  folder.write("run.json", run_json());
  check_error(ErrorCode::kInput, {"summary.json"}, [&] { report::run_page(folder.path()); });

  const auto refused = [&](const std::string& run, const std::string& summary, const std::string& records,
                           const std::vector<std::string>& parts) {
    check_error(ErrorCode::kFormat, parts, [&] { write_run(folder, run, summary, records); });
  };
  const std::string summary = summary_json();
  refused("{", summary, "", {"run.json", "JSON"});
  refused("[]", summary, "", {"run.json", "object"});
  refused(run_json({{"schema_version", 2}}), summary, "",
          {"schema_version", "run.json", "expected 1", "found 2"});
  refused(run_json({{"model", {{"path", "x"}}}}), summary, "", {"run.json", "layers"});
  refused(run_json({{"model", {{"layers", 1e30}}}}), summary, "", {"layers"});
  refused(run_json({{"lenses", "logit"}}), summary, "", {"lenses", "an array"});
  refused(run_json(), "null", "", {"summary.json"});
  refused(run_json(), "{\"schema_version\": 1}", "", {"summary.json", "tables"});
  refused(run_json(), summary_json(Json::array({"logit", 0})), "", {"rows[0]", "a row of 3 cells"});
  refused(run_json(), summary_json({"logit", 0, true}), "", {"rows[0][2]", "a number, a string or null"});
  refused(run_json(), summary_json({"logit", 0, Json::array()}), "", {"rows[0][2]"});
  refused(run_json(), R"({"schema_version": 1, "tables": {"a": {"columns": ["x", "x"], "rows": []}}})", "",
          {"columns[1]"});
  refused(run_json({{"counts", {{"records", 2}}}}), summary, record(0, 0).dump() + "\n",
          {"records are missing", "records.jsonl", "2 lines", "found 1"});
  refused(run_json({{"counts", {{"records", 1}}}}), summary, record(0, 0).dump().substr(0, 300),
          {"records.jsonl line 1", "JSON"});
}

TEST_CASE("comparison page: runs have names that tell them apart") {
  const TemporaryFolder folder;
  for (const char* name : {"a/run", "b/run", "c/other"}) {
    folder.write(std::string(name) + "/run.json", run_json());
    folder.write(std::string(name) + "/summary.json", summary_json());
  }
  tables::Table table{.name = "t", .columns = {{"lens"}, {"kl", "nats"}}, .rows = {}};
  table.add({"logit", 0.5});
  const Json data = Json::parse(data_of(report::comparison_page(
      {folder.path() / "a" / "run", folder.path() / "b" / "run" / "", folder.path() / "c" / "other"},
      {{.tables = {table}}, {.unpaired = "their inputs differ"}})));
  CHECK_FALSE(data.at("runs")[0].contains("difference"));
  CHECK(data.at("runs")[1].at("difference").at("paired") == true);
  CHECK(data.at("runs")[1].at("difference").at("tables").at("t").at("rows") ==
        Json::parse(R"([["logit", 0.5]])"));
  CHECK(data.at("runs")[2].at("difference") == Json{{"paired", false}, {"why", "their inputs differ"}});
  CHECK(data.at("records").is_null());
  std::vector<std::string> names;
  for (const Json& run : data.at("runs")) names.push_back(run.at("name"));
  CHECK(names == std::vector<std::string>{"a/run", "b/run", "other"});
}
