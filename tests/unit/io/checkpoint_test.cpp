// The weight files of a folder: which are taken, shards and their index, what is missing.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <limits>

#include "depthlens/io/model_files.hpp"
#include "depthlens/io/writers.hpp"
#include "depthlens/util/log.hpp"
#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;
using io::open_checkpoint;
using io::TensorFile;
using util::ErrorCode;

namespace {

/// A safetensors file of one byte tensor per name, each holding `value`.
std::string bytes_named(const std::vector<std::string>& names, char value) {
  std::vector<std::string> entries;
  for (std::size_t i = 0; i < names.size(); ++i) {
    entries.push_back(
        util::cat('"', names[i], R"(":{"dtype":"U8","shape":[1],"data_offsets":[)", i, ",", i + 1, "]}"));
  }
  return safetensors(util::cat("{", util::join(entries, ","), "}"), std::string(names.size(), value));
}

std::string torch_with(const std::string& name, float value) {
  const std::string x = pickle::tensor({.num_stored = 1, .shape = {1}, .strides = {1}});
  return archive({{"data.pkl", pickle::kStart + pickle::dictionary({pickle::text(name), x}) + pickle::kStop},
                  {"data/0", bytes_of<float>({value})}});
}

/// Opens a folder and checks that exactly one warning came, with these parts; none where there are none.
TensorFile open_and_check_told(const TemporaryFolder& folder, const std::vector<std::string>& parts) {
  const std::size_t before = util::warnings().size();
  TensorFile file = open_checkpoint(folder.path());
  const std::vector<std::string> all = util::warnings();
  INFO((all.empty() ? "" : all.back()));
  REQUIRE(all.size() == before + (parts.empty() ? 0 : 1));
  for (const std::string& part : parts) CHECK(all.back().find(part) != std::string::npos);
  return file;
}

double first_value(const TensorFile& file, const std::string& name) {
  return values_of(file.view(name)).at(0);
}

}  // namespace

TEST_CASE("checkpoint: files are looked for in the order of transformers") {
  const TemporaryFolder folder;
  folder.write("bin-shard.bin", torch_with("x", 4));
  folder.write("pytorch_model.bin.index.json", R"({"weight_map":{"x":"bin-shard.bin"}})");
  CHECK(first_value(open_checkpoint(folder.path()), "x") == 4);
  folder.write("pytorch_model.bin", torch_with("x", 3));
  CHECK(first_value(open_checkpoint(folder.path()), "x") == 3);
  folder.write("shard.safetensors", bytes_named({"x"}, 2));
  folder.write("model.safetensors.index.json", R"({"weight_map":{"x":"shard.safetensors"}})");
  CHECK(first_value(open_checkpoint(folder.path()), "x") == 2);
  folder.write("model.safetensors", bytes_named({"x"}, 1));
  CHECK(first_value(open_checkpoint(folder.path()), "x") == 1);
}

TEST_CASE("checkpoint: shards are joined as the index says") {
  const TemporaryFolder folder;
  folder.write("s1.safetensors", bytes_named({"a", "tied", "unnamed"}, 1));
  folder.write("s2.safetensors", bytes_named({"b", "tied"}, 2));
  folder.write("model.safetensors.index.json",
               R"({"metadata":{"total_size":5},"weight_map":{"a":"s1.safetensors","b":"s2.safetensors",)"
               R"("tied":"s2.safetensors"}})");
  const TensorFile file = open_checkpoint(folder.path());
  CHECK(file.entries().size() == 3);
  CHECK(first_value(file, "a") == 1);
  CHECK(first_value(file, "b") == 2);
  CHECK(first_value(file, "tied") == 2);
  CHECK(file.source() == folder.path().string());
}

TEST_CASE("checkpoint: the files that a model is read from") {
  using Names = std::vector<std::string>;
  const TemporaryFolder folder;
  folder.write("pytorch_model.bin", "");
  folder.write("other.safetensors", "");
  CHECK(io::model_files(folder.path()) == Names{"config.json", "pytorch_model.bin"});
  folder.write("model.safetensors.index.json",
               R"({"weight_map":{"a":"s2.safetensors","b":"s1.safetensors","c":"s2.safetensors"}})");
  CHECK(io::model_files(folder.path()) ==
        Names{"config.json", "model.safetensors.index.json", "s1.safetensors", "s2.safetensors"});
  folder.write("model.safetensors", "");
  CHECK(io::model_files(folder.path()) == Names{"config.json", "model.safetensors"});
  check_error(ErrorCode::kInput, {"no weights in"}, [] { io::model_files("/"); });
}

TEST_CASE("checkpoint: config.json may name the weights") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", bytes_named({"x"}, 1));
  folder.write("weights/tuned.safetensors", bytes_named({"x"}, 2));
  folder.write("weights/shard.safetensors", bytes_named({"x"}, 3));
  folder.write("weights/all.safetensors.index.json", R"({"weight_map":{"x":"./weights/shard.safetensors"}})");
  const auto named = [&](const std::string& value) {
    folder.write("config.json", R"({"transformers_weights": )" + value + "}");
  };
  named("null");
  CHECK(first_value(open_checkpoint(folder.path()), "x") == 1);
  named(R"("weights/tuned.safetensors")");
  CHECK(first_value(open_checkpoint(folder.path()), "x") == 2);
  CHECK(io::model_files(folder.path()).at(1) == "weights/tuned.safetensors");
  named(R"("./weights/all.safetensors.index.json")");  // its shards lie in the model's folder
  CHECK(first_value(open_checkpoint(folder.path()), "x") == 3);
  named(R"("other.safetensors")");
  check_error(ErrorCode::kInput, {"'other.safetensors'", "config.json names"},
              [&] { open_checkpoint(folder.path()); });
  for (const char* value : {R"("../model.safetensors")", R"("/model.safetensors")", R"("model.bin")", "3"}) {
    INFO(value);
    named(value);
    check_error(ErrorCode::kFormat, {"transformers_weights"}, [&] { open_checkpoint(folder.path()); });
  }
}

