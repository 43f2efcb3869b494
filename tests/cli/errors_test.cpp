// Every exit status of the program, with the message that goes with it, and that nothing half-written is
// left.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <limits>

#include "checks.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {
namespace {

using util::Json;
using util::OrderedJson;

using Words = std::vector<std::string>;

/// A small model with a text, to be damaged in one place and run.
struct Bench {
  explicit Bench(const std::string& checkpoint = "gpt2") : model(checkpoint) {}

  SmallModel model;
  std::string input = model.text_file();
  fs::path out = model.beside("out");

  std::vector<std::string> command(const std::vector<std::string>& more = {}) const {
    return std::vector<std::string>{"analyze",      "--model", model.path(), "--out", out.string(),
                                    "--max-length", "16",      "--input",    input} +
           more;
  }
  /// The run must fail and leave nothing.
  Result check(int status, const std::vector<std::string>& parts,
               const std::vector<std::string>& more = {}) const {
    Result result = check_error(command(more), status, parts);
    check_nothing_written(out);
    return result;
  }
  std::string file(const std::string& name) const { return (model.folder() / name).string(); }
  /// Changes the header of the weights, runs, and puts the weights back.
  template <typename Change>
  void check_weights(const Change& change, const std::vector<std::string>& parts) const {
    const std::string before = read_bytes(file("model.safetensors"));
    Safetensors weights = model.weights();
    change(weights);
    model.write("model.safetensors", weights.bytes());
    check(4, parts);
    model.write("model.safetensors", before);
  }
  void check_config(const Json& changes, const std::vector<std::string>& parts) const {
    const std::string before = read_bytes(file("config.json"));
    model.configure(changes);
    check(4, parts);
    model.write("config.json", before);
  }
};

/// Replaces the values of a float32 tensor from its start.
void overwrite_values(Safetensors& weights, const std::string& name, float value, std::size_t count,
                      std::size_t first = 0) {
  const auto begin = weights.header.at(name).at("data_offsets")[0].get<std::size_t>() + 4 * first;
  for (std::size_t i = 0; i < count; ++i) std::memcpy(&weights.data[begin + 4 * i], &value, 4);
}

std::string pickle_text(const std::string& text) {
  return "X" + std::string(1, static_cast<char>(text.size())) + std::string(3, '\0') + text;
}

/// A run that takes so long that signals come in its middle.
struct LongRun {
  SmallModel model;
  fs::path out = model.beside("out");

  LongRun() { write_bytes(model.beside("long.txt"), long_text()); }
  Words command(const Words& more = {}) const {
    return Words{"analyze", "--model",    model.path(), "--input", model.beside("long.txt").string(),
                 "--out",   out.string(), "--threads",  "1"} +
           more;
  }
  /// The result of one that gets these signals, one shortly after the other, when something is saved and most
  /// is not done.
  Result sent(const Start& start, const std::vector<int>& signals) const {
    Process process(start);
    await_saved_parts(process, out);
    for (std::size_t i = 0; i < signals.size(); ++i) {
      if (i > 0) ::usleep(2000);
      process.send(signals[i]);
    }
    return process.wait();
  }
  Json info() const { return read_json(out / "run.json"); }
};

}  // namespace

