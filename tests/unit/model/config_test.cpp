// config.json to ArchSpec: defaults of the families' classes, null, settings that contradict each other.
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <map>

#include "depthlens/model/arch_spec.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"

using namespace depthlens;
using namespace depthlens::test;
using util::ErrorCode;
using util::Json;
using Windows = std::vector<std::int64_t>;

namespace {

/// What a config of this family must hold.
Json smallest(const std::string& family) {
  static const std::map<std::string, Json> all = {
      {"gpt2", {{"vocab_size", 50}, {"n_embd", 64}, {"n_layer", 3}, {"n_head", 4}}},
      {"codegen", {{"vocab_size", 50}, {"n_embd", 256}, {"n_layer", 3}, {"n_head", 4}}},
      {"gpt_bigcode", {{"vocab_size", 50}, {"n_embd", 64}, {"n_layer", 3}, {"n_head", 4}}},
      {"gptj", {{"vocab_size", 50}, {"n_embd", 256}, {"n_layer", 3}, {"n_head", 4}}},
      {"gpt_neo", {{"vocab_size", 50}, {"hidden_size", 64}, {"num_layers", 24}, {"num_heads", 4}}},
      {"bloom", {{"vocab_size", 50}, {"hidden_size", 64}, {"n_layer", 3}, {"n_head", 4}}},
      {"falcon",
       {{"vocab_size", 50}, {"hidden_size", 64}, {"num_hidden_layers", 3}, {"num_attention_heads", 4}}},
      {"openai-gpt", {{"vocab_size", 50}, {"n_embd", 64}, {"n_layer", 3}, {"n_head", 4}}},
      {"xglm",
       {{"vocab_size", 50}, {"d_model", 64}, {"num_layers", 3}, {"attention_heads", 4}, {"ffn_dim", 48}}},
      {"solar_open",
       {{"vocab_size", 50}, {"hidden_size", 512}, {"num_hidden_layers", 30}, {"num_attention_heads", 32}}},
      {"opt",
       {{"vocab_size", 50},
        {"hidden_size", 64},
        {"num_hidden_layers", 3},
        {"num_attention_heads", 4},
        {"ffn_dim", 48}}},
      // Heads as the class has: those of keys and values are no others.
      {"deepseek_v2",
       {{"vocab_size", 50},
        {"hidden_size", 512},
        {"num_hidden_layers", 3},
        {"intermediate_size", 48},
        {"num_attention_heads", 32},
        {"num_experts_per_tok", 6}}},
      {"deepseek_v3",
       {{"vocab_size", 50},
        {"hidden_size", 512},
        {"num_hidden_layers", 4},
        {"intermediate_size", 48},
        {"num_attention_heads", 128}}},
      {"glm4_moe_lite",
       {{"vocab_size", 50},
        {"hidden_size", 512},
        {"num_hidden_layers", 3},
        {"intermediate_size", 48},
        {"num_attention_heads", 20}}},
      {"deepseek_v32",
       {{"vocab_size", 50},
        {"hidden_size", 512},
        {"num_hidden_layers", 4},
        {"intermediate_size", 48},
        {"num_attention_heads", 128}}},
      {"glm_moe_dsa",
       {{"vocab_size", 50},
        {"hidden_size", 512},
        {"num_hidden_layers", 4},
        {"intermediate_size", 48},
        {"num_attention_heads", 64}}},
      {"minicpm3",
       {{"vocab_size", 50},
        {"hidden_size", 640},
        {"num_hidden_layers", 3},
        {"intermediate_size", 48},
        {"num_attention_heads", 40}}},
      {"youtu",
       {{"vocab_size", 50},
        {"hidden_size", 512},
        {"num_hidden_layers", 3},
        {"intermediate_size", 48},
        {"num_attention_heads", 16}}},
      {"gpt_neox_japanese",
       {{"vocab_size", 50}, {"hidden_size", 512}, {"num_hidden_layers", 3}, {"num_attention_heads", 32}}},
      {"dbrx", {{"vocab_size", 50}, {"d_model", 512}, {"n_layers", 3}, {"n_heads", 32}}},
      {"helium",
       {{"vocab_size", 50},
        {"hidden_size", 512},
        {"num_hidden_layers", 3},
        {"intermediate_size", 48},
        {"num_attention_heads", 20}}},
      {"lfm2_moe",
       {{"vocab_size", 50},
        {"hidden_size", 512},
        {"num_hidden_layers", 3},
        {"intermediate_size", 48},
        {"num_attention_heads", 32},
        {"layer_types", {"conv", "full_attention", "conv"}}}},
      {"mamba2", {{"vocab_size", 50}, {"hidden_size", 4096}, {"num_hidden_layers", 3}}},
      {"mamba", {{"vocab_size", 50}, {"hidden_size", 512}, {"num_hidden_layers", 3}}},
      {"falcon_mamba", {{"vocab_size", 50}, {"hidden_size", 512}, {"num_hidden_layers", 3}}},
      // Its blocks are the class's.
      {"nemotron_h",
       {{"vocab_size", 50}, {"hidden_size", 512}, {"intermediate_size", 48}, {"num_attention_heads", 32}}},
      {"bamba",
       {{"vocab_size", 50},
        {"hidden_size", 512},
        {"num_hidden_layers", 3},
        {"intermediate_size", 48},
        {"num_attention_heads", 32}}},
      {"mpt", {{"vocab_size", 50}, {"d_model", 512}, {"n_layers", 3}, {"n_heads", 32}}},
      {"dots1",
       {{"vocab_size", 50},
        {"hidden_size", 512},
        {"num_hidden_layers", 30},
        {"intermediate_size", 48},
        {"num_attention_heads", 32},
        {"n_routed_experts", 8},
        {"num_experts_per_tok", 2},
        {"n_shared_experts", 1}}},
      {"gemma2", Json::object()},
      {"vaultgemma", Json::object()},
      {"gemma3_text", Json::object()},
      {"gemma4_text", Json::object()},
      {"gemma4_unified_text", Json::object()},
      {"qwen2_vl_text", Json::object()},
      {"qwen2_5_vl_text", Json::object()},
      {"qwen3_vl_text", Json::object()},
      {"qwen3_vl_moe_text", Json::object()},
      {"qwen3_5_text", Json::object()},
      {"qwen3_5_moe_text", Json::object()},
      {"llama4_text", Json::object()},
      {"glm4v_text", Json::object()},
      {"glm4v_moe_text", {{"head_dim", 128}}},
      {"glm_ocr_text", Json::object()},
      {"paddleocr_vl_text", Json::object()},
      {"qwen2_5_omni_text", Json::object()},
      {"qwen3_omni_moe_text", {{"head_dim", 128}}},
  };
  const auto found = all.find(family);
  Json config = found != all.end() ? found->second
                                   : Json{{"vocab_size", 50},
                                          {"hidden_size", 512},
                                          {"num_hidden_layers", 30},
                                          {"intermediate_size", 48},
                                          {"num_attention_heads", 32}};
  config["model_type"] = family;
  return config;
}

Json with(Json config, const Json& changes) {
  for (const auto& [key, value] : changes.items()) config[key] = value;
  return config;
}

Windows windows(const model::ArchSpec& spec) {
  Windows all;
  for (const model::BlockSpec& block : spec.blocks) all.push_back(block.window);
  return all;
}

bool has_windows(const model::ArchSpec& spec) {
  return windows(spec) != Windows(spec.blocks.size(), 0);
}

model::ArchSpec read(const Json& config) {
  return model::read_arch_spec({config, "config.json"});
}

void refused(const Json& config, const std::vector<std::string>& parts) {
  INFO(config.dump());
  check_error(ErrorCode::kFormat, parts, [&] { read(config); });
}

/// Reads a config and returns the warnings that were not there before.
std::vector<std::string> told(const Json& config) {
  const std::size_t before = util::warnings().size();
  read(config);
  const std::vector<std::string> all = util::warnings();
  return {all.begin() + static_cast<std::ptrdiff_t>(before), all.end()};
}

void check_told(const Json& config, const std::vector<std::string>& parts) {
  INFO(config.dump());
  const std::vector<std::string> warnings = told(config);
  REQUIRE(warnings.size() == 1);
  INFO(warnings.front());
  for (const std::string& part : parts) CHECK(warnings.front().find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("config: a key that is absent has the default of the family's class, or is required") {
  const std::filesystem::path path =
      std::filesystem::path(DEPTHLENS_TEST_DATA) / "models/class_defaults.json";
  const Json classes = util::parse_json(util::read_file(path), path.string());
  REQUIRE(classes.size() == 112);
  for (const auto& [family, defaults] : classes.items()) {
    INFO(family);
    const Json least = smallest(family);
    CHECK(defaults.size() > 15);
    for (const auto& [key, value] : defaults.items()) {
      INFO(key << " " << value.dump());
      Json without = least;
      without.erase(key);
      if (least.contains(key)) {
        refused(without, {"missing key '" + key + "'"});
      } else {
        CHECK(read(without) == read(with(least, {{key, value}})));
      }
    }
  }
}

TEST_CASE("config: a flag that is no boolean is refused, in whatever family") {
  const std::vector<std::pair<std::string, std::string>> flags = {{"llama", "mlp_bias"},
                                                                  {"granite", "mlp_bias"},
                                                                  {"glm4_moe", "attention_bias"},
                                                                  {"glm4_moe", "use_qk_norm"},
                                                                  {"helium", "attention_bias"},
                                                                  {"helium", "mlp_bias"},
                                                                  {"seed_oss", "mlp_bias"},
                                                                  {"seed_oss", "attention_bias"},
                                                                  {"seed_oss", "attention_out_bias"},
                                                                  {"qwen2_moe", "qkv_bias"},
                                                                  {"smollm3", "mlp_bias"},
                                                                  {"stablelm", "use_qkv_bias"},
                                                                  {"falcon_h1", "projectors_bias"},
                                                                  {"mamba", "use_bias"},
                                                                  {"mamba", "use_conv_bias"},
                                                                  {"jamba", "mamba_proj_bias"},
                                                                  {"jamba", "mamba_conv_bias"},
                                                                  {"olmo_hybrid", "linear_allow_neg_eigval"},
                                                                  {"olmo_hybrid", "attention_bias"},
                                                                  {"flex_olmo", "norm_topk_prob"},
                                                                  {"nanochat", "attention_bias"},
                                                                  {"openai-gpt", "tie_word_embeddings"},
                                                                  {"xglm", "scale_embedding"},
                                                                  {"biogpt", "scale_embedding"},
                                                                  {"afmoe", "mup_enabled"},
                                                                  {"afmoe", "attention_bias"},
                                                                  {"solar_open", "attention_bias"},
                                                                  {"exaone_moe", "norm_topk_prob"},
                                                                  {"cwm", "mlp_bias"},
                                                                  {"exaone", "mlp_bias"},
                                                                  {"internlm3", "attention_bias"},
                                                                  {"iquestcoder", "attention_bias"},
                                                                  {"sarvam_moe", "use_qk_norm"},
                                                                  {"sarvam_moe", "attention_bias"},
                                                                  {"sarvam_mla", "rope_interleave"},
                                                                  {"jais2", "attention_bias"},
                                                                  {"jais2", "mlp_bias"},
                                                                  {"minicpm3", "attention_bias"},
                                                                  {"minicpm3", "mlp_bias"},
                                                                  {"youtu", "rope_interleave"},
                                                                  {"hy_v3", "attention_bias"},
                                                                  {"granite_swa", "attention_bias"},
                                                                  {"granite_swa", "mlp_bias"},
                                                                  {"granitemoe_swa", "attention_bias"},
                                                                  {"persimmon", "qk_layernorm"},
                                                                  {"cohere2_moe", "norm_topk_prob"},
                                                                  {"mistral4", "norm_topk_prob"},
                                                                  {"mimo_v2_flash", "attention_bias"}};
  for (const auto& [family, key] : flags) {
    INFO(family);
    refused(with(smallest(family), {{key, "yes"}}), {key, "yes"});
  }
}

TEST_CASE("config: defaults that were mistaken before") {
  CHECK(windows(read(smallest("mistral"))) == Windows(30, 4096));
  CHECK(read(smallest("mistral")).num_kv_heads == 8);
  CHECK(read(smallest("llama")).num_kv_heads == 32);
  CHECK(read(smallest("qwen3")).head_size == 128);
  CHECK(read(smallest("qwen2")).head_size == 16);
  CHECK(read(smallest("gpt_neox")).ropes.front().dims == 4);
}

TEST_CASE("config: null is what Python makes of None, not the default") {
  CHECK_FALSE(read(with(smallest("gpt2"), {{"tie_word_embeddings", nullptr}})).tied_unembedding);
  CHECK_FALSE(read(with(smallest("gpt_neox"), {{"use_parallel_residual", nullptr}})).parallel_residual);
  const auto neox = read(with(smallest("gpt_neox"), {{"attention_bias", nullptr}}));
  CHECK(neox == read(with(smallest("gpt_neox"), {{"attention_bias", false}})));
  CHECK_FALSE(has_windows(read(with(smallest("mistral"), {{"sliding_window", nullptr}}))));
  CHECK(read(with(smallest("mistral"), {{"num_key_value_heads", nullptr}})).num_kv_heads == 32);
  CHECK_FALSE(has_windows(read(with(smallest("qwen2"), {{"use_sliding_window", nullptr}}))));
  CHECK(read(with(smallest("llama"), {{"head_dim", nullptr}})).head_size == 16);
  CHECK(read(with(smallest("gpt2"), {{"n_inner", nullptr}})).mlp_size == 256);

  refused(with(smallest("qwen3"), {{"head_dim", nullptr}}), {"head_dim", "found null"});
  refused(with(smallest("llama"), {{"rms_norm_eps", nullptr}}), {"rms_norm_eps", "found null"});
  refused(with(smallest("llama"), {{"rope_theta", nullptr}}), {"rope_theta", "found null"});
  refused(with(smallest("llama"), {{"hidden_act", nullptr}}), {"hidden_act", "found null"});
  refused(with(smallest("llama"), {{"max_position_embeddings", nullptr}}), {"max_position_embeddings"});
  refused(with(smallest("gpt2"), {{"scale_attn_weights", nullptr}}), {"scale_attn_weights", "found null"});
  refused(with(smallest("llama"), {{"is_causal", nullptr}}), {"is_causal"});
  refused(with(smallest("qwen2"), {{"max_window_layers", nullptr}}), {"max_window_layers"});
}

TEST_CASE("config: what null means beside what settles it") {
  const Json block = {{"rope_type", "default"}, {"rope_theta", 500.0}};
  const Json half = with(block, {{"partial_rotary_factor", 0.5}});
  const Json linear = "linear_attention", full = "full_attention";
  struct Row {
    std::string family;
    Json settings;  ///< with a null
    Json meant;     ///< null: refused
    std::string key;
  };
  const auto beside = [](const Json& rope, const std::string& key) {
    return Json{{"rope_parameters", rope}, {key, nullptr}};
  };
  const auto alone = [](const Json& rope) { return Json{{"rope_parameters", rope}}; };
  std::vector<Row> rows;
  for (const std::string family : {"llama", "mistral", "deepseek_v3", "qwen2", "gpt_oss"}) {
    rows.push_back({family, beside(block, "rope_theta"), alone(block), ""});
    rows.push_back({family, beside(block, "partial_rotary_factor"), alone(block), ""});
    rows.push_back({family, {{"rope_theta", nullptr}}, nullptr, "rope_theta"});
    rows.push_back({family, beside({{"rope_type", "default"}}, "rope_theta"), nullptr, "rope_theta"});
    rows.push_back({family, alone(with(block, {{"rope_theta", nullptr}})), nullptr, "rope_theta"});
  }
  for (const std::string family :
       {"qwen3_5_text", "qwen3_5_moe_text", "qwen3_next", "glm", "glm4", "glm4_moe"}) {
    const Json whole = with(block, {{"partial_rotary_factor", 1.0}});
    rows.push_back({family, beside(half, "rope_theta"), alone(half), ""});
    rows.push_back({family, beside(half, "partial_rotary_factor"), alone(half), ""});
    rows.push_back({family, beside(block, "partial_rotary_factor"), alone(whole), ""});
    rows.push_back(
        {family, alone(with(block, {{"partial_rotary_factor", nullptr}})), nullptr, "partial_rotary_factor"});
  }
  for (const std::string family : {"stablelm", "nemotron", "phi", "phi3"}) {
    rows.push_back({family, beside(half, "partial_rotary_factor"), alone(half), ""});
    rows.push_back({family, beside(block, "partial_rotary_factor"), nullptr, "partial_rotary_factor"});
  }
  rows.push_back({"gpt_neox", beside(half, "rotary_pct"), alone(half), ""});
  rows.push_back({"gpt_neox", beside(block, "rotary_pct"), nullptr, "rotary_pct"});
  for (const std::string family : {"qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"}) {
    const Json types = {{"num_hidden_layers", 2}, {"layer_types", {linear, full}}};
    const Json interval = {{"full_attention_interval", nullptr}};
    rows.push_back({family, with(types, interval), types, ""});
    rows.push_back({family, interval, nullptr, "full_attention_interval"});
  }
  for (const std::string family : {"deepseek_v3", "glm4_moe", "glm4_moe_lite"}) {
    for (const std::string key : {"n_group", "topk_group", "num_experts_per_tok"})
      rows.push_back({family, {{key, nullptr}}, nullptr, key});
    rows.push_back({family, {{"topk_method", nullptr}}, Json::object(), ""});
  }
  const Json greedy = {{"num_experts_per_tok", 2}, {"topk_method", "greedy"}};
  rows.push_back({"deepseek_v2", with(greedy, {{"n_group", nullptr}, {"topk_group", nullptr}}), greedy, ""});
  rows.push_back({"deepseek_v2", with(greedy, {{"topk_method", nullptr}}), nullptr, "topk_method"});
  rows.push_back(
      {"deepseek_v2", with(greedy, {{"num_experts_per_tok", nullptr}}), nullptr, "num_experts_per_tok"});
  for (const Row& row : rows) {
    INFO(row.family << " " << row.settings.dump());
    if (row.meant.is_null()) {
      refused(with(smallest(row.family), row.settings), {row.key, "null"});
    } else {
      CHECK(read(with(smallest(row.family), row.settings)) == read(with(smallest(row.family), row.meant)));
    }
  }
}

TEST_CASE("config: two blocks of rotary settings mean the same or are refused") {
  const Json llama = smallest("llama"), linear = {{"type", "linear"}, {"factor", 4.0}};
  refused(with(llama, {{"rope_scaling", linear},
                       {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}}}),
          {"rope_scaling", "rope_parameters", "remove the other", "500000.0", "linear"});
  const auto both =
      read(with(llama, {{"rope_theta", 5e5},
                        {"rope_scaling", linear},
                        {"rope_parameters", {{"rope_type", "linear"}, {"factor", 4}, {"rope_theta", 5e5}}}}));
  CHECK(both.ropes.front().theta == 5e5);
  CHECK(both.ropes.front().factor == 4);
  // The base in one block only: transformers does not carry it over to the other.
  refused(with(llama, {{"rope_scaling", linear},
                       {"rope_parameters", {{"rope_type", "linear"}, {"factor", 4}, {"rope_theta", 5e5}}}}),
          {"rope_scaling", "rope_parameters"});
  CHECK(read(with(llama, {{"rope_scaling", Json::object()}, {"rope_parameters", {{"rope_theta", 5e5}}}}))
            .ropes.front()
            .theta == 5e5);
}

TEST_CASE("config: a rotary base or share in a second place is reported") {
  const Json llama = smallest("llama");
  check_told(with(llama, {{"rope_theta", 20000.0}, {"rope_parameters", {{"rope_theta", 5e5}}}}),
             {"config.json: rope_theta (20000.0) is ignored", "500000"});
  CHECK(told(with(llama, {{"rope_theta", 500000}, {"rope_parameters", {{"rope_theta", 5e5}}}})).empty());
  check_told(with(llama, {{"rotary_emb_base", 777}}), {"rotary_emb_base (777) is ignored", "10000"});
  check_told(with(llama, {{"rotary_pct", 0.25}}), {"rotary_pct (0.25) is ignored"});
  refused(with(llama, {{"partial_rotary_factor", 0.5}}), {"partial_rotary_factor", "found 0.5"});
  refused(with(llama, {{"rope_parameters", {{"partial_rotary_factor", 0.5}}}}),
          {"partial_rotary_factor", "8 of 16"});

  const Json neox = smallest("gpt_neox");
  CHECK(read(neox).ropes.front().dims == 4);
  CHECK(read(with(neox, {{"rotary_pct", 0.5}, {"rotary_emb_base", 500}})).ropes.front().dims == 8);
  check_told(with(neox, {{"rotary_pct", 0.5}, {"rope_parameters", {{"partial_rotary_factor", 1.0}}}}),
             {"rotary_pct (0.5) is ignored", "is 1"});
  check_told(with(neox, {{"partial_rotary_factor", 1.0}}),
             {"partial_rotary_factor (1.0) is ignored", "0.25"});
  check_told(with(neox, {{"rope_theta", 501.0}}), {"rope_theta (501.0) is ignored", "10000"});
}

TEST_CASE("config: what a block of rotary settings may hold") {
  const auto block = [](const Json& rope) { return with(smallest("llama"), {{"rope_parameters", rope}}); };
  const Json llama3 = {
      {"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}};
  CHECK(read(block(llama3)).ropes.front().original_max_positions ==
        2048);  // max_position_embeddings of the class
  CHECK(read(block(with(llama3, {{"original_max_position_embeddings", 64}})))
            .ropes.front()
            .original_max_positions == 64);
  // Beside the block it beats the one inside.
  const Json both = with(block(with(llama3, {{"original_max_position_embeddings", 64}})),
                         {{"original_max_position_embeddings", 128}});
  check_told(both, {"rope_parameters: original_max_position_embeddings (64) is ignored", "128"});
  CHECK(read(both).ropes.front().original_max_positions == 128);
  const Json beside = with(block(llama3), {{"original_max_position_embeddings", 128}});
  CHECK(read(beside).ropes.front().original_max_positions == 128);
  CHECK(told(beside).empty());
  for (const char* key :
       {"attention_factor", "beta_fast", "mscale", "short_factor", "factor", "full_attention"}) {
    refused(block({{"rope_type", "default"}, {key, 2.0}}),
            {util::cat("unsupported rotary setting '", key, "'"), "rope_parameters", "found 2.0"});
  }
  CHECK(read(block({{"rope_type", "default"}, {"factor", nullptr}})) == read(smallest("llama")));
  refused(block({{"rope_type", "linear"}, {"type", "default"}, {"factor", 2}}), {"the same as rope_type"});
  refused(block({{"full_attention", {{"rope_theta", 1e6}}}, {"sliding_attention", {{"rope_theta", 1e4}}}}),
          {"'full_attention'"});
}

TEST_CASE("config: architectures and model_type name one family") {
  Json config = smallest("llama");
  config["architectures"] = Json::array({"LlamaForCausalLM", "LlamaModel"});
  CHECK(read(config).architecture == "LlamaForCausalLM");
  config["model_type"] = "mistral";
  refused(config, {"two kinds of model", "'LlamaForCausalLM' and 'mistral'", "model_type"});
  config["model_type"] = "mixtral";
  refused(config, {"'LlamaForCausalLM' and 'mixtral'"});
  config["model_type"] = "mamba";
  refused(config, {"'LlamaForCausalLM' and 'mamba'"});
  config["model_type"] = "llama";
  config["architectures"] = Json::array({"LlamaForCausalLM", "MistralForCausalLM"});
  refused(config, {"'LlamaForCausalLM' and 'MistralForCausalLM'"});
  config["architectures"] = Json::array({"llama"});
  refused(config, {"unsupported architecture 'llama'"});
  config["architectures"] = nullptr;
  CHECK(read(config).architecture == "LlamaForCausalLM");
  check_told(with(config, {{"auto_map", {{"AutoModelForCausalLM", "modeling_x.XForCausalLM"}}}}),
             {"auto_map", "not run", "LlamaForCausalLM"});
}

TEST_CASE("config: windows of attention by family") {
  const Json mistral = with(smallest("mistral"), {{"num_hidden_layers", 3}});
  CHECK(windows(read(with(mistral, {{"sliding_window", 7}}))) == Windows{7, 7, 7});
  CHECK(read(mistral).max_positions == 131072);
  refused(with(mistral, {{"sliding_window", 0}}), {"sliding_window", "found 0"});
  check_told(with(mistral, {{"sliding_window", 7},
                            {"layer_types", {"full_attention", "sliding_attention", "sliding_attention"}}}),
             {"layer_types", "is ignored", "every block"});
  check_told(with(mistral, {{"use_sliding_window", false}}), {"use_sliding_window (false) is ignored"});

  for (const std::string family : {"qwen2", "qwen3"}) {
    const Json qwen = with(smallest(family), {{"num_hidden_layers", 3}});
    CHECK_FALSE(has_windows(read(qwen)));
    CHECK(read(with(qwen, {{"use_sliding_window", false}, {"sliding_window", 7}})) == read(qwen));
    const Json slides = with(qwen, {{"use_sliding_window", true}, {"sliding_window", 7}});
    CHECK(windows(read(with(slides, {{"max_window_layers", 1}}))) == Windows{0, 7, 7});
    CHECK(windows(read(with(slides, {{"max_window_layers", 0}}))) == Windows{7, 7, 7});
    CHECK(windows(read(with(slides, {{"num_hidden_layers", 30}}))).at(28) == 7);
    CHECK(windows(read(with(slides, {{"num_hidden_layers", 30}}))).at(27) == 0);
    CHECK_FALSE(has_windows(read(with(slides, {{"sliding_window", nullptr}, {"max_window_layers", 0}}))));
    const Json types = {"sliding_attention", "full_attention", "full_attention"};
    CHECK(windows(read(with(slides, {{"layer_types", types}}))) == Windows{7, 0, 0});
    CHECK(told(with(slides, {{"layer_types", types}})).empty());
    const std::string first = family == "qwen2" ? "2" : "1";
    check_told(with(slides, {{"layer_types", types}, {"max_window_layers", std::stoi(first)}}),
               {"max_window_layers (" + first + ") is ignored"});
    refused(with(qwen, {{"layer_types", types}}), {"layer_types[0]", "use_sliding_window"});
    refused(with(slides, {{"layer_types", Json::array({"sliding_attention"})}}),
            {"layer_types", "an array of 3 values"});
    refused(with(slides, {{"layer_types", {"mamba", "full_attention", "full_attention"}}}),
            {"layer_types[0]", "mamba"});
    refused(with(slides, {{"max_window_layers", -1}}), {"max_window_layers"});
  }
  check_told(with(smallest("qwen2"), {{"sliding_window", 71}}), {"sliding_window (71) is ignored"});
  check_told(with(smallest("llama"), {{"sliding_window", 72}}), {"sliding_window (72) is ignored"});
}

TEST_CASE("config: a window of null, of nothing and of less") {
  const Json three = {{"num_hidden_layers", 3}, {"use_sliding_window", true}, {"max_window_layers", 1}};
  const Json all_full = Json::array({"full_attention", "full_attention", "full_attention"});
  const Json first_slides = Json::array({"sliding_attention", "full_attention", "full_attention"});
  // What transformers 5.24 does of tiny models of each: these compute full attention where it is null …
  for (const std::string family : {"mistral", "mixtral", "ministral3", "phi3", "qwen3_moe"}) {
    const Json config = with(smallest(family), three);
    CHECK_FALSE(has_windows(read(with(config, {{"sliding_window", nullptr}}))));
    for (const int window : {0, -1, -7})
      refused(with(config, {{"sliding_window", window}}), {"sees anything", util::cat("found ", window)});
  }
  // … these too, unless layer_types names blocks that slide …
  for (const std::string family : {"qwen2", "qwen3", "smollm3", "ministral"}) {
    const Json config = with(smallest(family), three), none = with(config, {{"sliding_window", nullptr}});
    CHECK_FALSE(has_windows(read(none)));
    refused(with(none, {{"layer_types", first_slides}}), {"layer_types[0]", "full_attention"});
    const Json slides = family == "smollm3" ? with(config, {{"no_rope_layers", {1, 0, 0}}}) : config;
    for (const int window : {0, -1}) refused(with(slides, {{"sliding_window", window}}), {"sees anything"});
  }
  // … and these have blocks that slide, and stop. What no block uses does not matter.
  for (const std::string family : {"gemma2", "gemma3_text", "olmo3", "cohere2", "gpt_oss", "qwen2_moe"}) {
    INFO(family);
    const Json config = with(smallest(family), three), none = with(config, {{"sliding_window", nullptr}});
    refused(none, {"no sliding window", "config.json: sliding_window", "found null"});
    refused(with(none, {{"layer_types", first_slides}}), {"layer_types[0]"});
    CHECK_FALSE(has_windows(read(with(none, {{"layer_types", all_full}}))));
    for (const int window : {0, -1}) {
      refused(with(config, {{"sliding_window", window}}), {"sees anything", util::cat("found ", window)});
      CHECK_FALSE(has_windows(read(with(config, {{"sliding_window", window}, {"layer_types", all_full}}))));
    }
    CHECK(windows(read(with(config, {{"sliding_window", 5}, {"layer_types", first_slides}}))) ==
          Windows{5, 0, 0});
  }
  for (const std::string family : {"qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "smollm3"}) {
    const Json off = with(smallest(family), {{"use_sliding_window", false}, {"sliding_window", 0}});
    CHECK_FALSE(has_windows(read(off)));  // as transformers writes it for Qwen 2 with experts
    CHECK(told(off).empty());
  }
  for (const int window : {0, -1})
    refused(with(smallest("gpt_neo"), {{"window_size", window}}), {"window_size"});
}

TEST_CASE("config: each family has a place in the registry and in the test of defaults") {
  const std::vector<std::string> known = model::known_architectures();
  CHECK(known.size() == 152);  // thirty-nine of them wrap a language model
  CHECK(std::find(known.begin(), known.end(), "Gemma3ForConditionalGeneration") != known.end());
}

TEST_CASE("config: rotary scalings") {
  using Scaling = model::RopeSpec::Scaling;
  const auto rope = [](const std::string& family, const Json& block) {
    return read(with(smallest(family), {{"rope_scaling", block}})).ropes.front();
  };
  const Json yarn = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 512}};
  CHECK(rope("llama", yarn).scaling == Scaling::kYarn);
  CHECK(rope("llama", yarn).amplitude == Approx(1.1386294361119891).epsilon(1e-15));
  CHECK(rope("llama", with(yarn, {{"attention_factor", 1.5}})).amplitude == 1.5);
  CHECK(rope("llama", with(yarn, {{"mscale", 1.0}, {"mscale_all_dim", 1.0}})).amplitude == 1);
  CHECK(rope("llama", with(yarn, {{"factor", nullptr}})).factor == 4);  // of 2048 positions
  CHECK(rope("llama", with(yarn, {{"beta_fast", 0}})).beta_fast == 32);
  CHECK_FALSE(rope("llama", with(yarn, {{"truncate", false}})).truncate);
  refused(with(smallest("llama"), {{"rope_scaling", with(yarn, {{"short_factor", {1.0}}})}}),
          {"'short_factor'", "yarn"});
  CHECK(rope("llama", with(yarn, {{"finetuned", true}})) == rope("llama", yarn));
  refused(with(smallest("llama"), {{"rope_scaling", {{"type", "ntk"}}}}),
          {"rotary scaling", "'ntk'", "yarn"});

  const auto dynamic =
      read(with(smallest("llama"), {{"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}}));
  CHECK(dynamic.ropes.front().original_max_positions == 2048);
  CHECK(dynamic.max_positions == 4096);

  const std::vector<double> factors(8, 1.5);
  const Json longrope = {{"type", "longrope"}, {"short_factor", factors}, {"long_factor", factors}};
  for (const char* name : {"longrope", "su", "yarn"}) {
    const auto spec = rope("phi3", with(longrope, {{"type", name}}));
    CHECK(spec.scaling == Scaling::kLongRope);
    CHECK(spec.original_max_positions == 4096);
    CHECK(spec.amplitude == 1);
  }
  const auto stretched =
      read(with(smallest("phi3"), {{"rope_scaling", longrope}, {"max_position_embeddings", 131072}}));
  CHECK(stretched.ropes.front().amplitude == Approx(1.1902380714238083).epsilon(1e-15));
  refused(with(smallest("phi3"), {{"rope_scaling", with(longrope, {{"long_factor", {1.0, 2.0}}})}}),
          {"long_factor", "an array of 8 numbers"});
  refused(with(smallest("llama"), {{"rope_scaling", with(longrope, {{"type", "su"}})}}), {"'su'"});
}

TEST_CASE("config: rotary settings of their own for blocks that slide") {
  const Json gemma = with(smallest("gemma3_text"), {{"num_hidden_layers", 6}});
  const auto ropes = [](const Json& config) { return read(config).ropes; };
  CHECK(windows(read(gemma)) == Windows{4096, 4096, 4096, 4096, 4096, 0});
  CHECK(ropes(gemma)[0].theta == 1e6);
  CHECK(ropes(gemma)[1].theta == 1e4);
  CHECK(read(gemma).blocks.front().rope == 1);
  CHECK(read(gemma).blocks.back().rope == 0);
  const Json linear = {{"rope_type", "linear"}, {"factor", 8.0}};
  const Json old =
      with(gemma, {{"rope_theta", 5e5}, {"rope_local_base_freq", 500.0}, {"rope_scaling", linear}});
  CHECK(ropes(old)[0].factor == 8);
  CHECK(ropes(old)[0].theta == 5e5);
  CHECK(ropes(old)[1].factor == 1);
  CHECK(ropes(old)[1].theta == 500);
  const Json nested = {{"full_attention", with(linear, {{"rope_theta", 5e5}})},
                       {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 500.0}}}};
  CHECK((ropes(with(gemma, {{"rope_parameters", nested}})) == ropes(old)));
  refused(with(gemma, {{"rope_parameters", with(nested, {{"rope_theta", 1.0}})}}),
          {"full_attention", "rope_theta"});

  // The base beside the blocks is that of the full ones; the others have the class's.
  const Json olmo = with(smallest("olmo3"), {{"rope_theta", 7e5}});
  CHECK(ropes(olmo)[0].theta == 7e5);
  CHECK(ropes(olmo)[1].theta == 5e5);
  const Json yarn = {
      {"rope_type", "yarn"}, {"factor", 8.0}, {"rope_theta", 5e5}, {"original_max_position_embeddings", 512}};
  check_told(with(smallest("olmo3"), {{"rope_parameters", yarn}}), {"rope_parameters", "full attention"});

  // transformers' scalings differ in whether they take a share, and it looks for "truncate" elsewhere.
  for (const Json& config : {gemma, olmo}) {
    refused(with(config, {{"partial_rotary_factor", 0.5}}), {"partial_rotary_factor", "found 0.5"});
    refused(with(config, {{"rope_parameters", {{"full_attention", {{"partial_rotary_factor", 0.5}}}}}}),
            {"full_attention", "partial_rotary_factor", "found 0.5"});
    // Nor does a length beside blocks by kind count.
    CHECK(ropes(with(config, {{"rope_parameters", {{"full_attention", yarn}}},
                              {"original_max_position_embeddings", 64}}))[0]
              .original_max_positions == 512);
  }
  const Json rounded = {{"full_attention", with(yarn, {{"truncate", false}})}};
  check_told(with(gemma, {{"rope_parameters", rounded}}), {"truncate", "full_attention", "transformers"});
}

TEST_CASE("config: heads, windows and rotary settings of Gemma 4's two kinds of block") {
  using model::Mixer;
  const std::string sliding = "sliding_attention", full = "full_attention";
  for (const std::string family : {"gemma4_text", "gemma4_unified_text"}) {
    INFO(family);
    const auto tells = [&](const Json& config, const std::vector<std::string>& parts) {
      if (family == "gemma4_text") check_told(config, parts);  // a warning comes once, whoever's it is
    };
    const std::int64_t window = family == "gemma4_text" ? 512 : 1024;
    const Json six = with(smallest(family), {{"num_hidden_layers", 6}});
    const auto spec = read(six);
    CHECK(windows(spec) == Windows{window, window, window, window, window, 0});
    CHECK(spec.max_positions == (family == "gemma4_text" ? 131072 : 262144));
    CHECK(spec.blocks[4].mixer == Mixer::kAttention);
    CHECK(spec.blocks[5].mixer == Mixer::kWideAttention);
    CHECK(spec.heads_of(spec.blocks[4]).head_size == 256);
    CHECK(spec.heads_of(spec.blocks[5]).head_size == 512);
    CHECK(spec.heads_of(spec.blocks[5]).num_kv_heads == 4);
    const auto rope_of = [](const model::ArchSpec& of, std::size_t i) {
      return of.ropes.at(static_cast<std::size_t>(of.blocks[i].rope));
    };
    CHECK(rope_of(spec, 4).theta == 1e4);
    CHECK(rope_of(spec, 4).still_pairs == 0);
    CHECK(rope_of(spec, 5).theta == 1e6);
    CHECK(rope_of(spec, 5).dims == 512);
    CHECK(rope_of(spec, 5).still_pairs == 192);

    // The last block is full whatever is said; by the class's own rule without a word.
    const Json types = {sliding, full, full, sliding, sliding, sliding};
    tells(with(six, {{"layer_types", types}}), {"layer_types", "last block"});
    CHECK(windows(read(with(six, {{"layer_types", types}}))) == Windows{window, 0, 0, window, window, 0});
    CHECK(windows(read(with(six, {{"num_hidden_layers", 2}}))) == Windows{window, 0});
    CHECK(told(with(six, {{"num_hidden_layers", 2}})).empty());
    refused(with(six, {{"layer_types", {sliding, full}}}), {"layer_types", "6 values"});

    // Two spellings of heads; key-value heads of full blocks only where keys are values.
    const Json two = with(smallest(family), {{"num_hidden_layers", 2}, {"attention_k_eq_v", true}});
    const auto published = read(with(two, {{"global_head_dim", 128}, {"num_global_key_value_heads", 2}}));
    CHECK(published.wide.keys_are_values);
    CHECK(published.wide.num_kv_heads == 2);
    CHECK(published.wide.head_size == 128);
    const Json heads = {{"head_dim", 128}, {"num_key_value_heads", 2}};
    CHECK(read(with(two, {{"per_layer_config", {{"1", heads}}}})) == published);
    CHECK(read(with(two, {{"per_layer_config", {{"01", heads}}}})) == published);
    const Json without_values = with(two, {{"attention_k_eq_v", false}, {"num_global_key_value_heads", 2}});
    tells(without_values, {"num_global_key_value_heads (2) is ignored", "attention_k_eq_v"});
    CHECK(read(without_values).wide.num_kv_heads == 4);
    for (const Json& none : {Json(nullptr), Json::object()})
      CHECK(read(with(two, {{"per_layer_config", none}})).wide.head_size == 256);
    tells(with(two, {{"per_layer_config", {{"1", heads}}}, {"global_head_dim", 64}}),
          {"global_head_dim (64) is ignored", "per_layer_config"});
    refused(with(two, {{"per_layer_config", {{"2", heads}}}}), {"per_layer_config", "2 blocks"});
    refused(with(two, {{"per_layer_config", {{"1", {{"intermediate_size", 8}}}}}}),
            {"per_layer_config", "'intermediate_size'"});
    refused(with(six, {{"per_layer_config", {{"3", heads}}}}), {"per_layer_config", sliding});
    refused(with(two, {{"global_head_dim", nullptr}}), {"global_head_dim"});
    refused(with(two, {{"num_global_key_value_heads", 3}}), {"divide the 8 heads, not 3"});

    // Rotary settings.
    const auto with_ropes = [&](const Json& of_sliding, const Json& of_full) {
      return with(two, {{"rope_parameters", {{sliding, of_sliding}, {full, of_full}}}});
    };
    const Json plain = {{"rope_type", "default"}, {"rope_theta", 100.0}};
    const Json part = {{"rope_type", "proportional"}, {"rope_theta", 200.0}};
    CHECK(rope_of(read(with_ropes(plain, part)), 1).still_pairs == 0);
    const auto scaled =
        rope_of(read(with_ropes(plain, with(part, {{"partial_rotary_factor", 0.003}, {"factor", 2}}))), 1);
    CHECK(scaled.still_pairs == 256);
    CHECK(scaled.factor == 2);
    CHECK(scaled.scaling == model::RopeSpec::Scaling::kLinear);
    tells(with_ropes(with(plain, {{"partial_rotary_factor", 0.5}}), part),
          {"sliding_attention: partial_rotary_factor (0.5) is ignored"});
    CHECK(rope_of(read(with(with_ropes(plain, part), {{"partial_rotary_factor", 0.5}})), 1).still_pairs ==
          128);
    refused(with_ropes(plain, with(part, {{"partial_rotary_factor", 2}})), {"partial_rotary_factor"});
    refused(with_ropes(plain, with(part, {{"rope_type", "yarn"}})), {"full_attention: rope_type", "yarn"});
    refused(with_ropes(plain, {{"rope_type", "default"}}), {"full_attention", "'rope_theta'"});
    refused(with_ropes(plain, with(part, {{"beta_fast", 2}})), {"full_attention", "'beta_fast'"});
    refused(with_ropes(nullptr, part), {"sliding_attention"});
    refused(with(two, {{"rope_parameters", plain}}), {"rope_parameters: rope_theta", "only full_attention"});
    refused(with(two, {{"rope_parameters", Json::object()}}), {"'sliding_attention'"});
    refused(with(two, {{"rope_scaling", part}}), {"rope_scaling"});
    tells(with(two, {{"rope_theta", 5e5}}), {"rope_theta (500000.0) is ignored"});

    CHECK(read(with(six, {{"use_bidirectional_attention", "vision"}})) == spec);
    CHECK(read(with(six, {{"use_bidirectional_attention", nullptr}})) == spec);
    for (const Json& seeing_all : {Json("all"), Json(true)})
      refused(with(six, {{"use_bidirectional_attention", seeing_all}}), {"use_bidirectional_attention"});
  }
}

TEST_CASE("config: what Gemma 4's blocks share and are told, and the experts beside its MLP") {
  const Json six = with(smallest("gemma4_text"), {{"num_hidden_layers", 6}, {"num_kv_shared_layers", 3}});
  const auto keys_of = [](const model::ArchSpec& spec) {
    Windows all;
    for (const model::BlockSpec& block : spec.blocks) all.push_back(block.keys_of);
    return all;
  };
  const Json types = {"sliding_attention", "full_attention",    "sliding_attention",
                      "sliding_attention", "sliding_attention", "full_attention"};
  const Json shared = with(six, {{"layer_types", types}});
  CHECK(keys_of(read(shared)) == Windows{-1, -1, -1, 2, 2, 1});
  CHECK(read(shared).last_reader_of(2) == 4);
  CHECK(read(shared).last_reader_of(1) == 5);
  CHECK(read(shared).last_reader_of(0) == 0);
  CHECK_FALSE(read(shared).states_are_all());
  CHECK(read(shared).widest_mlp() == 9216);
  CHECK(read(with(shared, {{"use_double_wide_mlp", true}})).widest_mlp() == 18432);
  CHECK(read(shared).carried_size() == 6 * 256 + 2 * 4 * 256 + 2 * 4 * 512);
  refused(six, {"num_kv_shared_layers", "full_attention"});
  refused(with(shared, {{"num_kv_shared_layers", 6}}), {"num_kv_shared_layers", "fewer than the 6"});
  refused(with(shared, {{"num_kv_shared_layers", nullptr}}), {"num_kv_shared_layers"});

  const auto told_size = [&](const Json& size) {
    return read(with(smallest("gemma4_text"), {{"hidden_size_per_layer_input", size}})).block_embedding_size;
  };
  CHECK(read(smallest("gemma4_text")).block_embedding_size == 256);
  CHECK(told_size(8) == 8);
  CHECK(told_size(0) == 0);
  CHECK(told_size(nullptr) == 0);
  CHECK_FALSE(read(smallest("gemma4_text")).states_are_all());
  CHECK(read(with(smallest("gemma4_text"), {{"hidden_size_per_layer_input", 0}})).states_are_all());
  CHECK(read(smallest("gemma4_unified_text")).states_are_all());
  check_told(with(smallest("gemma4_unified_text"), {{"hidden_size_per_layer_input", 8}}),
             {"hidden_size_per_layer_input (8) is ignored"});

  const Json mixed = with(
      smallest("gemma4_text"),
      {{"enable_moe_block", true}, {"num_experts", 5}, {"top_k_experts", 2}, {"moe_intermediate_size", 12}});
  CHECK(read(mixed).experts.beside_mlp);
  CHECK(read(mixed).widest_mlp() == 9216 + 24);
  refused(with(mixed, {{"top_k_experts", 6}}), {"more experts"});
  refused(with(mixed, {{"num_experts", nullptr}}), {"num_experts"});
  Json without = mixed;
  without.erase("top_k_experts");
  refused(without, {"'top_k_experts'"});
  CHECK(told(with(mixed, {{"enable_moe_block", false}})).size() == 3);
}

TEST_CASE("config: settings that a family takes or ignores otherwise than its relatives") {
  const Json falcon = smallest("falcon");
  refused(with(falcon, {{"rope_parameters", {{"partial_rotary_factor", 0.5}}}}),
          {"partial_rotary_factor", "0.5"});
  CHECK(read(with(falcon, {{"rope_parameters", {{"partial_rotary_factor", 1.0}}}})) == read(falcon));
  check_told(with(falcon, {{"partial_rotary_factor", 0.5}}), {"partial_rotary_factor (0.5) is ignored"});
  const Json neox = smallest("gpt_neox");
  CHECK(read(with(neox, {{"head_dim", 16}})) == read(neox));
  refused(with(neox, {{"head_dim", 32}}), {"head_dim", "expected 16", "found 32"});
  // An empty rope_scaling leaves the class's scaling, an empty rope_parameters is the settings.
  const Json oss = smallest("gpt_oss");
  CHECK(read(with(oss, {{"rope_scaling", Json::object()}})) == read(oss));
  CHECK(read(with(oss, {{"rope_parameters", Json::object()}})).ropes.front().scaling ==
        model::RopeSpec::Scaling::kNone);
  const Json ministral = smallest("ministral3");
  CHECK(read(with(ministral, {{"rope_scaling", Json::object()}})) == read(ministral));
  CHECK(read(ministral).attention.query_growth_length == 16384);
  CHECK(read(with(ministral, {{"original_max_position_embeddings", 64}})).attention.query_growth_length ==
        64);
  const Json neo = with(smallest("gpt_neo"), {{"num_layers", 2}, {"window_size", 5}});
  const Json types = Json::array({Json::array({Json::array({"global", "local"}), 1})});
  CHECK(windows(read(with(neo, {{"attention_types", types}}))) == Windows{0, 5});
  CHECK(told(with(neo, {{"attention_types", types}, {"attention_layers", {"global", "local"}}})).empty());
  const Json turned = with(neo, {{"attention_types", types}, {"attention_layers", {"local", "global"}}});
  check_told(turned, {"attention_types", "attention_layers"});
  CHECK(windows(read(turned)) == Windows{5, 0});
  refused(with(turned, {{"attention_layers", Json::array({"local"})}}),
          {"attention_layers", "2 blocks, not 1"});
  refused(with(turned, {{"attention_layers", {"local", "sliding"}}}),
          {"attention_layers", "global or local"});
  const Json bloom = smallest("bloom");
  CHECK(read(with(bloom, {{"pretraining_tp", 4}})) == read(bloom));
  CHECK(read(with(bloom, {{"slow_but_exact", true}})) == read(bloom));
  refused(with(bloom, {{"pretraining_tp", 4}, {"slow_but_exact", true}}), {"slow_but_exact"});
}

TEST_CASE("config: experts") {
  const Json qwen = with(smallest("qwen3_moe"), {{"num_hidden_layers", 4}, {"decoder_sparse_step", 2}});
  const auto with_experts = [](const Json& config) {
    std::vector<bool> blocks;
    for (const model::BlockSpec& block : read(config).blocks) blocks.push_back(block.experts);
    return blocks;
  };
  CHECK(with_experts(qwen) == std::vector<bool>{false, true, false, true});
  CHECK(with_experts(with(qwen, {{"mlp_only_layers", {3}}})) == std::vector<bool>{false, true, false, false});
  refused(with(qwen, {{"mlp_only_layers", {4}}}), {"mlp_only_layers"});
  refused(with(qwen, {{"num_experts", 4}}), {"num_experts_per_tok", "at most 4", "found 8"});
  const Json glm = with(smallest("glm4_moe"), {{"num_hidden_layers", 3}});
  CHECK(with_experts(glm) == std::vector<bool>{false, true, true});
  CHECK(with_experts(with(glm, {{"first_k_dense_replace", 0}})) == std::vector<bool>{true, true, true});
  refused(with(glm, {{"n_group", 3}}), {"groups", "of 128", "found 3"});
  refused(with(glm, {{"n_group", 64}, {"topk_group", 2}}), {"topk_group", "room for 8"});
  using Weighting = model::ExpertSpec::Weighting;
  CHECK(read(glm).experts.weighting == Weighting::kLogisticShares);
  CHECK(read(with(glm, {{"norm_topk_prob", false}})).experts.weighting == Weighting::kLogistic);
  CHECK(read(qwen).experts.weighting == Weighting::kSoftmaxOfAll);
  CHECK(read(with(qwen, {{"norm_topk_prob", true}})).experts.weighting == Weighting::kShares);
  CHECK(read(smallest("mixtral")).experts.weighting == Weighting::kShares);
  CHECK(read(smallest("gpt_oss")).experts.weighting == Weighting::kSoftmaxOfChosen);
  const Json oss = with(smallest("gpt_oss"), {{"intermediate_size", 64}});
  CHECK(read(with(oss, {{"quantization_config", {{"quant_method", "mxfp4"}}}})).experts.count == 128);
  refused(with(smallest("gpt_oss"), {{"quantization_config", {{"quant_method", "mxfp4"}}}}),
          {"multiples of 32"});
  refused(with(oss, {{"quantization_config", {{"quant_method", "fp8"}}}}), {"quantization_config", "mxfp4"});
}

TEST_CASE("config: Granite with experts") {
  using Weighting = model::ExpertSpec::Weighting;
  const Json alone = smallest("granitemoe"), shared = smallest("granitemoeshared");
  const auto spec = read(with(alone, {{"logits_scaling", 4.0}, {"attention_multiplier", 0.5}}));
  CHECK(spec.experts.weighting == Weighting::kSoftmaxOfChosen);
  CHECK(spec.experts.count == 8);
  CHECK(spec.logit_transform.scale == 0.25);
  CHECK(spec.attention.scale == 0.5);
  CHECK(read(shared).experts.shared_mlp_size == 0);
  CHECK((read(shared).block_tensors == read(alone).block_tensors));
  CHECK(read(with(shared, {{"shared_intermediate_size", 24}})).experts.shared_mlp_size == 24);
  refused(with(shared, {{"shared_intermediate_size", -1}}), {"shared_intermediate_size"});
  refused(with(alone, {{"num_experts_per_tok", 9}}), {"num_experts_per_tok", "at most 8", "found 9"});
  refused(with(alone, {{"num_local_experts", nullptr}}), {"num_local_experts", "found null"});
  refused(with(alone, {{"num_experts", 8}}), {"num_experts"});
  refused(with(alone, {{"logits_scaling", 0}}), {"logits_scaling", "positive"});
  refused(with(alone, {{"attention_multiplier", -0.3}}), {"attention_multiplier", "positive"});
  refused(with(alone, {{"mlp_bias", true}}), {"mlp_bias"});
}

TEST_CASE("config: Phi 3.5 with experts") {
  using Scaling = model::RopeSpec::Scaling;
  const Json phi = smallest("phimoe");
  CHECK(read(phi).experts.weighting == model::ExpertSpec::Weighting::kNearBest);
  CHECK(read(phi).experts.nearness == 0.02);
  CHECK(read(phi).norm == model::NormKind::kLayerNorm);
  CHECK(windows(read(with(phi, {{"sliding_window", 9}}))).front() == 9);
  const Json numbers = Json::array({1, 1, 1, 1, 1, 1, 1, 1}), larger = Json::array({2, 2, 2, 2, 2, 2, 2, 2});
  const Json block = {{"type", "longrope"},
                      {"short_factor", numbers},
                      {"long_factor", larger},
                      {"short_mscale", 1.1},
                      {"long_mscale", 1.3},
                      {"rope_theta", 1e4},
                      {"original_max_position_embeddings", 64}};
  const Json scaled = with(phi, {{"rope_scaling", block}});
  check_told(scaled, {"rope_scaling", "longer than 64", "short_factor for all"});
  const auto rope = read(scaled).ropes.front();
  CHECK(rope.scaling == Scaling::kLongRope);
  CHECK(rope.amplitude == 1.1);
  CHECK(rope.long_amplitude == 1.3);
  for (const char* key : {"short_mscale", "long_mscale"}) {
    Json without = block;
    without.erase(key);
    refused(with(phi, {{"rope_scaling", without}}), {key});
    refused(with(phi, {{"rope_scaling", with(block, {{key, 0}})}}), {key, "positive"});
  }
  refused(with(phi, {{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}), {"longrope, or none"});
  refused(with(phi, {{"num_experts_per_tok", 3}}), {"num_experts_per_tok"});
  refused(with(phi, {{"num_local_experts", 1}}), {"at most 1", "found 2"});
  refused(with(phi, {{"router_jitter_noise", -0.1}}), {"router_jitter_noise"});
  CHECK(read(with(phi, {{"architectures", Json::array({"PhiMoEForCausalLM"})}})).num_layers == 30);
}

TEST_CASE("config: Ernie 4.5 with experts") {
  const Json ernie = with(smallest("ernie4_5_moe"), {{"num_hidden_layers", 4}});
  const auto with_experts = [&](const Json& changes) {
    std::vector<bool> blocks;
    for (const model::BlockSpec& block : read(with(ernie, changes)).blocks) blocks.push_back(block.experts);
    return blocks;
  };
  CHECK(with_experts(Json::object()) == std::vector<bool>{false, true, true, true});
  CHECK(with_experts({{"moe_layer_end_index", 2}}) == std::vector<bool>{false, true, true, false});
  CHECK(with_experts({{"moe_layer_interval", 2}}) == std::vector<bool>{false, true, false, true});
  CHECK(with_experts({{"moe_layer_start_index", 0}}) == std::vector<bool>{true, true, true, true});
  CHECK(read(ernie).experts.weighting == model::ExpertSpec::Weighting::kBiasedShares);
  CHECK(read(ernie).experts.shared_mlp_size == 3072);
  CHECK(read(with(ernie, {{"moe_num_shared_experts", 0}})).experts.shared_mlp_size == 0);
  CHECK(read(with(ernie, {{"num_experts", 32}})).experts.count == 32);
  refused(with(ernie, {{"num_experts", 32}, {"moe_num_experts", 16}}), {"num_experts"});
  refused(with(ernie, {{"moe_k", 65}}), {"at most 64", "found 65"});
  refused(with(ernie, {{"use_bias", true}}), {"use_bias"});
  refused(with(ernie, {{"moe_layer_interval", 0}}), {"moe_layer_interval"});
  refused(with(ernie, {{"moe_layer_end_index", -2}}), {"moe_layer_end_index"});
}

TEST_CASE("config: HunYuan") {
  const Json dense = smallest("hunyuan_v1_dense"), experts = smallest("hunyuan_v1_moe");
  CHECK(read(dense).attention.query_key_norm_behind_rope);
  const Json published = {{"alpha", 1000.0}, {"beta_fast", 32},   {"beta_slow", 1},       {"factor", 1.0},
                          {"mscale", 1.0},   {"type", "dynamic"}, {"mscale_all_dim", 1.0}};
  const auto scaled = read(with(dense, {{"rope_theta", 500.0}, {"rope_scaling", published}}));
  CHECK(scaled.ropes.front().scaling == model::RopeSpec::Scaling::kNone);
  CHECK(std::abs(scaled.ropes.front().theta / (500 * std::pow(1000, 16.0 / 14)) - 1) < 1e-12);
  CHECK(scaled.max_positions == 2048);
  CHECK(told(with(dense, {{"rope_theta", 500.0}, {"rope_scaling", published}})).empty());
  CHECK(read(with(dense, {{"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}})).ropes.front().scaling ==
        model::RopeSpec::Scaling::kDynamic);
  refused(with(dense, {{"rope_scaling", with(published, {{"alpha", -1}})}}), {"alpha", "positive"});
  refused(with(dense, {{"rope_scaling", with(published, {{"type", "linear"}})}}), {"alpha"});
  refused(with(with(dense, {{"head_dim", 2}}), {{"rope_scaling", published}}),
          {"more than one rotated pair"});
  refused(with(dense, {{"use_qk_norm", false}}), {"use_qk_norm"});
  refused(with(dense, {{"use_cla", true}}), {"use_cla"});
  refused(with(dense, {{"num_experts", 4}}), {"num_experts"});
  const auto spec = read(with(experts, {{"num_experts", 8}, {"moe_topk", {2, 2}}, {"kv_lora_rank", 512}}));
  CHECK(spec.experts.count == 8);
  CHECK(spec.experts.chosen == 2);
  CHECK(spec.experts.shared_mlp_size == 48);
  refused(with(experts, {{"num_experts", 8}, {"moe_topk", {2, 3}}}), {"moe_topk", "the same"});
  refused(with(experts, {{"num_experts", 8}, {"moe_topk", 9}}), {"at most 8", "found 9"});
  refused(with(experts, {{"moe_intermediate_size", {32, 32}}}), {"moe_intermediate_size", "48"});
  refused(with(experts, {{"num_shared_expert", {2}}}), {"num_shared_expert"});
}

TEST_CASE("config: Apertus") {
  const Json apertus = smallest("apertus");
  CHECK(read(apertus).activation == model::Activation::kXielu);
  CHECK_FALSE(read(apertus).gated_mlp);
  CHECK(read(apertus).ropes.front().scaling == model::RopeSpec::Scaling::kLlama3);
  CHECK(read(apertus).ropes.front().theta == 12e6);
  CHECK(read(with(apertus, {{"rope_scaling", {{"type", "default"}}}})).ropes.front().theta == 12e6);
  CHECK(read(with(apertus, {{"hidden_act", "relu2"}})).block_tensors.size() ==
        read(apertus).block_tensors.size() - 4);
  refused(with(apertus, {{"qk_norm", false}}), {"qk_norm"});
  refused(with(apertus, {{"post_norm", true}}), {"post_norm"});
  for (const std::string family : {"llama", "mamba", "falcon_mamba", "mamba2", "bamba", "falcon_h1"})
    refused(with(smallest(family), {{"hidden_act", "xielu"}}), {"hidden_act", "xielu in Apertus only"});
  refused(with(smallest("nemotron_h"), {{"mamba_hidden_act", "xielu"}}), {"mamba_hidden_act", "xielu"});
}

TEST_CASE("config: dots.llm1 and MiniMax M2") {
  using Weighting = model::ExpertSpec::Weighting;
  const Json dots = with(smallest("dots1"), {{"num_hidden_layers", 3}}), minimax = smallest("minimax_m2");
  CHECK(read(dots).experts.weighting == Weighting::kLogistic);
  CHECK(read(with(dots, {{"norm_topk_prob", true}})).experts.weighting == Weighting::kLogisticShares);
  CHECK(windows(read(with(dots, {{"max_window_layers", 2}}))) == Windows{0, 0, 4096});
  CHECK_FALSE(has_windows(read(with(dots, {{"max_window_layers", 0}, {"sliding_window", nullptr}}))));
  refused(with(dots, {{"n_routed_experts", nullptr}}), {"n_routed_experts"});
  refused(with(dots, {{"moe_layer_freq", 2}}), {"moe_layer_freq"});
  CHECK(read(minimax).experts.weighting == Weighting::kLogisticShares);
  CHECK(read(minimax).ropes.front().dims == 128);
  CHECK(read(with(minimax, {{"rotary_dim", 64}})).ropes.front().dims == 64);
  CHECK(read(with(minimax, {{"attn_type_list", {1, 1}}, {"use_qk_norm", true}})).num_layers == 30);
  refused(with(minimax, {{"attn_type_list", {1, 0}}}), {"attn_type_list", "full attention"});
  refused(with(minimax, {{"use_qk_norm", false}}), {"use_qk_norm"});
  refused(with(minimax, {{"shared_intermediate_size", 8}}), {"shared_intermediate_size"});
  refused(with(minimax, {{"rotary_dim", 129}}), {"rotary"});
}

TEST_CASE("config: MPT") {
  const Json mpt = smallest("mpt");
  const auto attention = [&](const Json& settings) { return with(mpt, {{"attn_config", settings}}); };
  CHECK(read(mpt).mlp_size == 2048);
  CHECK(read(attention(Json::object())) == read(mpt));
  CHECK(read(attention(nullptr)) == read(mpt));
  CHECK(read(attention({{"softmax_scale", nullptr}, {"clip_qkv", nullptr}, {"prefix_lm", false}})) ==
        read(mpt));
  CHECK(read(attention({{"softmax_scale", 0.5}})).attention.scale == 0.5);
  CHECK(read(attention({{"clip_qkv", 6}})).attention.clip_projections == 6);
  check_told(attention({{"alibi_bias_max", 16}}), {"alibi_bias_max", "2^-16", "2^-8"});
  CHECK(read(attention({{"alibi_bias_max", 16}})).attention.position_bias_max == 16);
  CHECK(told(attention({{"alibi_bias_max", 8}})).empty());
  for (const char* key : {"prefix_lm", "attn_uses_sequence_id", "qk_ln", "qk_gn", "rope"})
    refused(attention({{key, true}}), {"attn_config", key});
  refused(attention({{"alibi", false}}), {"alibi"});
  refused(attention({{"attn_type", "multiquery_attention"}}), {"attn_type"});
  refused(attention({{"alibi_bias_max", 0}}), {"alibi_bias_max", "positive"});
  refused(attention({{"clip_qkv", -1}}), {"clip_qkv", "positive"});
  refused(attention({{"sliding_window_size", 8}}), {"sliding_window_size"});
  refused(attention(7), {"attn_config", "an object"});
  refused(with(mpt, {{"expansion_ratio", 2}}), {"expansion_ratio"});
  refused(with(mpt, {{"no_bias", false}}), {"no_bias"});
  refused(with(mpt, {{"logit_scale", "inv_sqrt_d_model"}}), {"logit_scale"});
  refused(with(mpt, {{"norm_type", "rmsnorm"}}), {"norm_type"});
  CHECK(read(with(mpt, {{"norm_type", "layernorm"}})) == read(mpt));
  CHECK(read(with(mpt, {{"architectures", Json::array({"MPTForCausalLM"})}})).num_layers == 3);
}

TEST_CASE("config: latent attention") {
  const Json v2 = smallest("deepseek_v2"), v3 = smallest("deepseek_v3"), lite = smallest("glm4_moe_lite");
  const auto spec = read(v3);
  CHECK(spec.head_size == 192);
  CHECK(spec.num_kv_heads == 128);
  CHECK((spec.latent == model::LatentSpec{.query_rank = 1536, .key_value_rank = 512, .value_size = 128}));
  CHECK(spec.ropes.front().dims == 64);
  CHECK(spec.ropes.front().interleaved);
  CHECK_FALSE(read(with(v3, {{"rope_interleave", false}})).ropes.front().interleaved);
  CHECK_FALSE(read(with(v3, {{"rope_interleave", nullptr}})).ropes.front().interleaved);
  CHECK(read(with(v3, {{"q_lora_rank", nullptr}})).latent.query_rank == 0);
  CHECK(spec.attention.scale == Approx(1 / std::sqrt(192)).epsilon(1e-15));

  // The settings of DeepSeek V3 as it is published.
  const Json yarn = {{"type", "yarn"},
                     {"factor", 40},
                     {"mscale", 1.0},
                     {"mscale_all_dim", 1.0},
                     {"beta_fast", 32},
                     {"beta_slow", 1},
                     {"original_max_position_embeddings", 4096}};
  const auto scaled = read(with(v3, {{"rope_scaling", yarn}, {"max_position_embeddings", 163840}}));
  constexpr double kGrowth = 1.3688879454113936;
  CHECK(scaled.attention.scale == Approx(kGrowth * kGrowth / std::sqrt(192)).epsilon(1e-15));
  CHECK(scaled.ropes.front().amplitude == 1);
  const auto without = read(with(v3, {{"rope_scaling", with(yarn, {{"mscale_all_dim", 0}})}}));
  CHECK(without.attention.scale == spec.attention.scale);
  CHECK(without.ropes.front().amplitude == Approx(kGrowth).epsilon(1e-15));

  CHECK(read(with(v3, {{"num_key_value_heads", nullptr}})).num_kv_heads == 128);
  CHECK(read(with(v2, {{"num_key_value_heads", nullptr}})).num_kv_heads == 32);
  refused(with(v3, {{"num_key_value_heads", 64}}), {"num_key_value_heads", "128", "found 64"});
  refused(with(v3, {{"num_attention_heads", 256}}),
          {"num_key_value_heads", "128, which holds where it is not"});
  refused(with(v3, {{"head_dim", 192}}), {"head_dim", "64", "found 192"});
  CHECK(read(with(lite, {{"head_dim", 32}})).ropes.front().dims == 32);
  refused(with(lite, {{"head_dim", 32}, {"qk_rope_head_dim", 64}}), {"head_dim", "qk_rope_head_dim"});
  check_told(with(v2, {{"head_dim", 128}}), {"head_dim"});
  refused(with(v3, {{"partial_rotary_factor", 0.5}}), {"partial_rotary_factor"});
  refused(with(v3, {{"qk_rope_head_dim", 3}}), {"an even number"});
  refused(with(v3, {{"v_head_dim", nullptr}}), {"v_head_dim"});

  using Weighting = model::ExpertSpec::Weighting;
  CHECK(spec.experts.weighting == Weighting::kLogisticShares);
  CHECK(read(v2).experts.weighting == Weighting::kSoftmaxOfAll);
  CHECK(read(v2).experts.groups == 1);
  check_told(with(v2, {{"norm_topk_prob", true}}), {"norm_topk_prob"});
  check_told(with(v3, {{"scoring_func", "softmax"}}), {"scoring_func", "sigmoid"});
  const Json grouped = with(v2, {{"topk_method", "group_limited_greedy"}, {"n_group", 8}, {"topk_group", 3}});
  CHECK(read(grouped).experts.groups == 8);
  CHECK(read(grouped).experts.groups_by_best);
  CHECK(read(with(grouped, {{"n_group", 64}, {"topk_group", 6}})).experts.groups == 64);
  refused(with(grouped, {{"n_group", nullptr}}), {"n_group"});
  refused(with(grouped, {{"n_group", 64}}), {"topk_group", "room for 6"});
  refused(with(v2, {{"topk_method", "noaux_tc"}}), {"topk_method", "group_limited_greedy"});
  refused(with(v2, {{"topk_method", nullptr}}), {"topk_method"});
  refused(with(v2, {{"mlp_bias", true}}), {"mlp_bias"});
  refused(with(v3, {{"moe_layer_freq", 2}}), {"moe_layer_freq"});

  const auto with_experts = [](const Json& config) {
    std::vector<bool> blocks;
    for (const model::BlockSpec& block : read(config).blocks) blocks.push_back(block.experts);
    return blocks;
  };
  CHECK(with_experts(v2) == std::vector<bool>{true, true, true});
  CHECK(with_experts(v3) == std::vector<bool>{false, false, false, true});
  CHECK(with_experts(lite) == std::vector<bool>{false, true, true});
  CHECK(with_experts(with(lite, {{"mlp_layer_types", {"sparse", "dense", "sparse"}}})) ==
        std::vector<bool>{true, false, true});
  refused(with(lite, {{"mlp_layer_types", {"sparse", "dense"}}}), {"mlp_layer_types", "3 values"});
  refused(with(lite, {{"mlp_layer_types", {"sparse", "dense", "moe"}}}),
          {"mlp_layer_types", "dense or sparse"});
  check_told(with(lite, {{"first_k_dense_replace", 2}}), {"first_k_dense_replace"});
}

TEST_CASE("config: Kimi K2 is of DeepSeek V3's class") {
  Json kimi =
      with(smallest("deepseek_v3"), {{"n_group", 1}, {"topk_group", 1}, {"num_nextn_predict_layers", 0}});
  const auto spec = read(kimi);
  kimi["model_type"] = "kimi_k2";
  CHECK(read(kimi) == spec);
  kimi["architectures"] = {"DeepseekV3ForCausalLM"};
  CHECK(read(kimi) == spec);
  kimi["architectures"] = {"LlamaForCausalLM"};
  refused(kimi, {"two kinds of model", "'kimi_k2'"});
}

TEST_CASE("config: EXAONE 4 rotates in sliding blocks, or without windows in all") {
  const Json exaone = with(smallest("exaone4"), {{"num_hidden_layers", 4}});
  const auto rotates = [](const Json& config) {
    std::vector<bool> blocks;
    for (const model::BlockSpec& block : read(config).blocks)
      blocks.push_back(block.rope != model::BlockSpec::kNoRope);
    return blocks;
  };
  CHECK(windows(read(exaone)) == Windows{4096, 4096, 4096, 0});
  CHECK(rotates(exaone) == std::vector<bool>{true, true, true, false});
  const Json plain = with(exaone, {{"sliding_window", nullptr}});
  CHECK_FALSE(has_windows(read(plain)));
  CHECK(rotates(plain) == std::vector<bool>{true, true, true, true});
  refused(with(exaone, {{"sliding_window_pattern", "LLLG"}}), {"sliding_window_pattern"});
  const Json named =
      with(exaone,
           {{"sliding_window_pattern", "LG"},
            {"layer_types", {"sliding_attention", "full_attention", "sliding_attention", "full_attention"}}});
  CHECK(windows(read(named)) == Windows{4096, 0, 4096, 0});
  CHECK(rotates(named) == std::vector<bool>{true, false, true, false});
}

TEST_CASE("config: a model that sees pictures has its language model inside") {
  Json text = smallest("gemma3_text");
  text["num_hidden_layers"] = 2;
  const Json wrapper = {{"architectures", {"Gemma3ForConditionalGeneration"}},
                        {"model_type", "gemma3"},
                        {"text_config", text},
                        {"vision_config", {{"hidden_size", 8}}}};
  const auto spec = read(wrapper);
  CHECK(spec.architecture == "Gemma3ForConditionalGeneration");
  CHECK(spec.num_layers == 2);
  CHECK(spec.hidden_size == 2304);
  CHECK(spec.tied_unembedding);
  CHECK_FALSE(read(with(wrapper, {{"tie_word_embeddings", false}})).tied_unembedding);
  refused(with(wrapper, {{"quantization_config", {{"quant_method", "x"}}}}), {"quantization_config"});
  text["hidden_activation"] = "quick_gelu";
  refused(with(wrapper, {{"text_config", text}}), {"text_config", "hidden_activation", "quick_gelu"});
  Json without = wrapper;
  without["text_config"] = nullptr;
  refused(without, {"'text_config' is null"});
  without.erase("text_config");
  refused(without, {"missing key 'text_config'"});
  refused(with(wrapper, {{"text_config", "gemma"}}), {"text_config", "an object"});
  refused(with(wrapper, {{"model_type", "llava"}}), {"model_type", "'gemma3'", "found \"llava\""});
  refused(with(wrapper, {{"text_config", smallest("llama")}}), {"text_config: model_type", "'gemma3_text'"});
}

namespace {

/// As much of a language model as must be there: of some, the class's number of heads does not divide its
/// size.
Json least_text(const std::string& text_type) {
  return text_type == "glm4v_moe_text" || text_type == "qwen3_omni_moe_text" ? Json{{"head_dim", 128}}
                                                                             : Json::object();
}

/// A config of this wrapper.
Json wrapped(const std::string& architecture, const std::string& type, const Json& text) {
  return {{"architectures", {architecture}}, {"model_type", type}, {"text_config", text}};
}

const std::vector<std::array<std::string, 3>>& wrapper_names() {
  static const std::vector<std::array<std::string, 3>> all = {
      {"AyaVisionForConditionalGeneration", "aya_vision", "cohere2"},
      {"Cohere2VisionForConditionalGeneration", "cohere2_vision", "cohere2"},
      {"Exaone4_5_ForConditionalGeneration", "exaone4_5", "exaone4"},
      {"Gemma3ForConditionalGeneration", "gemma3", "gemma3_text"},
      {"Gemma4ForConditionalGeneration", "gemma4", "gemma4_text"},
      {"Gemma4UnifiedForConditionalGeneration", "gemma4_unified", "gemma4_unified_text"},
      {"Glm4vForConditionalGeneration", "glm4v", "glm4v_text"},
      {"Glm46VForConditionalGeneration", "glm46v", "glm4v_text"},
      {"Glm4vMoeForConditionalGeneration", "glm4v_moe", "glm4v_moe_text"},
      {"GlmOcrForConditionalGeneration", "glm_ocr", "glm_ocr_text"},
      {"GotOcr2ForConditionalGeneration", "got_ocr2", "qwen2"},
      {"Idefics2ForConditionalGeneration", "idefics2", "mistral"},
      {"Idefics3ForConditionalGeneration", "idefics3", "llama"},
      {"InternVLForConditionalGeneration", "internvl", "qwen2"},
      {"Kimi_K25ForConditionalGeneration", "kimi_k25", "deepseek_v3"},
      {"Lfm2VlForConditionalGeneration", "lfm2_vl", "lfm2"},
      {"LightOnOcrForConditionalGeneration", "lighton_ocr", "qwen3"},
      {"Llama4ForConditionalGeneration", "llama4", "llama4_text"},
      {"LlavaForConditionalGeneration", "llava", "llama"},
      {"LlavaNextForConditionalGeneration", "llava_next", "llama"},
      {"LlavaNextVideoForConditionalGeneration", "llava_next_video", "llama"},
      {"LlavaOnevisionForConditionalGeneration", "llava_onevision", "qwen2"},
      {"Mistral3ForConditionalGeneration", "mistral3", "mistral"},
      {"Ovis2ForConditionalGeneration", "ovis2", "qwen2"},
      {"PaddleOCRVLForConditionalGeneration", "paddleocr_vl", "paddleocr_vl_text"},
      {"PerceptionLMForConditionalGeneration", "perception_lm", "llama"},
      {"Qwen2VLForConditionalGeneration", "qwen2_vl", "qwen2_vl_text"},
      {"Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", "qwen2_5_vl_text"},
      {"Qwen2_5OmniThinkerForConditionalGeneration", "qwen2_5_omni_thinker", "qwen2_5_omni_text"},
      {"Qwen3OmniMoeThinkerForConditionalGeneration", "qwen3_omni_moe_thinker", "qwen3_omni_moe_text"},
      {"Qwen3VLForConditionalGeneration", "qwen3_vl", "qwen3_vl_text"},
      {"Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe", "qwen3_vl_moe_text"},
      {"Qwen3_5ForConditionalGeneration", "qwen3_5", "qwen3_5_text"},
      {"Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe", "qwen3_5_moe_text"},
      {"SmolVLMForConditionalGeneration", "smolvlm", "llama"},
      {"VideoLlavaForConditionalGeneration", "video_llava", "llama"},
      {"VipLlavaForConditionalGeneration", "vipllava", "llama"},
  };
  return all;
}

}  // namespace

TEST_CASE("config: a language model inside without model_type is of the wrapper's default class") {
  const std::filesystem::path path =
      std::filesystem::path(DEPTHLENS_TEST_DATA) / "models/class_defaults.json";
  const Json classes = util::parse_json(util::read_file(path), path.string());
  for (const auto& [architecture, type, text_type] : wrapper_names()) {
    INFO(architecture);
    Json sizes = with(least_text(text_type), {{"model_type", text_type}});
    for (const char* key :
         {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"})
      if (classes.at(text_type).contains(key)) sizes[key] = classes.at(text_type).at(key);
    const auto inside = read(sizes);
    auto spec = read(wrapped(architecture, type, least_text(text_type)));
    CHECK(spec == read(wrapped(architecture, type, sizes)));
    CHECK(spec.architecture == architecture);
    // In brackets: Catch2 would show vectors of these by operators that libtorch may have declared.
    CHECK((spec.blocks == inside.blocks));
    CHECK((spec.ropes == inside.ropes));
    CHECK((spec.block_tensors == inside.block_tensors));
    CHECK(spec.hidden_size == inside.hidden_size);
    CHECK(spec.vocab_size == inside.vocab_size);
    // And the wrapper is known by its model_type alone.
    CHECK(read({{"model_type", type}, {"text_config", sizes}}).architecture == architecture);
  }
  // A key that is in the config counts, and another family where the wrapper can hold it.
  const Json llava =
      wrapped("LlavaForConditionalGeneration", "llava", with(smallest("qwen2"), {{"num_hidden_layers", 2}}));
  CHECK(read(llava).num_layers == 2);
  CHECK((read(llava).ropes == read(smallest("qwen2")).ropes));
  Json no_size = smallest("phi3");
  no_size.erase("hidden_size");
  refused(wrapped("LlavaForConditionalGeneration", "llava", no_size), {"text_config", "'hidden_size'"});
}

TEST_CASE("config: whether a wrapper ties its unembedding is as transformers 5.24 has it") {
  // For each, without a word outside: neither, the language model's config says no, says yes. Measured.
  const std::map<std::string, std::array<bool, 3>> ties = {{"aya_vision", {true, true, true}},
                                                           {"cohere2_vision", {true, true, true}},
                                                           {"exaone4_5", {false, false, false}},
                                                           {"gemma3", {true, true, true}},
                                                           {"gemma4", {true, true, true}},
                                                           {"gemma4_unified", {true, true, true}},
                                                           {"glm4v", {false, false, true}},
                                                           {"glm46v", {false, false, false}},
                                                           {"glm4v_moe", {false, false, true}},
                                                           {"glm_ocr", {false, false, true}},
                                                           {"got_ocr2", {true, true, true}},
                                                           {"idefics2", {false, false, false}},
                                                           {"idefics3", {false, false, false}},
                                                           {"internvl", {true, true, true}},
                                                           {"kimi_k25", {true, true, true}},
                                                           {"lfm2_vl", {true, true, true}},
                                                           {"lighton_ocr", {true, true, true}},
                                                           {"llama4", {false, false, true}},
                                                           {"llava", {false, false, true}},
                                                           {"llava_next", {false, false, false}},
                                                           {"llava_next_video", {false, false, true}},
                                                           {"llava_onevision", {false, false, true}},
                                                           {"mistral3", {true, true, true}},
                                                           {"ovis2", {true, true, true}},
                                                           {"paddleocr_vl", {true, true, true}},
                                                           {"perception_lm", {false, false, true}},
                                                           {"qwen2_vl", {false, false, true}},
                                                           {"qwen2_5_vl", {false, false, true}},
                                                           {"qwen2_5_omni_thinker", {false, false, false}},
                                                           {"qwen3_omni_moe_thinker", {false, false, false}},
                                                           {"qwen3_vl", {false, false, false}},
                                                           {"qwen3_vl_moe", {false, false, false}},
                                                           {"qwen3_5", {false, false, false}},
                                                           {"qwen3_5_moe", {false, false, false}},
                                                           {"smolvlm", {false, false, false}},
                                                           {"video_llava", {false, false, false}},
                                                           {"vipllava", {false, false, false}}};
  for (const auto& [architecture, type, text_type] : wrapper_names()) {
    INFO(architecture);
    const Json least = least_text(text_type);
    const auto tied = [&, architecture = architecture, type = type](const Json& text, const Json& outside) {
      return read(with(wrapped(architecture, type, with(least, text)), outside)).tied_unembedding;
    };
    const Json no = {{"tie_word_embeddings", false}}, yes = {{"tie_word_embeddings", true}};
    const std::array<bool, 3>& expected = ties.at(type);
    CHECK(tied(Json::object(), Json::object()) == expected[0]);
    CHECK(tied(no, Json::object()) == expected[1]);
    CHECK(tied(yes, Json::object()) == expected[2]);
    CHECK(tied(no, yes) == (type != "llama4"));  // whose language model ties by itself
    CHECK_FALSE(tied(no, no));
    const bool outside_counts = type == "perception_lm", inside_counts = type == "paddleocr_vl";
    CHECK(tied(yes, no) == (inside_counts || (expected[2] && !expected[0] && !outside_counts)));
  }
  CHECK(read(with(wrapped("PerceptionLMForConditionalGeneration", "perception_lm",
                          {{"tie_word_embeddings", true}}),
                  {{"tie_word_embeddings", nullptr}}))
            .tied_unembedding);
  const Json lfm2 = wrapped("Lfm2VlForConditionalGeneration", "lfm2_vl", Json::object());
  CHECK_FALSE(read(with(lfm2, {{"tie_embedding", false}, {"tie_word_embeddings", true}})).tied_unembedding);
  CHECK(read(with(lfm2, {{"tie_embedding", true}, {"tie_word_embeddings", false}})).tied_unembedding);
  // Gemma's class ties without a word.
  CHECK(read(wrapped("LlavaForConditionalGeneration", "llava", smallest("gemma"))).tied_unembedding);
  CHECK_FALSE(
      read(wrapped("LlavaNextForConditionalGeneration", "llava_next", smallest("gemma"))).tied_unembedding);
}

TEST_CASE("config: what transformers leaves out of a wrapper's readout is refused") {
  const auto refuse = [](const Json& text, const std::vector<std::string>& parts) {
    refused(wrapped("LlavaForConditionalGeneration", "llava", text), parts);
  };
  refuse(with(smallest("granite"), {{"logits_scaling", 8.0}}), {"text_config", "scaled logits"});
  CHECK(read(wrapped("LlavaForConditionalGeneration", "llava", smallest("granite"))).num_layers == 30);
  refuse(smallest("cohere2"), {"scaled logits"});
  refuse(smallest("gemma2"), {"a soft cap of the logits"});
  refuse(smallest("phi"), {"a bias of the logits"});
  refuse(smallest("gpt2"), {"other names of tensors"});
  refused(wrapped("Gemma3ForConditionalGeneration", "gemma3", {{"final_logit_softcapping", 30.0}}),
          {"a soft cap of the logits"});
  for (const auto& [architecture, type] :
       {std::pair("Gemma4ForConditionalGeneration", "gemma4"),
        std::pair("Gemma4UnifiedForConditionalGeneration", "gemma4_unified")})
    CHECK(read(wrapped(architecture, type, {{"final_logit_softcapping", 30.0}})).logit_transform.soft_cap ==
          30);
}

TEST_CASE("config: wrappers that leave logits unscaled read what the language model says of it in vain") {
  for (const auto& [architecture, type] :
       {std::pair("AyaVisionForConditionalGeneration", "aya_vision"),
        std::pair("Cohere2VisionForConditionalGeneration", "cohere2_vision")}) {
    const Json config = wrapped(architecture, type, {{"logit_scale", 0.25}, {"vocab_size", 100}});
    check_told(config, {"text_config: logit_scale (0.25) is ignored", architecture});
    CHECK(read(config).logit_transform.scale == 1);
    CHECK(told(wrapped(architecture, type, {{"logit_scale", 1.0}})).empty());
  }
  refused(wrapped("AyaVisionForConditionalGeneration", "aya_vision", smallest("gemma2")),
          {"a soft cap of the logits"});
}

TEST_CASE("config: types of language models that published wrappers have and transformers has not") {
  const auto same = [](const char* architecture, const char* type, const Json& text, const char* another) {
    CHECK(read(wrapped(architecture, type, with(text, {{"model_type", another}}))) ==
          read(wrapped(architecture, type, text)));
  };
  same("Exaone4_5_ForConditionalGeneration", "exaone4_5", smallest("exaone4"), "exaone4_5_text");
  same("Kimi_K25ForConditionalGeneration", "kimi_k25", smallest("deepseek_v3"), "kimi_k2");
}

TEST_CASE("config: Qwen's coordinates of what is seen are the position of a text") {
  const Json sections = {16, 24, 24};
  const Json vl = {{"model_type", "qwen2_5_vl_text"}, {"rope_theta", 2e6}};
  const auto plain = read(vl);
  CHECK(plain.ropes.front().theta == 2e6);
  CHECK(read(with(vl, {{"rope_scaling", {{"type", "mrope"}, {"mrope_section", sections}}}})) == plain);
  CHECK(read(with(vl, {{"rope_scaling",
                        {{"type", "mrope"}, {"rope_type", "default"}, {"mrope_section", sections}}}})) ==
        plain);
  CHECK(read({{"model_type", "qwen2_5_vl_text"},
              {"rope_parameters",
               {{"rope_type", "default"}, {"rope_theta", 2e6}, {"mrope_section", sections}}}}) == plain);
  const auto yarn =
      read(with(vl, {{"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}, {"mrope_section", sections}}}}));
  CHECK(yarn.ropes.front().scaling == model::RopeSpec::Scaling::kYarn);
  refused(with(smallest("qwen2"), {{"rope_scaling", {{"type", "mrope"}, {"mrope_section", sections}}}}),
          {"'mrope'"});
  const Json vl3 = {{"model_type", "qwen3_vl_text"}};
  const Json settings = {{"rope_type", "default"}, {"mrope_section", sections}, {"mrope_interleaved", true}};
  CHECK(read(with(vl3, {{"rope_scaling", settings}})) == read(vl3));
  refused(with(vl3, {{"rope_scaling", with(settings, {{"rope_type", "mrope"}, {"type", "mrope"}})}}),
          {"'mrope'"});
  refused(with(vl3, {{"use_sliding_window", true}}), {"use_sliding_window"});

  // As Qwen 2 VL and 2.5 VL were published: no text_config.
  Json flat = {{"architectures", {"Qwen2_5_VLForConditionalGeneration"}},
               {"model_type", "qwen2_5_vl"},
               {"tie_word_embeddings", true},
               {"hidden_size", 2048},
               {"vision_config", {{"hidden_size", 8}}}};
  CHECK(read(flat).hidden_size == 2048);
  CHECK(read(flat).tied_unembedding);
  CHECK(read(flat) ==
        read(with(wrapped("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", {{"hidden_size", 2048}}),
                  {{"tie_word_embeddings", true}})));
  // Settings inside count where there are both.
  CHECK(read(with(flat, {{"text_config", {{"hidden_size", 1024}}}})).hidden_size == 1024);
}

TEST_CASE("config: GLM's coordinates of what is seen are the position of a text") {
  for (const std::string family : {"glm4v_text", "glm4v_moe_text", "glm_ocr_text"}) {
    INFO(family);
    const Json least = with(smallest(family), {{"rope_theta", 2e6}, {"partial_rotary_factor", 0.5}});
    const auto plain = read(least);
    CHECK(plain.ropes.front().theta == 2e6);
    CHECK(plain.ropes.front().dims == plain.head_size / 2);
    CHECK(plain.ropes.front().interleaved == (family != "glm4v_moe_text"));
    const Json sections = {{"rope_type", "default"}, {"mrope_section", {8, 12, 12}}};
    CHECK(read(with(least, {{"rope_scaling", sections}})) == plain);
    refused(with(least, {{"rope_scaling", with(sections, {{"rope_type", "mrope"}})}}), {"'mrope'"});
  }
  // Where the config does not say which part of a head is rotated.
  CHECK(read(smallest("glm4v_text")).ropes.front().dims == 128);
  CHECK(read(smallest("glm_ocr_text")).ropes.front().dims == 64);
  CHECK(read(smallest("glm4v_moe_text")).ropes.front().dims == 64);

  refused(with(smallest("glm4v_text"), {{"head_dim", 64}}), {"head_dim", "128", "64"});
  CHECK(read(with(smallest("glm4v_text"), {{"head_dim", 128}})) == read(smallest("glm4v_text")));
  CHECK(read(with(smallest("glm_ocr_text"), {{"head_dim", 128}})).head_size == 128);
  check_told(with(smallest("glm4v_text"), {{"attention_bias", false}}), {"attention_bias", "have biases"});
  check_told(with(smallest("glm_ocr_text"), {{"attention_bias", true}}), {"attention_bias", "no biases"});
  check_told(with(smallest("glm4v_moe_text"), {{"use_qk_norm", true}}), {"use_qk_norm", "no norms"});
  // GLM 4.6V's class takes the language model that its config names.
  CHECK(read(wrapped("Glm46VForConditionalGeneration", "glm46v", smallest("glm4v_moe_text"))).experts.count ==
        128);
}

TEST_CASE("config: PaddleOCR-VL was published without a text_config, and is tied all the same") {
  const Json flat = {{"architectures", {"PaddleOCRVLForConditionalGeneration"}},
                     {"model_type", "paddleocr_vl"},
                     {"tie_word_embeddings", false},
                     {"num_hidden_layers", 2},
                     {"rope_theta", 2e6},
                     {"rope_scaling", {{"type", "default"}, {"mrope_section", {16, 24, 24}}}}};
  const auto spec = read(flat);
  CHECK(spec.num_layers == 2);
  CHECK(spec.ropes.front().theta == 2e6);
  CHECK_FALSE(spec.ropes.front().interleaved);
  CHECK(spec.tied_unembedding);
  refused(with(flat, {{"rope_scaling", {{"type", "mrope"}, {"mrope_section", {16, 24, 24}}}}}), {"'mrope'"});
  refused(with(flat, {{"layer_types", {"full_attention", "sliding_attention"}}, {"sliding_window", 8}}),
          {"layer_types", "no sliding_attention"});
  check_told(with(flat, {{"compression_ratio", 2.0}}), {"compression_ratio"});
}

TEST_CASE("config: of a model that also speaks, the part that thinks is read") {
  const Json text = {{"num_hidden_layers", 2},
                     {"hidden_size", 64},
                     {"num_attention_heads", 4},
                     {"num_key_value_heads", 2},
                     {"head_dim", 16}};
  for (const std::string type : {"qwen2_5_omni", "qwen3_omni_moe"}) {
    INFO(type);
    const Json thinker = {{"model_type", type + "_thinker"}, {"text_config", text}};
    const Json whole = {{"model_type", type}, {"thinker_config", thinker}, {"talker_config", {{"x", 1}}}};
    const auto inside = read(thinker), spec = read(whole);
    CHECK((spec.blocks == inside.blocks));
    CHECK((spec.ropes == inside.ropes));
    CHECK((spec.block_tensors == inside.block_tensors));
    CHECK_FALSE(spec.tied_unembedding);
    CHECK(spec.prefixes == std::vector<std::string>{"thinker.model.", "thinker.language_model.model.",
                                                    "thinker.model.language_model.",
                                                    "thinker.model.text_model.", "thinker.language_model."});
    CHECK(read(with(whole, {{"thinker_config", with(thinker, {{"tie_word_embeddings", true}})}}))
              .tied_unembedding);
    refused(with(whole, {{"quantization_config", {{"quant_method", "x"}}}}), {"quantization_config"});
    refused(with(whole, {{"thinker_config", nullptr}}), {"thinker_config"});
    refused(with(whole, {{"thinker_config", "x"}}), {"thinker_config", "an object"});
    refused(with(whole, {{"thinker_config", with(thinker, {{"model_type", "llava"}})}}),
            {"model_type", type + "_thinker"});
  }
  const Json omni = {{"model_type", "qwen2_5_omni"}, {"thinker_config", {{"text_config", text}}}};
  for (const char* architecture : {"Qwen2_5OmniModel", "Qwen2_5OmniForConditionalGeneration"})
    CHECK(read(with(omni, {{"architectures", {architecture}}})).architecture == architecture);
  const Json slides = with(text, {{"use_sliding_window", true}, {"max_window_layers", 1}});
  CHECK(windows(read(with(omni, {{"thinker_config", {{"text_config", slides}}}}))) == Windows{0, 32768});
}

TEST_CASE("config: which blocks of Qwen 3.5 mix positions by a delta rule") {
  using model::Mixer;
  const auto kinds = [](const model::ArchSpec& spec) {
    std::string text;
    for (const model::BlockSpec& block : spec.blocks) {
      CHECK((block.mixer == Mixer::kDeltaNet) == (block.rope == model::BlockSpec::kNoRope));
      text += block.mixer == Mixer::kDeltaNet ? 'r' : 'a';
    }
    return text;
  };
  const Json linear = "linear_attention", full = "full_attention";
  for (const std::string family : {"qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"}) {
    INFO(family);
    const Json config = with(smallest(family), {{"num_hidden_layers", 5}});
    CHECK(kinds(read(config)) == "rrrar");
    CHECK(read(config).num_blocks(Mixer::kDeltaNet) == 4);
    CHECK(kinds(read(with(config, {{"full_attention_interval", 2}}))) == "rarar");
    CHECK(kinds(read(with(config, {{"layer_types", nullptr}}))) == "rrrar");
    const Json types = {full, linear, linear, full, full};
    CHECK(kinds(read(with(config, {{"layer_types", types}}))) == "arraa");
    CHECK(told(with(config, {{"layer_types", {linear, linear, linear, full, linear}},
                             {"full_attention_interval", 4}}))
              .empty());
    refused(with(config, {{"layer_types", {full, linear}}}), {"layer_types", "an array of 5"});
    refused(with(config, {{"layer_types", {full, linear, "sliding_attention", full, full}}}),
            {"layer_types", "sliding_attention"});
    refused(with(config, {{"full_attention_interval", 0}}), {"full_attention_interval"});
    refused(with(config, {{"linear_num_key_heads", 3}}), {"does not divide", "a divisor of 32", "3"});
    refused(with(config, {{"linear_conv_kernel_dim", 0}}), {"linear_conv_kernel_dim"});
    CHECK(read(with(config, {{"partial_rotary_factor", 0.5}})).ropes.front().dims == 128);
    CHECK(
        read(with(config, {{"rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}}}))
            .ropes.front()
            .dims == 128);
    CHECK(read(with(config, {{"rope_parameters", {{"rope_type", "default"}}}})).ropes.front().dims == 64);
  }
  check_told(
      with(smallest("qwen3_5_text"),
           {{"num_hidden_layers", 2}, {"layer_types", {full, linear}}, {"full_attention_interval", 2}}),
      {"full_attention_interval (2) is ignored"});
  check_told(with(smallest("qwen3_5_text"), {{"attn_output_gate", false}}),
             {"attn_output_gate (false) is ignored"});
  const Json moe = smallest("qwen3_5_moe_text"), next = smallest("qwen3_next");
  using Weighting = model::ExpertSpec::Weighting;
  check_told(with(moe, {{"norm_topk_prob", false}}), {"norm_topk_prob (false) is ignored"});
  check_told(with(moe, {{"mlp_only_layers", {1}}}), {"mlp_only_layers"});
  CHECK(read(next).experts.weighting == Weighting::kShares);
  CHECK(read(with(next, {{"norm_topk_prob", false}})).experts.weighting == Weighting::kSoftmaxOfAll);
  CHECK_FALSE(read(with(next, {{"mlp_only_layers", {1}}})).blocks[1].experts);
  CHECK(read(with(next, {{"mlp_only_layers", nullptr}})).blocks[1].experts);
  refused(with(smallest("qwen3_5_text"), {{"num_experts", 4}}), {"unsupported setting 'num_experts'"});
  refused(with(smallest("qwen3_vl_moe_text"), {{"hidden_size", 2816}, {"moe_intermediate_size", 1408}}),
          {"moe_intermediate_size", "half of it"});
}

TEST_CASE("config: LFM2's blocks, and the size of its MLP") {
  using model::Mixer;
  const Json least = with(smallest("lfm2"), {{"num_hidden_layers", 4}});
  const auto kinds = [](const Json& config) {
    std::string text;
    for (const model::BlockSpec& block : read(config).blocks) {
      CHECK((block.mixer == Mixer::kConvolution) == (block.rope == model::BlockSpec::kNoRope));
      text += block.mixer == Mixer::kConvolution ? 'c' : 'a';
    }
    return text;
  };
  CHECK(kinds(least) == "aaaa");
  CHECK(kinds(with(least, {{"full_attn_idxs", {2}}})) == "ccac");
  CHECK(kinds(with(least, {{"full_attn_idxs", Json::array()}})) == "cccc");
  const Json types = {"conv", "full_attention", "conv", "attention"};
  CHECK(kinds(with(least, {{"layer_types", types}})) == "caca");
  CHECK(told(with(least, {{"layer_types", types}, {"full_attn_idxs", {1, 3}}})).empty());
  check_told(with(least, {{"layer_types", types}, {"full_attn_idxs", {1}}}), {"full_attn_idxs"});
  refused(with(least, {{"full_attn_idxs", {4}}}), {"full_attn_idxs", "from 0 to 3"});
  refused(with(least, {{"full_attn_idxs", 2}}), {"full_attn_idxs", "an array of blocks"});
  refused(with(least, {{"layer_types", {"conv"}}}), {"layer_types", "an array of 4"});
  refused(with(least, {{"layer_types", {"conv", "conv", "conv", "linear_attention"}}}),
          {"layer_types", "linear_attention"});

  const auto size = [&](const Json& changes) { return read(with(least, changes)).mlp_size; };
  CHECK(size({{"intermediate_size", 12288}}) == 8192);
  CHECK(size({{"block_ff_dim", 12288}}) == 8192);
  CHECK(size({{"intermediate_size", 100}}) == 256);
  CHECK(size({{"intermediate_size", 12288}, {"block_ffn_dim_multiplier", 1.1}}) == 9216);
  CHECK(size({{"intermediate_size", 100}, {"block_ffn_dim_multiplier", nullptr}}) == 66);
  CHECK(size({{"intermediate_size", 100}, {"block_auto_adjust_ff_dim", false}}) == 100);
  CHECK(size({{"intermediate_size", 100}, {"block_auto_adjust_ff_dim", nullptr}}) == 100);
  refused(with(least, {{"block_multiple_of", 0}}), {"block_multiple_of"});
  refused(with(least, {{"block_ffn_dim_multiplier", 1e9}}), {"unsupported size of the MLP"});
  refused(with(least, {{"block_ffn_dim_multiplier", 1e-9}}), {"unsupported size of the MLP"});
  refused(with(least, {{"intermediate_size", 1}, {"block_ffn_dim_multiplier", nullptr}}),
          {"unsupported size of the MLP"});
  refused(with(least, {{"conv_L_cache", 0}}), {"conv_L_cache"});

  CHECK(read(least).tied_unembedding);
  CHECK_FALSE(read(with(least, {{"tie_embedding", false}})).tied_unembedding);
  CHECK_FALSE(
      read(with(least, {{"tie_word_embeddings", true}, {"tie_embedding", nullptr}})).tied_unembedding);
  check_told(with(least, {{"num_heads", 8}}), {"num_heads (8) is ignored"});
  check_told(with(least, {{"hidden_act", "gelu"}}), {"hidden_act (\"gelu\") is ignored"});
  CHECK(read(least).convolution_kernel == 3);

  const Json moe = smallest("lfm2_moe");
  CHECK_FALSE(read(moe).blocks[1].experts);
  CHECK(read(moe).blocks[2].experts);
  CHECK(read(moe).mlp_size == 48);
  CHECK(read(moe).experts.shares_epsilon == 1e-6);
  const auto has_bias = [](const model::ArchSpec& spec) {
    return std::any_of(spec.block_tensors.begin(), spec.block_tensors.end(),
                       [](const auto& rule) { return rule.slot == model::Slot::kRouterBias; });
  };
  CHECK(has_bias(read(moe)));
  CHECK_FALSE(has_bias(read(with(moe, {{"use_expert_bias", false}}))));
  refused(with(moe, {{"num_experts_per_tok", 33}}), {"more experts are chosen"});
}

namespace {

/// A letter for each block: a attention, s state space, b both, m MLP, e experts.
std::string kinds_of_mixers(const model::ArchSpec& spec) {
  using model::Mixer;
  std::string text;
  for (const model::BlockSpec& block : spec.blocks) {
    text += block.mixer == Mixer::kStateSpace               ? 's'
            : block.mixer == Mixer::kAttentionAndStateSpace ? 'b'
            : block.mixer == Mixer::kAttention              ? 'a'
            : block.experts                                 ? 'e'
                                                            : 'm';
  }
  return text;
}

const Json kInfinity = {{"__float__", "Infinity"}};

}  // namespace

TEST_CASE("config: state spaces") {
  const Json mamba2 = smallest("mamba2");
  CHECK(kinds_of_mixers(read(mamba2)) == "sss");
  for (const model::BlockSpec& block : read(mamba2).blocks) CHECK_FALSE(block.feed_forward);
  CHECK(read(mamba2).max_positions == 1 << 24);
  CHECK(read(with(mamba2, {{"time_step_limit", {0.0, kInfinity}}})) == read(mamba2));
  const auto limited = read(with(mamba2, {{"time_step_limit", {0.1, 2}}}));
  CHECK(limited.state_space.least_step == 0.1);
  CHECK(limited.state_space.largest_step == 2);
  for (const Json& wrong : {Json(nullptr), Json(1.0), Json{0.1}, Json{-0.1, 1.0}, Json{2.0, 1.0},
                            Json{0.0, 0.0}, Json{"0", 1.0}, Json{0.0, {{"__float__", "NaN"}}}})
    refused(with(mamba2, {{"time_step_limit", wrong}}), {"time_step_limit"});
  refused(with(mamba2, {{"head_dim", 32}}), {"do not make up", "8192 values", "128 heads of 32"});
  refused(with(mamba2, {{"n_groups", 3}}), {"groups", "a divisor of 128", "3"});
  refused(with(mamba2, {{"conv_kernel", 0}}), {"conv_kernel"});
  check_told(with(mamba2, {{"norm_before_gate", true}}), {"norm_before_gate (true) is ignored"});
  check_told(with(mamba2, {{"rms_norm", false}}), {"rms_norm (false) is ignored"});

  const Json mamba = smallest("mamba");
  check_told(with(mamba, {{"rescale_prenorm_residual", true}}),
             {"rescale_prenorm_residual is ignored", "as they are stored"});
  CHECK(read(mamba).selective_scan.channels == 1024);
  CHECK(read(mamba).selective_scan.step_rank == 32);
  CHECK(read(with(mamba, {{"hidden_size", 500}})).selective_scan.step_rank == 32);
  CHECK(read(with(mamba, {{"time_step_rank", 7}})).selective_scan.step_rank == 7);
  CHECK(read(mamba).tied_unembedding);
  CHECK(read(smallest("falcon_mamba")).selective_scan.norm_epsilon == 1e-6);
  refused(with(mamba, {{"time_step_rank", "none"}}), {"time_step_rank"});
  refused(with(mamba, {{"state_size", 0}}), {"state_size"});
  refused(with(smallest("falcon_mamba"), {{"mixer_rms_eps", 0}}), {"mixer_rms_eps", "a positive number"});
  CHECK(read(with(mamba, {{"intermediate_size", 48}, {"expand", 16}})).selective_scan.channels == 48);

  const Json nemotron = smallest("nemotron_h");
  CHECK(kinds_of_mixers(read(nemotron)) == "seam");
  const auto pattern = read(with(nemotron, {{"hybrid_override_pattern", "MM-*E"}}));
  CHECK(kinds_of_mixers(pattern) == "ssmae");
  CHECK(pattern.blocks[1].feed_forward == false);
  CHECK(pattern.blocks[2].feed_forward);
  const Json types = {"mamba", "mlp", "attention"};
  CHECK(kinds_of_mixers(read(with(nemotron, {{"layers_block_type", types}}))) == "sma");
  CHECK(kinds_of_mixers(read(with(nemotron, {{"layer_types", types}}))) == "sma");
  CHECK(kinds_of_mixers(
            read(with(nemotron, {{"layers_block_type", types}, {"hybrid_override_pattern", "M"}}))) == "sma");
  CHECK(told(with(nemotron, {{"layers_block_type", types}, {"num_hidden_layers", 3}})).empty());
  check_told(with(nemotron, {{"num_hidden_layers", 52}}), {"num_hidden_layers (52) is ignored"});
  refused(with(nemotron, {{"hybrid_override_pattern", "MX"}}), {"hybrid_override_pattern", "letters"});
  refused(with(nemotron, {{"hybrid_override_pattern", ""}}), {"hybrid_override_pattern"});
  refused(with(nemotron, {{"layers_block_type", Json::array()}}), {"layers_block_type"});
  refused(with(nemotron, {{"layers_block_type", {"sliding_attention"}}}), {"sliding_attention"});
  refused(with(nemotron, {{"layers_block_type", types}, {"layer_types", {"mlp"}}}),
          {"layer_types", "the same as layers_block_type"});
  refused(with(nemotron, {{"num_local_experts", 4}, {"n_routed_experts", 8}}), {"num_local_experts"});
  refused(with(nemotron, {{"mlp_bias", true}}), {"mlp_bias"});
  CHECK(read(with(nemotron, {{"mlp_bias", true}, {"hybrid_override_pattern", "M-"}})).num_layers == 2);
  CHECK(read(nemotron).state_space.least_step == 0.001);
  CHECK(told(with(nemotron, {{"time_step_limit", {0, kInfinity}}})).empty());
  check_told(with(nemotron, {{"time_step_limit", {0.1, kInfinity}}}), {"time_step_limit", "0.001"});
  CHECK(read(with(nemotron, {{"mamba_dt_min", 0.25}})).state_space.least_step == 0.25);
  refused(with(nemotron, {{"time_step_min", -1}}), {"time_step_min"});
  CHECK_FALSE(read(with(nemotron, {{"tie_word_embeddings", nullptr}})).tied_unembedding);
  check_told(with(nemotron, {{"tie_word_embeddings", true}}), {"tie_word_embeddings (true) is ignored"});
  CHECK(read(with(nemotron, {{"moe_latent_size", 64}})).experts.latent_size == 64);
  refused(with(nemotron, {{"mamba_hidden_act", "swiglu"}}), {"unsupported activation", "mamba_hidden_act"});

  using Norm = model::StateSpaceSpec::Norm;
  const Json h1 = with(smallest("falcon_h1"), {{"num_hidden_layers", 2}});
  CHECK(kinds_of_mixers(read(h1)) == "bb");
  CHECK(read(h1).state_space.norm == Norm::kNone);
  CHECK(read(h1).state_space.values() == 1024);
  CHECK(read(with(h1, {{"mamba_rms_norm", true}})).state_space.norm == Norm::kBeforeGate);
  CHECK(read(with(h1, {{"mamba_rms_norm", true}, {"mamba_norm_before_gate", false}})).state_space.norm ==
        Norm::kBehindGate);
  CHECK(read(with(h1, {{"mamba_d_ssm", nullptr}, {"mamba_expand", 3}})).state_space.values() == 1536);
  refused(with(h1, {{"mamba_d_head", 16}}), {"do not make up", "1024 values"});
  refused(with(h1, {{"mamba_n_heads", 3}}), {"do not make up"});
  refused(with(h1, {{"mamba_n_heads", 2048}}), {"do not make up"});
  refused(with(h1, {{"ssm_multipliers", {1, 2}}}), {"ssm_multipliers", "5 numbers"});
  refused(with(h1, {{"mlp_multipliers", {1, "2"}}}), {"mlp_multipliers"});
  refused(with(h1, {{"key_multiplier", nullptr}}), {"key_multiplier"});
  const auto scaled = read(with(h1, {{"key_multiplier", 0.5}, {"mlp_multipliers", {2, 3}}}));
  CHECK(scaled.attention.scale == read(h1).attention.scale / 2);
  CHECK(scaled.mlp_gate_scale == 2);
  CHECK(scaled.mlp_out_scale == 3);

  const Json bamba = smallest("bamba");
  CHECK(kinds_of_mixers(read(bamba)) == "sss");
  const auto some = read(with(bamba, {{"attn_layer_indices", {1}}}));
  CHECK(kinds_of_mixers(some) == "sas");
  CHECK(some.ropes.front().dims == 8);
  CHECK(some.blocks[0].rope == model::BlockSpec::kNoRope);
  refused(with(bamba, {{"attn_layer_indices", {3}}}), {"attn_layer_indices"});
  check_told(with(bamba, {{"partial_rotary_factor", 1.0}}), {"partial_rotary_factor (1.0) is ignored"});

  const Json granite = with(smallest("granitemoehybrid"), {{"num_hidden_layers", 3}});
  CHECK(kinds_of_mixers(read(granite)) == "sss");
  CHECK(read(granite).blocks[0].experts);
  CHECK(read(granite).ropes.empty());
  const Json of_granite = {"mamba", "attention", "mamba"};
  CHECK(kinds_of_mixers(read(with(granite, {{"layer_types", of_granite}}))) == "sas");
  CHECK(kinds_of_mixers(read(with(granite, {{"layers_block_type", of_granite}}))) == "sas");
  CHECK(read(with(granite, {{"position_embedding_type", "nope"}})).ropes.empty());
  CHECK(read(with(granite, {{"position_embedding_type", "rope"}})).ropes.size() == 1);
  const auto dense = read(with(granite, {{"num_local_experts", 0}}));
  CHECK_FALSE(dense.blocks[0].experts);
  CHECK(dense.mlp_size == 1024);
  refused(with(granite, {{"num_local_experts", nullptr}}), {"num_local_experts"});
  refused(with(granite, {{"num_experts_per_tok", 9}}), {"more experts are chosen"});
  refused(with(granite, {{"layer_types", {"mamba"}}}), {"layer_types", "an array of 3"});
}

TEST_CASE("config: Llama 4's blocks with positions, chunks and experts") {
  const Json config = {{"model_type", "llama4_text"}, {"num_hidden_layers", 4}};
  const Json full = "full_attention", chunked = "chunked_attention";
  const auto kinds = [](const model::ArchSpec& spec) {  // r: rotates, c: sees a chunk, e: has experts
    std::string text;
    for (const model::BlockSpec& block : spec.blocks) {
      if (!text.empty()) text += ' ';
      text += block.rope == model::BlockSpec::kNoRope ? '-' : 'r';
      text += block.chunk > 0 ? 'c' : '-';
      text += block.experts ? 'e' : '-';
    }
    return text;
  };
  const auto spec = read(config);
  CHECK(kinds(spec) == "rce rce rce --e");
  CHECK(spec.blocks.front().chunk == 8192);
  CHECK(spec.experts.weighs_input);
  CHECK(spec.experts.mlp_size == 8192);
  CHECK(spec.experts.shared_mlp_size == 8192);
  CHECK(spec.mlp_size == 16384);
  CHECK(spec.attention.norm_of_rotated);
  CHECK(spec.attention.query_growth == 0.1);
  CHECK(spec.attention.query_growth_length == 8192);
  CHECK(spec.ropes.front().interleaved);
  for (const Json& nothing : {Json(nullptr), Json::array()})
    CHECK(read(with(config, {{"no_rope_layers", nothing}})) == spec);
  CHECK(kinds(read(with(config, {{"no_rope_layers", {0, 1, 1, 0}}}))) == "--e rce rce --e");
  CHECK(kinds(read(with(config, {{"no_rope_layer_interval", 2}}))) == "rce --e rce --e");
  CHECK(kinds(read(with(config, {{"attention_chunk_size", nullptr}}))) == "r-e r-e r-e --e");
  CHECK(kinds(read(with(config, {{"layer_types", {full, chunked, full, chunked}}}))) == "r-e rce r-e -ce");
  CHECK(told(with(config, {{"layer_types", {chunked, chunked, chunked, full}}})).empty());
  CHECK(kinds(read(with(config, {{"interleave_moe_layer_step", 2}}))) == "rc- rce rc- --e");
  CHECK(kinds(read(with(config, {{"moe_layers", {0, 3}}}))) == "rce rc- rc- --e");
  CHECK(kinds(read(with(config, {{"moe_layers", Json::array()}}))) == "rc- rc- rc- ---");
  check_told(with(config, {{"moe_layers", {0, 3}}, {"interleave_moe_layer_step", 2}}),
             {"interleave_moe_layer_step (2) is ignored"});
  CHECK_FALSE(read(with(config, {{"use_qk_norm", false}})).attention.norm_of_rotated);
  CHECK(read(with(config, {{"attn_temperature_tuning", false}})).attention.query_growth == 0);
  // Scout's scaling has no ramp between what is kept and what is divided.
  const Json scaling = {{"rope_type", "llama3"},
                        {"factor", 16.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 1.0},
                        {"original_max_position_embeddings", 8192}};
  CHECK(read(with(config, {{"rope_scaling", scaling}})).ropes.front().factor == 16);
  refused(with(config, {{"rope_scaling", with(scaling, {{"low_freq_factor", 2.0}})}}), {"low_freq_factor"});
  // The class refuses these, too.
  for (const char* key :
       {"num_key_value_heads", "head_dim", "no_rope_layer_interval", "floor_scale", "attn_scale",
        "num_local_experts", "num_experts_per_tok", "intermediate_size_mlp", "interleave_moe_layer_step"})
    refused(with(config, {{key, nullptr}}), {key, "null"});
  refused(with(config, {{"attn_temperature_tuning", 4}}), {"attn_temperature_tuning", "4"});
  refused(with(config, {{"no_rope_layers", {1, 0}}}), {"no_rope_layers", "an array of 4"});
  refused(with(config, {{"layer_types", {full, full, full, "sliding_attention"}}}), {"sliding_attention"});
  refused(with(config, {{"layer_types", {full, chunked, full, full}}, {"attention_chunk_size", nullptr}}),
          {"layer_types", "attention_chunk_size is null"});
  refused(with(config, {{"moe_layers", {4}}}), {"moe_layers", "4"});
  for (const char* key : {"attention_chunk_size", "floor_scale", "interleave_moe_layer_step"})
    refused(with(config, {{key, 0}}), {key, "0"});
  refused(with(config, {{"num_experts_per_tok", 17}}), {"more experts are chosen than there are"});
}

TEST_CASE("config: one thing under two names") {
  CHECK(read(with(smallest("gpt2"), {{"hidden_size", 64}})) == read(smallest("gpt2")));
  refused(with(smallest("gpt2"), {{"hidden_size", 32}}), {"hidden_size", "n_embd", "64", "found 32"});
  Json config = with(smallest("gpt2"), {{"num_attention_heads", 8}, {"max_position_embeddings", 99}});
  config.erase("n_head");
  CHECK(read(config).num_heads == 8);
  CHECK(read(config).max_positions == 99);
  check_told(with(smallest("gpt2"), {{"hidden_act", "relu"}}),
             {"hidden_act (\"relu\") is ignored", "gelu_new"});
  refused(with(smallest("gpt_neox"), {{"rotary_pct", 0.3}, {"hidden_size", 320}}),
          {"rotary share", "0.3 of 10"});
}

TEST_CASE("config: settings that change the mathematics are refused in every family") {
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, Json>>{{"per_layer_config", {{"0", {{"num_attention_heads", 8}}}}},
                                                 {"compression_config", {{"format", "x"}}},
                                                 {"is_causal", false},
                                                 {"use_qk_norm", true},
                                                 {"attn_logit_softcapping", 50.0}}) {
    for (const std::string family : {"gpt2", "llama", "mistral", "qwen2", "qwen3"})
      refused(with(smallest(family), {{key, value}}), {"unsupported setting '" + key + "'"});
  }
}

TEST_CASE("config: OLMo Hybrid's positions, kinds of blocks and sizes of the delta rule") {
  const Json least = smallest("olmo_hybrid");
  const auto spec = read(least);
  CHECK(spec.num_blocks(model::Mixer::kDeltaNet) == 23);
  CHECK(spec.ropes.front().theta == 1e4);
  for (const model::BlockSpec& block : spec.blocks) {
    const bool attends = block.mixer == model::Mixer::kAttention;
    CHECK(block.norm_place.value_or(spec.norm_place) ==
          (attends ? model::NormPlace::kAfter : model::NormPlace::kBefore));
    CHECK((block.rope == model::BlockSpec::kNoRope) == !attends);
  }
  CHECK(spec.delta_net.key_heads == 32);
  CHECK(spec.delta_net.key_size == 12);
  CHECK(spec.delta_net.value_size == 24);
  CHECK(spec.delta_net.update_scale == 2);
  CHECK(read(with(least, {{"linear_allow_neg_eigval", false}})).delta_net.update_scale == 1);
  CHECK(read(with(least, {{"linear_num_key_heads", 8}})).delta_net.value_size == 96);
  refused(with(least, {{"linear_num_key_heads", 5}}), {"linear_num_key_heads", "a divisor of 32"});
  refused(with(least, {{"linear_key_head_dim", 0}}), {"linear_key_head_dim"});
  refused(with(least, {{"linear_num_key_heads", 1024}}), {"linear_num_key_heads"});
  refused(with(least, {{"num_hidden_layers", 2}, {"layer_types", {"linear_attention", "sliding_attention"}}}),
          {"layer_types", "sliding_attention"});
  const auto three = read(with(least, {{"num_hidden_layers", 3}}));
  CHECK(three.blocks.back().mixer == model::Mixer::kAttention);
  CHECK(three.num_blocks(model::Mixer::kDeltaNet) == 2);

  const Json null_base = {{"rope_theta", nullptr}, {"rope_type", "default"}};
  for (const Json& settings : {Json{{"rope_parameters", null_base}}, Json{{"rope_theta", nullptr}},
                               Json{{"rope_theta", nullptr}, {"rope_parameters", {{"rope_type", "default"}}}},
                               Json{{"rope_theta", nullptr}, {"rope_parameters", nullptr}}}) {
    INFO(settings.dump());
    CHECK(read(with(least, settings)).ropes.empty());
  }
  CHECK(read(with(least, {{"rope_theta", 500.0}, {"rope_parameters", nullptr}})).ropes.front().theta == 500);
  refused(with(least, {{"rope_parameters", null_base}, {"rope_scaling", {{"rope_theta", 5.0}}}}),
          {"rope_theta", "null"});
  // Told once in a process, by whichever test is first.
  read(with(least, {{"rope_parameters", nullptr}}));
  const auto all = util::warnings();
  CHECK(std::any_of(all.begin(), all.end(), [](const std::string& warning) {
    return warning.find("rope_parameters: null means the base 10000") != std::string::npos;
  }));
}

TEST_CASE("config: FlexOlmo, nanochat and Jamba") {
  const auto flex = read(smallest("flex_olmo"));
  CHECK(flex.norm_place == model::NormPlace::kAfter);
  CHECK(flex.ropes.front().theta == 5e5);
  CHECK(flex.norm_epsilon == 1e-6);
  CHECK(flex.experts.count == 7);
  CHECK(read(with(smallest("flex_olmo"), {{"num_local_experts", 9}})).experts.count == 9);
  refused(with(smallest("flex_olmo"), {{"num_experts_per_tok", 8}}), {"more experts are chosen"});

  const Json nanochat = smallest("nanochat");
  CHECK(read(nanochat).logit_transform.soft_cap == 15);
  CHECK(read(with(nanochat, {{"final_logit_softcapping", nullptr}})).logit_transform.soft_cap == 0);
  CHECK(read(nanochat).ropes.front().backwards);
  CHECK(read(nanochat).activation == model::Activation::kReluSquared);
  CHECK(read(nanochat).embedding_norm);

  const Json jamba = smallest("jamba");
  CHECK(read(jamba).num_blocks(model::Mixer::kAttention) == 4);
  CHECK(read(jamba).ropes.empty());
  CHECK(read(jamba).blocks[1].experts);
  CHECK_FALSE(read(jamba).blocks[2].experts);
  CHECK(read(jamba).selective_scan.step_rank == 32);
  CHECK(read(with(jamba, {{"mamba_dt_rank", 7}})).selective_scan.step_rank == 7);
  const auto dense = read(with(jamba, {{"num_experts", 1}}));
  CHECK(dense.experts.count == 0);
  CHECK_FALSE(dense.blocks[1].experts);
  refused(with(jamba, {{"attn_layer_offset", 8}}), {"attn_layer_offset", "less than the period"});
  refused(with(jamba, {{"expert_layer_period", 1}}), {"expert_layer_period"});
  refused(with(jamba, {{"mamba_dt_rank", nullptr}}), {"mamba_dt_rank"});
  refused(with(jamba, {{"mamba_d_state", 0}}), {"mamba_d_state"});
  check_told(with(jamba, {{"rope_theta", 1e4}}), {"rope_theta", "no positions"});
}

TEST_CASE("config: GPT, XGLM and BioGPT") {
  const Json gpt = smallest("openai-gpt");
  CHECK(read(gpt).norm_place == model::NormPlace::kOfSum);
  CHECK_FALSE(read(gpt).final_norm);
  CHECK(read(gpt).activation == model::Activation::kGeluTanh);
  CHECK(read(with(gpt, {{"afn", "relu"}})).activation == model::Activation::kRelu);
  CHECK(read(with(gpt, {{"afn", "swish"}})).activation == model::Activation::kSilu);
  refused(with(gpt, {{"afn", "gelu_new"}}), {"afn", "gelu_new"});
  check_told(with(gpt, {{"activation_function", "relu"}}), {"activation_function", "afn"});

  const Json xglm = smallest("xglm");
  CHECK(read(xglm).sinusoidal_positions);
  CHECK(read(xglm).position_offset == 2);
  CHECK(read(xglm).embedding_scale == 8);
  CHECK(read(with(xglm, {{"scale_embedding", false}})).embedding_scale == 1);
  CHECK(read(with(xglm, {{"pad_token_id", nullptr}})) == read(xglm));
  refused(with(xglm, {{"pad_token_id", 2}}), {"pad_token_id"});
  refused(with(xglm, {{"d_model", 2}, {"attention_heads", 1}}), {"d_model", "at least 4"});
  refused(with(xglm, {{"add_cross_attention", true}}), {"add_cross_attention"});

  const Json biogpt = smallest("biogpt");
  CHECK(read(biogpt).norm_epsilon == 1e-5);
  CHECK_FALSE(read(biogpt).sinusoidal_positions);
  check_told(with(biogpt, {{"layer_norm_eps", 1e-6}}), {"layer_norm_eps", "1e-05"});
}

TEST_CASE("config: AFMoE, Solar Open and EXAONE with experts") {
  const Json afmoe = smallest("afmoe");
  const auto spec = read(afmoe);
  CHECK(spec.blocks[2].window == 1024);
  CHECK(spec.blocks[2].rope == 0);
  CHECK(spec.blocks[3].window == 0);
  CHECK(spec.blocks[3].rope == model::BlockSpec::kNoRope);
  CHECK(spec.embedding_scale == 1);
  CHECK(read(with(afmoe, {{"hidden_size", 1024}, {"mup_enabled", true}})).embedding_scale == 32);
  CHECK_FALSE(spec.blocks[0].experts);
  CHECK(spec.experts.shared_mlp_size == 2 * 1408);
  check_told(with(afmoe, {{"score_func", "softmax"}}), {"score_func"});
  refused(with(afmoe, {{"sliding_window", nullptr}}), {"sliding_window"});

  const Json solar = smallest("solar_open");
  CHECK(read(solar).blocks[0].experts);
  CHECK(read(solar).ropes.front().theta == 1e6);
  CHECK(read(solar).mlp_size == 0);
  CHECK(read(with(solar, {{"partial_rotary_factor", 0.5}})).ropes.front().dims == 64);
  check_told(with(solar, {{"use_qk_norm", true}}), {"use_qk_norm"});
  refused(with(solar, {{"n_group", 3}}), {"groups that do not divide"});

  const Json exaone = smallest("exaone_moe");
  CHECK(read(exaone).experts.scale == 2.5);
  CHECK_FALSE(read(exaone).blocks[0].experts);
  CHECK(read(exaone).blocks[1].experts);
  CHECK(read(exaone).blocks[3].rope == model::BlockSpec::kNoRope);
  CHECK(read(with(exaone, {{"num_experts", 12}})).experts.count == 12);
  CHECK(read(with(exaone, {{"num_hidden_layers", 2}, {"mlp_layer_types", {"sparse", "dense"}}}))
            .blocks[0]
            .experts);
  refused(with(exaone, {{"num_experts_per_tok", 65}}), {"more experts are chosen"});
}

TEST_CASE("config: families that transformers runs as others") {
  for (const auto& [type, published, run] :
       {std::array<std::string, 3>{"exaone", "ExaoneForCausalLM", "LlamaForCausalLM"},
        {"internlm3", "InternLM3ForCausalLM", "LlamaForCausalLM"},
        {"iquestcoder", "IQuestCoderForCausalLM", "LlamaForCausalLM"},
        {"sarvam_mla", "SarvamMLAForCausalLM", "DeepseekV3ForCausalLM"},
        {"sarvam_moe", "SarvamMoEForCausalLM", "Glm4MoeForCausalLM"}}) {
    INFO(type);
    const Json least = smallest(type);
    CHECK(read(least).architecture == published);
    CHECK(read(with(least, {{"architectures", {published}}})) == read(least));
    auto spec = read(with(least, {{"architectures", {run}}}));
    CHECK(spec.architecture == run);
    spec.architecture = published;
    CHECK(spec == read(least));
    refused(with(least, {{"architectures", {"MistralForCausalLM"}}}), {"two kinds of model", type});
    refused(with(smallest("llama"), {{"architectures", {published}}}), {"two kinds of model", published});
  }
  CHECK(read({{"architectures", {"LlamaForCausalLM"}},
              {"vocab_size", 50},
              {"hidden_size", 512},
              {"num_hidden_layers", 3},
              {"intermediate_size", 48},
              {"num_attention_heads", 32}})
            .max_positions == 2048);
}

TEST_CASE("config: EXAONE 3, InternLM 3 and IQuest-Coder") {
  const Json exaone = smallest("exaone");
  CHECK(read(exaone).ropes.front().theta == 5e5);
  CHECK(read(exaone).head_size == 16);
  CHECK(read(with(exaone, {{"num_key_value_heads", nullptr}})).num_kv_heads == 32);
  Json published =
      with(exaone, {{"num_layers", 30}, {"layer_norm_epsilon", 1e-3}, {"activation_function", "relu"}});
  published.erase("num_hidden_layers");
  CHECK(told(published).empty());
  CHECK(read(published) == read(with(exaone, {{"rms_norm_eps", 1e-3}, {"hidden_act", "relu"}})));
  refused(with(exaone, {{"num_layers", 31}}), {"num_layers", "the same as num_hidden_layers, which is 30"});
  refused(with(exaone, {{"layer_norm_epsilon", nullptr}}), {"rms_norm_eps", "null"});
  published.erase("num_layers");
  refused(published, {"missing key 'num_hidden_layers'"});

  const Json internlm = smallest("internlm3");
  CHECK(read(internlm).head_size == 128);
  CHECK(read(with(internlm, {{"head_dim", nullptr}})).head_size == 16);
  CHECK(read(with(internlm, {{"qkv_bias", true}, {"bias", true}})) ==
        read(with(internlm, {{"attention_bias", true}, {"mlp_bias", true}})));
  refused(with(internlm, {{"qkv_bias", true}}), {"qkv_bias", "bias", "queries, keys and values alone"});
  refused(with(internlm, {{"mlp_bias", true}}), {"of the MLP alone"});
  refused(with(internlm, {{"bias", true}, {"mlp_bias", false}}), {"bias", "the same as mlp_bias"});

  const Json iquest = smallest("iquestcoder");
  CHECK(read(iquest).head_size == 128);
  CHECK(read(with(iquest, {{"head_dim", nullptr}})).head_size == 16);
  CHECK(read(with(iquest, {{"clip_qkv", nullptr}, {"use_sliding_window", nullptr}})) == read(iquest));
  refused(with(iquest, {{"clip_qkv", 8.0}}), {"clip_qkv"});
  refused(with(iquest, {{"use_sliding_window", true}}), {"use_sliding_window"});
}

TEST_CASE("config: Sarvam 30B and 105B") {
  const Json moe = smallest("sarvam_moe");
  const auto spec = read(moe);
  CHECK(spec.ropes.front().theta == 8e6);
  CHECK(spec.ropes.front().dims == 64);
  CHECK(spec.experts.scale == 2.5);
  CHECK_FALSE(spec.blocks[0].experts);
  CHECK(spec.blocks[1].experts);
  CHECK(read(with(moe, {{"partial_rotary_factor", 0.5}})).ropes.front().dims == 32);
  CHECK(read(with(moe, {{"partial_rotary_factor", nullptr}})) == spec);
  CHECK(read(with(moe, {{"num_experts", 12}, {"num_shared_experts", 2}, {"use_qkv_bias", true}})) ==
        read(with(moe, {{"n_routed_experts", 12}, {"n_shared_experts", 2}, {"attention_bias", true}})));
  CHECK(read(with(moe, {{"num_local_experts", 12}})).experts.count == 12);
  refused(with(moe, {{"num_experts", 12}, {"n_routed_experts", 6}}), {"num_experts", "n_routed_experts"});
  refused(with(moe, {{"num_experts", 12}, {"num_local_experts", 6}}), {"num_local_experts", "6"});

  const Json mla = smallest("sarvam_mla");
  CHECK(read(mla).latent.query_rank == 0);
  CHECK(read(mla).num_kv_heads == 32);
  CHECK(read(with(mla, {{"q_lora_rank", 7}})).latent.query_rank == 7);
  CHECK_FALSE(read(with(mla, {{"rope_interleave", false}})).ropes.front().interleaved);
  check_told(with(mla, {{"head_dim", 576}, {"q_head_dim", 192}}), {"head_dim", "576"});
  const auto scaled = [&](const Json& type) {
    return with(mla, {{"rope_scaling", with({{"factor", 4.0}, {"mscale_all_dim", 1.0}}, type)}});
  };
  const auto yarn = read(scaled({{"type", "yarn"}}));
  CHECK(yarn.ropes.front().scaling == model::RopeSpec::Scaling::kYarn);
  CHECK(yarn.attention.scale != read(mla).attention.scale);
  CHECK(read(scaled({{"type", "deepseek_yarn"}})) == yarn);
  CHECK(read(scaled({{"rope_type", "deepseek_yarn"}})) == yarn);
  refused(with(smallest("deepseek_v3"), {{"rope_scaling", {{"type", "deepseek_yarn"}, {"factor", 4.0}}}}),
          {"deepseek_yarn"});
}

TEST_CASE("config: CWM and Jais 2") {
  const Json cwm = smallest("cwm");
  CHECK(windows(read(with(cwm, {{"num_hidden_layers", 5}}))) == Windows{0, 8192, 8192, 8192, 0});
  CHECK(read(cwm).ropes.front().scaling == model::RopeSpec::Scaling::kLlama3);
  CHECK(read(cwm).ropes.front().factor == 16);
  CHECK(read(with(cwm, {{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}})).ropes.front().theta ==
        1e6);
  check_told(with(cwm, {{"attention_bias", true}}), {"attention_bias"});
  refused(with(cwm, {{"sliding_window", nullptr}}), {"sliding_window"});

  const Json jais = smallest("jais2");
  CHECK(read(jais).norm == model::NormKind::kLayerNorm);
  CHECK(read(jais).activation == model::Activation::kReluSquared);
  CHECK_FALSE(read(jais) == read(with(jais, {{"mlp_bias", false}})));
  CHECK_FALSE(read(jais) == read(with(jais, {{"attention_bias", nullptr}})));
}

TEST_CASE("config: MiniCPM 3, Youtu and Mistral 4") {
  const Json minicpm = smallest("minicpm3");
  const auto spec = read(minicpm);
  CHECK(spec.latent.value_size == 16);
  CHECK(read(with(minicpm, {{"v_head_dim", 24}})).latent.value_size == 24);
  CHECK(spec.embedding_scale == 12);
  CHECK(spec.residual_scale == 1.4 / std::sqrt(3.0));
  CHECK(spec.logit_transform.scale == 0.4);
  CHECK_FALSE(spec.ropes.front().interleaved);
  const auto without = read(with(minicpm, {{"scale_depth", nullptr}, {"dim_model_base", nullptr}}));
  CHECK(without.residual_scale == 1);
  CHECK(without.logit_transform.scale == 1);
  check_told(with(minicpm, {{"head_dim", 96}}), {"head_dim"});
  check_told(with(minicpm, {{"rope_interleave", true}}), {"rope_interleave"});
  refused(with(minicpm, {{"num_key_value_heads", 8}}), {"num_key_value_heads"});
  refused(with(minicpm, {{"partial_rotary_factor", 0.5}}), {"partial_rotary_factor"});
  refused(with(minicpm, {{"hidden_size", 512}}), {"num_attention_heads"});

  const Json youtu = smallest("youtu");
  CHECK(read(youtu).latent.query_rank == 1536);
  CHECK(read(with(youtu, {{"q_lora_rank", nullptr}})).latent.query_rank == 0);
  CHECK(read(youtu).ropes.front().interleaved);
  CHECK_FALSE(read(with(youtu, {{"rope_interleave", nullptr}})).ropes.front().interleaved);
  CHECK(read(youtu).experts.count == 0);
  CHECK(read(with(youtu, {{"head_dim", 64}})) == read(youtu));
  CHECK(told(youtu).empty());
  CHECK(told(with(youtu, {{"pad_token_id", nullptr}})).empty());
  check_told(with(youtu, {{"pad_token_id", 3}}), {"config.json: pad_token_id (3)", "as it is stored"});
  refused(with(youtu, {{"head_dim", 8}}), {"head_dim", "expected 64"});

  const Json mistral = smallest("mistral4");
  const Json yarn = {{"rope_type", "yarn"},
                     {"rope_theta", 500.0},
                     {"factor", 4.0},
                     {"original_max_position_embeddings", 64},
                     {"llama_4_scaling_beta", 0.3}};
  CHECK(read(mistral).attention.query_growth == 0.1);
  CHECK(read(mistral).attention.query_growth_length == 8192);
  CHECK(read(mistral).ropes.front().factor == 128);
  CHECK(read(mistral).ropes.front().dims == 64);
  CHECK(read(mistral).experts.weighting == model::ExpertSpec::Weighting::kBiasedShares);
  const auto stretched = read(with(mistral, {{"rope_parameters", yarn}}));
  CHECK(stretched.attention.query_growth_length == 64);
  CHECK(read(with(mistral, {{"rope_parameters", with(yarn, {{"partial_rotary_factor", 0.5}})}})) ==
        stretched);
  refused(with(mistral, {{"rope_parameters", with(yarn, {{"partial_rotary_factor", 0.25}})}}),
          {"partial_rotary_factor", "64 of 128"});
  refused(with(mistral, {{"rope_parameters", {{"rope_type", "default"}}}}), {"llama_4_scaling_beta"});
  refused(with(mistral, {{"head_dim", 6}}), {"head_dim", "expected 128"});
  const Json groups = {{"n_group", 4}, {"topk_group", 2}};
  CHECK(read(with(mistral, groups)).experts.groups == 4);
  refused(with(mistral, with(groups, {{"norm_topk_prob", false}})), {"n_group"});
}

TEST_CASE("config: HY 3, DBRX and Cohere 2 with experts") {
  using Weighting = model::ExpertSpec::Weighting;
  const Json hy = smallest("hy_v3");
  CHECK_FALSE(read(hy).blocks[0].experts);
  CHECK(read(hy).blocks[1].experts);
  CHECK(read(hy).ropes.front().theta == 11158840);
  CHECK(read(with(hy, {{"num_shared_experts", 2}})).experts.shared_mlp_size == 2 * 1536);
  CHECK(
      read(with(hy, {{"num_hidden_layers", 2}, {"mlp_layer_types", {"sparse", "dense"}}})).blocks[0].experts);
  check_told(with(hy, {{"first_k_dense_replace", 3}}), {"first_k_dense_replace"});
  refused(with(hy, {{"mlp_bias", true}}), {"mlp_bias"});
  refused(with(hy, {{"use_qk_norm", false}}), {"use_qk_norm"});

  const Json dbrx = smallest("dbrx");
  const auto attention = [&](const Json& settings) { return with(dbrx, {{"attn_config", settings}}); };
  const auto experts = [&](const Json& settings) { return with(dbrx, {{"ffn_config", settings}}); };
  CHECK(read(dbrx).num_kv_heads == 1);
  CHECK(read(dbrx).experts.count == 4);
  CHECK(read(dbrx).experts.weighting == Weighting::kShares);
  CHECK(read(experts({{"moe_normalize_expert_weights", nullptr}})).experts.weighting ==
        Weighting::kSoftmaxOfAll);
  refused(experts({{"moe_normalize_expert_weights", 2.0}}), {"moe_normalize_expert_weights"});
  CHECK(read(experts({{"ffn_act_fn", {{"name", "gelu"}}}})).activation == model::Activation::kGelu);
  CHECK(read(attention({{"kv_n_heads", 8}, {"clip_qkv", 8}})).attention.clip_projections == 8);
  refused(attention({{"kv_n_heads", 7}}), {"kv_n_heads"});
  refused(with(dbrx, {{"tie_word_embeddings", true}}), {"tie_word_embeddings"});
  const Json published = attention({{"rope_theta", 5e5}});
  check_told(published, {"rope_theta", "500000", "10000"});
  CHECK(read(published).ropes.front().theta == 5e5);
  const Json saved = with(published, {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e4}}}});
  refused(saved, {"attn_config", "rope_theta", "10000"});

  const Json cohere = with(smallest("cohere2_moe"), {{"num_hidden_layers", 6}});
  const auto spec = read(cohere);
  CHECK(windows(spec) == Windows{4096, 4096, 4096, 0, 4096, 4096});
  CHECK(spec.norm == model::NormKind::kLayerNorm);
  CHECK(spec.experts.weighting == Weighting::kSoftmaxOfChosen);
  CHECK(spec.blocks[3].rope == model::BlockSpec::kNoRope);
  // Only rope_parameters and rope_theta make the angles; by transformers 5.24's class.
  const Json old = with(
      cohere,
      {{"rope_theta", 500.0}, {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}, {"rope_theta", 7.0}}}});
  check_told(old, {"rope_scaling", "is ignored", "rope_parameters"});
  CHECK(read(old).ropes.front().theta == 500);
  CHECK(read(old).ropes.front().scaling == model::RopeSpec::Scaling::kNone);
  const Json both = with(old, {{"rope_parameters", {{"rope_type", "linear"}, {"factor", 4.0}}}});
  CHECK(read(both).ropes.front().scaling == model::RopeSpec::Scaling::kLinear);
  CHECK(read(both).ropes.front().factor == 4);
  const auto mixed = read(with(cohere, {{"first_k_dense_replace", 2},
                                        {"prefix_dense_intermediate_size", 40},
                                        {"expert_selection_fn", "sigmoid"},
                                        {"num_shared_experts", 2},
                                        {"rms_norm_eps", 1e-3}}));
  CHECK(windows(mixed) == Windows{0, 0, 4096, 4096, 4096, 0});
  CHECK(mixed.blocks[1].rope == 0);
  CHECK(mixed.blocks[5].rope == model::BlockSpec::kNoRope);
  CHECK_FALSE(mixed.blocks[1].experts);
  CHECK(mixed.mlp_size == 40);
  CHECK(mixed.experts.mlp_size == 48);
  CHECK(mixed.experts.shared_mlp_size == 96);
  CHECK(mixed.experts.output_scale == 0.5);
  CHECK(mixed.experts.weighting == Weighting::kLogisticShares);
  CHECK(mixed.norm == model::NormKind::kRmsNorm);
  CHECK(mixed.norm_epsilon == 1e-3);
  const Json pattern = {{"first_k_dense_replace", 2}, {"prefix_dense_sliding_window_pattern", 2}};
  CHECK(read(with(cohere, pattern)).blocks[1].rope == model::BlockSpec::kNoRope);
  refused(with(cohere, {{"expert_selection_fn", "top"}}), {"expert_selection_fn"});
  refused(with(cohere, {{"num_shared_experts", 1}, {"shared_expert_combination_strategy", "max"}}),
          {"shared_expert_combination_strategy"});
}

TEST_CASE("config: Granite with windows, Persimmon and GPT-NeoX Japanese") {
  for (const std::string family : {"granite_swa", "granitemoe_swa"}) {
    INFO(family);
    const Json granite = with(smallest(family), {{"num_hidden_layers", 5}});
    const auto spec = read(granite);
    CHECK(windows(spec) == Windows{0, 128, 128, 128, 0});
    CHECK(spec.ropes.size() == 1);
    const auto several = read(with(granite, {{"layer_rope_theta", {1e4, 0, 500, 1e4, 500}}}));
    REQUIRE(several.ropes.size() == 2);
    CHECK(several.blocks[0].rope == 0);
    CHECK(several.blocks[1].rope == model::BlockSpec::kNoRope);
    CHECK(several.blocks[2].rope == 1);
    CHECK(several.blocks[3].rope == 0);
    CHECK(several.ropes[1].theta == 500);
    refused(with(granite, {{"layer_rope_theta", {1e4}}}), {"layer_rope_theta", "5 values"});
    refused(with(granite, {{"layer_rope_theta", {1e4, -1, 1, 1, 1}}}), {"layer_rope_theta"});
    refused(with(granite, {{"sliding_window", nullptr}}), {"sliding_window"});
  }
  const Json persimmon = smallest("persimmon");
  CHECK(read(persimmon).ropes.front().dims == 8);
  CHECK_FALSE(read(persimmon) == read(with(persimmon, {{"qk_layernorm", false}})));
  refused(with(persimmon, {{"partial_rotary_factor", nullptr}}), {"partial_rotary_factor"});
  refused(with(persimmon, {{"head_dim", 8}}), {"head_dim"});

  const auto japanese = read(smallest("gpt_neox_japanese"));
  CHECK(japanese.mlp_size == 4 * 512);
  CHECK(japanese.ropes.front().dims == 16);
  CHECK(read(with(smallest("gpt_neox_japanese"), {{"rotary_pct", 0.5}})).ropes.front().dims == 8);
  const auto bias =
      std::find_if(japanese.block_tensors.begin(), japanese.block_tensors.end(),
                   [](const auto& rule) { return rule.slot == model::Slot::kAttentionOutBias; });
  REQUIRE(bias != japanese.block_tensors.end());
  CHECK_FALSE(japanese.has(*bias, 1));
  CHECK(japanese.has(*bias, 2));
}

TEST_CASE("config: where attention sees chosen positions, windows are as long as all of them are seen") {
  const Json kinds = {"indexed_attention", "indexed_attention", "indexed_attention", "indexed_attention"};
  for (const std::string family : {"deepseek_v32", "glm_moe_dsa"}) {
    INFO(family);
    const Json least = smallest(family);
    CHECK(read(least).max_positions == 2048);
    CHECK(read(with(least, {{"max_position_embeddings", 1024}})).max_positions == 1024);
    const auto fewer = static_cast<std::int64_t>(family.size());
    check_told(with(least, {{"index_topk", fewer}, {"layer_types", kinds}}),
               {"index_topk", util::cat("at most ", fewer)});
    CHECK(read(with(least, {{"layer_types", kinds}})) == read(least));
    refused(with(least, {{"layer_types", "full_attention"}}), {"layer_types"});
    refused(with(least, {{"q_lora_rank", nullptr}}), {"q_lora_rank"});
    CHECK_FALSE(read(least).blocks[2].experts);
    CHECK(read(least).blocks[3].experts);
    CHECK(read(with(least, {{"first_k_dense_replace", 1}})).blocks[1].experts);
    CHECK(read(with(least, {{"mlp_layer_types", {"sparse", "dense", "dense", "sparse"}}})).blocks[0].experts);
  }
  check_told(with(smallest("glm_moe_dsa"), {{"rope_interleave", false}}), {"rope_interleave"});
}

TEST_CASE("config: MiMo V2 Flash") {
  using model::Mixer;
  const Json least = with(smallest("mimo_v2_flash"), {{"num_hidden_layers", 7}});
  const auto spec = read(least);
  CHECK(windows(spec) == Windows{0, 129, 129, 129, 129, 0, 129});
  REQUIRE(spec.ropes.size() == 2);
  CHECK(spec.ropes[0].theta == 5e6);
  CHECK(spec.ropes[1].theta == 1e4);
  CHECK(spec.ropes[1].dims == 64);
  CHECK(spec.blocks[5].rope == 0);
  CHECK(spec.blocks[6].rope == 1);
  CHECK(spec.blocks[0].mixer == Mixer::kAttention);
  CHECK(spec.blocks[1].mixer == Mixer::kWideAttention);
  CHECK(spec.wide.num_kv_heads == 8);
  CHECK(spec.attention.value_size == 128);
  CHECK(spec.attention.output_scale == 0.707);
  CHECK(read(with(least, {{"attention_value_scale", nullptr}})).attention.output_scale == 1);
  CHECK(read(with(least, {{"sliding_window_size", 64}})).blocks[1].window == 65);
  CHECK(read(with(least, {{"routed_scaling_factor", nullptr}})) == spec);
  CHECK_FALSE(spec.blocks[0].experts);
  const Json published = {{"hybrid_layer_pattern", {0, 1, 1, 1, 1, 0, 1}},
                          {"moe_layer_freq", {0, 1, 1, 1, 1, 1, 1}},
                          {"rope_theta", 5000000},
                          {"swa_rope_theta", 10000},
                          {"partial_rotary_factor", 0.334},
                          {"swa_num_key_value_heads", 8},
                          {"sliding_window_size", 128},
                          {"attention_chunk_size", 128},
                          {"add_swa_attention_sink_bias", true},
                          {"add_full_attention_sink_bias", false}};
  CHECK(told(with(least, published)).empty());
  CHECK(read(with(least, published)) == spec);
  check_told(with(least, {{"hybrid_layer_pattern", {1, 1, 1, 1, 1, 0, 1}}}), {"hybrid_layer_pattern"});
  check_told(with(least, {{"swa_rope_theta", 500}}), {"swa_rope_theta"});
  refused(with(least, {{"add_swa_attention_sink_bias", false}}), {"add_swa_attention_sink_bias"});
  refused(with(least, {{"num_key_value_heads", 32}}), {"twice num_key_value_heads", "found 64"});
  const Json full(std::vector<std::string>(7, "full_attention"));
  CHECK(read(with(least, {{"num_key_value_heads", 32}, {"layer_types", full}})).num_kv_heads == 32);
  // The share of the class is of unscaled positions.
  const Json plain = {{"rope_type", "default"}, {"rope_theta", 500}},
             scaled = {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 500}};
  const auto turned =
      read(with(least, {{"rope_parameters", {{"full_attention", scaled}, {"sliding_attention", plain}}}}));
  CHECK(turned.ropes[0].dims == 192);
  CHECK(turned.ropes[1].dims == 64);
  refused(with(least, {{"rope_parameters",
                        {{"full_attention", plain}, {"sliding_attention", plain}, {"truncate", false}}}}),
          {"truncate"});
  refused(with(least, {{"rope_parameters", {{"full_attention", {{"rope_theta", 500}}}}}}),
          {"sliding_attention"});
  refused(with(least, {{"rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}}}),
          {"rope_theta"});
}

TEST_CASE("config: weights in 8 bits say what their scales are of, other quantizations are refused") {
  const Json llama = smallest("llama");
  const auto quantized = [&](const Json& quantization) {
    return with(llama, {{"quantization_config", quantization}});
  };
  using io::ScaleForm;
  CHECK(read(llama).scales == ScaleForm{});
  CHECK(read(with(llama, {{"quantization_config", nullptr}})).scales == ScaleForm{});
  const Json fp8 = {{"quant_method", "fp8"}, {"activation_scheme", "dynamic"}};
  check_told(with(quantized(fp8), {{"dtype", "float16"}}), {"dtype is float16", "FP8", "bfloat16"});
  CHECK(told(with(quantized(fp8), {{"torch_dtype", "bfloat16"}})).empty());
  CHECK(read(quantized(fp8)).scales == ScaleForm{.suffix = "_scale_inv", .rows = 128, .columns = 128});
  CHECK(read(quantized(with(fp8, {{"weight_block_size", {64, 32}}, {"fmt", "e4m3"}}))).scales ==
        ScaleForm{.suffix = "_scale_inv", .rows = 64, .columns = 32});
  CHECK(read(quantized(with(fp8, {{"weight_block_size", nullptr}}))).scales ==
        ScaleForm{.suffix = "_scale_inv"});
  CHECK(read(quantized(with(fp8, {{"fmt", "float8_e4m3fn"}}))).scales.rows == 128);  // MiniMax M2

  const auto compressed = [](const Json& weights) {
    Json of_group = {{"num_bits", 8}, {"type", "float"}, {"symmetric", true}, {"strategy", "channel"}};
    of_group.update(weights);
    return Json{{"quant_method", "compressed-tensors"},
                {"format", "float-quantized"},
                {"config_groups", {{"group_0", {{"weights", of_group}}}}},
                {"sparsity_config", Json::object()}};
  };
  CHECK(read(quantized(compressed(Json::object()))).scales == ScaleForm{.suffix = "_scale"});
  CHECK(read(quantized(compressed({{"strategy", "tensor"}}))).scales == ScaleForm{.suffix = "_scale"});
  CHECK(read(quantized(compressed({{"strategy", "block"}, {"block_structure", "128x64"}}))).scales.columns ==
        64);
  Json saved_again = compressed(Json::object());  // by transformers
  saved_again["config_groups"]["group_0"]["format"] = nullptr;
  saved_again["sparsity_config"] = {{"format", "dense"}, {"global_sparsity", 0.1}};
  CHECK(read(quantized(saved_again)).scales == ScaleForm{.suffix = "_scale"});
  CHECK(read(quantized(compressed({{"strategy", "block"}, {"block_structure", {128, 64}}}))).scales ==
        ScaleForm{.suffix = "_scale", .rows = 128, .columns = 64});

  const auto not_read = [&](const Json& quantization, std::vector<std::string> parts) {
    parts.emplace_back("conversion to bfloat16");
    refused(quantized(quantization), parts);
  };
  not_read({{"quant_method", "gptq"}, {"bits", 4}}, {"quantization_config", "gptq"});
  not_read("fp8", {"an object"});
  not_read(with(fp8, {{"fmt", "e5m2"}}), {"fmt", "e5m2"});
  not_read(with(fp8, {{"weight_block_size", 128}}), {"weight_block_size", "two sizes"});
  not_read(with(compressed(Json::object()), {{"format", "pack-quantized"}}), {"format", "pack-quantized"});
  not_read(with(compressed(Json::object()), {{"transform_config", {{"config_groups", 1}}}}),
           {"transform_config"});
  not_read(with(compressed(Json::object()), {{"config_groups", Json::object()}}), {"config_groups"});
  not_read(with(compressed(Json::object()), {{"sparsity_config", {{"format", "sparse-24-bitmask"}}}}),
           {"sparsity_config"});
  not_read(compressed({{"num_bits", 4}}), {"num_bits"});
  not_read(compressed({{"type", "int"}}), {"group_0", "type", "int"});
  not_read(compressed({{"symmetric", false}}), {"symmetric"});
  not_read(compressed({{"strategy", "group"}}), {"strategy", "group"});
  refused(quantized(with(fp8, {{"weight_block_size", {0, 1}}})), {"weight_block_size"});
  Json two = compressed(Json::object());
  two["config_groups"]["group_1"] = {{"weights", two["config_groups"]["group_0"]["weights"]}};
  CHECK(read(quantized(two)).scales == ScaleForm{.suffix = "_scale"});
  two["config_groups"]["group_1"]["weights"].update({{"strategy", "block"}, {"block_structure", {128, 64}}});
  not_read(two, {"group_1", "the same as of the other groups"});
}