TEST_CASE("checkpoint: an index that does not fit its shards") {
  const TemporaryFolder folder;
  const auto refuse = [&](const std::string& index, ErrorCode code, const std::vector<std::string>& parts) {
    folder.write("model.safetensors.index.json", index);
    check_error(code, parts, [&] { open_checkpoint(folder.path()); });
  };
  folder.write("s1.safetensors", bytes_named({"a"}, 1));
  refuse(R"({"weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}})", ErrorCode::kInput,
         {"1 of 2 shards are missing", "index.json", "'s2.safetensors' beside it"});
  refuse(R"({"weight_map":{"a":"1","b":"2","c":"3","d":"4","e":"5"}})", ErrorCode::kInput,
         {"5 of 5 shards", "'1', '2', '3' and 2 more"});
  refuse(R"({"weight_map":{"a":"s1.safetensors","b":"s1.safetensors","c":"s1.safetensors"}})",
         ErrorCode::kFormat, {"2 of 3 tensors are not in the shard", "'b', 'c'"});
  for (const std::string name :
       {"../s1.safetensors", "/etc/passwd", "a/../b", "..", ".", "", "a\\\\b", "a\\u0000b", "config.json"}) {
    INFO(name);
    refuse(R"({"weight_map":{"a":")" + name + "\"}}", ErrorCode::kFormat,
           {"weight_map: a", "a file of weights in the same folder or below it"});
  }
  refuse(R"({"weight_map":{"a":7}})", ErrorCode::kFormat, {"a string"});
  refuse(R"({"weight_map":{}})", ErrorCode::kFormat, {"weight_map", "tensors and their files"});
  refuse(R"({"weight_map":[]})", ErrorCode::kFormat, {"an object"});
  refuse(R"({})", ErrorCode::kFormat, {"missing key 'weight_map'"});
  refuse(R"({"weight_map":{"a":"s1.safetensors","a":"s2.safetensors"}})", ErrorCode::kFormat, {"'a' twice"});
  refuse("", ErrorCode::kFormat, {"not valid JSON"});
}

