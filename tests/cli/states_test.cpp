// Residual states from files and into files: --states, --save-states, and --layers.
#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <set>
#include <thread>

#include "depthlens/util/descriptor.hpp"
#include "desk.hpp"

namespace depthlens::test {
namespace {

using util::Json;
using util::OrderedJson;
using Words = std::vector<std::string>;

/// A run over a small corpus that saved its states.
struct StatesDesk : Desk {
  fs::path states = model.beside("states"), direct = model.beside("direct");
  Words more = {"--experiment", "trajectory,frequency,flips,settling,calibration", "--watch", "#1"};

  StatesDesk() {
    // Documents of one window each: so they are when they are read again.
    std::string text;
    for (int i = 0; i < 12; ++i)
      text += std::string("the man sat") + std::string(static_cast<std::size_t>(i % 5 + 1), 'o') + "\n\n";
    check_done(command("analyze", {file("text.txt", text)}, "direct",
                       more + Words{"--save-states", states.string()}));
  }
  Words of_states(const std::string& path, const std::string& out, const Words& flags = {}) const {
    return Words{"analyze", "--model", model.path(), "--states", path, "--out", model.beside(out).string()} +
           flags;
  }
  fs::path first() const { return states / "000000000-000000.safetensors"; }
};

/// The tensors of a file in bfloat16, cut off, not rounded.
Safetensors in_bfloat16(const Safetensors& file) {
  Safetensors out = file;
  OrderedJson& states = out.header["hidden_states"];
  const auto begin = states["data_offsets"][0].get<std::size_t>(),
             end = states["data_offsets"][1].get<std::size_t>();
  std::string data;
  for (std::size_t i = begin; i < end; i += 4) data += file.data.substr(i + 2, 2);
  OrderedJson& ids = out.header["token_ids"];
  const auto ids_begin = ids["data_offsets"][0].get<std::size_t>(),
             ids_end = ids["data_offsets"][1].get<std::size_t>();
  const std::string tokens = file.data.substr(ids_begin, ids_end - ids_begin);
  out.data = tokens + data;
  ids["data_offsets"] = {0, tokens.size()};
  states["data_offsets"] = {tokens.size(), tokens.size() + data.size()};
  states["dtype"] = "BF16";
  return out;
}

}  // namespace

TEST_CASE("states that a run saved give its tables again, to the last bit, whoever decodes them") {
  const StatesDesk desk;
  check_done(desk.of_states(desk.states.string(), "again", desk.more));
  CHECK(read_bytes(desk.direct / "summary.json") == read_bytes(desk.model.beside("again") / "summary.json"));
  const Json run = read_json(desk.model.beside("again") / "run.json");
  CHECK(run.at("settings").at("states") == true);
  CHECK_FALSE(run.at("settings").contains("max_length"));
  CHECK(run.at("inputs").size() == 12);
  CHECK(run.at("inputs")[0].at("sha256").get<std::string>().size() == 64);
  CHECK(run.at("counts").at("positions") == read_json(desk.direct / "run.json").at("counts").at("positions"));
  const FinishedRun direct = FinishedRun::read(desk.direct),
                    again = FinishedRun::read(desk.model.beside("again"));
  REQUIRE(direct.records.size() == again.records.size());
  for (std::size_t i = 0; i < direct.records.size(); ++i)
    CHECK(direct.records[i].at("lenses") == again.records[i].at("lenses"));

  // Shares of them, and files named one by one.
  Words merge = {"merge"};
  for (const std::string share : {"0/2", "1/2"}) {
    const std::string out = "share" + share.substr(0, 1);
    check_done(desk.of_states(desk.states.string(), out, desk.more + Words{"--shard", share}));
    merge.push_back(desk.model.beside(out).string());
  }
  check_done(merge + Words{"--out", desk.model.beside("merged").string()});
  CHECK(lasting_files(desk.model.beside("again")) == lasting_files(desk.model.beside("merged")));
}

TEST_CASE("states: BOS is what the run that saved them put before its windows, whatever the tokenizer does") {
  const StatesDesk desk;
  const std::string input = desk.model.beside("text.txt").string();
  for (const std::string wish : {"yes", "no"}) {
    const fs::path states = desk.model.beside("states-" + wish);
    check_done(desk.command("analyze", {input}, "direct-" + wish,
                            desk.more + Words{"--add-bos", wish, "--save-states", states.string()}));
    check_done(desk.of_states(states.string(), "again-" + wish, desk.more));
    CHECK(read_bytes(desk.model.beside("direct-" + wish) / "summary.json") ==
          read_bytes(desk.model.beside("again-" + wish) / "summary.json"));
  }
}

TEST_CASE("states need the head of the model only") {
  const StatesDesk desk;
  const std::string made_by = "made by a model of another digest";
  const auto told = [&](const char* out) {
    return read_json(desk.model.beside(out) / "run.json").at("warnings").dump().find(made_by) !=
           std::string::npos;
  };
  check_done(desk.of_states(desk.states.string(), "same", desk.more));
  CHECK_FALSE(told("same"));
  Safetensors weights = desk.model.weights();
  std::string data;
  OrderedJson header;
  for (auto& [name, entry] : weights.header.items()) {
    if (name == "__metadata__" || name.find("h.") != std::string::npos ||
        name.find("wpe") != std::string::npos)
      continue;
    const auto begin = entry["data_offsets"][0].get<std::size_t>(),
               end = entry["data_offsets"][1].get<std::size_t>();
    header[name] = entry;
    header[name]["data_offsets"] = {data.size(), data.size() + end - begin};
    data += weights.data.substr(begin, end - begin);
  }
  weights.header = header;
  weights.data = data;
  desk.model.write("model.safetensors", weights.bytes());
  check_done(desk.of_states(desk.states.string(), "again", desk.more));
  CHECK(read_bytes(desk.direct / "summary.json") == read_bytes(desk.model.beside("again") / "summary.json"));
  CHECK(told("again"));
  check_error(desk.command("analyze", {desk.file("t.txt", small_text())}, "run"), 4, {"missing tensor"});
}

TEST_CASE("some layers: rows of the whole run, from a model and from states") {
  const StatesDesk desk;
  const std::string input = desk.file("text2.txt", "the man sat\n\nand the sea\n");
  const fs::path states = desk.model.beside("some");
  const Words quality = {"--experiment", "trajectory"};
  const FinishedRun whole = desk.analyzed({input}, "whole", quality);
  const FinishedRun some =
      desk.analyzed({input}, "part", quality + Words{"--layers", "2,0", "--save-states", states.string()});
  CHECK(some.run.at("settings").at("layers") == Json({0, 2, 3}));
  CHECK_FALSE(whole.run.at("settings").contains("layers"));
  const auto all = whole.rows("lens.quality"), rows = some.rows("lens.quality");
  REQUIRE(all.size() == 4);
  REQUIRE(rows.size() == 3);
  CHECK(rows[0] == all[0]);
  CHECK(rows[1] == all[2]);
  CHECK(rows[2] == all[3]);
  for (std::size_t i = 0; i < some.records.size(); ++i) {
    const Json &a = whole.records[i].at("lenses").at("logit"), &b = some.records[i].at("lenses").at("logit");
    CHECK(b.at("entropy") == Json({a.at("entropy")[0], a.at("entropy")[2], a.at("entropy")[3]}));
    CHECK((b.at("settled_layer") == 0 || b.at("settled_layer") == 2 || b.at("settled_layer") == 3));
  }
  check_done(desk.of_states(states.string(), "states", quality + Words{"--state-layers", "0,2-3"}));
  CHECK(read_bytes(desk.model.beside("part") / "summary.json") ==
        read_bytes(desk.model.beside("states") / "summary.json"));
  // states.json tells which layers they are; a list of as many others would be believed without it.
  check_done(desk.of_states(states.string(), "told", quality));
  CHECK(read_bytes(desk.model.beside("part") / "summary.json") ==
        read_bytes(desk.model.beside("told") / "summary.json"));
  check_error(desk.of_states(states.string(), "x", {"--state-layers", "0,1,3"}), 2,
              {"other layers", "expected layers 0, 1, 3", "found layers 0, 2, 3", "states.json"});
  fs::remove(states / "states.json");
  check_error(desk.of_states(states.string(), "x"), 3,
              {"another number of layers", "4 layers", "3", "--state-layers"});
  check_error(desk.of_states(states.string(), "x", {"--state-layers", "0-2"}), 2,
              {"last layer", "--state-layers", "layer 3"});
  for (const std::string list : {"3,2,0", "0,2,2,3"}) {
    check_error(desk.of_states(states.string(), "x", {"--state-layers", list}), 2,
                {"do not rise", "--state-layers " + list});
  }
  check_nothing_written(desk.model.beside("x"));
  for (const std::string list : {"5", "2-1", "every:0", "a", "0,,1", ""})
    check_error(desk.command("analyze", {input}, "x", {"--layers=" + list}), 2, {"--layers"});
}

TEST_CASE("states in bfloat16 are read, near what float32 gives") {
  const StatesDesk desk;
  for (const auto& entry : fs::directory_iterator(desk.states))
    if (entry.path().extension() == ".safetensors")
      write_bytes(entry.path(), in_bfloat16(Safetensors::read(entry.path())).bytes());
  check_done(desk.of_states(desk.states.string(), "again", desk.more));
  const auto a = FinishedRun::read(desk.direct).rows("lens.quality"),
             b = FinishedRun::read(desk.model.beside("again")).rows("lens.quality");
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(b[i].at("entropy").get<double>() == Approx(a[i].at("entropy").get<double>()).margin(0.05));
    CHECK(a[i] != b[i]);
  }
}

