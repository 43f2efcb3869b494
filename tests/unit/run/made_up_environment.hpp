// An environment of a test's own.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "depthlens/run/ranks.hpp"

namespace depthlens::test {

inline run::Environment made_up(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

}  // namespace depthlens::test
