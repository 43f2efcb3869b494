// Expectations on errors: their code, and what their message and hint must tell.
#pragma once

#include <string>
#include <vector>

#include "depthlens/util/error.hpp"
#include "support/catch.hpp"

namespace depthlens::test {

/// The action must throw a util::Error of that code whose message and hint hold every one of `parts`.
template <typename Action>
void check_error(util::ErrorCode code, const std::vector<std::string>& parts, Action action) {
  try {
    action();
  } catch (const util::Error& error) {
    const std::string message = std::string(error.what()) + "\n" + error.hint();
    INFO(message);
    CHECK(error.code() == code);
    for (const std::string& part : parts) {
      INFO("looked for: " << part);
      CHECK(message.find(part) != std::string::npos);
    }
    return;
  }
  FAIL("no error");
}

}  // namespace depthlens::test
