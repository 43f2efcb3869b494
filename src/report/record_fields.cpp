// Lists of fields, read.
#include "depthlens/report/record_fields.hpp"

#include <algorithm>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::report {
namespace {

std::size_t place_of(const std::string& name) {
  return static_cast<std::size_t>(std::find(kRecordFieldNames.begin(), kRecordFieldNames.end(), name) -
                                  kRecordFieldNames.begin());
}

constexpr const char* kAll = "all";

}  // namespace

RecordFields RecordFields::parse(const std::string& list) {
  RecordFields fields;
  if (util::trimmed(list) == kAll) return fields;
  const std::vector<std::string> known = RecordFields().names();
  const auto refuse = [&known](const std::string& what, const std::string& hint) {
    return util::usage_error(
        {.what = what,
         .where = "--record-fields",
         .expected = util::cat("one or several of ", util::join(known, ", "), ", or ", kAll),
         .hint = hint});
  };
  for (const std::string& part : util::split(list, ',')) {
    const std::string name(util::trimmed(part));
    const std::size_t place = place_of(name);
    if (name == "none") throw refuse("no field 'none'", "--records none writes no records");
    if (name == kAll) throw refuse("'all' stands beside fields", "all alone is every field");
    if (place == kRecordFieldNames.size())
      throw refuse("unknown field " + util::in_quotes(name), util::did_you_mean(name, known));
    fields.chosen_.set(place);
  }
  return fields;
}

RecordFields RecordFields::from_json(const util::JsonView& list) {
  if (!list.is_array() || list.size() == 0) list.fail("a list of fields");
  RecordFields fields;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::size_t place = place_of(list.at(i).as_string());
    if (place == kRecordFieldNames.size()) list.at(i).fail("a field that this version knows");
    fields.chosen_.set(place);
  }
  return fields;
}

std::vector<std::string> RecordFields::names() const {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kRecordFieldNames.size(); ++i) {
    if (has(static_cast<RecordField>(i))) names.emplace_back(kRecordFieldNames[i]);
  }
  return names;
}

}  // namespace depthlens::report
