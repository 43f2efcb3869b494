// Documents out of files, windows out of documents.
#include "depthlens/data/corpus.hpp"

#include <algorithm>
#include <utility>

#include "depthlens/data/input_text.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "exact_number.hpp"

namespace depthlens::data {
namespace {

/// White space of Unicode beyond ASCII, and what has no width: U+0085, U+00A0, U+1680, U+2000 to U+200D,
/// U+2028, U+2029, U+202F, U+205F, U+2060, U+3000, U+FEFF.
constexpr std::string_view kBlanks[] = {"\u0085", "\u00A0", "\u1680", "\u2000", "\u2001", "\u2002",
                                        "\u2003", "\u2004", "\u2005", "\u2006", "\u2007", "\u2008",
                                        "\u2009", "\u200A", "\u200B", "\u200C", "\u200D", "\u2028",
                                        "\u2029", "\u202F", "\u205F", "\u2060", "\u3000", "\uFEFF"};

constexpr std::uint64_t kMaxDocument = std::uint64_t{1} << 30;

bool is_blank(std::string_view line) {
  return util::trimmed(line).empty();
}

bool is_one_of(const std::string& extension, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), extension) != names.end();
}

/// What JSON as most programs write it begins with; a text hardly does.
bool begins_as_json(std::string_view line) {
  const bool object = !line.empty() && line.front() == '{', array = !line.empty() && line.front() == '[';
  if (!object && !array) return false;
  const std::string_view inside = util::trimmed(line.substr(1));
  return inside.empty() || inside.front() == (object ? '"' : '{');
}

bool is_json_object(std::string_view line) {
  try {
    const util::Json value = util::parse_json(line, "");
    return value.is_object() && !value.empty();
  } catch (const util::Error&) {
    return false;
  }
}

/// Whether a line ends inside the text by a carriage return, and a blank one follows in the same way.
bool has_blank_line(std::string_view line) {
  for (std::size_t at = line.find('\r'); at != std::string_view::npos;) {
    const std::size_t next = line.find('\r', at + 1);
    if (next != std::string_view::npos && is_blank(line.substr(at, next - at))) return true;
    at = next;
  }
  return false;
}

[[noreturn]] void fail_too_long(const std::string& where) {
  throw util::input_error({.what = "a document is too long",
                           .where = where,
                           .expected = "at most " + util::as_bytes(kMaxDocument)});
}

}  // namespace

DocumentReader::DocumentReader(util::InputFile& file)
    : name_(file.path() == "-" ? "stdin" : file.path()), reader_(file) {
  refuse_other_formats(reader_.head(), name_);
  format_ = find_format();
}

DocumentReader::~DocumentReader() = default;

DocumentReader::Format DocumentReader::find_format() {
  const std::string extension = util::content_extension(name_);
  if (is_one_of(extension, {".jsonl", ".ndjson"})) return Format::kJsonLines;
  if (extension == ".json") {
    std::string_view head = reader_.head();
    if (head.substr(0, kByteOrderMark.size()) == kByteOrderMark) head.remove_prefix(kByteOrderMark.size());
    head = util::trimmed(head);
    return !head.empty() && head.front() == '[' ? Format::kJsonArray : Format::kJsonLines;
  }
  if (is_one_of(extension, {".csv", ".tsv", ".conllu", ".html", ".htm", ".xml"})) {
    util::log_warning(name_ + " is read as plain text, with all that stands around the text in a " +
                      extension.substr(1) + " file; if that is not meant, make JSON lines of it");
    return Format::kText;
  }
  // Blank lines at the beginning separate nothing.
  std::string line;
  bool found = false;
  while (!found && next_line(line)) found = !is_blank(line);
  if (!found) return Format::kText;
  const std::string_view content = util::trimmed(line);
  Format format = Format::kText;
  const bool is_stdin = name_ == "stdin" && content.starts_with("{\"");
  if (is_stdin || (content.front() == '{' && is_json_object(content) && extension != ".txt")) {
    util::log_warning(name_ +
                      " begins with a JSON object and is read as JSON lines: the key \"text\" of one " +
                      "object a line");
    format = Format::kJsonLines;
  } else if (begins_as_json(content)) {
    util::log_warning(name_ +
                      " looks like JSON and is read as plain text, keys, quotes and braces included; "
                      "name JSON lines .jsonl, an array .json");
  }
  pending_ = std::move(line);
  return format;
}

std::string DocumentReader::line_place() const {
  return util::cat(name_, ", line ", line_number_);
}

std::string DocumentReader::element_place() const {
  return util::cat(name_, "[", element_, "]");
}

