// Lens files as they are published, made small: layouts of folders, what their files tell of how they were
// made, and files that mean something else than a Jacobian of the state after each block.
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <sys/stat.h>

#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "depthlens/io/writers.hpp"
#include "depthlens/lens/lens.hpp"
#include "depthlens/lens/lens_file.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "golden/golden_data.hpp"
#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"
#include "support/warnings.hpp"
#include "unit/io/helpers.hpp"

namespace depthlens {
namespace {

namespace fs = std::filesystem;
using io::PickleValue;
using test::check_error;
using test::TemporaryFolder;
using test::Warnings;
using util::cat;
using util::ErrorCode;
using util::OrderedJson;

constexpr std::int64_t kWidth = 16;  // of the tiny GPT-2, of 3 blocks

const model::Model& gpt2() {
  static const auto model = model::Model::load(test::golden_model("gpt2"), {});
  return *model;
}

/// Matrices of blocks that tell themselves apart: (1 + block / 8) I.
std::map<std::int64_t, at::Tensor> matrices(const std::vector<std::int64_t>& blocks) {
  std::map<std::int64_t, at::Tensor> all;
  for (const std::int64_t block : blocks)
    all[block] = (at::eye(kWidth) * (1 + static_cast<double>(block) / 8)).to(at::kHalf);
  return all;
}

/// An archive as torch.save makes it: "J" and the fields.
fs::path write(const fs::path& file, std::map<std::int64_t, at::Tensor> jacobians,
               const std::string& fields = "{}") {
  lens::StoredJacobianLens stored;
  stored.jacobians = std::move(jacobians);
  stored.fields = OrderedJson::parse(R"({"n_prompts": 5})");
  stored.fields.update(OrderedJson::parse(fields));
  fs::create_directories(file.parent_path());
  lens::write_jacobian_lens_archive(file, stored);
  return file;
}

std::unique_ptr<lens::Lens> load(const fs::path& path, bool allow_mismatch = false,
                                 const model::Model& model = gpt2(), const std::string& type = "jacobian") {
  return lens::load_lens(
      {.name = type, .type = type, .path = path.string(), .allow_mismatch = allow_mismatch}, model,
      lens::Alignment::kTrained);
}

/// By how much the lens stretches a state of the layer; 0 where it leaves it alone.
double stretch(const lens::Lens& lens, std::int64_t layer) {
  if (!lens.translates(layer)) return 0;
  return lens.translate(layer, at::full({1, kWidth}, 1.0F)).mean().item<double>();
}

PickleValue value_of(PickleValue::Kind kind) {
  PickleValue value;
  value.kind = kind;
  return value;
}
PickleValue chars(const std::string& string) {
  PickleValue value = value_of(PickleValue::Kind::kString);
  value.string = string;
  return value;
}
PickleValue number(std::int64_t integer) {
  PickleValue value = value_of(PickleValue::Kind::kInteger);
  value.integer = integer;
  return value;
}
PickleValue tensor(const at::Tensor& values) {
  PickleValue value = value_of(PickleValue::Kind::kTensor);
  value.values = values;
  return value;
}
PickleValue dictionary(std::vector<PickleValue> keys_and_values) {
  PickleValue value = value_of(PickleValue::Kind::kDictionary);
  value.list = std::move(keys_and_values);
  return value;
}

}  // namespace

TEST_CASE("published Jacobian lens: the archive, its folder and a folder above are one lens") {
  const TemporaryFolder hub;
  const fs::path folder = hub.path() / "gpt2-small" / "jlens" / "Salesforce-wikitext";
  const fs::path file = write(folder / "gpt2_jacobian_lens.pt", matrices({0, 1}));
  hub.write("gpt2-small/jlens/Salesforce-wikitext/gpt2_convergence.csv", "n_done\n5\n");
  hub.write(".cache/huggingface/other_jacobian_lens.pt", util::read_file(file));  // hidden
  const std::string digest = load(file)->digest();
  for (const fs::path& path : {folder, folder / "", hub.path() / "gpt2-small", hub.path()}) {
    INFO(path);
    CHECK(load(path)->digest() == digest);
    CHECK(lens::find_lens(path, lens::LensKind::kAny) == file);
  }
  check_error(ErrorCode::kInput, {"no tuned lens in", "params.pt"},
              [&] { lens::read_tuned_lens(hub.path()); });
  write(hub.path() / "gpt2-xl" / "gpt2-xl_jacobian_lens.pt", matrices({0, 1}));
  check_error(ErrorCode::kInput,
              {"several lenses in",
               "found 2: 'gpt2-small/jlens/Salesforce-wikitext/gpt2_jacobian_lens.pt', "
               "'gpt2-xl/gpt2-xl_jacobian_lens.pt'"},
              [&] { load(hub.path()); });
  // What a file is its content tells, whatever its name is.
  const fs::path renamed = hub.path() / "renamed" / "b.pt";
  fs::create_directories(renamed.parent_path());
  lens::write_jacobian_lens_safetensors(renamed, lens::read_jacobian_lens(file));
  CHECK(load(renamed)->digest() == digest);
  CHECK(load(renamed.parent_path())->digest() == digest);
  fs::copy_file(file, hub.path() / "renamed" / "a.pt");
  check_error(ErrorCode::kInput, {"several lenses in", "found 2: 'a.pt', 'b.pt'"},
              [&] { load(renamed.parent_path()); });
  fs::create_directory(hub.path() / "empty");
  check_error(ErrorCode::kInput, {"no Jacobian lens in", "empty"}, [&] { load(hub.path() / "empty"); });
  const std::string whole = util::read_file(file);
  hub.write("cut/gpt2_jacobian_lens.pt", std::string_view(whole).substr(0, whole.size() / 2));
  check_error(ErrorCode::kFormat, {"damaged", "gpt2_jacobian_lens.pt"}, [&] { load(hub.path() / "cut"); });
}

TEST_CASE("Jacobian lens: an archive as torch.save before 1.6 wrote it is one lens with that of today") {
  using test::pickle::integer, test::pickle::text;
  const TemporaryFolder work;
  std::vector<float> numbers(kWidth * kWidth, 0);
  for (std::int64_t i = 0; i < kWidth; ++i) numbers[static_cast<std::size_t>(i * (kWidth + 1))] = 2;
  const std::string matrix = test::pickle::tensor(
      {.num_stored = kWidth * kWidth, .shape = {kWidth, kWidth}, .strides = {kWidth, 1}, .view = "N"});
  const auto old = [&](const std::string& key, const std::string& value) {
    return test::pickle::old_file(
        {.value = test::pickle::dictionary({text(key), value}),
         .storages = test::little_endian(numbers.size(), 8) + test::bytes_of(numbers)});
  };
  const std::string bytes = old("J", test::pickle::dictionary({integer(0), matrix}));
  const fs::path file = write(work.path() / "new.pt", {{0, at::eye(kWidth) * 2}});
  for (const char* name : {"old/lens.pt", "other/lens.bin", "third/lens.safetensors"}) {
    INFO(name);
    const fs::path path = work.write(name, bytes);
    CHECK(load(path)->digest() == load(file)->digest());
    CHECK(std::holds_alternative<lens::StoredJacobianLens>(lens::read_lens(path)));
  }
  CHECK(lens::find_lens(work.path() / "old", lens::LensKind::kAny) == work.path() / "old" / "lens.pt");
  check_error(ErrorCode::kFormat, {"under the key 'J'", "found the keys 'x'"},
              [&] { load(work.write("x.pt", old("x", matrix))); });
}

TEST_CASE("published Jacobian lens: below a folder with too many files to know, none is taken") {
  const TemporaryFolder hub;
  const fs::path file = write(hub.path() / "a" / "x.pt", matrices({0, 1}));
  const auto found = [&](std::size_t most) {
    return lens::find_lens_or_none(hub.path(), lens::LensKind::kJacobian, most);
  };
  CHECK(found(2) == file);
  hub.write("a/x_convergence.csv", "");
  CHECK(found(3) == file);
  check_error(ErrorCode::kInput,
              {"too many files below", hub.path().string(), "no more than 2 files and folders",
               "name the lens's own folder"},
              [&] { found(2); });
  check_error(ErrorCode::kInput, {"found more, and no lens among the first"}, [&] { found(1); });
  write(hub.path() / "a" / "y.pt", matrices({0, 1}));
  hub.write("a/y_convergence.csv", "");
  check_error(ErrorCode::kInput, {"several lenses in", "found 2: 'a/x.pt', 'a/y.pt'"}, [&] { found(5); });
}

TEST_CASE("published tuned lens: a folder of the space, of another publisher, and a folder above") {
  const TemporaryFolder hub;
  const fs::path golden = test::golden_model("gpt2") / "lens" / "tuned";
  const fs::path space = hub.path() / "space" / "lens" / "org" / "gpt2";
  const fs::path other = hub.path() / "other" / "tuned-lens--org--tiny--the_pile";
  for (const fs::path& folder : {space, other}) {
    fs::create_directories(folder.parent_path());
    fs::copy(golden, folder);
  }
  OrderedJson config = OrderedJson::parse(util::read_file(golden / "config.json"));
  const std::string hash = config["unembed_hash"];
  config.erase("unembed_hash");
  config["base_model_name_or_path"] = nullptr;
  util::write_file(other / "config.json", config.dump());
  const std::string digest = load(golden, false, gpt2(), "tuned")->digest();
  for (const fs::path& path : {space, hub.path() / "space", space / "params.pt"})
    CHECK(load(path, false, gpt2(), "tuned")->digest() == digest);
  check_error(ErrorCode::kInput,
              {"several lenses", "'other/tuned-lens--org--tiny--the_pile'", "'space/lens/org/gpt2'"},
              [&] { load(hub.path(), false, gpt2(), "tuned"); });

  const Warnings warnings;
  const auto lens = load(hub.path() / "other", false, gpt2(), "tuned");
  CHECK(lens->about() == OrderedJson::parse(R"({"model": "org/tiny", "corpus": "the_pile"})"));
  CHECK(warnings.tell({"tuned-lens--org--tiny--the_pile: the lens was made for 'org/tiny'"}));

  // As tuned-lens 0.1.0 wrote it, and the space holds it.
  config["base_model_name_or_path"] = "gpt2";
  config["unemebd_hash"] = hash;
  util::write_file(other / "config.json", config.dump());
  CHECK(lens::read_tuned_lens(other).provenance.unembed_hash == hash);
  CHECK(load(other, false, gpt2(), "tuned")->digest() == digest);
  config["unemebd_hash"] = std::string(64, '0');
  util::write_file(other / "config.json", config.dump());
  check_error(ErrorCode::kFormat, {"another model", "unembed_hash"},
              [&] { load(other, false, gpt2(), "tuned"); });
  config["unemebd_hash"] = -5921013241354;  // earlier still
  util::write_file(other / "config.json", config.dump());
  CHECK(load(other, false, gpt2(), "tuned")->digest() == digest);
}

TEST_CASE("published tuned lens: configurations of the first releases") {
  const TemporaryFolder work;
  fs::copy(test::golden_model("gpt2") / "lens" / "tuned", work.path() / "x");
  const auto read = [&](const std::string& config) {
    work.write("x/config.json", config);
    return lens::read_tuned_lens(work.path() / "x");
  };
  const Warnings warnings;
  const auto lens =
      read(R"({"bias": true, "include_input": true, "d_model": 16, "num_layers": 3, "vocab_size": 40,
                             "identity_init": true, "dropout": 0.0, "extra_layers": 0, "mlp_hidden_sizes": [],
                             "share_weights": false, "rank": null})");
  CHECK(lens.num_layers() == 3);
  CHECK_FALSE(lens.provenance.model);
  CHECK_FALSE(warnings.tell({"include_input"}));
  check_error(ErrorCode::kFormat, {"num_layers; expected 3, found 12"},
              [&] { read(R"({"d_model": 16, "num_layers": 12})"); });
  for (const char* key : {R"("include_input": false)", R"("extra_layers": 1)", R"("mlp_hidden_sizes": [64])",
                          R"("share_weights": true)"}) {
    INFO(key);
    check_error(ErrorCode::kFormat, {"a tuned lens of another kind", "config.json"},
                [&] { read(cat(R"({"d_model": 16, "num_layers": 3, )", key, "}")); });
  }
}

