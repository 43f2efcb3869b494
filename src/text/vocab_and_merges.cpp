// vocab.json with merges.txt, as the classes of old saved them: vocabulary and merges only. How a text is cut
// is the class's to know.
#include "agreement.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "formats.hpp"

namespace depthlens::text {
namespace {

namespace fs = std::filesystem;
using util::cat;
using util::format_error;
using util::in_quotes;

/// Both files; views into what is held here.
class VocabAndMerges {
 public:
  explicit VocabAndMerges(const fs::path& folder)
      : vocab_path_((folder / "vocab.json").string()),
        merges_path_((folder / "merges.txt").string()),
        document_(util::parse_json(util::read_file(vocab_path_), vocab_path_)),
        text_(util::read_file(merges_path_)),
        vocabulary(read_vocabulary(util::JsonView(document_, vocab_path_))) {
    std::size_t bad_byte;
    if (!util::is_valid_utf8(text_, &bad_byte)) {
      throw format_error({.what = "not valid UTF-8", .where = cat(merges_path_, ", byte ", bad_byte)});
    }
    std::size_t line_number = 0;
    for (std::size_t start = 0; start < text_.size();) {
      const std::size_t end = std::min(text_.find('\n', start), text_.size());
      std::string_view line = std::string_view(text_).substr(start, end - start);
      start = end + 1;
      ++line_number;
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      if (line.empty() || line.substr(0, 8) == "#version") continue;
      const std::size_t space = line.find(' ');
      if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
        throw format_error({.what = "a line that is not a merge",
                            .where = cat(merges_path_, ", line ", line_number),
                            .expected = "two tokens",
                            .found = in_quotes(line)});
      }
      merges.emplace_back(line.substr(0, space), line.substr(space + 1));
    }
  }
  VocabAndMerges(const VocabAndMerges&) = delete;
  VocabAndMerges& operator=(const VocabAndMerges&) = delete;

  const std::string& vocab_path() const { return vocab_path_; }
  const std::string& merges_path() const { return merges_path_; }

 private:
  std::string vocab_path_, merges_path_;
  util::Json document_;
  std::string text_;

 public:
  Vocabulary vocabulary;
  std::vector<MergePair> merges;
};

}  // namespace

bool has_vocab_and_merges(const fs::path& folder) {
  return util::exists(folder / "vocab.json") && util::exists(folder / "merges.txt");
}

std::unique_ptr<Tokenizer> load_vocab_and_merges(const fs::path& folder, TokenizerSettings settings) {
  const VocabAndMerges files(folder);
  const TokenizerClass& tokenizer_class = class_of(settings, false);
  if (!tokenizer_class.over_bytes()) {
    const bool told = !settings.tokenizer_class.empty();
    throw format_error(
        {.what =
             told ? cat("depthlens does not know how the class ", describe_class(tokenizer_class, settings),
                        " cuts texts, and there is no tokenizer.json")
                  : "vocab.json and merges.txt without a tokenizer_class, which tells how texts are cut",
         .where = files.vocab_path(),
         .expected = "tokenizer_class GPT2Tokenizer, CodeGenTokenizer, GPTNeoXTokenizer or Qwen2Tokenizer",
         .found = told ? in_quotes(settings.tokenizer_class) : cat("none in ", settings.where),
         .hint = "save tokenizer.json with transformers: AutoTokenizer.from_pretrained(FOLDER)"
                 ".save_pretrained(FOLDER)"});
  }
  if (!settings.tokenizer_class.empty() && tokenizer_class.name != settings.tokenizer_class) {
    util::log_warning(cat(files.vocab_path(), " is read as the class ",
                          describe_class(tokenizer_class, settings),
                          " does it, as in transformers 5; the class ", settings.tokenizer_class, " of ",
                          settings.class_file, " is ignored"));
  }
  add_names_of_class(tokenizer_class, settings);
  BpeModel model = make_bpe_model(files.vocabulary, files.merges, {}, files.merges_path());
  AddedTokens tokens([&](const std::string& token) { return files.vocabulary.find(token); },
                     static_cast<TokenId>(files.vocabulary.ids.size()), ids_taken(files.vocabulary));
  add_tokens_of(settings, tokens);
  TextSteps steps = steps_of(tokenizer_class, settings);
  return std::make_unique<BpeTokenizer>(std::move(model), tokens, std::move(steps),
                                        special_ids(settings, tokenizer_class, tokens, nullptr));
}

void compare_vocab_and_merges(const fs::path& folder, const std::string& json_where,
                              const Vocabulary& vocabulary, const std::vector<MergePair>& merges,
                              const AddedTokens& tokens) {
  if (!has_vocab_and_merges(folder)) return;
  std::string difference;
  try {
    const VocabAndMerges files(folder);
    difference = first_difference(vocabulary, merges, tokens, files.vocabulary, files.merges);
  } catch (const util::Error& error) {
    difference = error.what();
  }
  if (difference.empty()) return;
  util::log_warning(
      cat(json_where, " is used; vocab.json and merges.txt beside it differ and are ignored: ", difference));
}

}  // namespace depthlens::text
