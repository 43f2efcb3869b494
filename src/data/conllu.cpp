// Tagged words out of CoNLL-U (universaldependencies.org/format.html).
#include <algorithm>
#include <set>
#include <string_view>

#include "depthlens/data/task_files.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "tally.hpp"
#include "task_text.hpp"

namespace depthlens::data {
namespace {

constexpr std::size_t kId = 0, kForm = 1, kLemma = 2, kUpos = 3, kMisc = 9, kFields = 10;

std::int64_t num_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

bool is_white_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

/// The end of the code point at `at`.
std::size_t after_character(std::string_view text, std::size_t at) {
  char32_t c = 0;
  int length = 1;
  util::decode_utf8(text, at, c, length);
  return at + static_cast<std::size_t>(length);
}

/// The first place from `at` on that holds no white space, not even a space that does not break.
std::size_t skip_white_space(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    char32_t c = 0;
    int length = 1;
    util::decode_utf8(text, at, c, length);
    if (!is_white_space(c)) break;
    at += static_cast<std::size_t>(length);
  }
  return at;
}

/// White space as UDPipe and Stanza write it, with \s, \t, \r and \n; one space where it is none.
std::string unescaped(std::string_view text) {
  constexpr std::string_view kLetters = "strn", kMeant = " \t\r\n";
  std::string space;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::size_t letter =
        text[i] == '\\' && i + 1 < text.size() ? kLetters.find(text[i + 1]) : std::string_view::npos;
    space += letter == std::string_view::npos ? text[i] : kMeant[letter];
    if (letter != std::string_view::npos) ++i;
  }
  return skip_white_space(space, 0) == space.size() ? space : " ";
}

/// What MISC says of the white space around a token.
struct Spaces {
  std::string before, after = " ";

  explicit Spaces(std::string_view misc) {
    bool none_after = false;
    for (const std::string& entry : util::split(misc, '|')) {
      const std::size_t equals = entry.find('=');
      if (equals == std::string::npos) continue;
      const std::string_view key(entry.data(), equals), value = std::string_view(entry).substr(equals + 1);
      if (key == "SpacesBefore") before = unescaped(value);
      if (key == "SpacesAfter") after = unescaped(value);
      none_after = none_after || (key == "SpaceAfter" && value == "No");
    }
    if (none_after) after.clear();
  }
};

/// Letters of the sentence: a word, or a multi-word token.
struct Token {
  std::string form;
  Spaces spaces;
  std::int64_t line;
  std::string word = {};           ///< its number; "" of a multi-word token
  std::string tag = {};            ///< of a word
  std::size_t begin = 0, end = 0;  ///< its place in the sentence's text
};

/// A multi-word token, N-M, whose words follow.
struct Range {
  std::int64_t first = 0, last = 0, line = 0;
};

class SentenceReader {
 public:
  SentenceReader(const TaskText& file, const std::vector<std::string>& tags, std::int64_t min_prompt_chars)
      : file_(file), tags_(tags), min_prompt_chars_(min_prompt_chars) {
    result_.sha256 = file.sha256;
  }

