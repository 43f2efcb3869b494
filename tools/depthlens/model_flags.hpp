// The flags that say which model and which lenses.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "depthlens/run/session.hpp"
#include "flags.hpp"

namespace depthlens::tool {

using run::ModelOptions;
using run::Session;

/// The kernel that the environment variable DEPTHLENS_KERNEL names; "" where it names none.
std::string requested_kernel();

/// Adds --model, and takes the kernel from the environment.
void add_model_option(CLI::App& app, ModelOptions& options);
/// Adds --add-bos.
void add_bos_option(CLI::App& app, ModelOptions& options);
/// Adds --dtype, --device and --stream-layers.
void add_arithmetic_options(CLI::App& app, ModelOptions& options);
/// Adds all of these, and the flags of lenses and windows.
void add_run_options(CLI::App& app, ModelOptions& options);

/// What the flags of lenses need to have an effect. Throws usage errors where --lens is unusable.
std::vector<Condition> lens_conditions(const ModelOptions& options);

}  // namespace depthlens::tool