TEST_CASE("states that the final norm has been applied to are reported") {
  const StatesDesk desk;
  const auto told = [&](const std::string& out) {
    const Result result =
        check_done(desk.of_states(desk.first().string(), out, {"--experiment", "trajectory"}));
    return contains(result.err, "layer 3 look as if the final norm had been applied");
  };
  CHECK_FALSE(told("before"));
  const auto floats_of = [](const Safetensors& file, const std::string& name) {
    const OrderedJson& entry = file.header.at(name);
    REQUIRE(entry["dtype"] == "F32");
    const auto begin = entry["data_offsets"][0].get<std::size_t>(),
               end = entry["data_offsets"][1].get<std::size_t>();
    std::vector<float> values((end - begin) / sizeof(float));
    std::memcpy(values.data(), file.data.data() + begin, end - begin);
    return values;
  };
  const Safetensors weights = desk.model.weights();
  const std::vector<float> weight = floats_of(weights, "transformer.ln_f.weight"),
                           bias = floats_of(weights, "transformer.ln_f.bias");
  Safetensors file = Safetensors::read(desk.first());
  std::vector<float> states = floats_of(file, "hidden_states");  // [T, 4, 16]
  const std::size_t d = weight.size(), S = 4;
  for (std::size_t first = (S - 1) * d; first < states.size(); first += S * d) {
    double mean = 0, square = 0;
    for (std::size_t i = 0; i < d; ++i) mean += states[first + i] / static_cast<double>(d);
    for (std::size_t i = 0; i < d; ++i)
      square += std::pow(states[first + i] - mean, 2) / static_cast<double>(d);
    for (std::size_t i = 0; i < d; ++i)
      states[first + i] =
          static_cast<float>((states[first + i] - mean) / std::sqrt(square + 1e-5)) * weight[i] + bias[i];
  }
  std::memcpy(file.data.data() + file.header["hidden_states"]["data_offsets"][0].get<std::size_t>(),
              states.data(), states.size() * sizeof(float));
  write_bytes(desk.first(), file.bytes());
  CHECK(told("behind"));
  // Wherever among the files it is; and the run tells it, too.
  fs::rename(desk.first(), desk.states / "999999999-000000.safetensors");
  const Result all = check_done(desk.of_states(desk.states.string(), "all", {"--experiment", "trajectory"}));
  const std::string warning = "999999999-000000.safetensors: the states of layer 3 look as if the final norm";
  CHECK(contains(all.err, warning));
  const Json warnings = read_json(desk.model.beside("all") / "run.json").at("warnings");
  CHECK(std::count_if(warnings.begin(), warnings.end(),
                      [&](const Json& one) { return contains(one.get<std::string>(), warning); }) == 1);
  CHECK_FALSE(read_json(desk.model.beside("all") / "run.json").at("settings").contains("bos"));
}

