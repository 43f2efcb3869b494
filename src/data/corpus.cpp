// Documents out of files, windows out of documents.
#include "depthlens/data/corpus.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

#include "depthlens/util/error.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::data {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::unique_ptr<std::istream> open_file(const std::string& path) {
  std::error_code error;
  const bool folder = std::filesystem::is_directory(path, error);
  auto file = std::make_unique<std::ifstream>(path, std::ios::binary);
  if (folder || !*file) {
    throw util::input_error({.what = "cannot read " + util::in_quotes(path),
                             .where = "--input",
                             .found = folder ? "a folder" : std::strerror(errno)});
  }
  return file;
}

bool is_blank(std::string_view line) {
  return util::trimmed(line).empty();
}

}  // namespace

DocumentReader::DocumentReader(const std::string& path) : DocumentReader(open_file(path), path) {}

DocumentReader::DocumentReader(std::unique_ptr<std::istream> stream, std::string name)
    : stream_(std::move(stream)), name_(std::move(name)) {
  json_lines_ = std::filesystem::path(name_).extension() == ".jsonl";
}

DocumentReader::~DocumentReader() = default;

bool DocumentReader::next_line(std::string& line) {
  if (!std::getline(*stream_, line)) {
    if (stream_->bad())
      throw util::input_error(
          {.what = "cannot read " + util::in_quotes(name_), .found = std::strerror(errno)});
    return false;
  }
  hash_.update(line.data(), line.size());
  if (!stream_->eof()) hash_.update("\n", 1);
  ++line_number_;
  std::size_t bad;
  if (!util::is_valid_utf8(line, &bad)) {
    throw util::input_error(
        {.what = "not UTF-8 text",
         .where = util::cat(name_, ", line ", line_number_, ", byte ", bad + 1, " of the line"),
         .expected = "UTF-8",
         .found = util::in_quotes(line.substr(bad, 4)),
         .hint = "compressed files are not read: decompress them first, for example xz -dc FILE | depthlens "
                 "… --input -"});
  }
  if (line_number_ == 1 && line.rfind(kByteOrderMark, 0) == 0) line.erase(0, kByteOrderMark.size());
  return true;
}

std::optional<std::string> DocumentReader::next() {
  return json_lines_ ? next_json() : next_paragraphs();
}

std::optional<std::string> DocumentReader::next_json() {
  std::string line;
  while (next_line(line)) {
    if (is_blank(line)) continue;
    const std::string where = util::cat(name_, ", line ", line_number_);
    try {
      const util::Json document = util::parse_json(line, where);
      const util::JsonView view(document, where);
      if (!view.is_object()) view.fail("an object with the key 'text'");
      std::string text = view.at("text").as_string();
      if (!is_blank(text)) return text;
    } catch (const util::Error& error) {
      throw util::input_error(error.text());  // a fault of an input, not of a model
    }
  }
  return std::nullopt;
}

std::optional<std::string> DocumentReader::next_paragraphs() {
  std::string document, line;
  while (next_line(line)) {
    if (!is_blank(line)) {
      if (!document.empty()) document += '\n';
      document += line;
    } else if (!document.empty()) {
      return document;
    }
  }
  return document.empty() ? std::nullopt : std::optional(document);
}

std::string DocumentReader::sha256() {
  std::string line;
  while (next_line(line)) continue;
  return hash_.hex_digest();
}

Corpus::Corpus(std::vector<std::string> paths, const text::Tokenizer& tokenizer, std::int64_t limit)
    : paths_(std::move(paths)), tokenizer_(tokenizer), limit_(limit) {
  DEPTHLENS_ASSERT(!paths_.empty());
  if (std::count(paths_.begin(), paths_.end(), "-") > 1) {
    throw util::usage_error({.what = "stdin can be read only once", .where = "--input -"});
  }
  for (const std::string& path : paths_) {
    if (path == "-") stdin_text_.assign(std::istreambuf_iterator<char>(std::cin), {});
    if (path != "-") open_file(path);  // a missing file is told before the first one is read
  }
  rewind();
}

std::unique_ptr<DocumentReader> Corpus::open(const std::string& path) const {
  if (path != "-") return std::make_unique<DocumentReader>(path);
  return std::make_unique<DocumentReader>(std::make_unique<std::istringstream>(stdin_text_), "-");
}

void Corpus::rewind() {
  input_ = 0;
  next_index_ = 0;
  summaries_.clear();
  for (const std::string& path : paths_)
    summaries_.push_back({.path = path, .sha256 = {}, .documents = 0, .tokens = 0, .bytes = 0});
  reader_ = open(paths_.front());
}

void Corpus::finish_input() {
  summaries_[input_].sha256 = reader_->sha256();
  ++input_;
  reader_ = input_ < paths_.size() ? open(paths_[input_]) : nullptr;
}

std::optional<TokenizedDocument> Corpus::next() {
  while (reader_) {
    const bool at_limit = limit_ > 0 && next_index_ >= limit_;
    const std::optional<std::string> text = at_limit ? std::nullopt : reader_->next();
    if (!text) {
      finish_input();
      continue;
    }
    TokenizedDocument document{.index = next_index_++, .input = input_, .tokens = tokenizer_.encode(*text)};
    summaries_[input_].documents += 1;
    summaries_[input_].tokens += static_cast<std::int64_t>(document.tokens.size());
    summaries_[input_].bytes += static_cast<std::int64_t>(text->size());
    return document;
  }
  return std::nullopt;
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
