// Tagged words out of CoNLL-U (universaldependencies.org/format.html).
#include <algorithm>
#include <optional>
#include <string_view>

#include "depthlens/data/task_files.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "task_text.hpp"

namespace depthlens::data {
namespace {

constexpr std::size_t kId = 0, kForm = 1, kUpos = 3, kMisc = 9, kFields = 10;

std::int64_t num_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

bool has_no_space_after(const std::string& misc) {
  const std::vector<std::string> entries = util::split(misc, '|');
  return std::find(entries.begin(), entries.end(), "SpaceAfter=No") != entries.end();
}

class Reader {
 public:
  Reader(const TaskText& file, const std::vector<std::string>& tags, std::int64_t min_prompt_chars)
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
        read_comment(line);
      } else {
        read_word(util::split(line, '\t'));
      }
    }
    finish_sentence();
    return std::move(result_);
  }

 private:
  [[noreturn]] void fail(const std::string& what, const std::string& expected,
                         const std::string& found) const {
    throw util::input_error({.what = what,
                             .where = util::cat(file_.name, ", line ", line_number_),
                             .expected = expected,
                             .found = found});
  }

  void read_comment(std::string_view line) {
    constexpr std::string_view kKey = "# sent_id =";
    if (line.substr(0, kKey.size()) == kKey) sentence_id_ = util::trimmed(line.substr(kKey.size()));
  }

  void read_word(const std::vector<std::string>& fields) {
    if (fields.size() != kFields) {
      fail("not a line of CoNLL-U", util::cat(kFields, " fields with tabs between them"),
           std::to_string(fields.size()));
    }
    const std::string& id = fields[kId];
    if (id.find('.') != std::string::npos) return;  // an empty node, which has no place in the text
    std::int64_t first = 0, last = 0;
    const std::vector<std::string> range = util::split(id, '-');
    if (range.size() > 2 || !util::parse_int(range.front(), first) || !util::parse_int(range.back(), last) ||
        first < 1 || last < first) {
      fail("an unusable word number", "N, N-M or N.M", util::in_quotes(id));
    }
    if (fields[kForm].empty()) fail("a word without a form", "a text", "nothing");
    if (range.size() == 2) {
      inside_until_ = last;
    } else if (first <= inside_until_) {  // its letters were those of the multi-word token
      if (is_wanted(fields[kUpos])) ++result_.dropped["in_multiword_token"];
      return;
    } else if (is_wanted(fields[kUpos])) {
      add_word(id, fields[kForm], fields[kUpos]);
    }
    text_ += separator_ + fields[kForm];
    separator_ = has_no_space_after(fields[kMisc]) ? "" : " ";
  }

  bool is_wanted(const std::string& tag) const {
    return std::find(tags_.begin(), tags_.end(), tag) != tags_.end();
  }

  void add_word(const std::string& id, const std::string& form, const std::string& tag) {
    if (num_characters(text_) < std::max<std::int64_t>(1, min_prompt_chars_)) {
      ++result_.dropped["short_prompt"];
      return;
    }
    const auto sentence = static_cast<std::int64_t>(result_.sentences.size());
    const std::string name = sentence_id_.empty() ? std::to_string(sentence) : sentence_id_;
    result_.items.push_back({.id = name + "." + id,
                             .sentence = sentence,
                             .prompt = text_,
                             .separator = separator_,
                             .word = form,
                             .tag = tag});
  }

  void finish_sentence() {
    if (!text_.empty()) result_.sentences.push_back(text_);
    text_.clear();
    separator_.clear();
    sentence_id_.clear();
    inside_until_ = 0;
  }

  const TaskText& file_;
  const std::vector<std::string>& tags_;
  std::int64_t min_prompt_chars_;
  std::int64_t line_number_ = 0;
  TaggedFile result_;
  // the sentence at hand
  std::string text_, separator_, sentence_id_;
  std::int64_t inside_until_ = 0;  // last word number of the multi-word token
};

}  // namespace

TaggedFile read_tagged_words(const std::string& path, const std::vector<std::string>& tags,
                             std::int64_t min_prompt_chars) {
  const TaskText file = read_task_text(path);
  return Reader(file, tags, min_prompt_chars).read();
}

}  // namespace depthlens::data