TEST_CASE("checkpoint: a folder without weights says what was looked for and what is there") {
  const auto refuse = [](const std::string& file, const std::vector<std::string>& parts) {
    const TemporaryFolder folder;
    folder.write("config.json", "{}");
    if (!file.empty()) folder.write(file, "x");
    check_error(ErrorCode::kInput, parts, [&] { open_checkpoint(folder.path()); });
  };
  refuse("", {"no weights in", "model.safetensors, model.safetensors.index.json, pytorch_model.bin or"});
  refuse("model-q4.gguf", {"'model-q4.gguf'", "not read"});
  refuse("tf_model.h5", {"'tf_model.h5'"});
  refuse("flax_model.msgpack", {"'flax_model.msgpack'"});
  refuse("consolidated.00.pth", {"'consolidated.00.pth'"});
  refuse("adapter_model.safetensors", {"only an adapter"});
  check_error(ErrorCode::kInput, {"no folder '/nonexistent/x'"}, [] { open_checkpoint("/nonexistent/x"); });
}

TEST_CASE("checkpoint: other weights in the folder are reported where they hold other values") {
  const std::string index = R"({"weight_map":{"x":"s1.safetensors","y":"s2.safetensors"}})";
  const auto check = [&](const std::map<std::string, std::string>& files,
                         const std::vector<std::string>& parts) {
    const TemporaryFolder folder;
    folder.write("model.safetensors", bytes_named({"x", "y"}, 1));
    for (const auto& [name, bytes] : files) folder.write(name, bytes);
    CHECK(first_value(open_and_check_told(folder, parts), "y") == 1);
  };
  const auto shards = [&](char x, char y) -> std::map<std::string, std::string> {
    return {{"model.safetensors.index.json", index},
            {"s1.safetensors", bytes_named({"x"}, x)},
            {"s2.safetensors", bytes_named({"y"}, y)}};
  };
  check(shards(1, 2), {"model.safetensors is read", "'s2.safetensors' beside it", "'y'", "ignored"});
  check(shards(1, 1), {});
  check({{"model.safetensors.index.json",
          R"({"weight_map":{"x":"model.safetensors","y":"model.safetensors"}})"}},
        {});
  check({{"model.safetensors.index.json", index}}, {});  // its shards are not there
  check({{"model.safetensors.index.json", "{"}}, {});
  check({{"pytorch_model.bin", torch_with("x", 5)}}, {"'pytorch_model.bin' beside it", "'x'"});
  check({{"pytorch_model.bin", torch_with("other", 5)}}, {});
  check({{"pytorch_model.bin", "an older format"}}, {});
  check({{"pytorch_model-1.bin", torch_with("x", 6)}, {"pytorch_model-2.bin", torch_with("y", 7)}},
        {"'pytorch_model-1.bin', 'pytorch_model-2.bin' beside it"});
  check({{"model.fp16.safetensors", bytes_named({"x"}, 1)}, {"consolidated.pth", "x"}, {"model.gguf", "x"}},
        {});
  check({{"model.ema.safetensors", bytes_named({"x"}, 9)}}, {"'model.ema.safetensors'"});
  check({{"optimizer.bin", torch_with("x", 5)}, {"training_args.bin", torch_with("x", 5)}}, {});
}

TEST_CASE("checkpoint: the same weights in a coarser type are the same") {
  const TemporaryFolder folder;
  const std::string header = R"({"x":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}})";
  folder.write("model.safetensors", safetensors(header, "\x80\x3f"));  // 1
  folder.write("pytorch_model.bin", torch_with("x", 1.001F));          // rounds to 1
  open_and_check_told(folder, {});
  folder.write("pytorch_model.bin", torch_with("x", 1.1F));
  open_and_check_told(folder, {"'x'"});
}

TEST_CASE("checkpoint: what shards hold beside the tensors that the index names") {
  const auto check = [](const std::string& first, const std::string& second,
                        const std::vector<std::string>& parts) {
    const TemporaryFolder folder;
    folder.write("s1.safetensors", first);
    folder.write("s2.safetensors", second);
    folder.write("model.safetensors.index.json",
                 R"({"weight_map":{"a":"s1.safetensors","b":"s2.safetensors","c":"s1.safetensors"}})");
    const TensorFile file = open_and_check_told(folder, parts);
    CHECK(file.entries().size() == 3);
    CHECK(first_value(file, "a") == 1);
  };
  check(bytes_named({"a", "c"}, 1), bytes_named({"b"}, 2), {});
  check(bytes_named({"a", "c"}, 1), bytes_named({"a", "b", "c"}, 1), {});
  check(bytes_named({"a", "c"}, 1), bytes_named({"a", "b", "c"}, 2),
        {"index.json", "2 tensors ('a', 'c') have other values", "ignored"});
  check(bytes_named({"a", "c"}, 1), bytes_named({"b", "d"}, 2),
        {"1 tensors in the shards ('d') are not named"});
}

