// Checkpoints whose weights and config disagree: ties, names, cached tables, values that are not finite.
#include "depthlens/model/stored_weights.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>

#include <filesystem>
#include <functional>
#include <limits>
#include <map>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/io/writers.hpp"
#include "depthlens/model/finite.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "golden/golden_data.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens {
namespace {

using model::Model;
using Tensors = std::map<std::string, at::Tensor>;
using util::ErrorCode;

/// A golden checkpoint with its tensors and its config changed, loaded; the folder is kept.
class Changed {
 public:
  Changed(const std::string& variant, const std::function<void(Tensors&)>& change,
          const util::Json& settings = util::Json::object()) {
    const auto source = test::golden_model(variant);
    util::Json config = util::parse_json(util::read_file(source / "config.json"), "config.json");
    config.update(settings);
    folder_.write("config.json", config.dump());
    Tensors tensors;
    const io::TensorFile file = io::open_checkpoint(source);
    for (const auto& [name, entry] : file.entries()) tensors[name] = file.view(name).clone();
    change(tensors);
    io::write_safetensors(folder_.path() / "model.safetensors", {tensors.begin(), tensors.end()}, {});
    before_ = util::warnings().size();
  }

  std::shared_ptr<const Model> load(const model::LoadOptions& options = {}) const {
    return Model::load(folder_.path(), options);
  }
  std::string path() const { return (folder_.path() / "model.safetensors").string(); }

  /// The warnings since then.
  std::vector<std::string> told() const {
    const std::vector<std::string> all = util::warnings();
    return {all.begin() + static_cast<std::ptrdiff_t>(before_), all.end()};
  }
  void check_told(const std::vector<std::string>& parts) const {
    const std::vector<std::string> warnings = told();
    REQUIRE(warnings.size() == 1);
    INFO(warnings.front());
    for (const std::string& part : parts) CHECK(warnings.front().find(part) != std::string::npos);
  }

