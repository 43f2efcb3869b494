// Provenance, and the record beside a lens.
#include "run/training_files.hpp"

#include "depthlens/compute/runtime.hpp"
#include "depthlens/io/hub_cache.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/version.hpp"

namespace depthlens::run {

namespace fs = std::filesystem;
using util::OrderedJson;

std::string place_of(const std::vector<std::string>& inputs) {
  return inputs.front() + (inputs.size() > 1 ? " and the others" : "");
}

void require_none(const std::vector<fs::path>& files, bool overwrite) {
  for (const fs::path& file : files) {
    if (overwrite || !util::exists(file)) continue;
    throw util::output_error({.what = "the folder holds a lens or a training",
                              .where = util::in_quotes(file.string()),
                              .hint = "replace it with --overwrite, or choose another --out"});
  }
}

std::string model_files_digest(const Session& session) {
  const OrderedJson described = session.describe_model();
  return described.at("digest").get<std::string>();
}

lens::LensProvenance provenance_of(const ModelOptions& options, const Session& session) {
  const model::Model& model = session.model();
  lens::LensProvenance provenance;
  provenance.model = options.model.empty() ? "data/demo" : options.model;
  provenance.revision = io::hub_commit(model.folder());
  const auto unembedding = lens::stored_unembedding(model);
  provenance.unembed_hash = lens::unembed_hash(unembedding);
  provenance.model_digest = lens::model_digest(unembedding);
  return provenance;
}

OrderedJson training_json(const Session& session, const std::vector<data::InputSummary>& inputs,
                          const OrderedJson& settings, compute::Precision precision,
                          std::chrono::steady_clock::time_point started) {
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
  return {{"schema_version", 1},
          {"model", session.describe_model()},
          {"tokenizer", session.describe_tokenizer()},
          {"inputs", inputs_json(inputs)},
          {"settings", settings},
          {"depthlens", {{"version", DEPTHLENS_VERSION}, {"libtorch", compute::libtorch_version()}}},
          {"volatile",
           {{"seconds", seconds.count()},
            {"threads", compute::num_threads()},
            {"kernel", session.model().backend().kernel_name(precision)}}}};
}

void write_last_file(const fs::path& path, const OrderedJson& record) {
  util::write_file(path, util::json_text(record, 2) + "\n", util::set_work_done);
}

}  // namespace depthlens::run