TEST_CASE("Jacobian lens: an identity for the last block is left out, anything else there is refused") {
  const TemporaryFolder work;
  auto with_last = matrices({0, 1});
  with_last[2] = at::eye(kWidth).to(at::kBFloat16);
  const auto lens = load(write(work.path() / "x.pt", with_last));
  CHECK(stretch(*lens, 1) == Approx(1));
  CHECK(stretch(*lens, 2) == Approx(1.125));
  CHECK_FALSE(lens->translates(3));
  CHECK(lens->about()["layers"] == OrderedJson::parse("[1, 2]"));
  with_last[2] = at::eye(kWidth) * 1.004;  // an estimate
  CHECK(load(write(work.path() / "y.pt", with_last))->about()["layers"].size() == 2);
  with_last[2] = at::eye(kWidth) * 1.5;
  check_error(ErrorCode::kFormat,
              {"not one of the states after each block", "z.pt: J[2]", "expected the identity",
               "by up to 0.5", "anchored inside"},
              [&] { load(write(work.path() / "z.pt", with_last)); });
}

TEST_CASE("Jacobian lens: anchors by the words of those who publish them") {
  const TemporaryFolder work;
  int count = 0;
  const auto at_anchor = [&](const std::string& fields, const std::vector<std::int64_t>& blocks) {
    return write(work.path() / cat(++count, ".pt"), matrices(blocks), fields);
  };
  for (
      const char* fields :
      {R"({"metadata": {"hook_convention": "blocks.{layer}.hook_out"}})",
       R"({"metadata": {"hook_convention": "resid_post"}})", R"({"hook_point": "model.layers.{l}"})",
       R"({"provenance": {"capture_point": "block_output", "stream_reduce": "none", "stream_index": null}})"}) {
    INFO(fields);
    const auto lens = load(at_anchor(fields, {0, 1}));
    CHECK(stretch(*lens, 0) == 0);
    CHECK(stretch(*lens, 2) == Approx(1.125));
  }
  // The state before block l is the one after block l - 1: layer l.
  const auto before =
      load(at_anchor(R"({"metadata": {"hook_convention": "blocks.{layer}.hook_resid_pre"}})", {0, 1, 2}));
  for (std::int64_t layer = 0; layer < 3; ++layer)
    CHECK(stretch(*before, layer) == Approx(1 + static_cast<double>(layer) / 8));
  CHECK_FALSE(before->translates(3));
  auto identity_last = matrices({0, 1});
  identity_last[2] = at::eye(kWidth);
  const Warnings warnings;
  CHECK(load(write(work.path() / "after.pt", identity_last))->digest() !=
        load(write(work.path() / "before.pt", identity_last, R"({"anchor": "resid_pre"})"))->digest());
  // The last block is not the identity.
  CHECK(warnings.tell({"before.pt", "the input of block 2 is the identity"}));
  CHECK(warnings.count() == 1);

  for (const char* anchor : {"blocks.{layer}.hook_resid_mid", "blocks.{layer}.hook_attn_out", "mlp_out",
                             "attn_in", "model.layers.{l}.self_attn.o_proj"}) {
    INFO(anchor);
    check_error(ErrorCode::kFormat,
                {"anchored inside a block", "metadata.hook_convention", cat("found ", anchor), "resid_post"},
                [&] {
                  load(at_anchor(cat(R"({"metadata": {"hook_convention": ")", anchor, R"("}})"), {0, 1}));
                });
  }
  check_error(ErrorCode::kFormat, {"unknown place", "anchor", "found somewhere"}, [&] {
    load(at_anchor(R"({"anchor": "somewhere"})", {0, 1}));
  });
  check_error(ErrorCode::kFormat, {"says two things of its anchor"}, [&] {
    lens::read_jacobian_lens(at_anchor(
        R"({"metadata": {"hook_convention": "resid_post"}, "provenance": {"capture_point": "attn_out"}})",
        {0, 1}));
  });
}

