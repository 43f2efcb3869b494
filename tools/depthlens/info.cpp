// depthlens info: what a model, a lens or a run folder is.
#include <ATen/core/Tensor.h>

#include <iostream>
#include <memory>

#include "command.hpp"
#include "depthlens/decode/runtime.hpp"
#include "depthlens/io/checkpoint.hpp"
#include "depthlens/io/hub_cache.hpp"
#include "depthlens/lens/lens_file.hpp"
#include "depthlens/model/stored_weights.hpp"
#include "depthlens/text/tokenizer.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"
#include "session.hpp"

namespace depthlens::tool {
namespace {

namespace fs = std::filesystem;
using util::OrderedJson;

struct InfoOptions {
  CommonOptions common;
  std::string subject;
  bool json = false;
};

OrderedJson stored_types(const io::TensorFile& file) {
  std::map<std::string, std::int64_t> elements;
  for (const auto& [name, entry] : file.entries()) {
    std::int64_t count = 1;
    for (const std::int64_t size : entry.shape) count *= size;
    elements[at::toString(entry.dtype)] += count;
  }
  return elements;
}

OrderedJson describe_model_folder(const fs::path& folder) {
  const fs::path config_path = folder / "config.json";
  const util::Json config = util::parse_json(util::read_file(config_path, 64 << 20), config_path.string());
  const model::ArchSpec configured = model::read_arch_spec({config, config_path.string()});
  const io::TensorFile weights = io::open_checkpoint(folder);
  const model::ArchSpec spec = model::settled(configured, weights);
  OrderedJson described = {{"kind", "model"},
                           {"path", folder.string()},
                           {"architecture", spec.architecture},
                           {"layers", spec.num_layers},
                           {"hidden_size", spec.hidden_size},
                           {"vocab_size", spec.vocab_size},
                           {"heads", spec.num_heads},
                           {"key_value_heads", spec.num_kv_heads},
                           {"head_size", spec.head_size},
                           {"mlp_size", spec.mlp_size},
                           {"max_positions", spec.max_positions},
                           {"tied_unembedding", spec.tied_unembedding},
                           {"parameters_stored", weights.num_elements()},
                           {"bytes_stored", weights.num_bytes()},
                           {"stored_types", stored_types(weights)}};
  if (!spec.attention_windows.empty()) described["attention_windows"] = spec.attention_windows;
  const auto tokenizer = text::load_tokenizer(folder);
  const auto token = [&](std::optional<text::TokenId> id) -> OrderedJson {
    if (!id) return nullptr;
    return {{"id", *id}, {"text", tokenizer->token_text(*id)}};
  };
  described["tokenizer"] = {{"kind", tokenizer->kind()},
                            {"size", tokenizer->size()},
                            {"bos", token(tokenizer->bos())},
                            {"eos", token(tokenizer->eos())},
                            {"adds_bos", tokenizer->adds_bos()}};
  described["kernel"] = {{"exact", decode::cpu_kernel_name()},
                         {"fast", decode::cpu_kernel_name(decode::Precision::kFast)}};
  return described;
}

OrderedJson describe_run(const fs::path& folder) {
  const fs::path path = folder / "run.json";
  const OrderedJson run = util::parse_ordered_json(util::read_file(path, 64 << 20), path.string());
  if (!run.is_object()) {
    throw util::format_error(
        {.what = "not the description of a run", .where = path.string(), .expected = "a JSON object"});
  }
  OrderedJson described = {{"kind", "run"}, {"path", folder.string()}};
  described.update(run);
  return described;
}

/// Types of the tensors with their numbers of elements, as `stored_types` has it for files.
OrderedJson stored_types(const std::vector<at::Tensor>& tensors) {
  std::map<std::string, std::int64_t> elements;
  for (const at::Tensor& tensor : tensors) elements[at::toString(tensor.scalar_type())] += tensor.numel();
  return elements;
}

OrderedJson describe_lens(const fs::path& path) {
  OrderedJson described = {{"kind", "lens"}, {"path", path.string()}};
  const lens::StoredLens stored = lens::read_lens(path);
  std::vector<at::Tensor> tensors;
  const auto describe_provenance = [&](const lens::LensProvenance& known) {
    const auto add = [&](const char* key, const auto& value) {
      if (value) described[key] = *value;
    };
    add("model", known.model);
    add("revision", known.revision);
    add("model_digest", known.model_digest);
    add("unembed_hash", known.unembed_hash);
    add("steps", known.steps);
    add("tokens", known.tokens);
    add("data_digest", known.data_digest);
  };
  if (const auto* tuned = std::get_if<lens::StoredTunedLens>(&stored)) {
    described["type"] = "tuned";
    described["layers"] = tuned->num_layers();
    described["hidden_size"] = tuned->hidden_size();
    described["bias"] = !tuned->biases.empty();
    describe_provenance(tuned->provenance);
    if (!tuned->ignored.empty()) described["ignored"] = tuned->ignored;
    tensors = tuned->weights;
    tensors.insert(tensors.end(), tuned->biases.begin(), tuned->biases.end());
  } else {
    const auto& jacobian = std::get<lens::StoredJacobianLens>(stored);
    described["type"] = "jacobian";
    described["hidden_size"] = jacobian.hidden_size();
    described["blocks"] = OrderedJson::array();
    for (const auto& [block, tensor] : jacobian.jacobians) {
      described["blocks"].push_back(block);
      tensors.push_back(tensor);
    }
    describe_provenance(jacobian.provenance);
    if (!jacobian.fields.empty()) described["fields"] = jacobian.fields;
  }
  std::int64_t parameters = 0;
  for (const at::Tensor& tensor : tensors) parameters += tensor.numel();
  described["tensors"] = tensors.size();
  described["parameters"] = parameters;
  described["stored_types"] = stored_types(tensors);
  return described;
}

/// Nested values as lines "key.key  value".
void print_lines(const OrderedJson& value, const std::string& name) {
  if (value.is_object() && !value.empty()) {
    for (const auto& item : value.items())
      print_lines(item.value(), name.empty() ? item.key() : name + "." + item.key());
    return;
  }
  const std::string text =
      util::printable(value.is_string() ? value.get<std::string>()
                                        : value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
  const bool count = value.is_number_integer() && name.find("id") == std::string::npos;
  const std::string shown = util::printable(name);
  std::cout << shown << std::string(shown.size() < 28 ? 28 - shown.size() : 1, ' ') << ' '
            << (count ? util::with_thousands(value.get<std::int64_t>()) : text) << '\n';
}

void run_info(const InfoOptions& options) {
  apply_common_options(options.common);
  std::string subject = options.subject;
  for (const std::string prefix : {"tuned:", "jacobian:"}) {
    if (subject.rfind(prefix, 0) == 0) subject.erase(0, prefix.size());
  }
  const fs::path path = subject;
  std::error_code ignored;
  OrderedJson described;
  if (subject.empty()) {
    described = describe_model_folder(demo_model());
  } else if (fs::exists(path / "run.json", ignored)) {
    described = describe_run(path);
  } else if (subject != options.subject || fs::exists(path / "params.pt", ignored) ||
             fs::is_regular_file(path, ignored)) {
    described = describe_lens(subject != options.subject ? io::resolve_tuned_lens(subject) : path);
  } else {
    described = describe_model_folder(io::resolve_model(subject));
  }
  if (options.json) {
    // In ASCII, so that no text of a file reaches a terminal as control characters.
    std::cout << described.dump(2, ' ', true, OrderedJson::error_handler_t::replace) << std::endl;
  } else {
    print_lines(described, "");
    std::cout << std::flush;
  }
}

}  // namespace

std::function<void()> setup_info(CLI::App& app) {
  auto options = std::make_shared<InfoOptions>();
  app.add_option("subject", options->subject,
                 "Model folder or hub id, lens file or folder, run folder (default: the demo model)");
  app.add_flag("--json", options->json, "As one JSON object");
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens info EleutherAI/pythia-160m-deduped\n  depthlens info out/harbour --json");
  return [options] { run_info(*options); };
}

}  // namespace depthlens::tool