TEST_CASE("states that do not fit are refused by name") {
  const StatesDesk desk;
  const std::string path = desk.first().string();
  const Safetensors good = Safetensors::read(path);
  const auto refused = [&](const Words& parts, const Words& flags = {}) {
    check_error(desk.of_states(desk.states.string(), "x", flags), 3, Words{path} + parts);
    check_nothing_written(desk.model.beside("x"));
  };
  const auto changed = [&](const std::function<void(Safetensors&)>& change, const Words& parts) {
    Safetensors file = good;
    change(file);
    write_bytes(path, file.bytes());
    refused(parts);
  };
  const auto T = good.header["token_ids"]["shape"][0].get<std::int64_t>();
  changed(
      [](Safetensors& f) {
        f.header["hidden"] = f.header["hidden_states"];
        f.header.erase("hidden_states");
      },
      {"no tensor 'hidden_states'"});
  changed(
      [&](Safetensors& f) {
        f.header["hidden_states"]["shape"] = {T, 2, 2, f.header["hidden_states"]["shape"][2]};
      },
      {"wrong shape", "[T, S, d]"});
  changed(
      [&](Safetensors& f) {
        f.header["hidden_states"]["shape"] = {T, 8, f.header["hidden_states"]["shape"][2].get<int>() / 2};
      },
      {"another number of layers", "8"});
  changed(
      [&](Safetensors& f) {
        f.header["hidden_states"]["shape"] = {2 * T, 4, f.header["hidden_states"]["shape"][2].get<int>() / 2};
      },
      {"another width", "model"});
  changed(
      [&](Safetensors& f) {
        f.header["token_ids"]["dtype"] = "I32";
        f.header["token_ids"]["shape"] = {2 * T};
      },
      {"'token_ids' does not fit"});
  changed([](Safetensors& f) { f.header["hidden_states"]["dtype"] = "I32"; }, {"unsupported type"});
  const auto at = [&](const std::string& name) {
    return good.header[name]["data_offsets"][0].get<std::size_t>();
  };
  changed([&](Safetensors& f) { f.data[at("token_ids")] = '\x7f'; }, {"token_ids[0]", "vocabulary", "127"});
  // What is not finite is found when it is decoded.
  Safetensors file = good;
  for (std::size_t i = 0; i < 4; ++i) file.data[at("hidden_states") + i] = '\xff';
  write_bytes(path, file.bytes());
  check_error(desk.of_states(desk.states.string(), "x"), 3, {path, "not finite", "layer 0, position 0"});
  check_error(desk.of_states(desk.states.string(), "x", {"--positions", "last"}), 3,
              {path, "not finite", "layer 0, position 0"});
  write_bytes(path, good.bytes().substr(0, good.bytes().size() - 5));
  refused({});
  write_bytes(path, good.bytes());
  // The file of a lock may stay, as vLLM leaves it; what counts is whether somebody holds it.
  write_bytes(path + ".lock", "");
  check_done(desk.of_states(path, "locked"));
  {
    const int lock = ::open((path + ".lock").c_str(), O_RDONLY);
    REQUIRE(::flock(lock, LOCK_EX) == 0);
    refused({"still being written", ".lock"});
    ::close(lock);
  }
  fs::remove(path + ".lock");
  const std::string index = (desk.states / "states.json").string(), told = read_bytes(index);
  OrderedJson other = OrderedJson::parse(told);
  for (const OrderedJson& layers : {OrderedJson{0, 1}, OrderedJson{0, 1, 2, 9}}) {
    other["of"]["settings"]["layers"] = layers;
    write_bytes(index, other.dump());
    check_error(desk.of_states(desk.states.string(), "x"), 2,
                {"of a model with another number of blocks", "layer 3"});
  }
  write_bytes(index, told);
  check_error(desk.of_states(desk.model.beside("nothing").string(), "x"), 3, {"no such states"});
  check_error(desk.of_states(desk.model.path(), "x"), 3, {"hidden_states"});
  const std::string input = desk.file("t.txt", small_text());
  for (const Words& flags : std::vector<Words>{{"--input", input},
                                               {"--max-length", "8"},
                                               {"--add-bos", "no"},
                                               {"--layers", "0"},
                                               {"--experiment", "facts"},
                                               {"--save-states", "y"}})
    check_error(desk.of_states(desk.states.string(), "x", flags), 2,
                {flags[0] == "--experiment" ? "corpus" : flags[0]});
  check_error(desk.command("analyze", {input}, "x", {"--state-layers", "0"}), 2,
              {"--state-layers", "--states"});
  check_error(desk.command("analyze", {input}, "x", {"--save-states", desk.states.string()}), 6,
              {"holds those of another run"});
  check_error(desk.of_states(path, "x", {"--states", desk.states.string()}), 2,
              {"the same stored states twice", path});
  check_done(desk.of_states(desk.states.string(), "y"));
}

