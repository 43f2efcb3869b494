// Lens files: what is read is written back bit for bit, in every format and through every other.
#include "depthlens/lens/lens_file.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <string>
#include <vector>

#include "depthlens/io/writers.hpp"
#include "depthlens/lens/lens.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "support/catch.hpp"
#include "support/devices.hpp"
#include "support/temporary_folder.hpp"
#include "support/warnings.hpp"

using namespace depthlens;
using test::TemporaryFolder;
using util::ErrorCode;
namespace fs = std::filesystem;

namespace {

fs::path golden_lens(const std::string& variant) {
  return fs::path(DEPTHLENS_TEST_DATA) / "models" / variant / "lens";
}

bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && at::equal(a, b);
}

void check_equal(const lens::StoredTunedLens& a, const lens::StoredTunedLens& b) {
  REQUIRE(a.weights.size() == b.weights.size());
  REQUIRE(a.biases.size() == b.biases.size());
  for (std::size_t i = 0; i < a.weights.size(); ++i) CHECK(same(a.weights[i], b.weights[i]));
  for (std::size_t i = 0; i < a.biases.size(); ++i) CHECK(same(a.biases[i], b.biases[i]));
  CHECK((a.provenance == b.provenance));
  CHECK(a.config == b.config);
}

void check_equal(const lens::StoredJacobianLens& a, const lens::StoredJacobianLens& b) {
  REQUIRE(a.jacobians.size() == b.jacobians.size());
  for (const auto& [block, jacobian] : a.jacobians) CHECK(same(jacobian, b.jacobians.at(block)));
  CHECK((a.provenance == b.provenance));
  CHECK(a.fields.dump() == b.fields.dump());
}

/// The action must throw an error of that code whose message holds `part`.
template <typename Action>
void check_error(ErrorCode code, const std::string& part, Action action) {
  try {
    action();
  } catch (const util::Error& error) {
    INFO(error.what());
    CHECK(error.code() == code);
    CHECK(std::string(error.what()).find(part) != std::string::npos);
    return;
  }
  FAIL("no error");
}

lens::TunedParameters some_parameters(bool biased) {
  lens::TunedParameters parameters;
  parameters.weights = at::arange(3 * 4 * 4, at::kFloat).view({3, 4, 4}) / 7;
  if (biased) parameters.biases = at::arange(3 * 4, at::kFloat).view({3, 4}) / -3;
  return parameters;
}

