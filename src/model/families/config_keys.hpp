// Keys of a config as transformers 5 reads them: one that is absent has the default of the family's class,
// and null is not absent. What must be in the config has no default here.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/model/arch_spec.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::model {

/// A config with the class's value for each key that it leaves out. Read it with the config's own `where`.
util::Json with_class_defaults(const util::JsonView& config, const util::Json& defaults);

/// Whether there is a block of that name, and anything in it.
bool has_settings(const util::JsonView& config, const std::string& key);

/// The value of a key that is there, null or not.
std::optional<util::JsonView> find_key(const util::JsonView& config, const std::string& key);

/// Of all sizes; also the longest window of a model that has no positions, and no limit.
inline constexpr std::int64_t kMaxSize = std::int64_t{1} << 24;

/// A size of the model: an integer from 1 to `kMaxSize`.
std::int64_t read_size(const util::JsonView& config, const std::string& key);
std::int64_t read_size(const util::JsonView& config, const std::string& key, std::int64_t class_default,
                       std::int64_t lowest = 1);

/// A size for which null means none.
std::optional<std::int64_t> read_optional_size(const util::JsonView& config, const std::string& key,
                                               std::optional<std::int64_t> class_default);

/// A size under a family's own name or the one that other families have, which transformers takes just as
/// well: the name that the config has. Throws where it has both with different values.
std::string name_of_size(const util::JsonView& config, const std::string& own, const std::string& common);

/// A config with the values of keys that a class takes under other names, too (transformers' attribute_map),
/// under its own: pairs of own and other. Throws where both are there with different values.
util::Json with_own_names(const util::JsonView& config,
                          const std::vector<std::pair<std::string, std::string>>& names);

double read_number(const util::JsonView& config, const std::string& key, double class_default);
double read_positive(const util::JsonView& config, const std::string& key, double class_default);

/// A number for which null means none, and which is positive otherwise.
std::optional<double> read_optional_number(const util::JsonView& config, const std::string& key,
                                           std::optional<double> class_default);

/// A boolean; null is false, as None is in Python.
bool read_flag(const util::JsonView& config, const std::string& key, bool class_default);

/// The epsilon of the norms. Warns of one under another family's name.
double read_epsilon(const util::JsonView& config, const std::string& key, double class_default);

/// The activation named by `key`. Throws for one that is not known.
Activation read_activation(const util::JsonView& config, const std::string& key,
                           const std::string& class_default);

/// Warns of a key that transformers does not read in this family, where it says something else than `used`.
void tell_unused(const util::JsonView& config, const std::string& key, const util::Json& used,
                 const std::string& reason);

/// Throws unless `key` is absent or `value`, or null where `value` is not true: other values change the
/// mathematics in ways that are not supported.
void require_value(const util::JsonView& config, const std::string& key, const util::Json& value);

/// Throws unless `divisor`, the value of `key` or what holds where it is not given, divides that of `of_key`.
void require_divides(const util::JsonView& config, const std::string& key, std::int64_t divisor,
                     const std::string& of_key, std::int64_t of);

bool holds(const std::vector<std::string>& names, const std::string& name);

}  // namespace depthlens::model