TEST_CASE(
    "Jacobian lens: another estimator, target, stream or basis is refused by name; its files can be read") {
  const TemporaryFolder work;
  int count = 0;
  const auto refused = [&](const std::string& fields, const std::vector<std::string>& parts) {
    INFO(fields);
    const fs::path file = write(work.path() / cat(++count, ".pt"), matrices({0, 1}), fields);
    check_error(ErrorCode::kFormat, parts, [&] { load(file, /*allow_mismatch=*/true); });
    CHECK(lens::read_jacobian_lens(file).facts.size() >= 2);
  };
  refused(R"({"metadata": {"estimator": "relevance_lens"}})",
          {"another estimator", "metadata.estimator", "found relevance_lens"});
  refused(R"({"provenance": {"method": "jpp"}})", {"another estimator", "provenance.method", "found jpp"});
  refused(R"({"config": {"lrp_mode": "rlens"}})", {"another estimator", "config.lrp_mode", "found rlens"});
  refused(R"({"metadata": {"target_layer": 1}})",
          {"target_layer; expected the last residual state, 3 or 2, found 1"});
  refused(R"({"provenance": {"target_layer": 0}})", {"provenance.target_layer", "found 0"});
  refused(R"({"target_layer": "attn"})", {"target_layer", "found \"attn\""});
  refused(R"({"provenance": {"stream_reduce": "mean"}})", {"several residual streams", "found mean"});
  refused(R"({"metadata": {"processing": {"weight_basis": "folded"}}})",
          {"processed weights", "found folded"});
  for (const char* on : {"true", "1", "\"true\"", "\"yes\"", "\"fold_ln\""}) {
    refused(cat(R"({"metadata": {"processing": {"compatibility_mode": )", on, "}}}"),
            {"processed weights", "processing.compatibility_mode; expected false"});
  }
  for (const char* off : {"false", "null", "0", "\"False\"", "\"off\""}) {
    INFO(off);
    CHECK(load(write(work.path() / "off.pt", matrices({0, 1}), cat(R"({"compatibility_mode": )", off, "}")))
              ->translates(2));
  }
  refused(R"({"provenance": "{\"kind\": \"r-lens\", \"method\": \"RelP lens\"}"})", {"another estimator"});
  refused(R"({"kind": "relevance_lens"})", {"another estimator"});
  CHECK(load(write(work.path() / "kind.pt", matrices({0, 1}), R"({"kind": "jlens"})"))
            ->about()
            .at("lens_kind") == "jlens");
  // Words that only hold the right ones.
  for (const char* name :
       {"non-jacobian", "not a jacobian", "inverse_jacobian", "jacobian_transpose", "jacobian_pinv",
        "abs_jacobian", "attribution (jacobian-free)", "jacobian_lens+lrp"}) {
    refused(cat(R"({"estimator": ")", name, R"("})"), {"another estimator", name});
  }
  for (const char* name : {"not_raw", "unraw", "raw_folded", "from raw: LayerNorm folded, centred"})
    refused(cat(R"({"weight_basis": ")", name, R"("})"), {"processed weights", name});
  for (const char* name : {"pre_block_output", "not block_output", "block_output (of the previous block)",
                           "hook_input_ids", "resid_postfix"})
    refused(cat(R"({"anchor": ")", name, R"("})"), {"unknown place", name});
  for (const char* name : {"fold_ln", "center_writing_weights"})
    refused(cat(R"({"metadata": {"processing": {")", name, R"(": true}}})"), {"processed weights", name});
  const auto accepted = [&](const char* name) {
    INFO(name);
    CHECK(load(write(work.path() / "words.pt", matrices({0, 1}), cat(R"({"estimator": ")", name, R"("})")))
              ->translates(2));
  };
  for (const char* name :
       {"mean VJP", "j-lens", "Jacobian lens (reverse mode)", "jlens_v1", "jacobian_lens_v0.1",
        "jacobian_fp32", "vmap_vjp", "mean Jacobian over prompts and positions",
        "jlens.fitting.fit (upstream, unmodified)",
        "jlens: cotangent summed over targets t'>=t, mean over sources"}) {
    const Warnings warnings;
    accepted(name);
    CHECK_FALSE(warnings.tell({"words that are not all known"}));
  }
  {
    // As far as its words are known.
    const Warnings warnings;
    accepted("jlens.fitting.fit, not reimplemented");
    CHECK(warnings.tell({"words that are not all known: jlens.fitting.fit, not reimplemented"}));
  }
  // In a form of which nothing is certain.
  refused(R"({"metadata": {"fit": {"estimator": ["jacobian_lens"]}}})",
          {"tells its estimator in a form that is not read", "metadata.fit.estimator",
           R"(expected one value, not a list, found ["jacobian_lens"])"});
  refused(R"({"anchor": ["resid_post"]})", {"its anchor in a form", "not a list"});
  refused(R"({"anchor": {"hook": "resid_mid"}})", {"its anchor in a form", "not a dictionary"});
  refused(R"({"lrp_mode": {"a": 1}})", {"its lrp_mode in a form", R"(found {"a":1})"});
  refused(R"({"metadata": {"target_layer": [1]}})", {"its target_layer in a form", "found [1]"});
  refused(R"({"weight_basis": ["raw"]})", {"its weight_basis in a form"});

  // As TransformerLens writes it.
  const auto lens = load(write(work.path() / "tl.pt", matrices({0, 1}), R"({"metadata": {
      "model_name": "gpt2", "model_revision": null, "transformer_lens_version": "3.7.0",
      "estimator": "jacobian_lens", "processing": {"compatibility_mode": false, "weight_basis": "raw_huggingface"},
      "hook_convention": "blocks.{layer}.hook_out", "corpus": "pile-10k", "n_prompts": 5, "fit_dtype": "float32",
      "target_layer": 2, "dim_batch": 8, "max_seq_len": 128, "skip_first_positions": 16,
      "transformer_lens_fit": true}})"));
  CHECK(lens->about() == OrderedJson::parse(R"({"model": "gpt2", "estimator": "jacobian_lens",
      "anchor": "blocks.{layer}.hook_out", "target_layer": 2, "weight_basis": "raw_huggingface",
      "compatibility_mode": false, "prompts": 5, "max_length": 128, "skip_first": 16, "corpus": "pile-10k",
      "dtype": "float32", "transformer_lens": "3.7.0", "layers": [1, 2]})"));
  const Warnings warnings;
  load(write(work.path() / "other.pt", matrices({0, 1}), R"({"metadata": {"model_name": "org/else"}})"));
  CHECK(warnings.tell({"other.pt: the lens was made for 'org/else'"}));
  check_error(ErrorCode::kFormat, {"says two things of its model", "'a/b'", "'c/d'"}, [&] {
    lens::read_jacobian_lens(
        write(work.path() / "two.pt", matrices({0}),
              R"({"metadata": {"model_name": "a/b"}, "provenance": {"model_id": "c/d"}})"));
  });
  check_error(ErrorCode::kFormat, {"says two things of its target_layer"}, [&] {
    lens::read_jacobian_lens(write(work.path() / "two.pt", matrices({0}),
                                   R"({"target_layer": 2, "metadata": {"target_layer": 1}})"));
  });
}

