// Records that are compressed, and records of few fields: the same run, whoever does it.
#include <unistd.h>
#include <zstd.h>

#include <csignal>

#include "desk.hpp"
#include "support/compressed.hpp"

namespace depthlens::test {
namespace {

using util::Json;
using util::OrderedJson;
using Words = std::vector<std::string>;

std::string decompressed(const std::string& bytes) {
  std::string out;
  std::string piece(1 << 16, '\0');
  ZSTD_DStream* stream = ZSTD_createDStream();
  ZSTD_inBuffer in = {bytes.data(), bytes.size(), 0};
  std::size_t left = 1;
  while (in.pos < in.size || left > 0) {
    ZSTD_outBuffer to = {piece.data(), piece.size(), 0};
    left = ZSTD_decompressStream(stream, &to, &in);
    REQUIRE(ZSTD_isError(left) == 0);
    out.append(piece, 0, to.pos);
    if (in.pos == in.size && to.pos < to.size) break;
  }
  ZSTD_freeDStream(stream);
  CHECK(left == 0);
  return out;
}

std::vector<OrderedJson> lines_of(const std::string& text) {
  std::vector<OrderedJson> all;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    REQUIRE(end != std::string::npos);
    all.push_back(OrderedJson::parse(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return all;
}

const Words kCompressed = {"--records", "jsonl.zst"};

struct RecordsDesk : Desk {
  std::string input = file("text.txt", small_text() + "\n" + small_text() + "\n" + small_text());
  Words analyze(const std::string& out, const Words& more) const {
    return command("analyze", {input}, out, Words{"--max-length", "16", "--quiet"} + more);
  }
  fs::path done(const std::string& out, const Words& more) const {
    check_done(analyze(out, more));
    return model.beside(out);
  }
};

}  // namespace

TEST_CASE("records do not depend on the number of threads, to the byte, wherever they end") {
  const RecordsDesk desk;
  const std::string all = read_bytes(desk.done("one", {"--threads", "1"}) / "records.jsonl");
  const auto num_lines = std::count(all.begin(), all.end(), '\n');
  REQUIRE(num_lines > 40);
  // Some positions more than a thread takes at a time, and not a multiple of it.
  std::size_t end = 0;
  for (int line = 0; line < 27; ++line) end = all.find('\n', end) + 1;
  for (const std::string threads : {"1", "2", "7"}) {
    const Words more = {"--overwrite", "--threads", threads};
    CHECK(read_bytes(desk.done("some", more) / "records.jsonl") == all);
    CHECK(read_bytes(desk.done("some", more + Words{"--max-records", "27"}) / "records.jsonl") ==
          all.substr(0, end));
  }
}

TEST_CASE("compressed records are the plain ones, and a run has one file of them") {
  const RecordsDesk desk;
  const fs::path plain = desk.done("plain", {}), compressed = desk.done("compressed", kCompressed);
  const std::string text = read_bytes(plain / "records.jsonl");
  const std::string bytes = read_bytes(compressed / "records.jsonl.zst");
  CHECK_FALSE(text.empty());
  CHECK(decompressed(bytes) == text);
  CHECK(bytes.size() < text.size() / 2);
  CHECK_FALSE(fs::exists(compressed / "records.jsonl"));
  CHECK(read_bytes(plain / "summary.json") == read_bytes(compressed / "summary.json"));
  CHECK(read_json(compressed / "run.json").at("settings").at("records") == "jsonl.zst");
  CHECK(read_json(compressed / "run.json").at("counts") == read_json(plain / "run.json").at("counts"));

  // The other file goes with the run that is replaced; nothing at all is left by one without records.
  check_done(desk.analyze("plain", kCompressed + Words{"--overwrite"}));
  CHECK_FALSE(fs::exists(plain / "records.jsonl"));
  CHECK(read_bytes(plain / "records.jsonl.zst") == bytes);
  check_done(desk.analyze("plain", {"--overwrite"}));
  CHECK_FALSE(fs::exists(plain / "records.jsonl.zst"));
  CHECK(read_bytes(plain / "records.jsonl") == text);
  check_done(desk.analyze("compressed", {"--overwrite", "--records", "none"}));
  CHECK_FALSE(fs::exists(compressed / "records.jsonl.zst"));
  // Of a run that is lost, what is left is no place for another.
  write_bytes(desk.model.beside("left/records.jsonl.zst"), bytes);
  check_error(desk.analyze("left", {}), 6, {"holds another run", "records.jsonl.zst"});
}

TEST_CASE("compressed records of tasks and pairs") {
  const RecordsDesk desk;
  const std::string facts =
      desk.file("facts.jsonl", R"({"id": "a", "prompt": "the man sat on", "answer": "the man"})"
                               "\n"
                               R"({"id": "b", "prompt": "the man", "answer": "sat"})"
                               "\n");
  const Words task = {"--experiment", "facts", "--keep", "all", "--quiet"};
  check_done(desk.command("analyze", {facts}, "plain", task));
  check_done(desk.command("analyze", {facts}, "compressed", task + kCompressed));
  CHECK(decompressed(read_bytes(desk.model.beside("compressed/records.jsonl.zst"))) ==
        read_bytes(desk.model.beside("plain/records.jsonl")));
}

TEST_CASE("a run with compressed records that was killed comes to the same bytes") {
  const RecordsDesk desk;
  std::string text;
  for (int i = 0; i < 600; ++i) text += small_text() + "\n";
  const std::string input = desk.file("long.txt", text);
  const Words command = Words{"analyze",      "--model", desk.model.path(), "--input", input, "--quiet",
                              "--max-length", "16",      "--threads",       "1"} +
                        kCompressed;
  const fs::path whole = desk.model.beside("whole"), out = desk.model.beside("out");
  check_done(command + Words{"--out", whole.string()});
  {
    Process process(Start{.arguments = command + Words{"--out", out.string()}});
    while (process.running() && !has_saved_parts(out)) ::usleep(1000);
    REQUIRE(process.running());
    process.send(SIGKILL);
    process.wait();
  }
  check_error(command + Words{"--out", out.string(), "--resume", "--records", "jsonl"}, 2, {"--records"});
  Words other = command;
  other[other.size() - 1] = "jsonl";
  check_error(other + Words{"--out", out.string(), "--resume"}, 2,
              {"another run", "settings.records: \"jsonl.zst\" and \"jsonl\""});
  check_done(command + Words{"--out", out.string(), "--resume"});
  CHECK(lasting_files(out) == lasting_files(whole));
}

TEST_CASE("report reads compressed records, and refuses what is cut or damaged by its name") {
  const RecordsDesk desk;
  const fs::path out = desk.done("out", kCompressed);
  const std::string page = read_bytes(out / "report.html"), bytes = read_bytes(out / "records.jsonl.zst");
  CHECK(contains(page, "\"windows\":["));
  fs::remove(out / "report.html");
  check_done({"report", out.string(), "--quiet"});
  CHECK(read_bytes(out / "report.html") == page);
  check_done({"report", out.string(), "--quiet", "--document", "0", "--window", "1"});
  CHECK(contains(read_bytes(out / "report.html"), "\"flags\":\"--document 0 --window 1\""));

  const auto refused = [&](const std::string& changed, const Words& parts) {
    write_bytes(out / "records.jsonl.zst", changed);
    check_error({"report", out.string()}, 4, Words{"records.jsonl.zst"} + parts);
    check_error({"report", out.string(), "--document", "0"}, 4, Words{"records.jsonl.zst"} + parts);
  };
  refused(bytes.substr(0, bytes.size() / 2), {"damaged zstd file", "an end in the middle"});
  refused(bytes.substr(0, bytes.size() - 2), {"damaged zstd file", "an end in the middle"});
  std::string flipped = bytes;
  flipped[flipped.size() - 1] ^= 1;  // of the checksum
  refused(flipped, {"damaged zstd file", "checksum"});
  refused("", {"not a zstd file", "an empty file"});
  refused(decompressed(bytes), {"not a zstd file"});
  const std::string text = decompressed(bytes);
  refused(zstd(text.substr(0, text.find('\n') + 1)), {"records are missing", "found 1"});
  refused(zstd(text.substr(0, text.find('\n') + 30)), {"records.jsonl.zst line 2", "not valid JSON"});
  write_bytes(out / "records.jsonl.zst", bytes);
  write_bytes(out / "records.jsonl", text);
  check_error({"report", out.string()}, 4, {"two files of records"});
  fs::remove(out / "records.jsonl");
  fs::remove(out / "records.jsonl.zst");
  check_error({"report", out.string(), "--document", "0"}, 3, {"no records"});

  // A listing of runs sees what was left of one.
  write_bytes(desk.model.beside("runs/begun/records.jsonl.zst"), bytes);
  CHECK(contains(check_done({"info", desk.model.beside("runs").string()}).out, "unfinished"));
}

TEST_CASE("records of few fields are the whole ones without the others") {
  const RecordsDesk desk;
  const Words watch = {"--watch", "#1", "--lens", "logit", "--lens", "b=logit"};
  const fs::path all = desk.done("all", watch);
  const std::vector<OrderedJson> whole = lines_of(read_bytes(all / "records.jsonl"));
  const auto check_fields = [&](const std::string& list, const Words& names) {
    INFO(list);
    const fs::path some = desk.done("some", watch + Words{"--record-fields", list, "--overwrite"});
    std::vector<OrderedJson> expected = whole;
    for (OrderedJson& record : expected) {
      for (auto& lens : record.at("lenses")) {
        OrderedJson kept = OrderedJson::object();
        for (const auto& [key, value] : lens.items()) {
          if (std::find(names.begin(), names.end(), key) != names.end()) kept[key] = value;
        }
        CHECK(kept.size() == names.size());
        lens = kept;
      }
    }
    CHECK(lines_of(read_bytes(some / "records.jsonl")) == expected);
    CHECK(read_bytes(some / "summary.json") == read_bytes(all / "summary.json"));
    CHECK(read_json(some / "run.json").at("settings").at("record_fields") == Json(names));
    const std::string page = read_bytes(some / "report.html");
    check_done({"report", some.string(), "--quiet"});
    CHECK(read_bytes(some / "report.html") == page);
  };
  check_fields("entropy,final_rank", {"final_rank", "entropy"});
  check_fields("watched", {"watched"});
  check_fields("settled_layer", {"settled_layer"});
  check_fields("top_ids,top_tokens", {"top_ids", "top_tokens"});
  check_fields("target_rank,target_logprob,top_logprobs", {"top_logprobs", "target_rank", "target_logprob"});
  CHECK_FALSE(read_json(all / "run.json").at("settings").contains("record_fields"));

  // They are a part of what a run is.
  const Words entropy = {"--record-fields", "entropy"};
  check_done(desk.analyze("s0", entropy + Words{"--shard", "0/2"}));
  check_done(desk.analyze("s1", Words{"--shard", "1/2"}));
  const std::string s0 = desk.model.beside("s0").string(), s1 = desk.model.beside("s1").string();
  check_error({"merge", s0, s1, "--out", desk.model.beside("m").string()}, 2, {"settings.record_fields"});
  check_error(desk.analyze("s0", {"--shard", "0/2", "--resume"}), 2,
              {"another run", "settings.record_fields"});
  check_done(desk.analyze("s0", entropy + Words{"--shard", "0/2", "--resume"}));
  check_done(desk.analyze("s1", entropy + Words{"--shard", "1/2", "--overwrite"}));
  check_done({"merge", s0, s1, "--out", desk.model.beside("m").string()});
  CHECK(lasting_files(desk.model.beside("m")) == lasting_files(desk.done("one", entropy)));
}

TEST_CASE("a record that lacks a field which the run asked for is damaged") {
  const RecordsDesk desk;
  const fs::path out = desk.done("out", {"--record-fields", "final_rank,entropy"});
  std::string text = read_bytes(out / "records.jsonl");
  text.replace(text.find("\"entropy\""), 9, "\"entropi\"");
  write_bytes(out / "records.jsonl", text);
  check_error({"report", out.string()}, 4, {"records.jsonl line 1", "missing key", "entropy"});
}

TEST_CASE("--record-fields all is the default") {
  const RecordsDesk desk;
  const fs::path out = desk.done("out", {"--record-fields", "all"});
  CHECK(lasting_files(out) == lasting_files(desk.done("same", {})));
}

TEST_CASE("--record-fields: what is unknown or has no effect is refused") {
  const RecordsDesk desk;
  const auto refused = [&](const Words& more, const Words& parts) {
    check_error(desk.analyze("out", more), 2, parts);
    CHECK_FALSE(fs::exists(desk.model.beside("out")));
  };
  refused({"--record-fields", "entropy,final_rnk"},
          {"unknown field 'final_rnk'", "--record-fields", "hint: did you mean 'final_rank'?"});
  refused({"--record-fields", "entropy", "--records", "none"},
          {"no effect", "--record-fields", "expected records", "found --records none"});
  refused({"--record-fields", "entropy", "--experiment", "patching"},
          {"no effect", "--record-fields", "an experiment with a lens"});
  refused({"--record-fields", "entropy,options"}, {"no effect", "--record-fields", "questions (choices)"});
  refused({"--record-fields", "entropy,watched"}, {"no effect", "--record-fields", "a watched token"});
  refused({"--record-fields", "entropy", "--top-k", "3"}, {"no effect", "--top-k", "top_ids"});
  refused({"--record-fields", "all,entropy"}, {"'all' stands beside fields"});
  refused({"--record-fields", "none"}, {"no field 'none'", "hint: --records none writes no records"});
  refused({"--records", "zst"}, {"--records", "one of none, jsonl, jsonl.zst"});
}

}  // namespace depthlens::test
