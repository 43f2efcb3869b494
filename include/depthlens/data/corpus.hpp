// Corpora: documents out of files, one at a time, and windows of tokens out of documents.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "depthlens/text/tokenizer.hpp"
#include "depthlens/util/input_file.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::data {

using text::TokenId;

/// The documents of one input, in order, read as a stream: memory does not grow with the file. What the input
/// is follows from its name, that of a compressed file without .gz, .xz or .zst:
/// - `.jsonl`, `.ndjson`, `.json`: the key "text" of one object a line; `.json` may be one array of them
/// - `.txt`: UTF-8 text whose documents are separated by blank lines
/// - others and stdin: JSON lines where the first line that is not blank is a JSON object, else text
/// A warning tells where the content looks like something else. Of JSON every text is a document, the empty
/// one too. Throws input errors that name the file, the line and what is wrong.
class DocumentReader {
 public:
  /// `file` must outlive the reader.
  explicit DocumentReader(util::InputFile& file);
  ~DocumentReader();
  DocumentReader(const DocumentReader&) = delete;
  DocumentReader& operator=(const DocumentReader&) = delete;

  /// The next document, or nothing at the end.
  std::optional<std::string> next();

  /// The `id` of the object that `next` gave last, a text or a number, as JSON; "" where it has none.
  const std::string& id() const { return id_; }

  /// SHA-256 of all bytes of the file; what `next` has not given is skipped. Throws an input error where an
  /// earlier reading of the same `util::InputFile` found other bytes.
  std::string sha256() { return reader_.finish(); }

 private:
  enum class Format { kText, kJsonLines, kJsonArray };

  Format find_format();
  std::string line_place() const;     // "FILE, line N", of the line at hand
  std::string element_place() const;  // "FILE[N]", of the element of an array
  bool next_line(std::string& line);
  std::optional<std::string> next_paragraphs();
  std::optional<std::string> next_json_line();
  std::optional<std::string> next_element();
  char next_character();
  std::string text_of(std::string_view json, const std::string& where);
  void look_at_carriage_returns(std::string_view line);
  void look_at_blanks(std::string_view line);

  void take_id(const util::JsonView& object);

  const std::string name_;
  util::InputReader reader_;
  std::int64_t line_number_ = 0;
  std::optional<std::string> pending_;  // a line that was looked at
  Format format_ = Format::kText;
  bool told_of_crlf_ = false, told_of_carriage_return_ = false, told_of_nul_ = false, told_of_mark_ = false,
       told_of_id_ = false, told_of_blank_ = false;
  std::string id_;
  // of an array
  std::int64_t element_ = 0;
  bool array_ended_ = false;
  std::string_view piece_;
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
  std::int64_t index = 0;  ///< counted over all inputs; of JSON the object's, whatever its text
  std::size_t input = 0;   ///< index of the input it came from
  std::int64_t index_in_input = 0;
  std::string id = {};  ///< as JSON; "" where it has none
  std::vector<TokenId> tokens;
};

/// Several inputs as one stream of tokenized documents, which can be read twice: once to count, once to
/// analyse.
class Corpus {
 public:
  /// At most `limit` documents are read (0: all). The tokenizer must outlive the corpus. Inputs that can be
  /// read only once are kept in `spool_folder` (see `util::InputFile`); where that is "" they are read once.
  /// Throws for inputs that are missing or given twice (`util::check_inputs`).
  Corpus(const std::vector<std::string>& paths, const text::Tokenizer& tokenizer, std::int64_t limit,
         const std::filesystem::path& spool_folder = {});

  /// Starts again at the first document. What is found to differ from the first reading, once an input is at
  /// its end, is an input error.
  void rewind();
  /// The next document, or nothing at the end.
  std::optional<TokenizedDocument> next();
  /// Leaves documents out, unread but for their borders, so that `next` gives document `index`. Goes back to
  /// the beginning where it has been given already.
  void seek(std::int64_t index);
  /// Reads what is left of the inputs. Throws an input error where a second reading found other bytes than
  /// the first.
  void check_unchanged();
  /// One for each input; complete once `next` has returned nothing.
  const std::vector<InputSummary>& summaries() const { return summaries_; }

 private:
  std::optional<std::string> next_text();

  std::vector<std::unique_ptr<util::InputFile>> files_;
  const text::Tokenizer& tokenizer_;
  std::int64_t limit_;
  std::unique_ptr<DocumentReader> reader_;  // of the input at hand, once it is begun
  std::size_t input_ = 0;
  std::int64_t next_index_ = 0;
  std::vector<InputSummary> summaries_;
};

/// Cuts a document into consecutive windows of at most `max_length` tokens, each with `bos` (if any) put
/// before it and counted in. Throws nothing; an empty document gives no window.
std::vector<std::vector<TokenId>> cut_into_windows(const std::vector<TokenId>& tokens,
                                                   std::int64_t max_length, std::optional<TokenId> bos);

}  // namespace depthlens::data