TEST_CASE("Jacobian lens: what decides is compared by all of its keys, in all places") {
  const TemporaryFolder work;
  int count = 0;
  const auto read = [&](const std::string& fields) {
    INFO(fields);
    return lens::read_jacobian_lens(write(work.path() / cat(++count, ".pt"), matrices({0, 1}), fields));
  };
  const auto refused = [&](const std::string& fields, const std::vector<std::string>& parts) {
    check_error(ErrorCode::kFormat, parts, [&] { read(fields); });
  };
  refused(R"({"metadata": {"estimator": "jacobian_lens", "method": "relevance_lens"}})",
          {"says two things of its estimator", "metadata.method",
           "expected jacobian_lens, as elsewhere in the file, found relevance_lens"});
  refused(R"({"estimator": "jacobian_lens", "metadata": {"method": "relevance_lens"}})",
          {"says two things of its estimator"});
  refused(R"({"metadata": {"method": "relevance_lens"}, "config": {"estimator": "vjp"}})",
          {"says two things of its estimator"});
  refused(R"({"anchor": "resid_post", "metadata": {"anchor": ["resid_mid"]}})",
          {"says two things of its anchor"});
  refused(R"({"compatibility_mode": false, "metadata": {"compatibility_mode": 1}})",
          {"says two things of its compatibility_mode"});
  // The same in other words.
  CHECK(read(R"({"estimator": "jacobian_lens", "metadata": {"method": "mean VJP", "estimator": null}})")
            .facts.front()
            .value == "jacobian_lens");
  CHECK(read(R"({"anchor": "resid_post", "config": {"anchor": "block_output"}})").facts.size() == 2);
  CHECK(read(R"({"compatibility_mode": false, "config": {"compatibility_mode": "no"}})").facts.size() == 2);
  work.write("beside/config.yaml", "fit:\n  estimator: jacobian_lens\n  method: relevance_lens\n");
  check_error(ErrorCode::kFormat, {"two things of its estimator", "config.yaml: fit.method"}, [&] {
    lens::read_jacobian_lens(write(work.path() / "beside" / "x.pt", matrices({0, 1})));
  });
}

TEST_CASE("Jacobian lens: a target that the file does not tell is guessed at in a warning") {
  const TemporaryFolder work;
  {
    const Warnings warnings;
    load(write(work.path() / "whole.pt", matrices({0, 1})));
    load(write(work.path() / "one.pt", matrices({1})));
    CHECK_FALSE(warnings.tell({"fitted to block"}));
  }
  const Warnings warnings;
  load(write(work.path() / "short.pt", {{0, at::eye(kWidth) * 2}}));
  CHECK(warnings.tell({"short.pt: the blocks end at 0 of 2", "fitted to block 1"}));
  load(write(work.path() / "told.pt", {{0, at::eye(kWidth) * 2}}, R"({"target_layer": 2})"));
  CHECK_FALSE(warnings.tell({"told.pt"}));
  load(write(work.path() / "identity.pt", {{0, at::eye(kWidth) * 2}, {1, at::eye(kWidth)}}));
  CHECK(warnings.tell({"identity.pt: J[1] is the identity", "fitted to block 1"}));
}

