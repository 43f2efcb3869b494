// Where and when a process is at work.
#pragma once

#include <chrono>

#include "depthlens/util/json.hpp"

namespace depthlens::run {

/// What `volatile` of run.json begins with: `started` in UTC, `seconds` since then, `host`.
util::OrderedJson when_and_where(std::chrono::system_clock::time_point started);

}  // namespace depthlens::run
