// depthlens download: models and published lenses from the hub into its cache, ahead of their use.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "command.hpp"
#include "depthlens/io/hub.hpp"
#include "depthlens/lens/lens_file.hpp"
#include "depthlens/lens/lens_types.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "model_flags.hpp"

namespace depthlens::tool {
namespace {

struct DownloadOptions {
  CommonOptions common;
  std::vector<std::string> wanted;
  std::string lenses_of;
  bool offline = false;
};

std::filesystem::path fetch(const io::Hub& hub, const std::string& wanted) {
  std::string name = wanted;
  // A folder of this machine may hold none.
  if (const lens::LensType* type = lens::take_type(name))
    return lens::find_lens(lens::place_of(*type, name, hub), type->files->kind);
  return hub.model(name);
}

void run_download(const DownloadOptions& options) {
  if (options.wanted.empty() == options.lenses_of.empty()) {
    throw util::usage_error(
        {.what = options.wanted.empty() ? "nothing to download"
                                        : "--lenses tells what there is, and fetches nothing",
         .expected =
             util::cat("ORG/NAME, ", lens::either(lens::hub_lens_words()), "; or --lenses MODEL alone"),
         .hint = "depthlens download --help shows an example"});
  }
  apply_common_options(options.common);
  const io::Hub hub({.offline = options.offline, .refresh = true});
  if (!options.lenses_of.empty()) {
    const io::Hub::PublishedLenses lenses = hub.published_lenses(options.lenses_of);
    for (const std::string& lens : lenses.of_model) std::cout << lens << '\n';
    if (!lenses.of_model.empty()) return;
    util::log_info("no lens is published for " + util::in_quotes(options.lenses_of));
    if (!lenses.of_similar.empty())
      util::log_info("for models of similar names there are " + util::join(lenses.of_similar, ", "));
    return;
  }
  for (const std::string& wanted : options.wanted) std::cout << fetch(hub, wanted).string() << std::endl;
}

}  // namespace

std::function<void()> setup_download(CLI::App& app) {
  auto options = std::make_shared<DownloadOptions>();
  add_repeatable(app, "what", options->wanted,
                 "ORG/NAME[@REVISION]: a model; tuned:MODEL: its published tuned lens; "
                 "jacobian:ORG/NAME[@REVISION]:FILE: a Jacobian lens")
      ->type_name("WHAT");
  app.add_option("--lenses", options->lenses_of,
                 "Tell which published lenses there are for a model, as --lens takes them")
      ->type_name("MODEL");
  add_offline_option(app, options->offline);
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens download EleutherAI/pythia-160m-deduped tuned:EleutherAI/pythia-160m-deduped\n"
      "  depthlens download --lenses openai-community/gpt2\n"
      "Prints the folder or file of each. Of a branch the present commit is fetched; other commands use what "
      "is\n"
      "in the cache. docs/hub.md tells which files, where to, and the variables that count.");
  return [options] { run_download(*options); };
}

}  // namespace depthlens::tool