TEST_CASE("Jacobian lens: config.yaml beside it tells of the fit") {
  const TemporaryFolder work;
  const std::string yaml = R"(# Jacobian lens fit
np_model_id: "tiny"
hf_model_name: "org/gpt2"
dataset:
  name: "Salesforce/wikitext"
  config: "wikitext-103-raw-v1"
fit:
  n_prompts: 1000
  max_seq_len: 128
  target_layer: null
  dtype: "bfloat16"
  stop_at_delta: 0.002
environment:
  transformers: "5.11.0"
  python: null
results:
  prompts_fitted: 5
known_issue: "A \"known\" issue: refit planned."
command: "x"
)";
  const fs::path file = write(work.path() / "a" / "gpt2_jacobian_lens.pt", matrices({0, 1}));
  work.write("a/config.yaml", yaml);
  {
    const Warnings warnings;
    const auto lens = load(file);
    CHECK(lens->about() == OrderedJson::parse(R"({"model": "org/gpt2", "prompts": 5, "max_length": 128,
        "corpus": "Salesforce/wikitext", "dtype": "bfloat16", "transformers": "5.11.0",
        "known_issue": "A \"known\" issue: refit planned.", "layers": [1, 2]})"));
    CHECK(warnings.count() == 1);
    CHECK(warnings.tell({"config.yaml: known_issue: A \"known\" issue"}));
  }
  // Converted, the lens keeps what stood beside it.
  const auto read = lens::read_jacobian_lens(file);
  for (const char* name : {"b/x.pt", "b/x.safetensors"}) {
    fs::create_directory(work.path() / "b");
    const fs::path to = work.path() / name;
    to.extension() == ".pt" ? lens::write_jacobian_lens_archive(to, read)
                            : lens::write_jacobian_lens_safetensors(to, read);
    const auto again = lens::read_jacobian_lens(to);
    CHECK((again.provenance == read.provenance));
    CHECK(lens::about_lens(again) == lens::about_lens(read));
    fs::remove(to);
  }
  // Another file in the folder: the one that is called by the model's name is meant.
  const fs::path second = write(work.path() / "a" / "gpt2_jacobian_lens_n1000.pt", matrices({0, 1}));
  CHECK(lens::read_jacobian_lens(file).provenance.model == "org/gpt2");
  CHECK_FALSE(lens::read_jacobian_lens(second).provenance.model);
  // A configuration that was left from another fit, or is of another file or model.
  const Warnings warnings;
  work.write("c/config.yaml", yaml);
  CHECK_FALSE(
      lens::read_jacobian_lens(write(work.path() / "c" / "x.pt", matrices({0}), R"({"n_prompts": 80})"))
          .provenance.model);
  CHECK(warnings.tell({"prompts_fitted: 5 prompts, but 80", "was not used"}));
  work.write("d/config.yaml", yaml);
  const auto other = lens::read_jacobian_lens(
      write(work.path() / "d" / "x.pt", matrices({0}), R"({"metadata": {"model_name": "org/else"}})"));
  CHECK(other.provenance.model == "org/else");
  CHECK(warnings.tell({"made for 'org/gpt2'", "'org/else'", "was not used"}));
  work.write("e/config.yaml", "hf_model_name: org/gpt2\nlens:\n  file: other.pt\n");
  CHECK_FALSE(lens::read_jacobian_lens(write(work.path() / "e" / "x.pt", matrices({0}))).provenance.model);
  CHECK(warnings.tell({"it is of 'other.pt', which is not there", "was not used"}));
  work.write("e/config.yaml",
             "hf_model_name: org/gpt2\nfile: ./x.pt\ndataset:\n  file: train.txt\n  model: a/b\n");
  CHECK(lens::read_jacobian_lens(work.path() / "e" / "x.pt").provenance.model == "org/gpt2");
  work.write("f/config.yaml", "fit:\n  target_layer: 1\n");
  check_error(ErrorCode::kFormat, {"config.yaml: fit.target_layer", "found 1"}, [&] {
    load(write(work.path() / "f" / "x.pt", matrices({0, 1})));
  });
  for (const char* bytes : {"", ":\n: :\n", "a\n  b:\n c", "\xff\xfe\x00x: 1", "- a: 1\n- b",
                            "fit:\nfit:\n  dtype: \"", "a: {b: [1"}) {
    INFO(bytes);
    work.write("g/config.yaml", bytes);
    CHECK(load(write(work.path() / "g" / "x.pt", matrices({0, 1})))->digest().size() == 64);
  }
}

TEST_CASE(
    "Jacobian lens: config.yaml beside it in other ways of writing the same, and what is not read of it") {
  const TemporaryFolder work;
  int count = 0;
  const auto with_yaml = [&](const std::string& yaml) {
    const std::string folder = cat(++count);
    work.write(folder + "/config.yaml", yaml);
    return write(work.path() / folder / "x.pt", matrices({0, 1}));
  };
  const auto inside = [&](const std::string& yaml) {
    INFO(yaml);
    const Warnings warnings;
    check_error(ErrorCode::kFormat, {"anchored inside a block", "config.yaml", "found resid_mid"},
                [&] { load(with_yaml(yaml)); });
    CHECK(warnings.count() == 0);
  };
  for (const char* yaml :
       {"fit:   # how\n  anchor: resid_mid", "fit: # how\n\n  # where\n  anchor: resid_mid # in the middle",
        "\"anchor\": resid_mid", "'anchor' : 'resid_mid'",
        "\xef\xbb\xbf"
        "anchor: resid_mid\r\n",
        "---\nfit: {\"anchor\": \"resid_mid\"}", "  fit:\n    anchor: resid_mid",
        "layers: [0, 1]\nnotes:\n- 'it''s'\n- \"a # b\" # c\nanchor: resid_mid"})
    inside(yaml);
  for (const char* on : {"True", "yes", "On", "TRUE  # folded"}) {
    INFO(on);
    check_error(ErrorCode::kFormat, {"processed weights", "compatibility_mode", "found true"},
                [&] { load(with_yaml(cat("compatibility_mode: ", on))); });
  }
  for (const char* off : {"False", "no", "off", "Null", "~", ""}) {
    INFO(off);
    CHECK(load(with_yaml(cat("compatibility_mode: ", off)))->translates(2));
  }
  check_error(ErrorCode::kFormat, {"its anchor in a form that is not read", "found [\"resid_mid\"]"},
              [&] { load(with_yaml("anchor:\n- resid_mid\n")); });

  // What could not be read is told of, once for a file.
  const auto unread = [&](const std::string& yaml, const std::string& told) {
    INFO(yaml);
    const Warnings warnings;
    const auto lens = lens::read_jacobian_lens(with_yaml(yaml));
    CHECK(warnings.count() == 1);
    CHECK(warnings.tell({"config.yaml: " + told, "could not be read", "does not count"}));
    return lens;
  };
  unread("fit: {anchor: resid_mid}", "line 1: 'fit: {anchor: resid_mid}' could");
  unread("runs:\n  - anchor: resid_mid\n    method: x\n", "line 2: '- anchor: resid_mid' could");
  unread("a: 1\nanchor: &here resid_mid\nfit: *here\n", "line 2: 'anchor: &here resid_mid' and 1 more could");
  unread("anchor: |\n  resid_mid\n", "line 1: 'anchor: |'");
  unread("anchor: !!str resid_mid", "line 1: ");
  unread("anchor: \"resid_mid", "line 1: ");
  unread("anchor: resid_post\nanchor: resid_mid", "line 2: 'anchor: resid_mid'");
  unread("fit:\n\tanchor: resid_mid", "line 2: ");
  unread({"a\0n\0c\0h\0o\0r\0:\0", 14}, "line 1: ");
  const auto folded = unread("anchor: resid_post\n  and so on\ncorpus: c\n", "line 2: 'and so on'");
  REQUIRE(folded.facts.size() == 2);  // prompts, of the file, and
  CHECK(folded.facts.back().value == "c");

  // Not where the file is of another lens; but where that may stand in what was not read.
  const Warnings warnings;
  const fs::path file = with_yaml("hf_model_name: org/other\nfit: {a: b}\n");
  write(file.parent_path() / "other_jacobian_lens.pt", matrices({0, 1}));
  lens::read_jacobian_lens(file);
  CHECK(warnings.count() == 0);
  // Where it may be of any of several lenses that is told. What is no lens is no company.
  const fs::path any = with_yaml("fit:\n  anchor: resid_mid\n");
  work.write((any.parent_path() / "optimizer.pt").lexically_relative(work.path()), "no lens");
  REQUIRE(::mkfifo((any.parent_path() / "pipe.pt").c_str(), 0600) == 0);
  fs::create_symlink(any, any.parent_path() / "latest.pt");
  check_error(ErrorCode::kFormat, {"anchored inside a block"}, [&] { load(any); });
  write(any.parent_path() / "y.pt", matrices({0, 1}));
  CHECK(load(any)->translates(2));
  CHECK(warnings.tell({"another lens in the folder, 'y.pt'", "was not used"}));
  const fs::path unnamed = with_yaml("hf_model_name: &m org/x\n");
  write(unnamed.parent_path() / "y.pt", matrices({0, 1}));
  lens::read_jacobian_lens(unnamed);
  CHECK(warnings.tell({"line 1: 'hf_model_name: &m org/x' could not be read"}));
}

