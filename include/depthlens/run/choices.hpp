// What can be chosen by name: a table says what each value of an enum is called in flags and in JSON.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "depthlens/util/error.hpp"

namespace depthlens::run {

template <class Value>
struct Choice {
  Value value;
  const char* name;
};

template <class Value, std::size_t N>
std::string name_of(const Choice<Value> (&choices)[N], Value value) {
  const auto found =
      std::find_if(choices, choices + N, [&](const Choice<Value>& one) { return one.value == value; });
  DEPTHLENS_ASSERT(found != choices + N);
  return found->name;
}

/// `name` is one of the table's.
template <class Value, std::size_t N>
Value value_of(const Choice<Value> (&choices)[N], std::string_view name) {
  const auto found =
      std::find_if(choices, choices + N, [&](const Choice<Value>& one) { return one.name == name; });
  DEPTHLENS_ASSERT(found != choices + N);
  return found->value;
}

/// What is done where it helps, or always, or never.
enum class YesNoAuto { kAuto, kYes, kNo };
inline constexpr Choice<YesNoAuto> kYesNoAuto[] = {
    {YesNoAuto::kAuto, "auto"}, {YesNoAuto::kYes, "yes"}, {YesNoAuto::kNo, "no"}};

}  // namespace depthlens::run