std::size_t num_files(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("tuned lens: folder to safetensors to folder keeps tensors and configuration") {
  const TemporaryFolder work;
  for (const std::string variant : {"gpt2", "neox-parallel", "llama-gqa-sharded"}) {
    INFO(variant);
    const auto original = lens::read_tuned_lens(golden_lens(variant) / "tuned");
    CHECK(original.provenance.model == "golden/" + variant);
    const fs::path file = work.path() / (variant + ".safetensors");
    lens::write_tuned_lens_safetensors(file, original);
    check_equal(original, lens::read_tuned_lens(file));
    const fs::path folder = work.path() / variant;
    lens::write_tuned_lens_folder(folder, lens::read_tuned_lens(file));
    check_equal(original, lens::read_tuned_lens(folder));
    CHECK(util::read_file(folder / "config.json") ==
          util::read_file(golden_lens(variant) / "tuned" / "config.json"));
    CHECK(num_files(folder) == 2);
    // Through the old names as well.
    lens::write_tuned_lens_folder(folder, original, lens::TunedKeys::kLegacy);
    CHECK(io::TensorFile::open_torch(folder / "params.pt").has("input_translator.weight"));
    CHECK(io::TensorFile::open_torch(folder / "params.pt").has("layer_translators.0.bias"));
    check_equal(original, lens::read_tuned_lens(folder));
  }
  CHECK(num_files(work.path()) == 6);
}

TEST_CASE("tuned lens: every floating-point type is kept") {
  const TemporaryFolder work;
  for (const at::ScalarType dtype : {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
    lens::StoredTunedLens stored;
    for (int i = 0; i < 2; ++i) {
      stored.weights.push_back((at::arange(9, at::kDouble).view({3, 3}) / (7 + i)).to(dtype).t());
      stored.biases.push_back((at::arange(3, at::kDouble) / 3 - i).to(dtype));
    }
    lens::write_tuned_lens_safetensors(work.path() / "x.safetensors", stored);
    lens::write_tuned_lens_folder(work.path() / "x", lens::read_tuned_lens(work.path() / "x.safetensors"));
    const auto found = lens::read_tuned_lens(work.path() / "x");
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(same(found.weights[i], stored.weights[i]));
      CHECK(same(found.biases[i], stored.biases[i]));
    }
  }
}

TEST_CASE("tuned lens: old key names are understood, what belongs to the model is left out") {
  const TemporaryFolder work;
  const at::Tensor weight = at::eye(2);
  const at::Tensor bias = at::ones({2});
  for (const std::string word : {"translator", "probe", "adapter"}) {
    const fs::path file = work.path() / (word + ".safetensors");
    io::write_safetensors(file,
                          {{"input_" + word + ".weight", weight},
                           {"input_" + word + ".bias", bias},
                           {"layer_" + word + "s.0.weight", weight * 2},
                           {"layer_" + word + "s.0.bias", bias * 2},
                           {"unembedding.weight", at::ones({5, 2})},
                           {"layer_norm.weight", bias},
                           {"extra_layers.0.x", bias}},
                          {});
    const auto found = lens::read_tuned_lens(file);
    CHECK(found.num_layers() == 2);
    CHECK(same(found.weights[1], weight * 2));
    CHECK(same(found.biases[0], bias));
    CHECK(found.ignored.size() == 3);
  }
}

TEST_CASE("Jacobian lens: the digest covers values and blocks") {
  const at::Tensor one = at::eye(2), two = at::eye(2) * 2;
  const auto digest = [](std::map<std::int64_t, at::Tensor> jacobians) {
    lens::StoredJacobianLens lens;
    lens.jacobians = std::move(jacobians);
    return lens::lens_digest(lens);
  };
  const std::string all = digest({{0, one}, {1, two}});
  util::Sha256 plain;
  for (const at::Tensor& tensor : {one, two})
    plain.update(tensor.const_data_ptr(), static_cast<std::size_t>(tensor.nbytes()));
  CHECK(all == plain.hex_digest());
  CHECK(digest({{0, one.to(at::kHalf)}, {1, two.to(at::kBFloat16)}}) == all);
  CHECK(digest({{0, two}, {1, one}}) != all);
  CHECK(digest({{1, one}, {2, two}}) != all);
  CHECK(digest({{1, one}, {3, two}}) != digest({{1, one}, {2, two}}));
}

TEST_CASE("tuned lens: parameters of a training, and what is known of it") {
  const std::string device = GENERATE(from_range(test::devices()));
  INFO("on " << device);
  const TemporaryFolder work;
  const lens::LensProvenance provenance{.model = "org/na\u00efve",
                                        .revision = "main",
                                        .unembed_hash = std::string(64, 'a'),
                                        .model_digest = std::string(64, 'b'),
                                        .steps = 250,
                                        .tokens = 65536000,
                                        .data_digest = std::string(64, 'c')};
  for (const bool biased : {true, false}) {
    const auto parameters = some_parameters(biased);
    const lens::TunedParameters trained{.weights = test::moved(parameters.weights, device),
                                        .biases = test::moved(parameters.biases, device)};
    const fs::path file = work.path() / "x.safetensors";
    lens::write_tuned_lens_safetensors(file, trained, provenance);
    CHECK((lens::read_tuned_lens(file).provenance == provenance));
    const fs::path folder = work.path() / "new" / "x/";
    lens::write_tuned_lens_folder(folder, trained, provenance);
    auto expected = provenance;
    expected.steps = expected.tokens = std::nullopt;
    expected.data_digest = std::nullopt;
    CHECK((lens::read_tuned_lens(folder).provenance == expected));
    const std::string config = util::read_file(folder / "config.json");
    CHECK(config.find(biased ? "\"bias\": true" : "\"bias\": false") != std::string::npos);
    std::size_t place = 0;
    for (const std::string key : {"base_model_name_or_path", "d_model", "num_hidden_layers", "bias",
                                  "base_model_revision", "unembed_hash", "lens_type", "model_digest"}) {
      const std::size_t next = config.find('"' + key + "\": ");
      CHECK(next != std::string::npos);
      CHECK(next > place);
      place = next;
    }
    for (const fs::path& path : {file, folder}) {
      const auto found = lens::tuned_parameters(lens::read_tuned_lens(path), 3, 4);
      CHECK(same(found.weights, parameters.weights));
      CHECK(found.biases.defined() == biased);
      if (biased) CHECK(same(found.biases, parameters.biases));
    }
    check_error(ErrorCode::kFormat, "expected 4 translators of width 4, found 3 of width 4",
                [&] { lens::tuned_parameters(lens::read_tuned_lens(file), 4, 4); });
  }
}

TEST_CASE("tuned lens: nothing is made up, and null is null") {
  const TemporaryFolder work;
  lens::write_tuned_lens_folder(work.path() / "x", some_parameters(true), {});
  const auto config = util::parse_json(util::read_file(work.path() / "x" / "config.json"), "");
  CHECK(config["unembed_hash"].is_null());
  CHECK(config["base_model_revision"].is_null());
  CHECK_FALSE(config.contains("model_digest"));
  lens::write_tuned_lens_safetensors(work.path() / "x.safetensors", some_parameters(true), {});
  CHECK(io::TensorFile::open_safetensors(work.path() / "x.safetensors").metadata() ==
        std::map<std::string, std::string>{{"format", "depthlens-lens"},
                                           {"format_version", "1"},
                                           {"lens_type", "tuned"},
                                           {"d_model", "4"},
                                           {"num_layers", "3"}});
}

TEST_CASE("tuned lens: files that are none") {
  const TemporaryFolder work;
  const at::Tensor weight = at::eye(2);
  const auto file_with = [&](const io::NamedTensors& tensors,
                             const std::map<std::string, std::string>& metadata) {
    io::write_safetensors(work.path() / "x.safetensors", tensors, metadata);
    return work.path() / "x.safetensors";
  };
  const auto check = [&](const std::string& part, const io::NamedTensors& tensors,
                         const std::map<std::string, std::string>& metadata = {}) {
    check_error(ErrorCode::kFormat, part, [&] { lens::read_tuned_lens(file_with(tensors, metadata)); });
  };
  check("no tensors", {});
  check("'1.weight'", {{"1.weight", weight}});
  check("'2.weight' without '1.weight'", {{"0.weight", weight}, {"2.weight", weight}});
  check("biases for all", {{"0.weight", weight}, {"0.bias", at::ones({2})}, {"1.weight", weight}});
  check("expected [2], found [3]", {{"0.weight", weight}, {"0.bias", at::ones({3})}});
  check("expected [2, 2], found [3, 3]", {{"0.weight", weight}, {"1.weight", at::eye(3)}});
  check("0.weight", {{"0.weight", at::ones({2})}});
  check("floating-point", {{"0.weight", weight.to(at::kLong)}});
  check("two parameters", {{"0.weight", weight}, {"input_probe.weight", weight}});
  check("format_version", {{"0.weight", weight}}, {{"format", "depthlens-lens"}, {"format_version", "2"}});
  check("lens_type", {{"0.weight", weight}},
        {{"format", "depthlens-lens"}, {"format_version", "1"}, {"lens_type", "jacobian"}});
  check("steps", {{"0.weight", weight}}, {{"steps", "many"}});
  check("d_model", {{"0.weight", weight}}, {{"config", R"({"d_model": 3, "num_hidden_layers": 1})"}});
  check("bias; expected false", {{"0.weight", weight}},
        {{"config", R"({"d_model": 2, "num_hidden_layers": 1, "bias": true})"}});
  check("d_model; expected 2, found 3", {{"0.weight", weight}}, {{"d_model", "3"}});
  check("num_layers; expected 1, found 2", {{"0.weight", weight}}, {{"num_layers", "2"}});
  check(
      "says two things", {{"0.weight", weight}},
      {{"unembed_hash", "a"}, {"config", R"({"d_model": 2, "num_hidden_layers": 1, "unembed_hash": "b"})"}});
  fs::create_directory(work.path() / "none");
  check_error(ErrorCode::kInput, "params.pt", [&] { lens::read_lens(work.path() / "none"); });
  check_error(ErrorCode::kInput, "absent", [&] { lens::read_lens(work.path() / "absent"); });
  check_error(ErrorCode::kFormat, "", [&] { lens::read_lens(work.write("text.pt", "hello")); });
  check_error(ErrorCode::kFormat, "", [&] { lens::read_lens(work.write("empty.safetensors", "")); });
  work.write("damaged/config.json", R"({"d_model": 17, "num_hidden_layers": 3})");
  fs::copy_file(golden_lens("gpt2") / "tuned" / "params.pt", work.path() / "damaged" / "params.pt");
  check_error(ErrorCode::kFormat, "expected 16, found 17", [&] { lens::read_lens(work.path() / "damaged"); });
  fs::remove(work.path() / "damaged" / "config.json");
  check_error(ErrorCode::kInput, "config.json", [&] { lens::read_lens(work.path() / "damaged"); });
}

TEST_CASE("tuned lens: a folder that cannot be written leaves nothing") {
  const TemporaryFolder work;
  const fs::path file = work.write("file", "x");
  check_error(ErrorCode::kOutput, "file",
              [&] { lens::write_tuned_lens_folder(file / "x", some_parameters(true), {}); });
  check_error(ErrorCode::kOutput, "file",
              [&] { lens::write_tuned_lens_folder(file, some_parameters(true), {}); });
  CHECK(num_files(work.path()) == 1);
  CHECK(util::read_file(file) == "x");
}

TEST_CASE("Jacobian lens: archive to safetensors to archive keeps tensors and fields") {
  const TemporaryFolder work;
  for (const std::string variant : {"gpt2", "neox-parallel", "llama-gqa-sharded"}) {
    const auto original = lens::read_jacobian_lens(golden_lens(variant) / "jacobian.pt");
    CHECK(original.fields["n_prompts"] == 17);
    CHECK(original.jacobians.begin()->second.scalar_type() == at::kHalf);
    lens::write_jacobian_lens_safetensors(work.path() / "x.safetensors", original);
    const auto between = lens::read_jacobian_lens(work.path() / "x.safetensors");
    check_equal(original, between);
    lens::write_jacobian_lens_archive(work.path() / "x.pt", between);
    check_equal(original, lens::read_jacobian_lens(work.path() / "x.pt"));
    CHECK(std::holds_alternative<lens::StoredJacobianLens>(lens::read_lens(work.path() / "x.pt")));
    CHECK(std::holds_alternative<lens::StoredJacobianLens>(lens::read_lens(work.path() / "x.safetensors")));
  }
}

TEST_CASE("Jacobian lens: fields of every kind travel, and so does what is known of the model") {
  const TemporaryFolder work;
  lens::StoredJacobianLens stored;
  stored.jacobians = {{0, at::eye(2).to(at::kHalf)}, {11, at::eye(2).to(at::kBFloat16)}};
  stored.fields = util::OrderedJson::parse(
      R"({"n_prompts": 5, "d_model": 2, "metadata": {"text": "na\u00efve", "z": null, "a": [1, 2.0, true, []],
          "big": 9007199254740993, "lowest": -9223372036854775808, "by_layer": {"__dict__": [[0, 0.5], [1, "x"]]},
          "odd": {"__number__": "nan"}, "far": {"__number__": "-inf"}, "empty": {}}})");
  stored.provenance.model = "gpt2";
  stored.provenance.model_digest = std::string(64, 'd');
  lens::write_jacobian_lens_safetensors(work.path() / "x.safetensors", stored);
  check_equal(stored, lens::read_jacobian_lens(work.path() / "x.safetensors"));
  lens::write_jacobian_lens_archive(work.path() / "x.pt", stored);
  const auto archived = lens::read_jacobian_lens(work.path() / "x.pt");
  CHECK((archived.provenance == stored.provenance));
  auto expected = stored;
  expected.fields["source_layers"] = {0, 11};
  expected.fields["metadata"]["model"] = "gpt2";
  expected.fields["metadata"]["model_digest"] = std::string(64, 'd');
  check_equal(expected, archived);
  lens::write_jacobian_lens_archive(work.path() / "y.pt", archived);
  check_equal(archived, lens::read_jacobian_lens(work.path() / "y.pt"));
}