TEST_CASE("Jacobian lens: safetensors as jlens-mlx writes them, with what stands beside") {
  const TemporaryFolder work;
  io::write_safetensors(work.path() / "lens.safetensors",
                        {{"0", at::eye(kWidth)}, {"1", at::eye(kWidth) * 2}}, {});
  work.write("lens.sidecar.json", R"({"source_layers": [0, 1], "d_model": 16, "n_prompts": 277,
                                      "hf_model_name": "openai-community/gpt2"})");
  const auto lens = load(work.path());
  CHECK(stretch(*lens, 2) == Approx(2));
  CHECK(lens->about() ==
        OrderedJson::parse(R"({"model": "openai-community/gpt2", "prompts": 277, "layers": [1, 2]})"));
  CHECK(std::holds_alternative<lens::StoredJacobianLens>(lens::read_lens(work.path() / "lens.safetensors")));
}

TEST_CASE("Jacobian lens: what the header of safetensors tells counts, and travels with it") {
  const TemporaryFolder work;
  int count = 0;
  const auto with_header = [&](const std::map<std::string, std::string>& header) {
    const fs::path file = work.path() / cat(++count, ".safetensors");
    io::write_safetensors(
        file, {{"0", at::eye(kWidth) * 2}, {"1", at::eye(kWidth) * 3}, {"2", at::eye(kWidth) * 4}}, header);
    return file;
  };
  const auto before = with_header({{"format", "mlx"}, {"anchor", "resid_pre"}, {"model_id", "golden/gpt2"}});
  CHECK(stretch(*load(before), 1) == Approx(3));
  CHECK(lens::read_jacobian_lens(before).provenance.model == "golden/gpt2");
  const auto archive = work.path() / "converted.pt";
  lens::write_jacobian_lens_archive(archive, lens::read_jacobian_lens(before));
  CHECK(stretch(*load(archive), 1) == Approx(3));
  lens::write_jacobian_lens_safetensors(work.path() / "back.safetensors", lens::read_jacobian_lens(archive));
  CHECK(stretch(*load(work.path() / "back.safetensors"), 1) == Approx(3));

  using Header = std::map<std::string, std::string>;
  const std::vector<std::pair<Header, std::string>> refused = {
      {{{"estimator", "relevance_lens"}}, "another estimator"},
      {{{"metadata", R"({"anchor": "resid_mid"})"}}, "anchored inside a block"},
      {{{"target_layer", "1"}}, "the last residual state"},
      {{{"num_layers", "99"}}, "expected 3 blocks, found 99"},
      {{{"anchor", "resid_pre"}, {"fields", R"({"anchor": "resid_post"})"}}, "two things of its anchor"}};
  for (const auto& [header, part] : refused)
    check_error(ErrorCode::kFormat, {part}, [&, &header = header] { load(with_header(header)); });
  check_error(ErrorCode::kFormat, {"another estimator"}, [&] {
    load(with_header({{"lens_type", "relevance_lens"}, {"anchor", "resid_pre"}}));
  });
  check_error(ErrorCode::kFormat, {"anchored inside a block"}, [&] {
    load(with_header({{"config", R"({"anchor": "resid_mid"})"}}));
  });
  // What stands for nothing, and texts as JSON has them.
  CHECK(load(with_header({{"lrp_mode", "None"}, {"stream_reduce", ""}, {"anchor", "\"resid_pre\""}}))
            ->translates(2));
  // What could not be written again stays a text.
  for (const char* text : {"18446744073709551615", R"({"__number__":5})", R"({"__dict__":5})"}) {
    INFO(text);
    const auto odd = lens::read_jacobian_lens(with_header({{"anchor", "resid_pre"}, {"seed", text}}));
    lens::write_jacobian_lens_safetensors(work.path() / "odd.safetensors", odd);
    CHECK(lens::read_jacobian_lens(work.path() / "odd.safetensors").fields == odd.fields);
  }
  const Warnings warnings;
  CHECK(load(with_header({{"anchor", "resid_pre"}, {"known_issue", "broken"}, {"transformers", "5.10"}}))
            ->about()
            .at("transformers") == "5.10");
  CHECK(warnings.tell({"__metadata__.known_issue: broken"}));
}

