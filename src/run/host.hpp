// Where and when a process is at work.
#pragma once

#include <chrono>
#include <string>

#include "depthlens/util/json.hpp"

namespace depthlens::run {

/// The name of this machine.
std::string host_name();

/// What `volatile` of run.json begins with: `started` in UTC, `seconds` since then, `host`.
util::OrderedJson when_and_where(std::chrono::system_clock::time_point started);

}  // namespace depthlens::run