TEST_CASE("Jacobian lens: files that are none") {
  const TemporaryFolder work;
  const auto check = [&](const std::string& part, const io::NamedTensors& tensors,
                         const std::map<std::string, std::string>& metadata = {}) {
    io::write_safetensors(work.path() / "x.safetensors", tensors, metadata);
    check_error(ErrorCode::kFormat, part, [&] { lens::read_lens(work.path() / "x.safetensors"); });
  };
  check("x.jacobian", {{"x.jacobian", at::eye(2)}});
  check("one Jacobian for a block", {{"1.jacobian", at::eye(2)}, {"01.jacobian", at::eye(2)}});
  check("blocks from 0", {{"-1.jacobian", at::eye(2)}});
  check("'other'", {{"0.jacobian", at::eye(2)}, {"other", at::eye(2)}});
  check("[2, 2]", {{"0.jacobian", at::eye(2)}, {"1.jacobian", at::eye(3)}});
  check("d_model", {{"0.jacobian", at::eye(2)}}, {{"fields", R"({"d_model": 3})"}});
  check("fields", {{"0.jacobian", at::eye(2)}}, {{"fields", "[]"}});
  check("d_model; expected 2, found 3", {{"0.jacobian", at::eye(2)}}, {{"d_model", "3"}});
  check("source_layers; expected [0], the blocks in 'J', found [0,1]", {{"0.jacobian", at::eye(2)}},
        {{"fields", R"({"source_layers": [0, 1]})"}});
  check("n_prompts", {{"0.jacobian", at::eye(2)}}, {{"fields", R"({"n_prompts": 0})"}});
  check("says two things", {{"0.jacobian", at::eye(2)}},
        {{"model_digest", "a"}, {"fields", R"({"metadata": {"model_digest": "b"}})"}});
}