TEST_CASE("Jacobian lens: conversion keeps what stands beside, whatever the file's own entries are") {
  const TemporaryFolder work;
  int count = 0;
  for (const char* fields : {R"({"metadata": {"anchor": null}})", R"({"metadata": "a text"})",
                             R"({"metadata": [1], "provenance": "x"})",
                             R"({"metadata": 1, "provenance": "x", "fit": [2]})", "{}"}) {
    INFO(fields);
    const fs::path folder = work.path() / cat(++count);
    const fs::path file =
        write(folder / "x.pt", {{1, at::eye(kWidth) * 2}, {2, at::eye(kWidth) * 3}}, fields);
    const std::string digest(64, 'a');
    work.write(
        cat(count, "/x.sidecar.json"),
        R"({"anchor": "resid_pre", "target_layer": 1, "model": "org/m", "data_digest": ")" + digest + "\"}");
    const lens::StoredJacobianLens original = lens::read_jacobian_lens(file);
    for (const char* name : {"other/x.pt", "other/x.safetensors"}) {
      const fs::path to = folder / name;
      fs::create_directories(to.parent_path());
      if (to.extension() == ".pt") lens::write_jacobian_lens_archive(to, original);
      if (to.extension() != ".pt") lens::write_jacobian_lens_safetensors(to, original);
      const lens::StoredJacobianLens found = lens::read_jacobian_lens(to);
      CHECK(lens::layers_of(found) == std::vector<std::int64_t>{1, 2});
      CHECK(found.provenance.model == "org/m");
      CHECK(found.provenance.data_digest == digest);
      check_error(ErrorCode::kFormat, {"target_layer", "found 1"}, [&] { load(to); });
    }
  }
}

TEST_CASE("Jacobian lens: two ways to count the target are one, also when converted") {
  const TemporaryFolder work;
  const fs::path file = write(work.path() / "x.pt", matrices({0, 1}), R"({"target_layer": 3})");
  work.write("x.sidecar.json", R"({"target_layer": 2})");
  CHECK(load(file)->translates(2));
  CHECK(lens::facts_json(lens::read_jacobian_lens(file).facts).at("target_layer") == 3);  // the lens's own
  for (const char* name : {"other/x.pt", "other/x.safetensors"}) {
    const fs::path to = work.path() / name;
    fs::create_directories(to.parent_path());
    const lens::StoredJacobianLens stored = lens::read_jacobian_lens(file);
    if (to.extension() == ".pt") lens::write_jacobian_lens_archive(to, stored);
    if (to.extension() != ".pt") lens::write_jacobian_lens_safetensors(to, stored);
    CHECK(load(to)->translates(2));
  }
}

TEST_CASE("Jacobian lens: entries that could not be written again are refused by name") {
  const TemporaryFolder work;
  // One that is nested too deeply stays a text.
  const std::string deep = std::string(300'000, '[') + std::string(300'000, ']');
  io::write_safetensors(work.path() / "deep.safetensors", {{"0", at::eye(kWidth)}}, {{"deep", deep}});
  CHECK(lens::read_jacobian_lens(work.path() / "deep.safetensors").fields.at("__metadata__").at("deep") ==
        deep);
  for (const char* fields : {R"({"metadata": {"__dict__": 5}})", R"({"metadata": {"__dict__": [1]}})",
                             R"({"metadata": {"__dict__": [[1]]}})", R"({"J": 3})",
                             R"({"x": 18446744073709551615})", R"({"x": {"__number__": 5}})"}) {
    INFO(fields);
    io::write_safetensors(work.path() / "x.safetensors", {{"0", at::eye(kWidth)}}, {{"fields", fields}});
    check_error(ErrorCode::kFormat, {"__metadata__: fields"},
                [&] { lens::read_jacobian_lens(work.path() / "x.safetensors"); });
  }
}

TEST_CASE("Jacobian lens: a file beside it that says otherwise is refused or left out, and told") {
  const TemporaryFolder work;
  int count = 0;
  const auto with = [&](const std::string& name, const std::string& beside, const std::string& fields) {
    const std::string folder = cat(++count);
    work.write(cat(folder, "/", name), beside);
    return write(work.path() / folder / "x.pt", matrices({0, 1}), fields);
  };
  const std::string own = R"({"anchor": "resid_post", "metadata": {"estimator": "jacobian_lens"}})";
  for (const auto& [told, word] : std::vector<std::pair<const char*, const char*>>{
           {R"({"anchor": "resid_pre"})", "resid_post"},
           {R"({"estimator": "relevance_lens"})", "jacobian_lens"}}) {
    INFO(told);
    check_error(ErrorCode::kFormat, {"x.sidecar.json", "say two things", word},
                [&, &told = told] { lens::read_jacobian_lens(with("x.sidecar.json", told, own)); });
    const Warnings warnings;
    CHECK(load(with("config.json", told, own))->translates(2));
    CHECK(warnings.tell({"config.json: ", "was not used"}));
  }
  {
    // What a sidecar tells is the lens's own word for the other.
    const Warnings warnings;
    const fs::path file = with("x.sidecar.json", R"({"model": "org/A", "anchor": "resid_post"})", "{}");
    work.write((file.parent_path() / "config.json").lexically_relative(work.path()),
               R"({"model": "org/B", "anchor": "resid_pre", "known_issue": "of B"})");
    CHECK(lens::read_jacobian_lens(file).provenance.model == "org/A");
    CHECK(warnings.tell({"config.json: made for 'org/B'", "was not used"}));
    // Not passed over for a word that a tuned lens has, too.
    work.write((file.parent_path() / "config.json").lexically_relative(work.path()),
               R"({"lens_type": "r-lens"})");
    check_error(ErrorCode::kFormat, {"another estimator", "config.json: lens_type"}, [&] { load(file); });
  }
  // A sidecar is of its lens, whatever number of prompts it counts.
  check_error(ErrorCode::kFormat, {"anchored inside a block"}, [&] {
    load(with("x.sidecar.json", R"({"anchor": "resid_mid", "prompts_fitted": 6})", R"({"n_prompts": 5})"));
  });
  check_error(ErrorCode::kFormat, {"target_layer", "x.sidecar.json", "found 1"},
              [&] { load(with("x.sidecar.json", R"({"target_layer": 1})", R"({"target_layer": 2})")); });
  check_error(ErrorCode::kFormat, {"x.sidecar.json: n_layers", "found 9"},
              [&] { load(with("x.sidecar.json", R"({"n_layers": 9})", "{}")); });
  check_error(ErrorCode::kFormat, {"made for another model", "model_digest"}, [&] {
    load(with("x.sidecar.json", cat(R"({"provenance": {"model_digest": ")", std::string(64, 'a'), "\"}}"),
              "{}"));
  });
  check_error(ErrorCode::kFormat, {"metadata.num_layers", "found 99"},
              [&] { load(with("unused", "", R"({"num_layers": null, "metadata": {"num_layers": 99}})")); });
  check_error(ErrorCode::kFormat, {"metadata.d_model", "found 64"},
              [&] { load(with("unused", "", R"({"metadata": {"d_model": 64}})")); });
}