TEST_CASE("checkpoint: what changes a model and stands beside its weights") {
  for (const std::string name : {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"}) {
    const TemporaryFolder folder;
    folder.write("model.safetensors", bytes_named({"x"}, 1));
    folder.write(name, "{}");
    open_and_check_told(folder, {name, "adapter", "not applied"});
  }
  for (const std::string name : {"quantize_config.json", "quant_config.json", "hf_quant_config.json"}) {
    const TemporaryFolder folder;
    folder.write("model.safetensors", bytes_named({"x"}, 1));
    folder.write(name, "{}");
    open_and_check_told(folder, {name, "as they are stored"});
  }
}

TEST_CASE("checkpoint: equal values in other types, places and layouts") {
  const TemporaryFolder folder;
  const at::Tensor values = at::arange(3 * (1 << 20) / 2).to(at::kFloat).view({3, 1 << 19});
  at::Tensor changed = values.clone();
  changed[2][7] += 0.5;
  io::write_safetensors(folder.path() / "x.safetensors",
                        {{"a", values},
                         {"b", values.to(at::kDouble)},
                         {"c", changed},
                         {"d", values.view({1 << 19, 3})},
                         {"e", at::full({2}, std::numeric_limits<float>::infinity())}},
                        {});
  const TensorFile file = TensorFile::open_safetensors(folder.path() / "x.safetensors");
  const auto same = [&](const std::string& a, const std::string& b) {
    return io::same_values(file.entries().at(a), file.entries().at(b));
  };
  CHECK(same("a", "a"));
  CHECK(same("a", "b"));
  CHECK_FALSE(same("a", "c"));
  CHECK_FALSE(same("a", "d"));
  CHECK(io::all_finite(file.entries().at("c")));
  CHECK_FALSE(io::all_finite(file.entries().at("e")));
}

TEST_CASE("checkpoint: numbers in 8 bits are read as products with their scales, in bfloat16") {
  const auto in_8_bits = [](std::vector<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    return ((at::arange(count) - count / 2) * 0.37).to(at::kFloat8_e4m3fn).view(shape);
  };
  const at::Tensor x = in_8_bits({5, 7}), several = in_8_bits({2, 5, 7});
  const auto factors = [](std::vector<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    return (0.013 + 0.0071 * at::arange(count)).to(at::kFloat).view(shape);
  };
  const TemporaryFolder folder;
  const auto opened = [&](const io::NamedTensors& tensors, const io::ScaleForm& form) {
    io::write_safetensors(folder.path() / "x.safetensors", tensors, {});
    TensorFile file = TensorFile::open_safetensors(folder.path() / "x.safetensors");
    file.join_scales(form, [](const std::string& name) { return name != "unread"; });
    return file;
  };
  /// What each number is multiplied by, whole.
  const auto check = [&](const TensorFile& file, const at::Tensor& numbers, const at::Tensor& of_each) {
    const at::Tensor expected = (numbers.to(at::kFloat) * of_each).to(at::kBFloat16);
    CHECK(file.entries().size() == 1);
    CHECK(io::value_type(file.entries().at("w")) == at::kBFloat16);
    CHECK(at::equal(file.view("w"), expected));
    CHECK(at::equal(file.load("w", at::kFloat), expected.to(at::kFloat)));
    CHECK(at::equal(file.load("w", at::kBFloat16), expected));
    CHECK(io::same_values(file.entries().at("w"), file.entries().at("w")));
    CHECK(io::all_finite(file.entries().at("w")));
    if (numbers.dim() == 2) {
      CHECK(at::equal(file.load_transposed("w", at::kFloat), expected.t().to(at::kFloat)));
    } else {
      CHECK(at::equal(io::tensor_view(io::selected(file.entries().at("w"), 1)), expected[1]));
    }
  };
  const auto tiled = [](const at::Tensor& of_tiles) {
    return of_tiles.repeat_interleave(2, -2).narrow(-2, 0, 5).repeat_interleave(3, -1).narrow(-1, 0, 7);
  };
  const io::ScaleForm tiles{.suffix = "_scale_inv", .rows = 2, .columns = 3}, rows{.suffix = "_scale"};
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kFloat8_e8m0fnu}) {
    const at::Tensor f = factors({3, 3}).to(type), g = factors({2, 3, 3}).to(type);
    check(opened({{"w", x}, {"w_scale_inv", f}}, tiles), x, tiled(f.to(at::kFloat)));
    check(opened({{"w", several}, {"w_scale_inv", g}}, tiles), several, tiled(g.to(at::kFloat)));
  }
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{5}, {5, 1}})
    check(opened({{"w", x}, {"w_scale", factors(shape)}}, rows), x, factors({5, 1}));
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{}, {1}, {1, 1}})
    check(opened({{"w", x}, {"w_scale", factors(shape)}}, rows), x, factors({1, 1}));
  check(opened({{"w", several}, {"w_scale", factors({2, 5, 1})}}, rows), several, factors({2, 5, 1}));
  check(opened({{"w", several}, {"w_scale", factors({2})}}, rows), several, factors({2, 1, 1}));

  CHECK(opened({{"w", x}, {"w_scale", factors({5})}, {"unread", x}}, rows).entries().size() == 2);
  // A tile wider than the matrix.
  check(opened({{"w", x}, {"w_scale", factors({3, 1})}}, {.suffix = "_scale", .rows = 2, .columns = 1 << 24}),
        x, factors({3, 1}).repeat_interleave(2, 0).narrow(0, 0, 5));

  // Rows in several pieces.
  const at::Tensor large = in_8_bits({1025, 2048});
  check(opened({{"w", large}, {"w_scale", factors({1025})}}, rows), large, factors({1025, 1}));

  const auto refused = [&](const io::NamedTensors& tensors, const io::ScaleForm& form,
                           const std::vector<std::string>& parts) {
    check_error(ErrorCode::kFormat, parts, [&] { opened(tensors, form); });
  };
  refused({{"w", x}}, tiles, {"missing tensor 'w_scale_inv'", "'w', which is stored in 8 bits"});
  refused({{"w", x}, {"w_scale_inv", factors({2, 3})}}, tiles, {"wrong shape", "[3, 3]", "[2, 3]"});
  refused({{"w", x}, {"w_scale", factors({7})}}, rows, {"wrong shape", "[1, 1]", "[7]"});
  refused({{"w", x}, {"w_scale", factors({1, 5})}}, rows, {"wrong shape", "[1, 1]", "[1, 5]"});
  refused({{"w", several}, {"w_scale", factors({2, 1, 5})}}, rows, {"wrong shape", "[2, 1, 1]", "[2, 1, 5]"});
  refused({{"w", x}, {"w_scale", factors({1})}}, tiles,
          {"missing tensor 'w_scale_inv'", "there is 'w_scale'"});
  refused({{"w", x}, {"w_scale", at::arange(5)}}, rows, {"no numbers that can be read"});
  refused({{"w", x.view({35})}, {"w_scale", factors({1})}}, rows, {"no matrix", "[35]"});
  refused({{"w", in_8_bits({5, 0})}, {"w_scale", factors({1})}}, rows, {"no matrix", "[5, 0]"});

  io::write_safetensors(folder.path() / "x.safetensors", {{"w", x}}, {});
  const TensorFile alone = TensorFile::open_safetensors(folder.path() / "x.safetensors");
  check_error(ErrorCode::kFormat, {"without scales", "x.safetensors"}, [&] { alone.view("w"); });
  check_error(ErrorCode::kFormat, {"without scales"}, [&] { alone.load("w", at::kFloat); });
  // In two shards, before scales are looked for.
  at::Tensor changed = x.clone();
  changed[4][6] = 1;
  io::write_safetensors(folder.path() / "y.safetensors",
                        {{"same", x}, {"other", changed}, {"bytes", x.view(at::kByte)}}, {});
  const TensorFile others = TensorFile::open_safetensors(folder.path() / "y.safetensors");
  const auto same = [&](const char* name) {
    return io::same_values(alone.entries().at("w"), others.entries().at(name));
  };
  CHECK(same("same"));
  CHECK_FALSE(same("other"));
  CHECK_FALSE(same("bytes"));
}