TEST_CASE("a lens that names another model is refused, or warned of where that is asked for") {
  const TemporaryFolder work;
  const auto model = model::Model::load(fs::path(DEPTHLENS_TEST_DATA) / "models" / "gpt2", {});
  auto tuned = lens::read_tuned_lens(golden_lens("gpt2") / "tuned");
  tuned.config.clear();
  auto jacobian = lens::read_jacobian_lens(golden_lens("gpt2") / "jacobian.pt");
  const std::vector<std::pair<std::string, std::string>> places = {
      {"tuned", "x"}, {"tuned", "x.safetensors"}, {"jacobian", "j.pt"}, {"jacobian", "j.safetensors"}};
  for (const std::string& digest :
       {lens::model_digest(model->head().unembedding.weight), std::string(64, '0')}) {
    tuned.provenance.model_digest = jacobian.provenance.model_digest = digest;
    lens::write_tuned_lens_folder(work.path() / "x", tuned);
    lens::write_tuned_lens_safetensors(work.path() / "x.safetensors", tuned);
    lens::write_jacobian_lens_archive(work.path() / "j.pt", jacobian);
    lens::write_jacobian_lens_safetensors(work.path() / "j.safetensors", jacobian);
    const bool fits = digest.front() != '0' || digest.back() != '0';
    for (const auto& [type, name] : places) {
      INFO(name);
      lens::LensRequest request{.name = type, .type = type, .path = (work.path() / name).string()};
      const auto load = [&] { return lens::load_lens(request, *model, lens::Alignment::kTrained); };
      if (fits) {
        CHECK(load()->digest().size() == 64);
      } else {
        check_error(ErrorCode::kFormat, "model_digest", load);
        request.allow_mismatch = true;
        CHECK(load()->digest().size() == 64);
      }
      fs::remove_all(work.path() / name);
    }
  }
}

