// CoNLL-U: the text before a word as it stood, ids, what is dropped, and lines that are none.
#include <map>
#include <string>
#include <vector>

#include "depthlens/data/task_files.hpp"
#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using data::TaggedFile;
using data::TaggedWord;
using test::check_error;
using util::ErrorCode;

namespace {

using Texts = std::vector<std::string>;
using Dropped = std::map<std::string, std::int64_t>;

std::string line(const std::string& id, const std::string& form, const std::string& upos,
                 const std::string& misc = "_") {
  return id + "\t" + form + "\tlemma\t" + upos + "\tX\t_\t0\troot\t_\t" + misc + "\n";
}

TaggedFile read(const std::string& bytes, const Texts& tags, std::int64_t min_prompt_chars = 0) {
  const test::TemporaryFolder folder;
  return data::read_tagged_words(folder.write("x.conllu", bytes).string(), tags, min_prompt_chars);
}

void check_word(const TaggedWord& word, const std::string& id, const std::string& prompt,
                const std::string& separator, const std::string& form, const std::string& tag) {
  CHECK(word.id == id);
  CHECK(word.prompt == prompt);
  CHECK(word.separator == separator);
  CHECK(word.word == form);
  CHECK(word.tag == tag);
}

void check_refused(const std::string& bytes, const Texts& parts) {
  INFO(bytes);
  check_error(ErrorCode::kInput, parts, [&] { read(bytes, {"NOUN"}); });
}

/// "The tide (it) turns."
const std::string kTide = "# sent_id = harbour-1\n# text = The tide (it) turns.\n" + line("1", "The", "DET") +
                          line("2", "tide", "NOUN") + line("3", "(", "PUNCT", "SpaceAfter=No") +
                          line("4", "it", "PRON", "Gloss=x|SpaceAfter=No") + line("5", ")", "PUNCT") +
                          line("6", "turns", "VERB", "SpaceAfter=No") + line("7", ".", "PUNCT") + "\n";

}  // namespace

TEST_CASE("CoNLL-U: words with the text before them") {
  const TaggedFile file = read(kTide, {"NOUN", "PUNCT", "VERB", "PRON", "DET"});
  CHECK(file.sentences == Texts{"The tide (it) turns."});
  REQUIRE(file.items.size() == 6);
  check_word(file.items[0], "harbour-1.2", "The", " ", "tide", "NOUN");
  check_word(file.items[1], "harbour-1.3", "The tide", " ", "(", "PUNCT");
  check_word(file.items[2], "harbour-1.4", "The tide (", "", "it", "PRON");
  check_word(file.items[3], "harbour-1.5", "The tide (it", "", ")", "PUNCT");
  check_word(file.items[4], "harbour-1.6", "The tide (it)", " ", "turns", "VERB");
  check_word(file.items[5], "harbour-1.7", "The tide (it) turns", "", ".", "PUNCT");
  for (const TaggedWord& word : file.items) CHECK(word.sentence == 0);
  // The first word of a sentence has nothing before it.
  CHECK(file.dropped == Dropped{{"short_prompt", 1}});
  CHECK(read(kTide, {"VERB"}).items.size() == 1);
  CHECK(read(kTide, {}).items.empty());
}

TEST_CASE("CoNLL-U: line ends, missing last line end, white space for a blank line, byte order mark") {
  std::string with_returns;
  for (const char c : kTide) with_returns += c == '\n' ? "\r\n" : std::string(1, c);
  const std::string cut = kTide.substr(0, kTide.size() - 2);
  for (const std::string& bytes : {with_returns, cut, "\xEF\xBB\xBF" + kTide, "\n\n" + kTide + " \n\n"}) {
    const TaggedFile file = read(bytes, {"PUNCT"});
    CHECK(file.sentences == Texts{"The tide (it) turns."});
    REQUIRE(file.items.size() == 3);
    check_word(file.items[2], "harbour-1.7", "The tide (it) turns", "", ".", "PUNCT");
  }
}

TEST_CASE("CoNLL-U: sentences are numbered, and named by sent_id where they have one") {
  const TaggedFile file =
      read(line("1", "Low", "ADJ") + line("2", "tide", "NOUN") + "\n" + kTide + "\n# only a comment\n\n" +
               line("1", "High", "ADJ") + line("2", "tide", "NOUN"),
           {"NOUN"});
  CHECK(file.sentences == Texts{"Low tide", "The tide (it) turns.", "High tide"});
  REQUIRE(file.items.size() == 3);
  check_word(file.items[0], "0.2", "Low", " ", "tide", "NOUN");
  CHECK(file.items[1].id == "harbour-1.2");
  check_word(file.items[2], "2.2", "High", " ", "tide", "NOUN");  // the id before it is not its own
  CHECK(file.items[0].sentence == 0);
  CHECK(file.items[1].sentence == 1);
  CHECK(file.items[2].sentence == 2);
}

