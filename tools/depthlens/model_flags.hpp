// The flags that say which model and which lenses.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "command.hpp"
#include "depthlens/io/hub.hpp"
#include "depthlens/run/run.hpp"
#include "depthlens/run/session.hpp"
#include "flags.hpp"

namespace depthlens::tool {

using run::ModelOptions;
using run::Session;

/// The kernel that the environment variable DEPTHLENS_KERNEL names; "" where it names none.
std::string requested_kernel();

/// Adds --offline.
void add_offline_option(CLI::App& app, bool& offline);
/// Adds --model and --offline, and takes the kernel and its cache from the environment.
void add_model_option(CLI::App& app, ModelOptions& options);
/// Adds --add-bos.
void add_bos_option(CLI::App& app, ModelOptions& options);
/// Adds --dtype, --device and --stream-layers.
void add_arithmetic_options(CLI::App& app, ModelOptions& options);
/// Adds all of these, and the flags of lenses and windows.
void add_run_options(CLI::App& app, ModelOptions& options);

/// The folder that --model names, or the demo model's; fetches what is missing of a model of the hub. Throws
/// what `io::Hub::model` throws.
std::filesystem::path model_folder(const ModelOptions& options, io::ModelParts parts = io::ModelParts::kAll);

/// The options with the places of model and lenses, in which whatever is missing is fetched from the hub.
ModelOptions located(ModelOptions options);
/// The same for the rank of `run` that this process is.
ModelOptions located(const ModelOptions& options, const run::Run& run, const CommonOptions& common);

/// What the flags of lenses need to have an effect. Throws usage errors where --lens is unusable.
std::vector<Condition> lens_conditions(const ModelOptions& options);

}  // namespace depthlens::tool
