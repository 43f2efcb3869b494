// A text with its readouts as JSON, for `show --json`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "depthlens/run/session.hpp"
#include "show_readouts.hpp"

namespace depthlens::tool {

/// One object, a line for each layer of a lens. In ASCII, so that no token's control characters reach a
/// terminal.
std::string as_json(const Collector& found, const std::vector<std::int64_t>& positions,
                    const run::Session& session, const std::string& text);

}  // namespace depthlens::tool