TEST_CASE("wrong usage ends with 2") {
  const Bench bench;
  const auto refused = [&](const std::vector<std::string>& more, const std::vector<std::string>& parts) {
    bench.check(2, parts, more);
  };
  check_error(std::vector<std::string>{}, 2, {"hint: "});
  check_error({"analyse"}, 2,
              {"unknown command 'analyse'", "expected one of analyze", "hint: did you mean 'analyze'?"});
  check_error({"--quiet"}, 2, {});
  check_error({"analyze", "--input", bench.input}, 2, {"no run folder, --out", "hint: "});
  check_error({"analyze", "--out", bench.out.string()}, 2, {"no input, --input", "hint: "});
  check_error({"count-tokens"}, 2, {"no input, --input"});
  check_error({"count-tokens", "--input", bench.input, "--out", bench.model.beside("counts.txt").string()}, 2,
              {"--out", "counts.txt", "expected FILE.json or FILE.csv"});
  check_error({"show", "one", "two"}, 2, {"two"});
  check_error({"show", "text", "--width", "3"}, 2, {"--width"});
  check_error({"show", "text", "--color", "blue"}, 2, {"--color", "blue"});
  check_error({"show", "text", "--value", "loss"}, 2, {"--value", "loss"});
  check_error({"show", "text", "--quiet", "--verbose"}, 2, {"--quiet", "--verbose"});

  refused({"--tok-k", "3"}, {"--tok-k"});
  refused({"--top-k", "3", "stray"}, {"stray"});
  refused({"--top-k", "0"}, {"--top-k", "0"});
  refused({"--top-k", "-1"}, {"--top-k"});
  refused({"--top-k", "ten"}, {"--top-k", "ten"});
  refused({"--top-k", "1.5"}, {"--top-k", "1.5"});
  refused({"--top-k", "99999999999999999999"}, {"--top-k"});
  refused({"--top-k"}, {"--top-k"});
  refused({"--top-k", "3", "--top-k", "4"}, {"--top-k"});
  refused({"--threads", "0"}, {"--threads"});
  refused({"--threads", "-2"}, {"--threads"});
  refused({"--seed", "x"}, {"--seed"});
  refused({"--max-length", "0"}, {"--max-length"});
  refused({"--max-length", "4", "--max-length", "5"}, {"--max-length"});
  refused({"--max-records", "-1"}, {"--max-records"});
  refused({"--limit", "-1"}, {"--limit"});
  refused({"--positions", "first"}, {"--positions", "first"});
  refused({"--records", "csv"}, {"--records", "csv"});
  refused({"--decode", "quick"}, {"--decode", "quick"});
  refused({"--dtype", "float8"}, {"--dtype", "float8"});
  refused({"--add-bos", "maybe"}, {"--add-bos", "maybe"});
  refused({"--lens-alignment", "mine"}, {"--lens-alignment", "mine"});
  refused({"--buckets", "10,5"}, {"--buckets", "'10,5'", "expected rising positive integers"});
  refused({"--buckets", "0,5"}, {"--buckets"});
  refused({"--buckets", "5,5"}, {"--buckets"});
  refused({"--buckets", "a"}, {"--buckets", "'a'"});
  refused({"--buckets", ""}, {"--buckets"});
  refused({"--buckets", "10,,20"}, {"--buckets"});
  refused({"--experiment", "setling"},
          {"unknown experiment 'setling', --experiment", "settling", "hint: did you mean 'settling'"});
  refused({"--experiment", ""}, {"--experiment"});
  refused({"--experiment", "flips,"}, {"--experiment"});
  refused({"--lens", "logits"}, {"--lens", "'logits'", "expected logit, tuned:PATH or jacobian:PATH"});
  refused({"--lens", "tuned"}, {"--lens", "'tuned'"});
  refused({"--lens", "tuned:"}, {"--lens"});
  refused({"--lens", "logit:path"}, {"--lens"});
  refused({"--lens", "a b=logit"}, {"--lens", "a b"});
  refused({"--lens", "=logit"}, {"--lens"});
  refused({"--lens", "a=logit", "--lens", "a=logit"}, {"--lens", "'a'"});
  refused({"--lens", "logit", "--lens", "logit=logit"}, {"--lens", "'logit'"});
  refused({"--device", "gpu"}, {"--device", "'gpu'", "expected cpu, cuda or cuda:N"});
  refused({"--device", "cuda:x"}, {"--device"});
  refused({"--device", "cuda:127"}, {"--device cuda:127", "found", "CUDA devices", "hint: "});
  refused({"--device", "cuda:126,cuda:127"}, {"no such device", "--device cuda:126", "CUDA devices"});
  refused({"--device", "cuda:126,gpu"}, {"unknown device", "'gpu'"});
  refused({"--device", "cuda,cuda:1,cuda:0"},
          {"named twice", "--device cuda,cuda:1,cuda:0", "cuda:0, which is cuda:0"});
  refused({"--device", "cuda:0,"}, {"an empty entry in a list of devices", "--device cuda:0,"});
  refused({"--device", "cuda:0,cpu"},
          {"the processor in a list of devices", "--device cuda:0,cpu", "hint: "});
  refused({"--device", "cpu,cpu"}, {"the processor in a list of devices"});
  refused({"--add-bos", "yes", "--max-length", "1"}, {"--max-length"});
  check_error(Start{.arguments = bench.command({"--input", "-", "--input", "-"})}, 2, {"stdin", "--input -"});
}

TEST_CASE("inputs that are missing or cannot be read end with 3") {
  const Bench bench;
  const std::string path = bench.model.beside("bad.txt").string();
  const auto refused = [&](const std::string& bytes, const std::vector<std::string>& parts,
                           const std::string& name = "bad.txt") {
    const fs::path file = bench.model.beside(name);
    write_bytes(file, bytes);
    bench.check(3, parts + std::vector<std::string>{file.string()}, {"--input", file.string()});
  };
  bench.check(3, {"cannot read", "missing.txt", "--input", "found No such file"}, {"--input", "missing.txt"});
  bench.check(3, {"cannot read", "found a folder"}, {"--input", bench.model.path()});
  bench.check(3, {"cannot read '/proc/self/mem'"}, {"--input", "/proc/self/mem"});
  bench.check(3, {"missing/counts.json"}, {"--token-counts", "missing/counts.json"});
  bench.check(3, {"found a folder"}, {"--token-counts", bench.model.path()});
  refused("the tide\nthe \xff rain\n", {"not UTF-8", "line 2, byte 5", "expected UTF-8", "found"});
  refused("the tide\xe6\xb0", {"not UTF-8", "line 1, byte 9"});
  refused("{\"text\": \"the\"}\n{\"text\": 3}\n", {"line 2", "text", "expected", "found 3"}, "bad.jsonl");
  refused("{\"text\": \"the\"}\n\n{\"txt\": \"the\"}\n", {"line 3", "text"}, "bad.jsonl");
  refused("{\"text\": \"the\"", {"line 1"}, "bad.jsonl");
  refused("[\"the\"]\n", {"line 1", "an object"}, "bad.jsonl");

  for (const std::string bytes : {"", "\n\n  \n"}) {
    write_bytes(path, bytes);
    check_error({"analyze", "--model", bench.model.path(), "--input", path, "--out", bench.out.string()}, 3,
                {"holds no text", path});
    check_nothing_written(bench.out);
  }
  check_error(Start{.arguments = {"show", "--model", bench.model.path()}}, 3, {"no tokens"});
  check_error({"show", "a \xff", "--model", bench.model.path()}, 3, {"not UTF-8"});

  const auto refused_counts = [&](const std::string& bytes, const std::vector<std::string>& parts,
                                  const std::string& name = "counts.json") {
    const std::string file = bench.model.beside(name).string();
    write_bytes(file, bytes);
    bench.check(3, parts + std::vector<std::string>{file}, {"--token-counts", file});
  };
  refused_counts("", {});
  refused_counts("{\"3\": {\"count\": 2}", {});
  refused_counts("[]", {"expected an object"});
  refused_counts("{}", {"counts nothing"});
  refused_counts(R"({"3": {"token": "c"}})", {"count"});
  refused_counts(R"({"67": {"count": 2}})", {"expected an id from 0 to 66", "found '67'", "hint: "});
  refused_counts(R"({"-1": {"count": 2}})", {"'-1'"});
  refused_counts(R"({"3": {"count": -2}})", {"3", "count"});
  refused_counts(R"({"3": {"count": 2}, "03": {"count": 2}})", {"twice"});
  refused_counts("id,count\n3,x\n", {"record 2"}, "counts.csv");
  refused_counts("id,number\n3,1\n", {"a column 'count'"}, "counts.csv");
  refused_counts("id,count\n\"3,1\n", {}, "counts.csv");
  refused_counts("", {}, "counts.csv");
}

