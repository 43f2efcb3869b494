// A text with its readouts as tables in the terminal.
#pragma once

#include <cstdint>
#include <vector>

#include "depthlens/report/terminal_table.hpp"
#include "depthlens/run/session.hpp"
#include "show_readouts.hpp"

namespace depthlens::tool {

/// The table of layers and tokens, in which `value` is told.
report::TerminalTable as_table(const Collector& found, const std::vector<std::int64_t>& positions,
                               const run::Session& session, report::CellValue value);

/// The tables of the watched tokens, one a position.
std::vector<report::WatchTable> watch_tables(const Collector& found,
                                             const std::vector<std::int64_t>& positions,
                                             const run::Session& session);

}  // namespace depthlens::tool