namespace {

bool mentions(const std::vector<std::string>& lines, const std::string& part) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const std::string& line) { return line.find(part) != std::string::npos; });
}

}  // namespace

TEST_CASE("tuned lens: an unembed_hash of another model is refused, or warned of where that is asked for") {
  const TemporaryFolder work;
  const fs::path folder = fs::path(DEPTHLENS_TEST_DATA) / "models" / "gpt2";
  auto tuned = lens::read_tuned_lens(golden_lens("gpt2") / "tuned");
  tuned.config.clear();
  const at::Tensor unembedding = model::Model::load(folder, {})->head().unembedding.weight;
  const std::string other(64, '0');
  std::vector<std::string> right;
  for (const at::ScalarType loaded_as : {at::kFloat, at::kHalf, at::kBFloat16})
    right.push_back(lens::unembed_hash(unembedding, loaded_as));
  int count = 0;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const auto model = model::Model::load(folder, {.dtype = dtype});
    for (const std::string& hash : {right[0], right[1], right[2], other}) {
      tuned.provenance.unembed_hash = hash;
      const fs::path path = work.path() / std::to_string(++count);  // a warning is given once
      lens::write_tuned_lens_folder(path, tuned);
      lens::LensRequest request{.name = "tuned", .type = "tuned", .path = path.string()};
      const auto load = [&] { lens::load_lens(request, *model, lens::Alignment::kTrained); };
      if (hash != other) {
        CHECK(test::warnings_of(load).empty());
        continue;
      }
      check_error(ErrorCode::kFormat, "another model", load);
      check_error(ErrorCode::kFormat, (path / "config.json").string() + ": unembed_hash", load);
      check_error(ErrorCode::kFormat, "expected " + right[0], load);
      check_error(ErrorCode::kFormat, "found " + other + " (golden/gpt2)", load);
      request.allow_mismatch = true;
      CHECK(mentions(test::warnings_of(load), "found " + other));
      CHECK(mentions(test::warnings_of([&] { lens::tuned_parameters(lens::read_tuned_lens(path), *model); }),
                     "") == false);  // once
    }
  }
}