  TaggedFile read() {
    const std::string_view text = file_.text;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      std::string_view line = text.substr(begin, end - begin);
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      begin = end + 1;
      ++line_number_;
      if (util::trimmed(line).empty()) {
        finish_sentence();
      } else if (line.front() == '#') {
        read_comment(line.substr(1));
      } else {
        read_line(line);
      }
    }
    finish_sentence();
    finish_file();
    return std::move(result_);
  }

 private:
  [[noreturn]] void fail(std::int64_t line, util::ErrorText text) const {
    text.where = util::cat(file_.name, ", line ", line);
    throw util::input_error(std::move(text));
  }
  [[noreturn]] void fail(util::ErrorText text) const { fail(line_number_, std::move(text)); }

  void read_comment(std::string_view comment) {
    const std::size_t equals = std::min(comment.find('='), comment.size());
    const std::string_view key = util::trimmed(comment.substr(0, equals));
    if (key != "sent_id" && key != "text") return;
    if (!tokens_.empty()) {
      fail({.what = "a sentence begins in another one",
            .expected = "a blank line before it",
            .found = util::in_quotes(util::cat("#", comment))});
    }
    const std::string_view value = util::trimmed(comment.substr(std::min(equals + 1, comment.size())));
    (key == "text" ? stated_text_ : sentence_id_) = value;
  }

  void read_line(std::string_view line) {
    const std::vector<std::string> fields = util::split(line, '\t');
    if (fields.size() != kFields) {
      fail({.what = "not a line of CoNLL-U",
            .expected = util::cat(kFields, " fields with tabs between them"),
            .found = std::to_string(fields.size())});
    }
    if (fields[kId].find('.') != std::string::npos) {
      read_empty_node(fields[kId]);
      return;
    }
    const Range range = number_of(fields[kId]);
    check_number(range);
    const std::string& form = fields[kForm];
    if (skip_white_space(form, 0) == form.size())
      fail({.what = "a word without a form", .expected = "a text", .found = "nothing"});
    if (util::trimmed(form).size() != form.size())
      fail({.what = "white space around a form", .expected = "none", .found = util::in_quotes(form)});
    if (fields[kId].find('-') != std::string::npos) {
      if (range.first <= range_.last) {
        fail({.what = "multi-word tokens that overlap",
              .expected = util::cat("the words of ", range_.first, "-", range_.last),
              .found = util::in_quotes(fields[kId])});
      }
      range_ = range;
      lacks_form_ = lacks_form_ || form == "_";
      tokens_.push_back({.form = form, .spaces = Spaces(fields[kMisc]), .line = line_number_});
    } else {
      read_word(fields);
    }
  }

  Range number_of(const std::string& id) const {
    Range range{.line = line_number_};
    const std::vector<std::string> parts = util::split(id, '-');
    if (parts.size() > 2 || !util::parse_int(parts.front(), range.first) ||
        !util::parse_int(parts.back(), range.last) || range.first < 1 || range.last < range.first) {
      fail({.what = "an unusable word number", .expected = "N, N-M or N.M", .found = util::in_quotes(id)});
    }
    return range;
  }

  void check_number(const Range& range) const {
    if (range.first == num_words_ + 1) return;
    const bool anew = range.first == 1;
    fail({.what = anew ? "word numbers start anew without a blank line" : "a word number out of order",
          .expected = std::to_string(num_words_ + 1),
          .found = std::to_string(range.first),
          .hint = anew ? "a blank line stands between two sentences" : ""});
  }

  /// Has no place in the text. Its number is that of the word before it, and its own among those there.
  void read_empty_node(const std::string& id) {
    const std::string expected = util::cat(num_words_, ".", ++num_empty_nodes_);
    if (id != expected)
      fail({.what = "the number of an empty node", .expected = expected, .found = util::in_quotes(id)});
  }

  void read_word(const std::vector<std::string>& fields) {
    ++num_words_;
    num_empty_nodes_ = 0;
    count_tag(fields[kUpos]);
    const bool inside = num_words_ <= range_.last;
    if (inside && range_.first < range_.last) {  // its letters were those of the multi-word token
      if (is_wanted(fields[kUpos])) ++result_.dropped[Drop::kInMultiwordToken];
      return;
    }
    // A range of one word is that word, and the letters are those that the range has.
    if (!inside)
      tokens_.push_back({.form = fields[kForm], .spaces = Spaces(fields[kMisc]), .line = line_number_});
    tokens_.back().word = fields[kId];
    tokens_.back().tag = fields[kUpos];
    if (tokens_.back().form == "_") {
      static const std::set<std::string> kOfSigns = {"PUNCT", "SYM", "X", "_"};
      lacks_form_ = lacks_form_ || fields[kLemma] != "_" || kOfSigns.count(fields[kUpos]) == 0;
    }
  }

  void count_tag(const std::string& tag) {
    ++num_words_of_file_;
    if (std::find(kUposTags.begin(), kUposTags.end(), tag) == kUposTags.end())
      untagged_.add(util::cat("line ", line_number_, ", ", util::in_quotes(tag)));
  }

  bool is_wanted(const std::string& tag) const {
    return std::find(tags_.begin(), tags_.end(), tag) != tags_.end();
  }

  void finish_sentence() {
    if (range_.last > num_words_) {
      fail(range_.line, {.what = "a multi-word token that reaches beyond its sentence",
                         .expected = util::cat("the words ", range_.first, " to ", range_.last),
                         .found = util::cat(num_words_, " words")});
    }
    if (!tokens_.empty()) {
      check_forms();
      std::string text = placed_tokens();
      if (!stated_text_.empty()) text = align(text);
      const std::string name = name_of_sentence();
      const std::size_t before = result_.items.size();
      for (const Token& token : tokens_) {
        if (is_wanted(token.tag)) add_word(token, name, text);
      }
      if (result_.items.size() > before && !texts_.insert(text).second)
        repeated_texts_.add(util::cat("line ", tokens_.front().line, ", ", util::in_quotes(text)));
      result_.sentences.push_back(std::move(text));
    }
    tokens_.clear();
    stated_text_.clear();
    sentence_id_.clear();
    range_ = {};
    num_words_ = num_empty_nodes_ = 0;
    lacks_form_ = false;
  }

  /// Treebanks whose text may not be given away have "_" in its place.
  void check_forms() const {
    const bool none =
        std::all_of(tokens_.begin(), tokens_.end(), [](const Token& t) { return t.form == "_"; });
    if ((none && tokens_.size() > 1) || (lacks_form_ && stated_text_.empty())) {
      fail(tokens_.front().line, {.what = "forms are withheld",
                                  .expected = "the words of the sentence",
                                  .found = "'_'",
                                  .hint = "such a treebank tells how to put its text in"});
    }
  }

  /// The sentence's text as forms and MISC tell it; places the tokens there.
  std::string placed_tokens() {
    std::string text;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      Token& token = tokens_[i];
      if (i > 0) text += tokens_[i - 1].spaces.after + token.spaces.before;
      token.begin = text.size();
      text += token.form;
      token.end = text.size();
    }
    return text;
  }

  /// Places the tokens in the text that the sentence states, whatever its white space, and returns it.
  std::string align(const std::string& built) {
    std::size_t at = 0;
    for (Token& token : tokens_) {
      at = skip_white_space(stated_text_, at);
      token.begin = at;
      for (std::size_t f = skip_white_space(token.form, 0); f < token.form.size();) {
        at = skip_white_space(stated_text_, at);
        const std::size_t end = after_character(token.form, f);
        if (stated_text_.compare(at, end - f, token.form, f, end - f) != 0)
          fail_to_align(token.line, token.begin, util::in_quotes(token.form));
        at += end - f;
        f = skip_white_space(token.form, end);
      }
      token.end = at;
    }
    at = skip_white_space(stated_text_, at);
    if (at < stated_text_.size()) fail_to_align(tokens_.back().line, at, "the end of the sentence");
    if (stated_text_ != built)
      other_spaces_.add(util::cat("line ", tokens_.front().line, ", ", util::in_quotes(stated_text_)));
    return std::move(stated_text_);
  }

  [[noreturn]] void fail_to_align(std::int64_t line, std::size_t at, const std::string& found) const {
    const std::string rest = stated_text_.substr(at);
    fail(line,
         {.what = "the forms are not those of '# text'",
          .expected = rest.empty() ? "its end" : util::in_quotes(rest),
          .found = found,
          .hint = "lines are missing, repeated or swapped; without its '# text' a sentence is read as its "
                  "forms say"});
  }

  std::string name_of_sentence() {
    const std::string name = sentence_id_.empty() ? std::to_string(result_.sentences.size()) : sentence_id_;
    if (!names_.insert(name).second)
      repeated_names_.add(util::cat("line ", tokens_.front().line, ", ", util::in_quotes(name)));
    return name;
  }

  void add_word(const Token& token, const std::string& sentence, const std::string& text) {
    const std::string_view prompt = util::trimmed(std::string_view(text).substr(0, token.begin));
    if (num_characters(prompt) < std::max<std::int64_t>(1, min_prompt_chars_)) {
      ++result_.dropped[Drop::kShortPrompt];
      return;
    }
    result_.items.push_back({.id = sentence + "." + token.word,
                             .sentence = static_cast<std::int64_t>(result_.sentences.size()),
                             .prompt = std::string(prompt),
                             .separator = prompt.size() < token.begin ? " " : "",
                             .word = text.substr(token.begin, token.end - token.begin),
                             .tag = token.tag});
  }

  void finish_file() const {
    if (untagged_.count > 0 && untagged_.count == num_words_of_file_) {
      throw util::input_error({.what = "no word has a part of speech",
                               .where = file_.name,
                               .expected = "tags of UPOS in the fourth field, such as NOUN",
                               .found = untagged_.first,
                               .hint = "tags may be withheld, or stand in another field"});
    }
    untagged_.warn(file_.name, "words whose tag is none of UPOS", "they belong to no class");
    other_spaces_.warn(file_.name, "sentences whose '# text' has other spaces than SpaceAfter says",
                       "the prompts are those of '# text'");
    repeated_names_.warn(file_.name, "sentences with the sent_id of another one",
                         "records tell their words by 'document' only");
    repeated_texts_.warn(file_.name, "sentences with the text of an earlier one", "the words of each count");
  }

  const TaskText& file_;
  const std::vector<std::string>& tags_;
  std::int64_t min_prompt_chars_;
  std::int64_t line_number_ = 0, num_words_of_file_ = 0;
  TaggedFile result_;
  std::set<std::string> names_, texts_;
  Tally untagged_, other_spaces_, repeated_names_, repeated_texts_;
  // the sentence at hand
  std::string sentence_id_, stated_text_;
  std::vector<Token> tokens_;
  Range range_;  // the last one
  std::int64_t num_words_ = 0, num_empty_nodes_ = 0;
  bool lacks_form_ = false;
};

}  // namespace

TaggedFile read_tagged_words(const std::string& path, const std::vector<std::string>& tags,
                             std::int64_t min_prompt_chars) {
  const TaskText file = read_task_text(path);
  return SentenceReader(file, tags, min_prompt_chars).read();
}

}  // namespace depthlens::data