TEST_CASE("Jacobian lens: rotary settings that the lens was fitted under") {
  const TemporaryFolder work;
  const auto with_config = [&](const std::string& name, const std::string& settings) {
    for (const char* file : {"config.json", "model.safetensors"})
      work.write(cat(name, "/", file), util::read_file(test::golden_model("gpt2") / file));
    OrderedJson config = OrderedJson::parse(util::read_file(work.path() / name / "config.json"));
    // The model is loaded as what it is; the settings are only compared.
    auto model = model::Model::load(work.path() / name, {});
    config.update(OrderedJson::parse(settings));
    util::write_file(work.path() / name / "config.json", config.dump());
    return model;
  };
  int count = 0;
  const auto fit = [&](const std::string& fields) {
    return write(work.path() / cat("lens", ++count) / "x.pt", matrices({0, 1}),
                 cat(R"({"metadata": )", fields, "}"));
  };
  const auto plain = with_config("plain", R"({"rope_theta": 10000.0, "rope_scaling": null})");
  const auto yarn = with_config("yarn", R"({"model_type": "olmo3", "rope_theta": 500000,
      "rope_scaling": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192}})");
  const auto by_layer = with_config("layers", R"({"rope_parameters": {
      "full_attention": {"rope_type": "yarn", "rope_theta": 500000, "factor": 8.0},
      "sliding_attention": {"rope_type": "default", "rope_theta": 500000}}})");
  const auto accepted = [&](const model::Model& model, const std::string& fields) {
    INFO(fields);
    CHECK(load(fit(fields), false, model)->digest().size() == 64);
  };
  const auto refused = [&](const model::Model& model, const std::string& fields,
                           const std::vector<std::string>& parts) {
    INFO(fields);
    std::vector<std::string> all = {"under other RoPE settings", "--allow-lens-mismatch"};
    all.insert(all.end(), parts.begin(), parts.end());
    const fs::path file = fit(fields);
    check_error(ErrorCode::kFormat, all, [&] { load(file, false, model); });
    const Warnings warnings;
    CHECK(load(file, true, model)->digest().size() == 64);
    CHECK(warnings.tell({"under other RoPE settings"}));
  };
  accepted(*plain, R"({"rope_theta": 10000})");
  accepted(*plain, R"({"rope_parameters": {"rope_theta": 10000, "rope_type": "default"}})");
  refused(*plain, R"({"rope_theta": 500000})", {"metadata.rope_theta", R"(expected {"rope_theta":10000.0})"});
  refused(*plain, R"({"rope_scaling": {"type": "yarn", "factor": 8}})", {"metadata.rope_scaling", "yarn"});
  accepted(*yarn, R"({"rope_scaling": {"type": "yarn", "factor": 8}})");
  accepted(*yarn, R"({"rope_parameters": {"rope_type": "yarn", "factor": 8.0, "rope_theta": 500000.0}})");
  refused(*yarn, R"({"rope_scaling": {"type": "yarn", "factor": 4}})", {R"("factor":8.0)", R"("factor":4)"});
  refused(*yarn, R"({"rope_parameters": {"rope_theta": 500000}})", {});
  refused(*by_layer, R"({"rope_parameters": {"rope_type": "yarn", "factor": 8.0, "rope_theta": 500000}})",
          {"sliding_attention"});
  accepted(*by_layer, R"({"rope_parameters": {
      "full_attention": {"rope_type": "yarn", "rope_theta": 500000, "factor": 8.0},
      "sliding_attention": {"rope_theta": 500000}}})");
  // OLMo 3 under the versions of transformers that scaled all layers.
  for (const char* version : {"5.0.0", "5.11.0", "5.12.1"})
    refused(*yarn, cat(R"({"transformers": ")", version, R"("})"),
            {"metadata.transformers", version, "sliding-window"});
  for (const char* version : {"4.57.1", "5.13.0", "5.16.1", "main"})
    accepted(*yarn, cat(R"({"transformers": ")", version, R"("})"));
  accepted(*plain, R"({"transformers": "5.11.0"})");
}

TEST_CASE("Jacobian lens: archives that are something else, or hostile") {
  const TemporaryFolder work;
  const auto refused = [&](const PickleValue& root, const std::vector<std::string>& parts) {
    io::write_torch_archive(work.path() / "x.pt", root);
    check_error(ErrorCode::kFormat, parts, [&] { load(work.path() / "x.pt"); });
    check_error(ErrorCode::kFormat, parts, [&] { load(work.path()); });
  };
  const PickleValue identity = tensor(at::eye(kWidth));
  refused(dictionary({chars("jacobian_sum"), dictionary({number(0), identity}), chars("n_done"), number(80)}),
          {"a checkpoint of its fitting, sums over 80 prompts"});
  refused(dictionary({chars("parameters"), dictionary({chars("jacobians"), dictionary({})}), chars("config"),
                      dictionary({})}),
          {"a fit of the J++ lens"});
  check_error(ErrorCode::kFormat, {"a fit of the J++ lens"}, [&] { lens::read_lens(work.path() / "x.pt"); });
  check_error(ErrorCode::kFormat, {"under the key 'J'", "found the keys 'version', 'jacobians'"}, [&] {
    io::write_torch_archive(work.path() / "x.pt",
                            dictionary({chars("version"), number(1), chars("jacobians"), dictionary({})}));
    lens::read_jacobian_lens(work.path() / "x.pt");
  });
  refused(dictionary({chars("J"), dictionary({chars("zero"), identity})}), {"integer keys in 'J'"});
  refused(dictionary({chars("J"), dictionary({number(1), identity, chars("1"), identity})}),
          {"one Jacobian for a block", "several for block 1"});
  refused(
      dictionary({chars("J"), dictionary({number(0), tensor(at::full({kWidth, kWidth}, 1).to(at::kLong))})}),
      {"J[0]", "floating-point"});
  refused(
      dictionary({chars("J"), dictionary({number(0), tensor(at::eye(kWidth).expand({4, kWidth, kWidth}))})}),
      {"J[0]", "wrong shape"});
  refused(dictionary({chars("J"), dictionary({number(7), identity})}), {"does not fit"});
  for (const std::int64_t block : {INT64_MAX, std::int64_t{100'000}})
    refused(dictionary({chars("J"), dictionary({number(block), identity})}), {"blocks from 0 to 99999"});
  refused(dictionary({chars("J"), dictionary({number(0), identity}), chars("source_layers"), number(3)}),
          {"source_layers"});
  at::Tensor bad = at::eye(kWidth);
  bad[3][4] = std::numeric_limits<float>::quiet_NaN();
  for (const std::int64_t block : {1, 2}) {  // of the last block, too, although it is not used
    refused(dictionary({chars("J"), dictionary({number(0), identity, number(block), tensor(bad)})}),
            {"not finite", cat("J[", block, "]")});
  }
  io::write_torch_archive(work.path() / "x.pt",
                          dictionary({chars("J"), dictionary({chars("0"), identity, chars("1"), identity})}));
  CHECK(load(work.path() / "x.pt")->translates(2));  // numbers as text
}

}  // namespace depthlens