TEST_CASE("a lens without digests is known by the name of its model") {
  const TemporaryFolder work;
  for (const char* name : {"config.json", "model.safetensors"}) {
    work.write(std::string("models--org--Tiny/snapshots/1/") + name,
               util::read_file(fs::path(DEPTHLENS_TEST_DATA) / "models" / "gpt2" / name));
  }
  const auto model = model::Model::load(work.path() / "models--org--Tiny" / "snapshots" / "1", {});
  auto tuned = lens::read_tuned_lens(golden_lens("gpt2") / "tuned");
  tuned.config.clear();
  tuned.provenance.unembed_hash = std::nullopt;
  int count = 0;
  for (const auto& [name, same] : {std::pair{"org/tiny", true}, std::pair{"/models/tiny/", true},
                                   std::pair{"", true}, std::pair{"org/tiny-chat", false}}) {
    INFO(name);
    tuned.provenance.model = name;
    const fs::path path = work.path() / std::to_string(++count);
    lens::write_tuned_lens_folder(path, tuned);
    const auto found = test::warnings_of([&] {
      lens::load_lens({.name = "tuned", .type = "tuned", .path = path.string()}, *model,
                      lens::Alignment::kTrained);
    });
    CHECK(found.size() == (same ? 0 : 1));
    if (!same) CHECK(mentions(found, "made for 'org/tiny-chat'"));
  }
}

TEST_CASE("tuned lens: config.json beside safetensors is that of the folder it was made in") {
  const TemporaryFolder work;
  const fs::path file = work.path() / "x" / "params.safetensors";
  lens::StoredTunedLens plain = lens::read_tuned_lens(golden_lens("gpt2") / "tuned");
  plain.config.clear();
  plain.provenance = {};
  work.write("x/config.json", util::read_file(golden_lens("gpt2") / "tuned" / "config.json"));
  lens::write_tuned_lens_safetensors(file, plain);
  CHECK(lens::read_tuned_lens(file).provenance.model == "golden/gpt2");
  util::Json config = util::parse_json(util::read_file(work.path() / "x" / "config.json"), "");
  config["d_model"] = 64;
  work.write("x/config.json", config.dump());
  check_error(ErrorCode::kFormat, "d_model; expected 16, found 64", [&] { lens::read_tuned_lens(file); });
  // Of a model, or of which of two lenses is not known.
  lens::write_tuned_lens_safetensors(work.path() / "x" / "other.safetensors", plain);
  CHECK(mentions(test::warnings_of([&] { CHECK_FALSE(lens::read_tuned_lens(file).provenance.model); }),
                 "another lens in the folder, 'other.safetensors'"));
  for (const char* other :
       {R"({"model_type": "gpt2", "d_model": 64, "num_layers": 3})", R"({"d_model": 64, "d_sae": 4096})",
        R"({"d_model": 64, "n_prompts": 5, "num_layers": 9})"}) {
    INFO(other);
    work.write("x/config.json", other);
    CHECK(test::warnings_of([&] { lens::read_tuned_lens(file); }).empty());
  }
  work.write("x/config.json", "{");
  CHECK(mentions(test::warnings_of([&] { lens::read_tuned_lens(file); }), "not read, whatever it is of"));
}