TEST_CASE("models and lenses that are missing end with 3") {
  const Bench bench;
  const std::string input = bench.input, out = bench.out.string();
  const auto refused = [&](const std::string& model, const std::vector<std::string>& parts) {
    check_error({"analyze", "--model", model, "--input", input, "--out", out}, 3, parts);
    check_nothing_written(bench.out);
  };
  refused("./missing", {"no folder './missing'"});
  refused(bench.model.beside("").string(), {"no model in the folder", "expected config.json"});
  refused("org/name", {"'org/name' is not on this machine", "hint: "});
  check_error({"info", "./missing"}, 3, {"./missing"});
  check_error({"info", "jacobian:./missing.pt"}, 3, {"./missing.pt"});
  check_error({"count-tokens", "--model", "./missing", "--input", input}, 3, {"./missing"});
  bench.check(3, {"no lens at './missing'"}, {"--lens", "tuned:./missing"});
  bench.check(3, {"./missing.pt"}, {"--lens", "jacobian:./missing.pt"});
  bench.check(3, {"'org/name'", "hint: "}, {"--lens", "tuned:org/name"});

  const std::string weights = read_bytes(bench.file("model.safetensors"));
  bench.model.remove("model.safetensors");
  bench.check(3, {"no weights in '" + bench.model.path() + "'", "expected model.safetensors"});
  fs::create_directory(bench.file("model.safetensors"));
  bench.check(3, {bench.file("model.safetensors"), "a folder"});
  bench.model.remove("model.safetensors");
  bench.model.write("model.safetensors", weights);
  bench.model.remove("tokenizer.json");
  bench.check(3, {"no tokenizer", bench.model.path(), "expected tokenizer.json"});

  const Bench sharded("llama-gqa-sharded");
  sharded.model.remove("model-00002-of-00002.safetensors");
  sharded.check(
      3, {"1 of 2 shards are missing", "model.safetensors.index.json", "'model-00002-of-00002.safetensors'"});
}

