// CoNLL-U: the text before a word as it stood, ids, what is dropped, and lines that are none.
#include <map>
#include <string>
#include <vector>

#include "depthlens/data/task_files.hpp"
#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"
#include "support/warnings.hpp"

using namespace depthlens;
using data::Drop;
using data::Dropped;
using data::TaggedFile;
using data::TaggedWord;
using test::check_error;
using util::ErrorCode;

namespace {

using Texts = std::vector<std::string>;

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

/// A word after its number, a tab between form and tag.
std::string words(std::vector<std::pair<std::string, std::string>> all) {
  std::string lines;
  for (std::size_t i = 0; i < all.size(); ++i)
    lines += line(std::to_string(i + 1), all[i].first, all[i].second);
  return lines;
}

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
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
  CHECK(file.dropped == Dropped{{Drop::kShortPrompt, 1}});
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
  CHECK(file.dropped == Dropped{{Drop::kInMultiwordToken, 4}});
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

TEST_CASE("CoNLL-U: word numbers run from 1 within a sentence") {
  const std::string low = line("1", "Low", "ADJ"), tide = line("2", "tide", "NOUN");
  check_refused(low + tide + low, {"start anew without a blank line", "line 3", "expected 3", "found 1",
                                   "a blank line stands between two sentences"});
  check_refused(low + tide + "# sent_id = s2\n" + low,
                {"a sentence begins in another one", "line 3", "a blank line", "'# sent_id = s2'"});
  check_refused(low + tide + "# text = Low\n" + low, {"a sentence begins in another one", "line 3"});
  check_refused(low + line("3", "tide", "NOUN"),
                {"a word number out of order", "line 2", "expected 2", "found 3"});
  check_refused(low + tide + tide, {"line 3", "expected 3", "found 2"});
  check_refused(tide + low, {"line 1", "expected 1", "found 2"});
  check_refused("\n\n" + tide, {"line 3", "expected 1", "found 2"});
  CHECK(read(low + "# a remark\n" + tide, {"NOUN"}).items.size() == 1);
}

TEST_CASE("CoNLL-U: numbers of empty nodes and of multi-word tokens") {
  const std::string low = line("1", "Low", "ADJ"), tide = line("2", "tide", "NOUN");
  CHECK(read(line("0.1", "x", "X") + low + line("1.1", "y", "X") + line("1.2", "z", "X") + tide, {"NOUN"})
            .sentences == Texts{"Low tide"});
  check_refused(low + line("2.1", "x", "X") + tide,
                {"the number of an empty node", "line 2", "expected 1.1", "2.1"});
  check_refused(low + line("1.2", "x", "X"), {"line 2", "expected 1.1"});
  check_refused(low + line("1.1", "x", "X") + line("1.1", "x", "X"), {"line 3", "expected 1.2"});
  check_refused(line("1-2", "im", "_") + low,
                {"reaches beyond its sentence", "line 1", "the words 1 to 2", "1 words"});
  check_refused(low + line("2-3", "tides", "_") + tide + "\n" + low,
                {"reaches beyond its sentence", "line 2"});
  check_refused(line("1-2", "im", "_") + line("1-2", "im", "_") + low,
                {"overlap", "line 2", "the words of 1-2"});
  check_refused(line("1-3", "im", "_") + low + line("2-3", "im", "_"), {"overlap", "line 3", "'2-3'"});
  check_refused(low + line("1-2", "im", "_") + tide, {"line 2", "expected 2", "found 1"});
}

TEST_CASE("CoNLL-U: a multi-word token of one word is that word") {
  const TaggedFile file =
      read(line("1", "Our", "DET") + line("2", "small", "ADJ") + line("3-3", "mill", "_", "SpaceAfter=No") +
               line("3", "Mill", "NOUN") + line("4", "!", "PUNCT"),
           {"NOUN", "PUNCT"});
  CHECK(file.sentences == Texts{"Our small mill!"});
  REQUIRE(file.items.size() == 2);
  check_word(file.items[0], "0.3", "Our small", " ", "mill", "NOUN");  // the letters that stand in the text
  check_word(file.items[1], "0.4", "Our small mill", "", "!", "PUNCT");
  CHECK(file.dropped.empty());
}

TEST_CASE("CoNLL-U: '# text' tells the spaces, whatever the forms say") {
  const std::string dog = words({{"The", "DET"}, {"miller", "NOUN"}, {"'s", "PART"}, {"dog", "NOUN"}});
  TaggedFile file;
  const Texts told = test::warnings_of([&] {
    file = read("# text = The miller's  dog\n" + dog + "\n" + dog + "\n#text=The miller 's dog\n" + dog,
                {"PART", "NOUN"});
  });
  CHECK(file.sentences == Texts{"The miller's  dog", "The miller 's dog", "The miller 's dog"});
  REQUIRE(file.items.size() == 9);
  check_word(file.items[0], "0.2", "The", " ", "miller", "NOUN");
  check_word(file.items[1], "0.3", "The miller", "", "'s", "PART");
  check_word(file.items[2], "0.4", "The miller's", " ", "dog", "NOUN");
  check_word(file.items[5], "1.4", "The miller 's", " ", "dog", "NOUN");
  REQUIRE(told.size() == 2);
  CHECK(holds(told[0],
              "x.conllu: sentences whose '# text' has other spaces than SpaceAfter says: 1 (first: line 2"));
  CHECK(holds(told[1], "sentences with the text of an earlier one: 1"));
  // Forms and text may differ in spaces within a word, and in spaces that do not break.
  const TaggedFile spaces = read(
      "# text = 10\u00A0000 sacks\u00A0!\n" + words({{"10 000", "NUM"}, {"sacks", "NOUN"}, {"!", "PUNCT"}}),
      {"NOUN", "PUNCT"});
  REQUIRE(spaces.items.size() == 2);
  check_word(spaces.items[0], "0.2", "10\u00A0000", " ", "sacks", "NOUN");
  check_word(spaces.items[1], "0.3", "10\u00A0000 sacks\u00A0", "", "!", "PUNCT");
  // Multi-word tokens have their letters there, empty nodes and words within have none.
  const TaggedFile joined =
      read("# text = Im Dom.\n" + line("1-2", "Im", "_") + line("1", "In", "ADP") + line("2", "dem", "DET") +
               line("2.1", "x", "X") + line("3", "Dom", "NOUN") + line("4", ".", "PUNCT"),
           {"NOUN", "PUNCT"});
  check_word(joined.items[0], "0.3", "Im", " ", "Dom", "NOUN");
  check_word(joined.items[1], "0.4", "Im Dom", "", ".", "PUNCT");
}

TEST_CASE("CoNLL-U: forms that are not those of '# text' are refused") {
  const std::string text = "# text = The old mill turns.\n";
  const auto refused = [&](const std::string& lines, const Texts& parts) {
    check_refused(text + lines, parts);
  };
  refused(words({{"The", "DET"}, {"mill", "NOUN"}, {"turns", "VERB"}, {".", "PUNCT"}}),  // missing
          {"the forms are not those of '# text'", "line 3", "expected 'old mill turns.'", "found 'mill'"});
  refused(words({{"The", "DET"}, {"The", "DET"}, {"old", "ADJ"}}), {"line 3", "found 'The'"});     // repeated
  refused(words({{"The", "DET"}, {"mill", "NOUN"}, {"old", "ADJ"}}), {"line 3", "found 'mill'"});  // swapped
  refused(words({{"The", "DET"}, {"old", "ADJ"}}),
          {"line 3", "expected 'mill turns.'", "the end of the sentence"});
  refused(words({{"The", "DET"},
                 {"old", "ADJ"},
                 {"mill", "NOUN"},
                 {"turns", "VERB"},
                 {".", "PUNCT"},
                 {".", "PUNCT"}}),
          {"line 7", "expected its end", "found '.'"});
  refused(words({{"The", "DET"}, {"_", "ADJ"}, {"mill", "NOUN"}}), {"line 3", "found '_'"});  // withheld
}

TEST_CASE("CoNLL-U: SpacesAfter and SpacesBefore") {
  const TaggedFile file =
      read(line("1", "One", "NUM", "SpacesBefore=\\s\\s|SpacesAfter=\\s\\n") +
               line("2", "two", "NUM", "SpacesAfter=x") + line("3", "three", "NUM", "SpacesBefore=\\t") +
               line("4", ",", "PUNCT", "SpaceAfter=No|SpacesAfter=\\s|SpacesBefore=\\t") +
               line("5", "four", "NUM", "SpacesAfter=\\n"),
           {"NUM"});
  CHECK(file.sentences == Texts{"One \ntwo \tthree \t,four"});
  REQUIRE(file.items.size() == 3);
  check_word(file.items[0], "0.2", "One", " ", "two", "NUM");
  check_word(file.items[1], "0.3", "One \ntwo", " ", "three", "NUM");
  check_word(file.items[2], "0.5", "One \ntwo \tthree \t,", "", "four", "NUM");
}

TEST_CASE("CoNLL-U: forms and tags that are withheld") {
  const Texts forms = {"forms are withheld", "line 1", "found '_'"};
  check_refused(words({{"_", "DET"}, {"_", "NOUN"}}), forms);
  check_refused("# text = _ _\n" + words({{"_", "PUNCT"}, {"_", "PUNCT"}}), {"forms are withheld", "line 2"});
  check_refused(words({{"The", "DET"}, {"_", "NOUN"}}), forms);  // no noun is an underscore
  check_refused(line("1-2", "_", "_") + words({{"In", "ADP"}, {"dem", "DET"}}), forms);
  // An underscore may be a sign of the text.
  const std::string sign = "1\tpress\t_\tVERB\t_\t_\t_\t_\t_\t_\n2\t_\t_\tSYM\t_\t_\t_\t_\t_\t_\n";
  CHECK(read(sign, {"SYM"}).items.size() == 1);
  CHECK(
      read("# text = press _ twice\n" + words({{"press", "VERB"}, {"_", "NOUN"}, {"twice", "ADV"}}), {"NOUN"})
          .items.at(0)
          .word == "_");

  const std::string blind = words({{"The", "_"}, {"tide", "_"}});
  check_refused(blind, {"no word has a part of speech", "x.conllu", "such as NOUN", "found line 1, '_'"});
  check_refused(words({{"The", "DT"}, {"tide", "NN"}}), {"no word has a part of speech", "'DT'"});
  const Texts told = test::warnings_of([&] { read(blind + "\n" + words({{"Low", "ADJ"}}), {"NOUN"}); });
  REQUIRE(told.size() == 1);
  CHECK(holds(told[0], "words whose tag is none of UPOS: 2 (first: line 1, '_'); they belong to no class"));
}

TEST_CASE("CoNLL-U: a sent_id that stands twice is reported") {
  const std::string low = words({{"Low", "ADJ"}, {"tide", "NOUN"}}) + "\n";
  const Texts told = test::warnings_of([&] {
    const TaggedFile file =
        read("# sent_id = a\n" + low + "# sent_id = b\n" + low + "# sent_id = a\n" + low, {"NOUN"});
    CHECK(file.items.size() == 3);
  });
  REQUIRE(told.size() == 2);
  CHECK(holds(told[0], "sentences with the sent_id of another one: 1 (first: line 10, 'a')"));
  CHECK(holds(
      told[1],
      "sentences with the text of an earlier one: 2 (first: line 6, 'Low tide'); the words of each count"));
}

TEST_CASE("CoNLL-U: forms may hold spaces and any letters") {
  const TaggedFile file = read(line("1", "10 000", "NUM") + line("2", "Bücher", "NOUN"), {"NOUN"});
  REQUIRE(file.items.size() == 1);
  check_word(file.items[0], "0.2", "10 000", " ", "Bücher", "NOUN");
}

TEST_CASE("CoNLL-U: the shortest prompt is reported in characters, not bytes") {
  // "Äöü ßé" has 6 characters and 11 bytes.
  const std::string text = line("1", "Äöü", "ADJ") + line("2", "ßé", "NOUN") + line("3", "x", "NOUN");
  CHECK(read(text, {"NOUN"}, 3).items.size() == 2);
  CHECK(read(text, {"NOUN"}, 4).items.size() == 1);
  CHECK(read(text, {"NOUN"}, 6).items.size() == 1);
  const TaggedFile none = read(text, {"NOUN"}, 7);
  CHECK(none.items.empty());
  CHECK(none.dropped == Dropped{{Drop::kShortPrompt, 2}});
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
  check_refused(line("1", " the", "DET"), {"white space around a form", "line 1", "' the'"});
  check_refused(line("1", "\u00A0", "PUNCT"), {"a word without a form", "line 1"});
  check_refused("{\"prompt\": \"a\"}\n", {"not a line of CoNLL-U", "found 1"});
  check_refused(line("1", "\xFF", "NOUN"), {"not UTF-8 text", "byte 3"});
}
