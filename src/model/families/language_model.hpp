// The family that a config names, and the config read by it.
#pragma once

#include "depthlens/model/arch_spec.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::model {

/// A config of a language model by itself, or of the one in a model that sees.
ArchSpec read_language_model(const util::JsonView& config);

}  // namespace depthlens::model