TEST_CASE("a damaged or unsupported config.json ends with 4") {
  const Bench bench("llama");
  const std::string path = bench.file("config.json");
  const std::string config = read_bytes(path);
  const auto refused = [&](const std::string& bytes, const std::vector<std::string>& parts) {
    bench.model.write("config.json", bytes);
    bench.check(4, parts + std::vector<std::string>{path});
    bench.model.write("config.json", config);
  };
  refused(config.substr(0, config.size() / 2), {"not valid JSON", "line"});
  refused("", {});
  refused("[]", {"expected an object"});
  refused("{}", {"'architectures'", "'model_type'"});
  refused("{\"a\": \"\xff\"}", {});
  refused(std::string(100000, '['), {});
  bench.check_config({{"hidden_size", "16"}}, {path + ": hidden_size", "expected", "found \"16\""});
  bench.check_config({{"hidden_size", 1e300}}, {"hidden_size"});
  bench.check_config({{"hidden_size", -16}}, {"hidden_size", "found -16"});
  bench.check_config({{"hidden_size", nullptr}}, {"hidden_size"});
  bench.check_config({{"hidden_size", 17}, {"head_dim", nullptr}}, {"num_attention_heads"});
  bench.check_config({{"num_key_value_heads", 3}}, {"num_key_value_heads", "found 3"});
  bench.check_config({{"num_hidden_layers", 0}}, {"num_hidden_layers", "found 0"});
  bench.check_config({{"architectures", {"RwkvForCausalLM"}}}, {"unsupported architecture 'RwkvForCausalLM'",
                                                                path, "expected one of", "LlamaForCausalLM"});
  bench.check_config({{"architectures", {"LlamaForCasualLM"}}}, {"hint: did you mean 'LlamaForCausalLM'"});
  bench.check_config({{"architectures", "LlamaForCausalLM"}}, {"architectures", "expected an array"});
  bench.check_config(
      {{"rope_parameters", nullptr}, {"rope_scaling", {{"type", "ntk"}, {"factor", 2.0}}}},
      {"unsupported rotary scaling", "rope_scaling", "expected one of default, dynamic, linear", "'ntk'"});
  bench.check_config({{"rope_parameters", nullptr}, {"rope_scaling", {{"type", "linear"}, {"factor", 0}}}},
                     {"rope_scaling", "factor"});
  bench.check_config({{"final_logit_softcapping", 30.0}}, {"unsupported setting 'final_logit_softcapping'",
                                                           "expected none", "found 30", "hint: "});
  bench.check_config({{"quantization_config", {{"bits", 4}}}}, {"quantization_config"});
  bench.check_config({{"hidden_act", "mish"}}, {"unsupported activation", "hidden_act", "found 'mish'"});
  bench.check_config({{"model_type", "mistral"}},
                     {"two kinds of model", path, "'LlamaForCausalLM' and 'mistral'", "hint: "});
  bench.check_config({{"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}},
                     {"rope_scaling", "rope_parameters", "differ", path, "hint: "});
  bench.check_config({{"rms_norm_eps", nullptr}}, {path + ": rms_norm_eps", "a number", "found null"});
  bench.check_config({{"vocab_size", 10}}, {});
  CHECK(read_bytes(path) == config);
  check_done(bench.command());
}

TEST_CASE("damaged safetensors end with 4 and name file and tensor") {
  const Bench bench;
  const std::string path = bench.file("model.safetensors");
  const std::string bytes = read_bytes(path);
  const auto refused = [&](const std::string& damaged, const std::vector<std::string>& parts) {
    bench.model.write("model.safetensors", damaged);
    bench.check(4, parts + std::vector<std::string>{path});
    check_error({"info", bench.model.path()}, 4, parts + std::vector<std::string>{path});
    bench.model.write("model.safetensors", bytes);
  };
  refused("", {"expected 8 bytes", "found 0 bytes"});
  refused(bytes.substr(0, 5), {"found 5 bytes"});
  refused(bytes.substr(0, 100), {"expected a header of at most 92 bytes", "found a header length of"});
  refused(bytes.substr(0, bytes.size() - 4), {"data_offsets"});
  refused(bytes + "1234", {"belong to no tensor"});
  refused(std::string(8, '\xff') + bytes.substr(8), {"found a header length of 18446744073709551615"});
  refused(bytes.substr(0, 8) + "x" + bytes.substr(9), {"byte 8"});
  refused("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", {"git-lfs", "hint: "});

  const std::string first = "transformer.h.0.attn.c_attn.bias", second = "transformer.h.0.attn.c_attn.weight";
  bench.check_weights(
      [&](Safetensors& w) { w.header[first]["data_offsets"] = w.header.at(second).at("data_offsets"); },
      {path, first});
  bench.check_weights(
      [&](Safetensors& w) {
        const auto begin = w.header.at(first).at("data_offsets")[0].get<std::int64_t>();
        w.header[first]["data_offsets"] = {begin + 4, begin + 4 + 48 * 4};
      },
      {path});
  bench.check_weights(
      [&](Safetensors& w) {
        w.header[first]["data_offsets"] = {1LL << 60, (1LL << 60) + 48 * 4};
      },
      {path, first});
  bench.check_weights([&](Safetensors& w) { w.header[first]["shape"] = {-48}; }, {path, first});
  bench.check_weights(
      [&](Safetensors& w) {
        w.header[first]["shape"] = {1LL << 62, 1LL << 62};
      },
      {path, first});
  bench.check_weights([&](Safetensors& w) { w.header[first]["dtype"] = "F8_E5M2"; },
                      {path, first, "unsupported dtype", "'F8_E5M2'"});
  bench.check_weights([&](Safetensors& w) { w.header[first]["dtype"] = "I32"; },
                      {first, "floating-point", "found Int"});
  bench.check_weights(
      [&](Safetensors& w) {
        w.header[first]["shape"] = {6, 8};
      },
      {bench.model.path(), first, "expected [48]", "found [6, 8]"});
  bench.check_weights(
      [&](Safetensors& w) {
        w.header["transformer.h.0.attn.c_attn.bis"] = w.header.at(first);
        w.header.erase(first);
      },
      {"missing tensor '" + first + "'", bench.model.path(),
       "hint: did you mean 'transformer.h.0.attn.c_attn.bis'"});
  bench.check_weights(
      [&](Safetensors& w) {
        const std::size_t end = w.data.size();
        w.header["extra.lora_A"] = {{"dtype", "F32"}, {"shape", {1}}, {"data_offsets", {end, end + 4}}};
        w.data += std::string(4, '\0');
      },
      {"no place for", bench.model.path(), "found extra.lora_A", "hint: "});
  check_done(bench.command());
}

TEST_CASE("damaged pytorch_model.bin ends with 4, and nothing in it is executed") {
  const Bench bench("gpt2-bin");
  const std::string path = bench.file("pytorch_model.bin");
  const std::string bytes = read_bytes(path);
  const auto refused = [&](const std::string& damaged, const std::vector<std::string>& parts) {
    bench.model.write("pytorch_model.bin", damaged);
    bench.check(4, parts + std::vector<std::string>{bench.model.path()});
    bench.model.write("pytorch_model.bin", bytes);
  };
  refused("", {"found an empty file"});
  refused(bytes.substr(0, bytes.size() / 2), {"damaged torch.save archive", "hint: "});
  refused(std::string("\x80\x02}q\x00.", 6), {"a bare pickle"});
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  refused(tar, {"no file of torch.save that can be read", "as tar"});
  refused(read_bytes(fs::path(DEPTHLENS_TEST_DATA) / "torch_archives/function.pt"), {"relu"});
  const std::string witness = bench.model.beside("executed").string();
  const std::string code =
      "\x80\x02"
      "cos\nsystem\n(" +
      pickle_text("touch " + witness) + "tR.";
  refused(zip_archive({{"archive/data.pkl", code}, {"archive/version", "3\n"}}), {"os.system"});
  CHECK_FALSE(fs::exists(witness));
  refused(zip_archive({{"archive/version", "3\n"}}), {"data.pkl"});
  refused(zip_archive({{"archive/data.pkl", "\x80\x02}."}, {"archive/version", "3\n"}}), {"missing tensor"});

  const Bench sharded("llama-gqa-sharded");
  Json index = read_json(sharded.file("model.safetensors.index.json"));
  index["weight_map"]["model.norm.weight"] = "../model.safetensors";
  sharded.model.write("model.safetensors.index.json", index.dump());
  sharded.check(4, {"model.safetensors.index.json", "model.norm.weight", "../model.safetensors"});
}

TEST_CASE("a damaged or unfit tokenizer ends with 4") {
  const Bench bench;
  const std::string path = bench.file("tokenizer.json");
  const auto refused = [&](const OrderedJson& tokenizer, const std::vector<std::string>& parts) {
    bench.model.write("tokenizer.json", tokenizer.dump());
    bench.check(4, parts);
  };
  OrderedJson changed = small_tokenizer();
  bench.model.write("tokenizer.json", changed.dump().substr(0, 500));
  bench.check(4, {path, "not valid JSON"});
  changed["model"]["type"] = "WordPiece";
  refused(changed, {path, "WordPiece"});
  changed = small_tokenizer();
  changed["model"]["vocab"]["b"] = 1;
  refused(changed, {path, "two tokens with the id 1"});
  changed = small_tokenizer();
  changed["model"]["merges"].push_back("q z");
  refused(changed, {path, "qz"});
  changed = small_tokenizer();
  changed["model"]["vocab"]["e"] = 67;
  refused(changed, {bench.model.path(), "does not fit", "expected token ids below 67", "found 67 for 'e'"});

  bench.model.write("tokenizer.json", small_tokenizer().dump());
  bench.model.write("tokenizer_config.json", R"({"add_bos_token": "yes"})");
  bench.check(4, {bench.file("tokenizer_config.json"), "add_bos_token"});
  bench.model.remove("tokenizer_config.json");
  bench.model.remove("tokenizer.json");
  bench.model.write("tokenizer.model", std::string(1000, '\x07'));
  bench.check(4, {bench.file("tokenizer.model")});
}

TEST_CASE("a damaged or unfit lens ends with 4") {
  const Bench bench;
  const fs::path folder = bench.model.beside("lens");
  const auto refused = [&](const std::string& lens, const std::vector<std::string>& parts) {
    bench.check(4, parts, {"--lens", lens});
  };
  const std::string neox = (fs::path(DEPTHLENS_TEST_DATA) / "models/llama-gqa-sharded/lens").string();
  refused("tuned:" + neox + "/tuned",
          {"does not fit the model", neox + "/tuned/params.pt", "expected 3", "found 4"});
  refused("tuned:" + neox + "/tuned.safetensors", {"does not fit the model", neox});
  refused("jacobian:" + bench.model.lens("tuned.safetensors"), {"not a Jacobian lens"});
  refused("jacobian:" + bench.model.lens("tuned") + "/params.pt", {"not a Jacobian lens"});

  // Another width, missing and superfluous translators, numbers that are not finite.
  Safetensors tuned = Safetensors::read(bench.model.lens("tuned.safetensors"));
  const auto write_changed = [&](const Safetensors& changed) {
    const fs::path path = bench.model.beside("changed.safetensors");
    write_bytes(path, changed.bytes());
    return "tuned:" + path.string();
  };
  std::string name;
  for (const auto& item : tuned.header.items()) {
    if (contains(item.key(), "1") && contains(item.key(), "weight")) name = item.key();
  }
  REQUIRE_FALSE(name.empty());
  Safetensors changed = tuned;
  changed.header[name]["shape"] = {8, 32};
  refused(write_changed(changed),
          {"wrong shape", "changed.safetensors", name, "expected [16, 16]", "found [8, 32]"});
  changed = tuned;
  changed.header["9.weight"] = changed.header.at(name);
  changed.header.erase(name);
  refused(write_changed(changed), {"not a tuned lens", "without a gap", "without '" + name});
  changed = tuned;
  const auto begin = changed.header.at(name).at("data_offsets")[0].get<std::size_t>();
  changed.data.replace(begin, 8, std::string(8, '\xff'));  // not a number in every format
  refused(write_changed(changed), {"not finite", "changed.safetensors", name});

  // As files of torch.save.
  write_bytes(folder / "config.json", read_bytes(fs::path(bench.model.lens("tuned")) / "config.json"));
  write_bytes(folder / "params.pt", "no zip at all");
  refused("tuned:" + folder.string(), {(folder / "params.pt").string(), "no file of torch.save"});
  const std::string params = read_bytes(fs::path(bench.model.lens("tuned")) / "params.pt");
  write_bytes(folder / "params.pt", params.substr(0, params.size() - 300));
  refused("tuned:" + folder.string(), {(folder / "params.pt").string()});
  write_bytes(folder / "params.pt", params);
  write_bytes(folder / "config.json", "{}");
  refused("tuned:" + folder.string(), {(folder / "config.json").string(), "d_model"});
  fs::remove(folder / "config.json");
  bench.check(3, {(folder / "config.json").string()}, {"--lens", "tuned:" + folder.string()});
  refused("jacobian:" + bench.input, {bench.input, "no file of torch.save"});
}

TEST_CASE(
    "weights that are not numbers end with 4 and the tensor's name, numbers that are too large with 5") {
  const Bench bench;
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const std::string name : {"transformer.h.1.mlp.c_fc.weight", "transformer.ln_f.weight"}) {
      Safetensors weights = Bench().model.weights();
      overwrite_values(weights, name, value, 3);
      bench.model.write("model.safetensors", weights.bytes());
      bench.check(4, {"not finite", bench.file("model.safetensors") + ": " + name});
    }
  }
  check_error({"show", "the tide", "--model", bench.model.path()}, 4,
              {"not finite", "transformer.ln_f.weight"});

  // Of the first token of the text ("t"), and of one that is not in it ("z").
  const auto with_embedding = [&](std::size_t token, float value) {
    Safetensors weights = Bench().model.weights();
    overwrite_values(weights, "transformer.wte.weight", value, 1, 16 * token + 3);
    bench.model.write("model.safetensors", weights.bytes());
  };
  const auto id_of = [](const std::string& letter) {
    return small_tokenizer().at("model").at("vocab").at(letter).get<std::size_t>();
  };
  with_embedding(id_of("t"), 1e30F);
  bench.check(5, {"the residual stream is too large for float32", "layer 0, document 0, window "});
  with_embedding(id_of("z"), 1e9F);
  const std::string token = "for token " + std::to_string(id_of("z"));
  bench.check(5, {"the logits are too large for float32", "layer ", token, "damaged"});
}