TEST_CASE("a state so large that a norm takes it for nothing is refused, in files and behind a lens") {
  const StatesDesk desk;
  const std::string path = desk.first().string();
  Safetensors file = Safetensors::read(path);
  const float huge = 1e30F;
  std::memcpy(file.data.data() + file.header["hidden_states"]["data_offsets"][0].get<std::size_t>(), &huge,
              sizeof huge);
  write_bytes(path, file.bytes());
  check_error(desk.of_states(desk.states.string(), "x"), 3,
              {path, "too large for float32", "layer 0, position 0"});

  const std::string lens = desk.model.beside("lens.safetensors").string();
  check_done({"convert-lens", desk.model.lens("tuned"), lens, "--quiet"});
  Safetensors translators = Safetensors::read(lens);
  REQUIRE(translators.header["1.bias"]["dtype"] == "F64");
  const double huge_bias = 1e30;
  std::memcpy(
      translators.data.data() + translators.header["1.bias"]["data_offsets"][0].get<std::size_t>() + 8,
      &huge_bias, sizeof huge_bias);
  write_bytes(lens, translators.bytes());
  check_error(desk.command("analyze", {desk.file("t.txt", small_text())}, "x", {"--lens", "tuned:" + lens}),
              5, {"translated by a lens are too large", "lens 'tuned', layer 1"});
}

