// replicates/TABLE.npy: the bootstrap replicates of a table, in NumPy's own format.
#pragma once

#include <filesystem>
#include <string>

#include "depthlens/tables/table.hpp"

namespace depthlens::report {

/// [rows, estimated columns, replicates] of float32.
std::string replicates_npy(const tables::Table& table);

/// Sets the table's replicates to those of the file, which `replicates_npy` made of it. Throws input errors
/// where it cannot be read, format errors where it is not of this table.
void read_replicates(const std::filesystem::path& file, tables::Table& table);

}  // namespace depthlens::report