TEST_CASE("a run folder that cannot be written ends with 6") {
  const Bench bench;
  const auto refused = [&](const std::string& out, const std::vector<std::string>& parts) {
    check_error({"analyze", "--model", bench.model.path(), "--input", bench.input, "--out", out}, 6, parts);
  };
  check_error({"analyze", "--model", bench.model.path(), "--input", bench.input, "--out", bench.input}, 2,
              {"would replace what is read", "--input " + bench.input});
  for (const char* name : {"run.json", "jacobian_sums.safetensors", "convergence.jsonl"}) {
    const std::string inside = (bench.out / name).string();
    write_bytes(inside, "the tide");
    check_error({"analyze", "--model", bench.model.path(), "--input", inside, "--out", bench.out.string()}, 2,
                {"would replace what is read", "--input " + inside});
    fs::remove(inside);
  }
  refused(bench.input + "/out", {"cannot write", bench.input});
  refused("/proc/out", {"cannot write", "/proc/out"});
  refused("/dev/full", {"cannot write", "/dev/full"});
  write_bytes(bench.out / "tables", "a file in the way");
  refused(bench.out.string(), {"cannot write", (bench.out / "tables").string()});
  fs::remove_all(bench.out);
  for (const char* name : {"/proc/counts.json", "/proc/missing/counts.csv"})
    check_error({"count-tokens", "--model", bench.model.path(), "--input", bench.input, "--out", name}, 6,
                {"cannot write", fs::path(name).parent_path().string()});
  fs::create_directory(bench.model.beside("counts.json"));
  check_error({"count-tokens", "--model", bench.model.path(), "--input", bench.input, "--out",
               bench.model.beside("counts.json").string()},
              6, {"counts.json"});
  CHECK(fs::is_empty(bench.model.beside("counts.json")));
}