TEST_CASE("a folder of states holds those of one run") {
  const Desk desk;
  const fs::path states = desk.model.beside("states");
  const auto names = [&] {
    std::set<std::string> all;
    for (const auto& entry : fs::directory_iterator(states)) all.insert(entry.path().filename().string());
    return all;
  };
  const std::string input = desk.file("t.txt", small_text());
  const Words save = {"--save-states", states.string()};
  const auto command = [&](const std::string& out, const Words& more) {
    return desk.command("analyze", {input}, out, save + more);
  };
  check_done(command("a", {}));
  const std::set<std::string> all = names();
  CHECK(all.count("states.json") == 1);
  check_error(command("b", {"--limit", "1"}), 6, {"holds those of another run", states.string()});
  CHECK(names() == all);
  check_done(command("a", {"--limit", "1", "--overwrite"}));
  for (const std::string& name : names()) CHECK((name == "states.json" || name.rfind("000000000-", 0) == 0));
  CHECK(names().size() < all.size());
  check_done(command("a", {"--limit", "1", "--overwrite"}));
  write_bytes(states / "mine.safetensors", "");
  check_error(command("a", {"--overwrite"}), 6, {"holds other files", "mine.safetensors"});
  fs::remove(states / "mine.safetensors");
  fs::remove(states / "states.json");
  check_error(command("b", {}), 6, {"holds some already"});
  check_done(command("b", {"--overwrite"}));
  CHECK(names() == all);

  // A run that was begun without, or with another folder, or whose states were cut or taken away.
  check_done(command("b", {"--resume"}));
  const fs::path last = states / *std::prev(all.end(), 2);  // before states.json
  const std::string whole = read_bytes(last);
  write_bytes(last, whole.substr(0, whole.size() - 1));
  check_error(command("b", {"--resume"}), 4, {last.string()});
  fs::remove(last);
  check_error(command("b", {"--resume"}), 3,
              {"states that were saved before are not there", states.string(), std::to_string(all.size() - 1),
               std::to_string(all.size() - 2)});
  write_bytes(last, whole);
  check_done(command("b", {"--resume"}));
  const std::string other = desk.model.beside("other").string();
  check_error(desk.command("analyze", {input}, "b", {"--resume", "--save-states", other}), 2,
              {"what was done before are not in this folder", other});
  check_error(desk.command("analyze", {input}, "b", {"--resume"}), 2, {"settings.save_states"});
  check_nothing_written(other);
  const std::string parts = (desk.model.beside("c") / "parts").string();
  check_error(desk.command("analyze", {input}, "c", {"--save-states", parts}), 2,
              {"keeps for itself", "--save-states " + parts});

  // Shares write into one folder.
  const fs::path shared = desk.model.beside("shared");
  for (const char* share : {"0/2", "1/2"})
    check_done(desk.command("analyze", {input}, std::string("s") + share[0],
                            {"--shard", share, "--save-states", shared.string()}));
  for (const std::string& name : all) {
    INFO(name);
    if (name != "states.json") CHECK(read_bytes(shared / name) == read_bytes(states / name));
  }
}