 private:
  test::TemporaryFolder folder_;
  std::size_t before_ = 0;
};

struct Tied {
  std::string variant, embedding, unembedding;
};
const std::vector<Tied> kTied = {{"gpt2", "transformer.wte.weight", "lm_head.weight"},
                                 {"neox-sequential", "gpt_neox.embed_in.weight", "embed_out.weight"},
                                 {"neox-sequential", "gpt_neox.embed_in.weight", "lm_head.weight"},
                                 {"llama3-scaled", "model.embed_tokens.weight", "lm_head.weight"}};

TEST_CASE("an unembedding beside tied embeddings is theirs only where both are equal") {
  for (const auto& [variant, embedding, unembedding] : kTied) {
    INFO(variant << ' ' << unembedding);
    const std::int64_t parameters = Model::load(test::golden_model(variant), {})->num_parameters();
    const Changed equal(variant, [&](Tensors& t) { t[unembedding] = t.at(embedding).to(at::kDouble); });
    const auto tied = equal.load();
    CHECK(tied->spec().tied_unembedding);
    CHECK(tied->num_parameters() == parameters);
    CHECK(equal.told().empty());

    at::Tensor own;
    const Changed other(variant, [&](Tensors& t) {
      own = t.at(embedding).clone();
      own.view(-1)[-1] += 0.5;  // the last value alone
      t[unembedding] = own;
    });
    for (const bool streamed : {false, true}) {
      const auto untied = other.load({.stream_layers = streamed});
      CHECK_FALSE(untied->spec().tied_unembedding);
      CHECK(untied->num_parameters() == parameters + own.numel());
      CHECK(at::equal(untied->head().unembedding.weight, own));
    }
    other.check_told({other.path(), unembedding, embedding, "tie_word_embeddings", "not tied"});
  }
}

TEST_CASE("an unembedding that is missing is not made up") {
  const Changed llama("llama", [](Tensors& t) { t.erase("lm_head.weight"); });
  test::check_error(ErrorCode::kFormat, {"missing tensor 'lm_head.weight'", "tie_word_embeddings: true"},
                    [&] { llama.load(); });
  const Changed gpt2("gpt2", [](Tensors&) {}, {{"tie_word_embeddings", nullptr}});
  test::check_error(ErrorCode::kFormat, {"missing tensor 'lm_head.weight'"}, [&] { gpt2.load(); });
}

TEST_CASE("GPT-NeoX's unembedding has two names") {
  const auto reference = Model::load(test::golden_model("neox-parallel"), {});
  const auto rename = [](Tensors& t) {
    t["lm_head.weight"] = t.at("embed_out.weight");
    t.erase("embed_out.weight");
  };
  const Changed renamed("neox-parallel", rename);
  CHECK(at::equal(renamed.load()->head().unembedding.weight, reference->head().unembedding.weight));
  CHECK(renamed.load()->num_parameters() == reference->num_parameters());

  const Changed both("neox-parallel",
                     [](Tensors& t) { t["lm_head.weight"] = t.at("embed_out.weight").clone(); });
  CHECK(both.load()->num_parameters() == reference->num_parameters());
  const Changed differ("neox-parallel",
                       [](Tensors& t) { t["lm_head.weight"] = t.at("embed_out.weight") * 2; });
  test::check_error(ErrorCode::kFormat,
                    {"'embed_out.weight'", "'lm_head.weight'", "different values", differ.path()},
                    [&] { differ.load(); });
  CHECK(both.told().empty());
}

TEST_CASE("a tensor with the prefix and without it is refused by name") {
  const Changed twice("llama",
                      [](Tensors& t) { t["embed_tokens.weight"] = t.at("model.embed_tokens.weight") * 2; });
  test::check_error(ErrorCode::kFormat, {"no place for", "found embed_tokens.weight"}, [&] { twice.load(); });
}

TEST_CASE("stored tables that disagree with the config are reported and not used") {
  const std::string name = "model.layers.1.self_attn.rotary_emb.inv_freq";
  const auto reference = Model::load(test::golden_model("llama"), {});
  const auto table = [&](double base) {
    return [&name, base](Tensors& t) {
      t[name] = at::ones({4}, at::kDouble);  // heads of 8
      for (int i = 0; i < 4; ++i) t[name][i] = std::pow(base, -i / 4.0);
      t[name] = t[name].to(at::kHalf);
    };
  };
  const Changed same("llama", table(500));
  same.load();
  CHECK(same.told().empty());
  const Changed other("llama", table(1e6));
  CHECK((other.load()->spec().ropes == reference->spec().ropes));
  other.check_told({other.path(), "1 stored tables", name, "500", "ignored"});
  const Changed shape("llama", [&](Tensors& t) { t[name] = at::ones({5}); });
  shape.load();
  shape.check_told({name});
  Changed("llama-old-config", [](Tensors&) {}).load();

  const auto mask = [](std::int64_t span) {
    return [span](Tensors& t) {
      for (int i = 0; i < 3; ++i) {
        const at::Tensor whole = at::ones({16, 16}).tril();
        t["transformer.h." + std::to_string(i) + ".attn.bias"] =
            (whole - whole.tril(-span)).view({1, 1, 16, 16}).to(at::kByte);
      }
    };
  };
  const Changed causal("gpt2", mask(16));
  causal.load();
  CHECK(causal.told().empty());
  const Changed local("gpt2", mask(9));
  local.load();
  local.check_told({"3 stored tables", "transformer.h.0.attn.bias", "masks"});

  // GPT-Neo's second block sees three positions, its mask says so, and neither is told.
  const auto masks = [](std::int64_t span) {
    return [span](Tensors& t) {
      const at::Tensor whole = at::ones({16, 16}).tril();
      t["transformer.h.0.attn.attention.bias"] = whole.view({1, 1, 16, 16}).to(at::kBool).to(at::kByte);
      t["transformer.h.1.attn.attention.bias"] =
          (whole - whole.tril(-span)).view({1, 1, 16, 16}).to(at::kByte);
    };
  };
  const Changed windows("gpt-neo", masks(3));
  windows.load();
  CHECK(windows.told().empty());
  const Changed others("gpt-neo", masks(4));
  others.load();
  others.check_told({"1 stored tables", "transformer.h.1.attn.attention.bias"});
}

TEST_CASE("parts that see pictures are passed over, and nothing else") {
  const Changed wrapped("gemma3-wrapper", [](Tensors&) {});
  CHECK(wrapped.load()->spec().architecture == "Gemma3ForConditionalGeneration");
  CHECK(wrapped.told().empty());
  const Changed more("gemma3-wrapper", [](Tensors& t) { t["sound_tower.weight"] = at::ones({2}); });
  test::check_error(ErrorCode::kFormat, {"no place for", "sound_tower.weight"}, [&] { more.load(); });
  for (const std::string other : {"model.language_model.", "language_model."}) {
    const Changed renamed("gemma3-wrapper", [&](Tensors& t) {
      Tensors all;
      for (const auto& [name, tensor] : t) {
        const std::string old = "language_model.model.";
        all[name.rfind(old, 0) == 0 ? other + name.substr(old.size()) : name] = tensor;
      }
      t = all;
    });
    CHECK(renamed.load()->num_parameters() == wrapped.load()->num_parameters());
  }
}

TEST_CASE("a wrapper that says nothing of ties has its class's, and an unembedding of its own is used") {
  const std::string embedding = "language_model.model.embed_tokens.weight";
  const std::string own = "language_model.lm_head.weight";
  const Changed none("mistral3", [](Tensors&) {});
  CHECK(none.load()->spec().tied_unembedding);
  CHECK(none.told().empty());
  const Changed same("mistral3", [&](Tensors& t) { t[own] = t.at(embedding).clone(); });
  CHECK(same.load()->spec().tied_unembedding);
  CHECK(same.told().empty());
  const Changed other("mistral3", [&](Tensors& t) { t[own] = t.at(embedding) * 2; });
  CHECK_FALSE(other.load()->spec().tied_unembedding);
  other.check_told({own + " differs from " + embedding, "the config or its class ties them"});
  // Where neither ties them, one that is missing is an error.
  const Changed missing("llava", [&](Tensors& t) { t.erase(own); });
  test::check_error(ErrorCode::kFormat, {"lm_head.weight"}, [&] { missing.load(); });
}

TEST_CASE("a tensor with values that are not finite is named") {
  CHECK_FALSE(
      model::non_finite_tensor(*Model::load(test::golden_model("llama-gqa-sharded"), {})).has_value());
  for (const std::string name : {"model.layers.1.mlp.up_proj.weight", "model.norm.weight"}) {
    for (const double value :
         {std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity()}) {
      const Changed damaged("llama", [&](Tensors& t) { t.at(name).view(-1)[3] = value; });
      CHECK(model::non_finite_tensor(*damaged.load()) == damaged.path() + ": " + name);
    }
  }
}

TEST_CASE("queries and keys that are not finite show in the states") {
  // libtorch's attention makes 0 of them.
  for (const std::string name :
       {"model.layers.1.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight"}) {
    for (const double value :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      INFO(name << ' ' << value);
      const Changed damaged("llama", [&](Tensors& t) { t.at(name).view(-1)[3] = value; });
      const auto model = damaged.load();
      test::check_error(ErrorCode::kFormat, {name}, [&] {
        model::forward_finite(
            *model, {.tokens = {1, 2, 3, 4, 5}, .lengths = {3, 2}}, [](std::int64_t, const at::Tensor&) {},
            [](std::int64_t) { return std::string(); });
      });
    }
  }
}

TEST_CASE("a bias by which experts are chosen is finite, which no state would show") {
  const std::string name = "model.layers.1.mlp.gate.e_score_correction_bias";
  for (const std::string variant : {"deepseek-v3", "glm4-moe"}) {
    INFO(variant);
    const Changed damaged(variant,
                          [&](Tensors& t) { t.at(name)[0] = std::numeric_limits<double>::quiet_NaN(); });
    test::check_error(ErrorCode::kFormat, {name, "is not finite"}, [&] { damaged.load(); });
  }
}

TEST_CASE("gates, and what decides how states fade, are finite, which states would not show") {
  for (const auto& [variant, name] :
       {std::pair<std::string, std::string>("mamba2", "backbone.layers.1.mixer.A_log"),
        {"mamba2", "backbone.layers.1.mixer.dt_bias"},
        {"mamba", "backbone.layers.0.mixer.A_log"},
        {"jamba", "model.layers.0.mamba.dt_proj.weight"},
        {"qwen3-5", "model.layers.0.linear_attn.A_log"},
        {"qwen3-5", "model.layers.0.linear_attn.in_proj_a.weight"},
        {"olmo-hybrid", "model.layers.1.linear_attn.b_proj.weight"},
        {"afmoe", "model.layers.2.self_attn.gate_proj.weight"},
        {"qwen2-moe", "model.layers.0.mlp.shared_expert_gate.weight"}}) {
    INFO(variant << ", " << name);
    const std::string tensor = name;
    const Changed damaged(
        variant, [&](Tensors& t) { t.at(tensor).view(-1)[0] = -std::numeric_limits<double>::infinity(); });
    test::check_error(ErrorCode::kFormat, {tensor, "is not finite"}, [&] { damaged.load(); });
  }
}

TEST_CASE("the embedding of a Mamba by its older name") {
  const std::string now = "backbone.embeddings.weight", before = "backbone.embedding.weight";
  const Changed older("mamba", [&](Tensors& t) {
    t[before] = t.at(now);
    t.erase(now);
  });
  CHECK(older.load()->num_parameters() == Model::load(test::golden_model("mamba"), {})->num_parameters());
  const Changed both("mamba", [&](Tensors& t) { t[before] = t.at(now); });
  test::check_error(ErrorCode::kFormat, {"no place for", before}, [&] { both.load(); });
}

/// The states of the last layer, of a golden checkpoint's tokens.
at::Tensor last_state(const Model& model, const std::string& variant) {
  const std::vector<std::int64_t> tokens = test::Reference(variant).tokens(0);
  at::Tensor last;
  model.forward({.tokens = tokens, .lengths = {static_cast<std::int64_t>(tokens.size())}},
                [&](std::int64_t, const at::Tensor& state) { last = state; });
  return last;
}

TEST_CASE("a bare EXAONE has Llama's names of model and blocks, and its own within these") {
  const Changed bare("exaone", [](Tensors& t) {
    Tensors renamed;
    for (const auto& [name, tensor] : t) {
      std::string now = name;
      for (const auto& [old, with] : {std::pair<std::string, std::string>("transformer.h.", "layers."),
                                      {"transformer.wte.", "embed_tokens."},
                                      {"transformer.ln_f.", "norm."}}) {
        if (now.starts_with(old)) now.replace(0, old.size(), with);
      }
      renamed[now] = tensor;
    }
    t = renamed;
  });
  const auto whole = Model::load(test::golden_model("exaone"), {});
  CHECK(at::equal(last_state(*bare.load(), "exaone"), last_state(*whole, "exaone")));
}

TEST_CASE("experts as published, and as transformers 5 has them in memory, are the same model") {
  const auto check_same = [](const std::string& variant, const Changed& changed) {
    INFO(variant);
    const auto published = Model::load(test::golden_model(variant), {});
    CHECK(at::equal(last_state(*changed.load(), variant), last_state(*published, variant)));
  };
  // The matrices of these names, one behind the other, of all experts as one tensor.
  const auto stack = [](Tensors& t, const std::string& stem, const std::vector<std::string>& names,
                        const std::string& stacked) {
    std::vector<at::Tensor> all;
    for (int e = 0; t.count(util::cat(stem, e, ".", names[0], ".weight")) > 0; ++e) {
      std::vector<at::Tensor> rows;
      for (const std::string& name : names) {
        const std::string stored = util::cat(stem, e, ".", name, ".weight");
        rows.push_back(t.at(stored));
        t.erase(stored);
      }
      all.push_back(at::cat(rows));
    }
    t[stem + stacked] = at::stack(all);
  };
  // Every expert's matrices, and what else has another name then.
  const auto as_in_memory = [&](const std::string& variant,
                                const std::vector<std::pair<std::string, std::string>>& renames = {}) {
    const Changed changed(variant, [&](Tensors& t) {
      Tensors published = t;
      for (const auto& [name, tensor] : published) {
        const std::string first = ".experts.0.";
        const std::size_t place = name.find(first);
        if (place == std::string::npos) continue;
        const std::string stem = name.substr(0, place + first.size() - 2), matrix = name.substr(stem.size());
        if (matrix == "0.gate_proj.weight") stack(t, stem, {"gate_proj", "up_proj"}, "gate_up_proj");
        if (matrix == "0.down_proj.weight") stack(t, stem, {"down_proj"}, "down_proj");
        if (matrix == "0.w1.weight") stack(t, stem, {"w1", "w3"}, "gate_up_proj");
        if (matrix == "0.w2.weight") stack(t, stem, {"w2"}, "down_proj");
      }
      REQUIRE(t.size() < published.size());
      Tensors renamed;
      for (const auto& [name, tensor] : t) {
        std::string now = name;
        for (const auto& [old, with] : renames) {
          if (const std::size_t place = now.find(old); place != std::string::npos)
            now.replace(place, old.size(), with);
        }
        renamed[now] = tensor;
      }
      t = renamed;
    });
    check_same(variant, changed);
  };
  for (const char* variant :
       {"afmoe",       "cohere2-moe", "deepseek-v2",   "deepseek-v3",   "deepseek-v32", "dots1",
        "flex-olmo",   "glm-moe-dsa", "glm4-moe",      "glm4-moe-lite", "glm4v-moe",    "hunyuan-moe",
        "jamba",       "lfm2-moe",    "mimo-v2-flash", "olmoe",         "qwen2-moe",    "qwen3-moe",
        "qwen3-5-moe", "qwen3-next",  "sarvam-mla",    "sarvam-moe",    "solar-open"})
    as_in_memory(variant);
  as_in_memory("ernie4-5-moe", {{"mlp.moe_statics", "mlp.gate.moe_statics"}});
  as_in_memory("exaone-moe", {{"mlp.e_score_correction_bias", "mlp.gate.e_score_correction_bias"}});
  as_in_memory("hy-v3", {{"mlp.expert_bias", "mlp.e_score_correction_bias"},
                         {"mlp.router.gate", "mlp.gate"},
                         {"mlp.shared_mlp", "mlp.shared_experts"}});
  for (const char* variant : {"minimax-m2", "mixtral"}) as_in_memory(variant, {{"block_sparse_moe", "mlp"}});
  as_in_memory("phimoe", {{"block_sparse_moe.gate", "mlp.router"}, {"block_sparse_moe", "mlp"}});
  check_same("nemotron-h", Changed("nemotron-h", [&](Tensors& t) {
               stack(t, "backbone.layers.1.mixer.experts.", {"up_proj"}, "up_proj");
               stack(t, "backbone.layers.1.mixer.experts.", {"down_proj"}, "down_proj");
               Tensors renamed;
               for (const auto& [name, tensor] : t) {
                 const std::string old = "backbone.";
                 renamed[name.starts_with(old) ? "model." + name.substr(old.size()) : name] = tensor;
               }
               renamed["mtp.layers.0.norm.weight"] = at::ones({4});
               t = renamed;
             }));
  check_same("granite-hybrid", Changed("granite-hybrid", [](Tensors& t) {
               for (const std::string i : {"0", "1", "2"}) {
                 const std::string stem = "model.layers." + i + ".block_sparse_moe.";
                 for (const auto& [old, now] :
                      {std::pair<std::string, std::string>("router.layer.weight", "router.weight"),
                       {"input_linear.weight", "experts.gate_up_proj"},
                       {"output_linear.weight", "experts.down_proj"}}) {
                   t[stem + now] = t.at(stem + old);
                   t.erase(stem + old);
                 }
               }
             }));
}

TEST_CASE("weights in 8 bits are read where the config says what their scales are") {
  const std::string up = "model.layers.0.mlp.up_proj.weight";
  const auto in_8_bits = [&](Tensors& t) {
    t[up] = t.at(up).to(at::kFloat8_e4m3fn);
    t[up + "_scale_inv"] = at::ones({1, 1});
  };
  const Changed silent("llama", in_8_bits);
  test::check_error(ErrorCode::kFormat, {up, "the wrong type", "Float8_e4m3fn", "quantization_config"},
                    [&] { silent.load(); });
  const Changed said("llama", in_8_bits,
                     {{"quantization_config", {{"quant_method", "fp8"}}}, {"dtype", "bfloat16"}});
  CHECK(said.load()->num_parameters() == Model::load(test::golden_model("llama"), {})->num_parameters());
  said.check_told({"1 matrices", "FP8", "bfloat16"});
  // A mask that nothing reads need not be readable.
  const Changed masked("gpt2",
                       [](Tensors& t) {
                         t["h.0.attn.bias"] = at::ones({1, 1, 4, 4}).to(at::kFloat8_e4m3fn);
                       },
                       {{"quantization_config", {{"quant_method", "fp8"}}}});
  CHECK(masked.load()->num_parameters() == Model::load(test::golden_model("gpt2"), {})->num_parameters());
  const Changed damaged("llama",
                        [&](Tensors& t) {
                          in_8_bits(t);
                          t[up + "_scale_inv"].fill_(std::numeric_limits<float>::infinity());
                        },
                        {{"quantization_config", {{"quant_method", "fp8"}}}});
  CHECK(model::non_finite_tensor(*damaged.load()) == damaged.path() + ": " + up);
}

TEST_CASE("scales of quantized weights are told from an adapter") {
  const Changed scaled("llama",
                       [](Tensors& t) { t["model.layers.0.mlp.up_proj.weight_scale_inv"] = at::ones({1}); });
  test::check_error(ErrorCode::kFormat, {"weight_scale_inv", "the weights are quantized"},
                    [&] { scaled.load(); });
  const Changed adapted("llama", [](Tensors& t) { t["model.layers.0.mlp.lora_A.weight"] = at::ones({1}); });
  test::check_error(ErrorCode::kFormat, {"lora_A", "must be merged"}, [&] { adapted.load(); });
}

}  // namespace
}  // namespace depthlens