TEST_CASE("a disk that fills ends with 6, leaves no half of a file, and the run that was there whole") {
  const Bench bench;
  // A limit on the size of files, in the middle of the records.
  check_error(Start{.arguments = bench.command({"--top-k", "67"}), .largest_file = 100'000}, 6,
              {"cannot write", ".records"});
  check_nothing_written(bench.out);

  check_done(bench.command());
  const auto before = files_below(bench.out);
  // Its page is the largest file of a run without records, its summary the largest of one without a page.
  for (const Words& more : {Words{"--records", "none"}, Words{"--records", "none", "--report", "no"}}) {
    const Bench other;
    check_done(other.command(more));
    std::uint64_t largest = 0;
    for (const auto& [name, bytes] : files_below(other.out))
      largest = std::max<std::uint64_t>(largest, bytes.size());
    check_error(Start{.arguments = bench.command(more + Words{"--overwrite"}), .largest_file = largest / 2},
                6, {"cannot write"});
    CHECK(files_below(bench.out) == before);
  }
  // Something that is in the way of a file.
  fs::create_directories(bench.out / "tables/settling.depth.csv.aside");
  fs::remove(bench.out / "tables/settling.depth.csv");
  fs::rename(bench.out / "tables/settling.depth.csv.aside", bench.out / "tables/settling.depth.csv");
  check_error(bench.command({"--overwrite"}), 6, {"cannot write", "settling.depth.csv", "a folder"});
  CHECK(read_bytes(bench.out / "records.jsonl") == before.at("records.jsonl"));
  fs::remove(bench.out / "tables/settling.depth.csv");
  check_done(bench.command({"--overwrite"}));
  CHECK(files_below(bench.out).size() == before.size());
}

TEST_CASE("an interrupted run leaves the one that it was to replace, and can be gone on with") {
  const LongRun run;
  const fs::path& out = run.out;
  const Words command = run.command({"--max-records", "0"});
  check_done(command + Words{"--limit", "3"});
  const auto before = files_below(out);
  const Result result = run.sent(Start{.arguments = command + Words{"--overwrite"}}, {SIGINT});
  INFO(result.err);
  CHECK(result.status == 130);
  CHECK(contains(result.err, "holds the run that was to be replaced"));
  for (const auto& [name, bytes] : before) {
    INFO(name);
    CHECK(read_bytes(out / name) == bytes);
  }
  check_done(command + Words{"--resume"});
  CHECK(read_json(out / "run.json").at("counts").at("documents") == 6000);
  CHECK_FALSE(fs::exists(out / "parts"));
}

TEST_CASE("SIGINT and SIGTERM save what was finished and end with 130") {
  for (const int signal : {SIGINT, SIGTERM}) {
    INFO("signal " << signal);
    const LongRun interrupted;
    const fs::path& out = interrupted.out;
    const Result result = interrupted.sent(
        Start{.arguments = interrupted.command({"--top-k", "67", "--max-records", "0"})}, {signal});
    INFO(result.err);
    CHECK_FALSE(result.timed_out);
    CHECK(result.status == 130);
    CHECK(contains(result.err, "depthlens: error: interrupted\n"));
    CHECK(contains(result.err, "a second Ctrl-C stops at once"));
    CHECK(contains(result.err, "status partial"));
    const Json run = read_json(out / "run.json");
    CHECK(run.at("status") == "partial");
    const auto positions = run.at("counts").at("positions").get<std::int64_t>();
    CHECK(positions > 0);
    CHECK(run.at("counts").at("records") == positions);
    CHECK(run.at("counts").at("documents") == 6000);
    CHECK(positions < run.at("inputs")[0].at("tokens").get<std::int64_t>());
    std::int64_t lines = 0;
    const std::string records = read_bytes(out / "records.jsonl");
    for (const char c : records) lines += c == '\n' ? 1 : 0;
    CHECK(lines == positions);
    const Json summary = read_json(out / "summary.json");
    CHECK(summary.at("tables").at("lens.quality").at("rows")[0][2] == positions);
    for (const auto& item : fs::recursive_directory_iterator(out)) CHECK(item.path().extension() != ".tmp");
    CHECK(has_saved_parts(out));  // to go on with
    CHECK_FALSE(fs::exists(out / "parts" / "lock"));
  }
}

TEST_CASE("a signal that comes when everything is there does not make a failure of it") {
  const SmallModel model;
  const std::string input = model.beside("text.txt").string();
  write_bytes(input, small_text());
  const auto out = [&](const std::string& name) { return model.beside(name).string(); };
  const auto command = [&](const std::string& name, const std::string& to, const Words& more = {}) {
    return Words{name, "--model", model.path(), "--input", input, "--out", out(to)} + more;
  };
  for (const std::string share : {"0", "1"})
    check_done(command("analyze", "share-" + share, {"--shard", share + "/2"}));
  const Words short_training = {"--steps",      "2", "--tokens-per-step",   "8",
                                "--max-length", "8", "--validation-tokens", "0"};
  struct Case {
    Words words;
    std::string last;  // of the files, when it is whole
  };
  const std::vector<Case> cases = {
      {command("analyze", "run"), "run/run.json"},
      {command("eval-lens", "quality"), "quality/run.json"},
      {{"merge", out("share-0"), out("share-1"), "--out", out("merged")}, "merged/run.json"},
      {command("train-lens", "lens", short_training), "lens/training.json"},
      {{"train-lens", "--type", "jacobian", "--prompts", "1", "--max-length", "23", "--input",
        "data/corpora/bread.txt", "--out", out("jacobians")},
       "jacobians/jacobian_training.json"}};
  for (const auto& [words, last] : cases) {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
      INFO(words[0] << ", signal " << signal);
      fs::remove_all(fs::path(out(last)).parent_path());
      Process process(Start{.arguments = words});
      while (process.running() && !fs::exists(out(last))) ::usleep(50);
      while (process.running()) {
        process.send(signal);
        ::usleep(500);
      }
      const Result result = process.wait();
      INFO(result.err);
      CHECK(result.status == 0);
      CHECK(result.signal == 0);
      CHECK_FALSE(contains(result.err, "error"));
      CHECK_FALSE(contains(result.err, "Ctrl-C"));
      CHECK(fs::exists(out(last)));
    }
  }
}