TEST_CASE("tuned lens: configurations of the first releases that mean another lens are refused") {
  const TemporaryFolder work;
  fs::copy(golden_lens("gpt2") / "tuned", work.path() / "x");
  const util::Json before = util::parse_json(util::read_file(work.path() / "x" / "config.json"), "");
  const auto read = [&](const char* key, const util::Json& value) {
    util::Json config = before;
    config[key] = value;
    work.write("x/config.json", config.dump());
    return lens::read_tuned_lens(work.path() / "x");
  };
  for (const auto& [key, value] : std::vector<std::pair<const char*, util::Json>>{
           {"pre_ln", true}, {"layer_norm", true}, {"reuse_unembedding", false}, {"rank", 4}}) {
    check_error(ErrorCode::kFormat, std::string("config.json: ") + key,
                [&, &key = key, &value = value] { read(key, value); });
  }
  check_error(ErrorCode::kFormat, "config.json: num_layers", [&] { read("num_layers", 6); });
  for (const auto& [key, value] : std::vector<std::pair<const char*, util::Json>>{{"pre_ln", false},
                                                                                  {"layer_norm", false},
                                                                                  {"reuse_unembedding", true},
                                                                                  {"rank", nullptr},
                                                                                  {"num_layers", 3}})
    CHECK(test::warnings_of([&, &key = key, &value = value] { read(key, value); }).empty());
}

TEST_CASE("tuned lens: what is in its files and is not used is reported") {
  const TemporaryFolder work;
  fs::copy(golden_lens("gpt2") / "tuned", work.path() / "x");
  util::Json config = util::parse_json(util::read_file(work.path() / "x" / "config.json"), "");
  config["colour"] = 4;
  work.write("x/config.json", config.dump());
  CHECK(mentions(test::warnings_of([&] { lens::read_tuned_lens(work.path() / "x"); }), "ignored: colour"));
  config.erase("colour");
  config["bias"] = false;
  work.write("x/config.json", config.dump());
  check_error(ErrorCode::kFormat, "config.json: bias; expected true: there are biases, found false",
              [&] { lens::read_tuned_lens(work.path() / "x"); });
}

TEST_CASE("Jacobian lens: what its file says of the model is compared with it") {
  const TemporaryFolder work;
  const auto model = model::Model::load(fs::path(DEPTHLENS_TEST_DATA) / "models" / "gpt2", {});
  int count = 0;
  const auto load = [&](const std::string& fields, const std::string& metadata) {
    lens::StoredJacobianLens stored = lens::read_jacobian_lens(golden_lens("gpt2") / "jacobian.pt");
    stored.fields.update(util::OrderedJson::parse(fields));
    if (!metadata.empty()) stored.fields["metadata"] = util::OrderedJson::parse(metadata);
    const fs::path path = work.path() / (std::to_string(++count) + ".pt");
    lens::write_jacobian_lens_archive(path, stored);
    lens::load_lens({.name = "j", .type = "jacobian", .path = path.string()}, *model,
                    lens::Alignment::kTrained);
  };
  const auto refused = [&](const std::string& fields, const std::string& metadata, const std::string& part) {
    INFO(fields << metadata);
    check_error(ErrorCode::kFormat, part, [&] { load(fields, metadata); });
  };
  load(R"({"target_layer": 3, "num_layers": 3})", R"({"hidden_size": 16})");
  load("{}", R"({"target_layer": 2, "n_layers": 3})");
  refused(R"({"target_layer": 1})", "", "target_layer; expected the last residual state, 3 or 2, found 1");
  refused("{}", R"({"num_layers": 12})", "num_layers; expected 3 blocks, found 12");
  refused("{}", R"({"hidden_size": 32})", "hidden_size; expected width 16, found 32");
  refused("{}", R"({"unembed_hash": "0"})", "unembed_hash");
  const std::string print = lens::model_fingerprint(*model);
  CHECK_FALSE(mentions(test::warnings_of([&] { load("{}", R"({"model_fingerprint": ")" + print + R"("})"); }),
                       "model_fingerprint"));
  CHECK(
      mentions(test::warnings_of([&] { load("{}", R"({"model_fingerprint": "1"})"); }), "model_fingerprint"));
}
