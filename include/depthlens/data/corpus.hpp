// Corpora: documents out of files, one at a time, and windows of tokens out of documents.
#pragma once

#include <cstdint>
#include <istream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/text/tokenizer.hpp"
#include "depthlens/util/files.hpp"

namespace depthlens::data {

using text::TokenId;

/// The documents of one input, in order, read as a stream: memory does not grow with the file. `.jsonl`: the
/// key "text" of one object a line. All else is UTF-8 text whose documents are separated by blank lines.
/// Documents of nothing but white space are left out. Throws input errors that name the file, the line and
/// what is wrong.
class DocumentReader {
 public:
  explicit DocumentReader(const std::string& path);
  /// Reads `stream` as a file called `name`.
  DocumentReader(std::unique_ptr<std::istream> stream, std::string name);
  ~DocumentReader();
  DocumentReader(const DocumentReader&) = delete;
  DocumentReader& operator=(const DocumentReader&) = delete;

  /// The next document, or nothing at the end.
  std::optional<std::string> next();

  /// SHA-256 of all bytes, once `next` has returned nothing.
  std::string sha256();

 private:
  bool next_line(std::string& line);
  std::optional<std::string> next_json();
  std::optional<std::string> next_paragraphs();

  std::unique_ptr<std::istream> stream_;
  std::string name_;
  bool json_lines_ = false;
  std::int64_t line_number_ = 0;
  util::Sha256 hash_;
};

/// What is known of an input after it was read to its end, or to the limit of documents.
struct InputSummary {
  std::string path;    ///< "-" for stdin
  std::string sha256;  ///< of the whole file
  std::int64_t documents = 0;
  std::int64_t tokens = 0;  ///< of the text, without BOS
  std::int64_t bytes =
      0;  ///< of the documents' texts in UTF-8: without what separates them or JSON around them
};

/// One document as tokens, without BOS.
struct TokenizedDocument {
  std::int64_t index = 0;  ///< counted over all inputs
  std::size_t input = 0;   ///< index of the input it came from
  std::vector<TokenId> tokens;
};

/// Several inputs as one stream of tokenized documents. stdin ("-") is kept in memory, so that a corpus can
/// be read twice: once to count, once to analyse.
class Corpus {
 public:
  /// At most `limit` documents are read (0: all). The tokenizer must outlive the corpus.
  Corpus(std::vector<std::string> paths, const text::Tokenizer& tokenizer, std::int64_t limit);

  /// Starts again at the first document.
  void rewind();
  /// The next document, or nothing at the end.
  std::optional<TokenizedDocument> next();
  /// One for each input; complete once `next` has returned nothing.
  const std::vector<InputSummary>& summaries() const { return summaries_; }

 private:
  std::unique_ptr<DocumentReader> open(const std::string& path) const;
  void finish_input();

  std::vector<std::string> paths_;
  const text::Tokenizer& tokenizer_;
  std::int64_t limit_;
  std::string stdin_text_;
  std::unique_ptr<DocumentReader> reader_;
  std::size_t input_ = 0;
  std::int64_t next_index_ = 0;
  std::vector<InputSummary> summaries_;
};

/// Cuts a document into consecutive windows of at most `max_length` tokens, each with `bos` (if any) put
/// before it and counted in. Throws nothing; an empty document gives no window.
std::vector<std::vector<TokenId>> cut_into_windows(const std::vector<TokenId>& tokens,
                                                   std::int64_t max_length, std::optional<TokenId> bos);

}  // namespace depthlens::data