TEST_CASE("a run folder that vanishes meanwhile cannot be written: 6") {
  for (const Words& more : {Words{"--max-records", "0"}, Words{"--max-records", "0", "--shard", "0/2"}}) {
    const LongRun run;
    Process process(Start{.arguments = run.command(more)});
    await_saved_parts(process, run.out);
    std::error_code ignored;
    for (int i = 0; i < 1000 && fs::exists(run.out); ++i) fs::remove_all(run.out, ignored);
    const Result result = process.wait();
    INFO(result.err);
    CHECK(result.status == 6);
    CHECK(contains(result.err, "depthlens: error: cannot "));
    CHECK(contains(result.err, run.out.string()));
    CHECK_FALSE(fs::exists(run.out / "run.json"));
  }
}

TEST_CASE("a run whose messages nobody reads any more is saved, and goes on") {
  const LongRun run;
  CHECK(run.sent(Start{.arguments = run.command(), .unread = {1, 2}}, {SIGINT}).status == 130);
  CHECK(run.info().at("status") == "partial");
  const Words resumed = run.command({"--resume", "--limit", "0"});
  CHECK(run_program(Start{.arguments = resumed, .unread = {2}}).status == 0);
  CHECK(run.info().at("status") == "complete");
}

TEST_CASE("SIGHUP saves what was finished and ends with 129, however often it comes") {
  const LongRun run;
  const Result result = run.sent(Start{.arguments = run.command()}, {SIGHUP, SIGHUP});
  INFO(result.err);
  CHECK(result.status == 129);
  CHECK(contains(result.err, "depthlens: error: interrupted\n"));
  CHECK(run.info().at("status") == "partial");
}