bool DocumentReader::next_line(std::string& line) {
  if (pending_) {
    line = *std::exchange(pending_, std::nullopt);
    return true;
  }
  if (!reader_.next_line(line)) return false;
  ++line_number_;
  check_text(line, [&](std::size_t i) { return util::cat(line_place(), ", byte ", i + 1, " of the line"); });
  if (line.rfind(kByteOrderMark, 0) == 0) {
    if (line_number_ == 1) {
      line.erase(0, kByteOrderMark.size());
    } else if (!std::exchange(told_of_mark_, true)) {
      util::log_warning(line_place() +
                        " begins with a byte order mark, as where files are joined, perhaps others too; it "
                        "stays in the text");
    }
  }
  return true;
}

std::optional<std::string> DocumentReader::next() {
  if (format_ == Format::kText) return next_paragraphs();
  return format_ == Format::kJsonLines ? next_json_line() : next_element();
}

std::optional<std::string> DocumentReader::next_paragraphs() {
  std::string document, line;
  while (next_line(line)) {
    look_at_carriage_returns(line);
    if (!is_blank(line)) {
      look_at_blanks(line);
      if (!document.empty()) document += '\n';
      document += line;
      if (document.size() > kMaxDocument) fail_too_long(line_place());
    } else if (!document.empty()) {
      return document;
    }
  }
  if (document.empty()) return std::nullopt;
  return document;
}

/// Word processors and pages of the web put such characters into lines that look empty.
void DocumentReader::look_at_blanks(std::string_view line) {
  if (told_of_blank_) return;
  for (std::string_view rest = util::trimmed(line); !rest.empty(); rest = util::trimmed(rest)) {
    const auto* const blank = std::find_if(std::begin(kBlanks), std::end(kBlanks),
                                           [&](std::string_view one) { return rest.starts_with(one); });
    if (blank == std::end(kBlanks)) return;
    rest.remove_prefix(blank->size());
  }
  told_of_blank_ = true;
  util::log_warning(line_place() +
                    " holds nothing but spaces that are not ASCII, such as U+00A0, perhaps others too: it "
                    "belongs to its text and separates no documents");
}

/// Python's text mode makes line feeds of them; tokenizers, and so this program, take a text as it is.
void DocumentReader::look_at_carriage_returns(std::string_view line) {
  if (line.find('\r') == std::string_view::npos) return;
  const bool ended = reader_.line_feeds() == line_number_;
  if (line_number_ == 1 && !ended && has_blank_line(line)) {
    throw util::input_error({.what = "lines end with carriage returns alone",
                             .where = line_place(),
                             .expected = "line feeds, so that blank lines can separate documents",
                             .hint = "convert it: tr '\\r' '\\n' < FILE > CONVERTED"});
  }
  if (ended && line.back() == '\r') {
    if (!std::exchange(told_of_crlf_, true)) {
      util::log_warning(line_place() +
                        " ends with CR LF, perhaps others too; carriage returns stay in the text and "
                        "become tokens (tr -d '\\r' takes them out)");
    }
    line.remove_suffix(1);
  }
  if (line.find('\r') != std::string_view::npos && !std::exchange(told_of_carriage_return_, true)) {
    util::log_warning(line_place() +
                      " holds a carriage return without a line feed, perhaps others too; it stays in "
                      "the text and ends no line");
  }
}

std::string DocumentReader::text_of(std::string_view json, const std::string& where) {
  try {
    const util::Json document = util::parse_json(json, where);
    const util::JsonView view(document, where);
    if (!view.is_object()) view.fail("an object with the key 'text'");
    take_id(view);
    std::string text = view.at("text").as_string();
    refuse_wide_text(text, where);
    if (text.find('\0') == std::string::npos) return text;
    if (!std::exchange(told_of_nul_, true)) {
      util::log_warning(where +
                        ": the text holds the character U+0000, perhaps others too; it is read as it "
                        "stands");
    }
    return text;
  } catch (const util::Error& error) {
    util::ErrorText told = error.text();
    if (told.hint.empty()) {
      told.hint = "JSON lines are one object with the key \"text\" a line; a .json may be one array of them";
    }
    throw util::input_error(std::move(told));  // a fault of an input, not of a model
  }
}

void DocumentReader::take_id(const util::JsonView& object) {
  id_.clear();
  if (!object.has("id")) return;
  const util::JsonView id = object.at("id");
  if (id.is_string()) {
    id_ = util::json_string(id.as_string());
  } else if (is_exact_number(id)) {
    id_ = util::json_text(id.raw());
  } else if (!std::exchange(told_of_id_, true)) {
    util::log_warning(object.where() +
                      ": the id is neither a text nor a number of at most 19 digits, perhaps others too; "
                      "records do not have it");
  }
}

std::optional<std::string> DocumentReader::next_json_line() {
  std::string line;
  while (next_line(line)) {
    if (!is_blank(line)) return text_of(line, line_place());
  }
  return std::nullopt;
}

