// How the parts of a tokenizer.json are read: steps, alone or in a Sequence.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>

#include "depthlens/util/error.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::text {

[[noreturn]] inline void refuse(const util::JsonView& json, const std::string& what) {
  throw util::format_error({.what = "the tokenizer asks for " + what + ", which depthlens does not have",
                            .where = json.where(),
                            .hint = "depthlens reads byte-level BPE and SentencePiece tokenizers"});
}

inline std::string type_of(const util::JsonView& json) {
  return json.at("type").as_string();
}

/// Refuses a setting that is not among `known`, unless it is off.
inline void refuse_other_settings(const util::JsonView& json, std::initializer_list<std::string_view> known) {
  for (const std::string& key : json.keys()) {
    const util::Json& value = json.raw().at(key);
    if (value.is_null() || value == false || std::count(known.begin(), known.end(), key) > 0) continue;
    refuse(json, "the setting " + util::in_quotes(key));
  }
}

/// Calls `use` for the element itself, or for each element of a Sequence's list `key`.
template <typename Use>
void for_each_step(const util::JsonView& json, const std::string& key, const Use& use) {
  if (type_of(json) != "Sequence") {
    use(json);
    return;
  }
  const util::JsonView list = json.at(key);
  if (!list.is_array()) list.fail("a list");
  for (std::size_t i = 0; i < list.size(); ++i) for_each_step(list.at(i), key, use);
}

}  // namespace depthlens::text
