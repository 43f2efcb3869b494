// From a config to the description of its model: of a language model, or of the one in a model that sees.
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "family.hpp"
#include "language_model.hpp"
#include "wrappers.hpp"

namespace depthlens::model {

ArchSpec read_arch_spec(const util::JsonView& config) {
  if (!config.is_object()) config.fail("an object");
  const Wrapper* wrapper = named_wrapper(config);
  ArchSpec spec = wrapper != nullptr ? read_wrapped(config, *wrapper) : read_language_model(config);
  if (config.has("auto_map")) {
    util::log_warning(util::cat(config.where(),
                                ": auto_map names code of the model's own, which is not run: it ",
                                "is computed as ", spec.architecture));
  }
  return spec;
}

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.push_back(family.architectures.front());
  for (const Wrapper& wrapper : wrappers()) names.push_back(wrapper.architecture);
  return names;
}

}  // namespace depthlens::model