/// The next character of an array's file, or a NUL, which no JSON holds, at the end.
char DocumentReader::next_character() {
  if (piece_.empty()) piece_ = reader_.next_piece();
  if (piece_.empty()) return '\0';
  const char c = piece_.front();
  if (c == '\0') {
    throw util::input_error(
        {.what = "a NUL byte in the text", .where = element_place(), .expected = "JSON, which has none"});
  }
  piece_.remove_prefix(1);
  return c;
}

/// Cuts the array at its own commas, so that only one element is in memory; whether it is one, `text_of`
/// finds out.
std::optional<std::string> DocumentReader::next_element() {
  if (array_ended_) return std::nullopt;
  const auto fail = [&](const std::string& what) {
    throw util::input_error(
        {.what = what, .where = element_place(), .expected = "an array of objects with the key \"text\""});
  };
  if (element_ == 0) {
    while (next_character() != '[') continue;  // the byte order mark and white space
  }
  std::string element;
  std::int64_t depth = 0;
  bool quoted = false, escaped = false;
  while (true) {
    const char c = next_character();
    if (c == '\0') fail("the array is never closed");
    if (quoted) {
      quoted = c != '"' || escaped;
      escaped = c == '\\' && !escaped;
    } else if (depth == 0 && (c == ',' || c == ']')) {
      array_ended_ = c == ']';
      break;
    } else {
      quoted = c == '"';
      depth += c == '[' || c == '{' ? 1 : c == ']' || c == '}' ? -1 : 0;
    }
    element += c;
    if (element.size() > kMaxDocument) fail_too_long(element_place());
  }
  if (array_ended_) {
    for (char c = next_character(); c != '\0'; c = next_character()) {
      if (!is_blank({&c, 1})) fail("something follows the array");
    }
    if (element_ == 0 && is_blank(element)) return std::nullopt;
  }
  std::string text = text_of(element, element_place());
  ++element_;
  return text;
}

Corpus::Corpus(const std::vector<std::string>& paths, const text::Tokenizer& tokenizer, std::int64_t limit,
               const std::filesystem::path& spool_folder)
    : tokenizer_(tokenizer), limit_(limit) {
  DEPTHLENS_ASSERT(!paths.empty());
  util::check_inputs(paths);  // a missing file is reported before the first one is read
  for (const std::string& path : paths)
    files_.push_back(std::make_unique<util::InputFile>(path, spool_folder));
  rewind();
}

void Corpus::rewind() {
  reader_.reset();
  input_ = 0;
  next_index_ = 0;
  summaries_.clear();
  for (const auto& file : files_)
    summaries_.push_back({.path = file->path(), .sha256 = {}, .documents = 0, .tokens = 0, .bytes = 0});
}

/// The next document's text, its reader still in place; nothing at the end.
std::optional<std::string> Corpus::next_text() {
  while (input_ < files_.size()) {
    if (!reader_) reader_ = std::make_unique<DocumentReader>(*files_[input_]);
    const bool at_limit = limit_ > 0 && next_index_ >= limit_;
    std::optional<std::string> text = at_limit ? std::nullopt : reader_->next();
    if (text) return text;
    summaries_[input_].sha256 = reader_->sha256();
    reader_.reset();
    ++input_;
  }
  return std::nullopt;
}

std::optional<TokenizedDocument> Corpus::next() {
  const std::optional<std::string> text = next_text();
  if (!text) return std::nullopt;
  TokenizedDocument document{.index = next_index_++,
                             .input = input_,
                             .index_in_input = summaries_[input_].documents,
                             .id = reader_->id(),
                             .tokens = tokenizer_.encode(*text)};
  summaries_[input_].documents += 1;
  summaries_[input_].tokens += static_cast<std::int64_t>(document.tokens.size());
  summaries_[input_].bytes += static_cast<std::int64_t>(text->size());
  return document;
}

void Corpus::seek(std::int64_t index) {
  if (index < next_index_) rewind();
  while (next_index_ < index && next_text()) {
    ++next_index_;
    summaries_[input_].documents += 1;
  }
}

void Corpus::check_unchanged() {
  for (; input_ < files_.size(); ++input_) {
    if (!reader_) reader_ = std::make_unique<DocumentReader>(*files_[input_]);
    reader_->sha256();
    reader_.reset();
  }
}

std::vector<std::vector<TokenId>> cut_into_windows(const std::vector<TokenId>& tokens,
                                                   std::int64_t max_length, std::optional<TokenId> bos) {
  const std::size_t room = static_cast<std::size_t>(max_length) - (bos ? 1 : 0);
  DEPTHLENS_ASSERT(max_length >= (bos ? 2 : 1));
  std::vector<std::vector<TokenId>> windows;
  for (std::size_t start = 0; start < tokens.size(); start += room) {
    std::vector<TokenId>& window = windows.emplace_back();
    if (bos) window.push_back(*bos);
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(start);
    window.insert(window.end(), first,
                  first + static_cast<std::ptrdiff_t>(std::min(room, tokens.size() - start)));
  }
  return windows;
}

}  // namespace depthlens::data
