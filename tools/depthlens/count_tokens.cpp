// depthlens count-tokens: the frequency table of a corpus.
#include <iostream>
#include <memory>

#include "command.hpp"
#include "depthlens/data/corpus.hpp"
#include "depthlens/data/token_counts.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "model_flags.hpp"
#include "outputs.hpp"

namespace depthlens::tool {
namespace {

struct CountOptions {
  CommonOptions common;
  ModelOptions model;
  std::vector<std::string> inputs;
  std::string out;
  std::int64_t limit = 0;
};

/// Whether a file that begins so is a frequency table as `TokenCounts` writes them, or the paper's scripts
/// do.
bool is_table(std::string_view head) {
  const auto has = [&](std::string_view part) { return head.find(part) != std::string_view::npos; };
  return head.rfind("id,token,count,ratio\n", 0) == 0 || head == "{\n}\n" ||
         (head.rfind('{', 0) == 0 && has("\"token\"") && has("\"count\"") && has("\"ratio\""));
}

void run_count_tokens(const CountOptions& options) {
  if (options.inputs.empty())
    throw util::usage_error({.what = "no input",
                             .where = "--input",
                             .hint = "depthlens count-tokens --input FILE.txt --out counts.json"});
  const std::filesystem::path out = options.out;
  if (!options.out.empty() && out.extension() != ".json" && out.extension() != ".csv") {
    throw util::usage_error({.what = "unknown format of the frequency table",
                             .where = "--out " + options.out,
                             .expected = "FILE.json or FILE.csv"});
  }
  if (!options.out.empty()) {
    check_not_replaced("--input", options.inputs, out);
    check_replaceable(out, "a frequency table", is_table);
    if (out.has_parent_path()) util::create_folders(out.parent_path());
  }
  apply_common_options(options.common);
  const auto tokenizer = text::load_tokenizer(model_folder(options.model, io::ModelParts::kTokenizer));
  data::Corpus corpus(options.inputs, *tokenizer, options.limit);
  data::TokenCounts counts;
  util::Progress progress("counting", "tokens", 0);
  while (const auto document = corpus.next()) {
    for (const text::TokenId id : document->tokens) counts.add(id);
    progress.advance(static_cast<std::int64_t>(document->tokens.size()));
  }
  progress.finish();
  if (counts.total() == 0) util::log_warning("the input holds no text, and the table no tokens");
  const std::string table =
      out.extension() == ".csv" ? counts.to_csv(*tokenizer) : counts.to_json(*tokenizer);
  if (options.out.empty()) {
    std::cout << table << std::flush;
  } else {
    util::write_file(out, table);
    util::log_info(
        util::cat(util::with_thousands(counts.num_distinct()), " distinct tokens in ", options.out));
  }
}

}  // namespace

std::function<void()> setup_count_tokens(CLI::App& app) {
  auto options = std::make_shared<CountOptions>();
  add_repeatable(app, "--input", options->inputs,
                 "Corpus: .txt, .jsonl (key \"text\"), compressed or not, pipes, - for stdin; may be given "
                 "several times")
      ->type_name("FILE");
  app.add_option("--out", options->out, "FILE.json or FILE.csv (default: JSON on stdout)")->type_name("FILE");
  add_model_option(app, options->model);
  app.add_option("--limit", options->limit, "Stop after N documents (0: all)")
      ->check(integer(0))
      ->capture_default_str();
  add_common_options(app, options->common);
  app.footer(
      "Example:\n  depthlens count-tokens --model gpt2 --input corpus.txt --out gpt2-counts.json\n"
      "BOS is not counted: only the text's own tokens are.");
  return [options] { run_count_tokens(*options); };
}

}  // namespace depthlens::tool