TEST_CASE("a SIGHUP that was ignored when the program started stays so") {
  const LongRun run;
  const Result result = run.sent(Start{.arguments = run.command(), .ignored = {SIGHUP}}, {SIGHUP});
  INFO(result.err);
  CHECK(result.status == 0);
  CHECK(run.info().at("status") == "complete");
}

TEST_CASE("a result that nobody reads ends the program quietly, as SIGPIPE would") {
  for (const Words& words : std::vector<Words>{{"info", "data/demo"},
                                               {"analyze", "--help"},
                                               {"--version"},
                                               {"show", "The tide", "--last", "1"}}) {
    INFO(words[0]);
    const Result result = run_program(Start{.arguments = words, .unread = {1}});
    CHECK(result.status == 141);
    CHECK_FALSE(contains(result.err, "error"));
  }
}

TEST_CASE("standard streams that are closed do not stand for the files of a run") {
  const Result result = run_program(Start{.arguments = {"info", "data/demo"}, .closed = {0, 1}});
  CHECK(result.status == 6);
  CHECK(contains(result.err, "cannot write the result to stdout"));
  const SmallModel model;
  write_bytes(model.beside("text.txt"), small_text());
  const Words command = {"analyze", "--model", model.path(), "--input", model.beside("text.txt").string()};
  check_done(command + Words{"--out", model.beside("a").string()});
  const Result closed = run_program(
      Start{.arguments = command + Words{"--out", model.beside("b").string()}, .closed = {0, 1, 2}});
  CHECK(closed.status == 0);
  for (const char* name : {"records.jsonl", "summary.json", "report.html"}) {
    INFO(name);
    CHECK(read_bytes(model.beside("a") / name) == read_bytes(model.beside("b") / name));
  }
}

TEST_CASE("the program ends with the process that DEPTHLENS_PARENT names") {
  const LongRun run;
  SECTION("one that is gone already") {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    REQUIRE(::waitpid(child, nullptr, 0) == child);
    const Result result = run_program(
        Start{.arguments = run.command(), .environment = {{"DEPTHLENS_PARENT", std::to_string(child)}}});
    INFO(result.err);
    CHECK(result.status == 130);
    check_nothing_written(run.out);
  }
  SECTION("what is no number of a process means nothing") {
    for (const char* text : {"", "x", "0", "1", "-5"}) {
      INFO(text);
      CHECK(run_program(Start{.arguments = {"--version"}, .environment = {{"DEPTHLENS_PARENT", text}}})
                .status == 0);
    }
  }
}

TEST_CASE("an interruption while tokens are counted leaves no run") {
  SmallModel model;
  std::string text;
  for (int i = 0; i < 60000; ++i) text += small_text() + "\n";
  const std::string input = model.beside("very-long.txt").string();
  write_bytes(input, text);
  for (const std::string command : {"count-tokens", "analyze"}) {
    INFO(command);
    const fs::path out = model.beside("out-" + command + (command == "count-tokens" ? ".json" : ""));
    Process process(Start{.arguments = {command, "--model", model.path(), "--input", input, "--out",
                                        out.string(), "--verbose"}});
    while (process.running() && !(process.catches(SIGINT) && (command == "count-tokens" || fs::exists(out))))
      ::usleep(2000);
    REQUIRE(process.running());
    process.send(SIGINT);
    const Result result = process.wait();
    INFO(result.err);
    CHECK(result.status == 130);
    CHECK(contains(result.err, "depthlens: error: interrupted\n"));
    if (command == "analyze") check_nothing_written(out);
    if (command != "analyze") CHECK_FALSE(fs::exists(out));
  }
}

}  // namespace depthlens::test