TEST_CASE("a folder for states is taken by the run that comes first, also before it has saved any") {
  const Desk desk;
  const std::string input = desk.file("t.txt", small_text());
  const fs::path states = desk.model.beside("states");
  const auto command = [&](const std::string& out, const Words& more) {
    return desk.command("analyze", {input}, out, Words{"--save-states", states.string()} + more);
  };
  check_done(command("a", {}));
  const std::string index = read_bytes(states / "states.json");
  for (const auto& entry : fs::directory_iterator(states)) {
    if (entry.path().extension() == ".safetensors") fs::remove(entry.path());
  }
  check_error(command("b", {"--limit", "1"}), 6, {"holds those of another run", states.string()});
  CHECK(read_bytes(states / "states.json") == index);
  check_done(command("b", {"--limit", "1", "--overwrite"}));

  // Another program's file of that name is nobody's to replace.
  fs::remove_all(states);
  fs::create_directory(states);
  for (const char* content : {R"({"CA": "California"})", "[1, 2]"}) {
    write_bytes(states / "states.json", content);
    for (const Words& more : {Words{}, Words{"--overwrite"}})
      check_error(command("c", more), 6, {"not of states that a run has saved", "states.json"});
    CHECK(read_bytes(states / "states.json") == content);
  }
  // Nor does it matter where states are read.
  check_done(desk.command("analyze", {input}, "d", {"--save-states", desk.model.beside("own").string()}));
  for (const auto& entry : fs::directory_iterator(desk.model.beside("own"))) {
    if (entry.path().extension() == ".safetensors")
      fs::copy_file(entry.path(), states / entry.path().filename());
  }
  check_done({"analyze", "--model", desk.model.path(), "--states", states.string(), "--out",
              desk.model.beside("e").string()});
}

TEST_CASE("of shares that start at once, one clears the folder of states, and no other clears it again") {
  const Desk desk;
  const std::string input = desk.file("t.txt", small_text());
  const fs::path shared = desk.model.beside("shared"), whole = desk.model.beside("whole");
  const auto share = [&](const std::string& which, const fs::path& states) {
    return desk.command("analyze", {input}, "s" + which.substr(0, 1),
                        {"--shard", which, "--save-states", states.string(), "--overwrite"});
  };
  const auto names_in = [](const fs::path& folder) {
    std::set<std::string> all;
    for (const auto& entry : fs::directory_iterator(folder)) all.insert(entry.path().filename().string());
    return all;
  };
  check_done(desk.command("analyze", {input}, "other", {"--limit", "1", "--save-states", shared.string()}));
  for (const char* which : {"0/2", "1/2"}) check_done(share(which, whole));
  const std::set<std::string> before = names_in(shared), all = names_in(whole);
  REQUIRE(before != all);

  // As the other share has it while it clears the folder.
  const util::Descriptor held(::open(shared.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(::flock(held.get(), LOCK_EX) == 0);
  Process waiting(Start{.arguments = share("0/2", shared)});
  for (int i = 0; i < 60; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
    REQUIRE(waiting.running());
    REQUIRE(names_in(shared) == before);
  }
  for (const std::string& name : all)
    fs::copy_file(whole / name, shared / name, fs::copy_options::overwrite_existing);
  REQUIRE(::flock(held.get(), LOCK_UN) == 0);
  CHECK(waiting.wait().status == 0);
  CHECK(names_in(shared) == all);
}

}  // namespace depthlens::test