TEST_CASE("CoNLL-U: of a multi-word token the text has the whole, and its words are no items") {
  const TaggedFile file = read(
      line("1", "Sailors", "NOUN") + line("2-3", "don't", "_") + line("2", "do", "AUX") +
          line("3", "n't", "PART") + line("4", "drown", "VERB") + line("5-6", "gonna", "_", "SpaceAfter=No") +
          line("5", "gon", "VERB", "SpaceAfter=No") + line("6", "na", "PART") + line("7", "swim", "VERB"),
      {"AUX", "PART", "VERB"});
  CHECK(file.sentences == Texts{"Sailors don't drown gonnaswim"});
  REQUIRE(file.items.size() == 2);
  check_word(file.items[0], "0.4", "Sailors don't", " ", "drown", "VERB");
  check_word(file.items[1], "0.7", "Sailors don't drown gonna", "", "swim", "VERB");
  CHECK(file.dropped == Dropped{{"in_multiword_token", 4}});
}

TEST_CASE("CoNLL-U: a multi-word token does not reach into the next sentence") {
  const TaggedFile file = read(line("1-2", "im", "_") + line("1", "in", "ADP") + line("2", "dem", "DET") +
                                   "\n" + line("1", "Low", "ADJ") + line("2", "tide", "NOUN"),
                               {"NOUN"});
  REQUIRE(file.items.size() == 1);
  check_word(file.items[0], "1.2", "Low", " ", "tide", "NOUN");
}

TEST_CASE("CoNLL-U: empty nodes have no place in the text") {
  const TaggedFile file = read(line("1", "Sue", "PROPN") + line("2", "likes", "VERB") +
                                   line("2.1", "likes", "VERB") + line("3", "tea", "NOUN"),
                               {"VERB", "NOUN"});
  CHECK(file.sentences == Texts{"Sue likes tea"});
  REQUIRE(file.items.size() == 2);
  check_word(file.items[1], "0.3", "Sue likes", " ", "tea", "NOUN");
}

TEST_CASE("CoNLL-U: forms may hold spaces and any letters") {
  const TaggedFile file = read(line("1", "10 000", "NUM") + line("2", "Bücher", "NOUN"), {"NOUN"});
  REQUIRE(file.items.size() == 1);
  check_word(file.items[0], "0.2", "10 000", " ", "Bücher", "NOUN");
}

TEST_CASE("CoNLL-U: the shortest prompt is told in characters, not bytes") {
  // "Äöü ßé" has 6 characters and 11 bytes.
  const std::string text = line("1", "Äöü", "ADJ") + line("2", "ßé", "NOUN") + line("3", "x", "NOUN");
  CHECK(read(text, {"NOUN"}, 3).items.size() == 2);
  CHECK(read(text, {"NOUN"}, 4).items.size() == 1);
  CHECK(read(text, {"NOUN"}, 6).items.size() == 1);
  const TaggedFile none = read(text, {"NOUN"}, 7);
  CHECK(none.items.empty());
  CHECK(none.dropped == Dropped{{"short_prompt", 2}});
}

TEST_CASE("CoNLL-U: files without sentences") {
  for (const char* bytes : {"", "\n", "# text = nothing\n", "# no end"}) {
    const TaggedFile file = read(bytes, {"NOUN"});
    CHECK(file.items.empty());
    CHECK(file.sentences.empty());
  }
}

TEST_CASE("CoNLL-U: lines that are none") {
  check_refused("1\tThe\tthe\tDET\n", {"not a line of CoNLL-U", "x.conllu, line 1", "10 fields", "found 4"});
  check_refused(kTide + "1 tide NOUN\n", {"line 11", "found 1"});
  check_refused("1" + std::string(10, '\t') + "\n", {"line 1", "found 11"});
  for (const char* id : {"x", "0", "-1", "1-", "-", "3-2", "1-2-3", "", "99999999999999999999", "1a"}) {
    check_refused(line(id, "a", "NOUN"), {"an unusable word number", "line 1", "N, N-M or N.M"});
  }
  check_refused(line("1", "", "NOUN"), {"a word without a form", "line 1"});
  check_refused("{\"prompt\": \"a\"}\n", {"not a line of CoNLL-U", "found 1"});
  check_refused(line("1", "\xFF", "NOUN"), {"not UTF-8 text", "byte 3"});
}
