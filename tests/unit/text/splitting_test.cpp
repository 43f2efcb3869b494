// From a text to words: patterns, and the steps of pre-tokenizers and normalizers.
#include "helpers.hpp"
#include "text/pattern.hpp"
#include "text/pre_tokenizer.hpp"

using namespace depthlens;
using namespace depthlens::test;
using text::Pattern;
using text::PrependScheme;
using text::SplitBehavior;
using Parts = std::vector<std::string>;

namespace {

/// The parts of a text; matches in brackets.
Parts found(const std::string& pattern, const std::string& text) {
  std::vector<text::Span> spans;
  Pattern(pattern, "t.json").find_all(text, spans);
  Parts parts;
  std::size_t done = 0;
  for (const text::Span& span : spans) {
    CHECK(span.start == done);  // the spans cover the text
    done = span.end;
    const std::string part = text.substr(span.start, span.end - span.start);
    parts.push_back(span.is_match ? "[" + part + "]" : part);
  }
  CHECK(done == text.size());
  return parts;
}

Parts words(std::unique_ptr<text::Splitter> splitter, const std::string& text, bool at_text_start = true) {
  text::PreTokenizer pre_tokenizer;
  pre_tokenizer.add(std::move(splitter));
  text::Words out;
  pre_tokenizer.split(text, at_text_start, out);
  return {out.views.begin(), out.views.end()};
}

Parts split_at(const std::string& pattern, SplitBehavior behavior, bool invert, const std::string& text) {
  const Parts by_pattern = words(text::regex_splitter(pattern, behavior, invert, "t.json"), text);
  CHECK(words(text::string_splitter(pattern, behavior, invert), text) == by_pattern);
  return by_pattern;
}

const char* const kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace

TEST_CASE("patterns: matches and what stands between them") {
  CHECK(found("b+", "abbcb") == Parts{"a", "[bb]", "c", "[b]"});
  CHECK(found("x", "abc") == Parts{"abc"});
  CHECK(found("abc", "abc") == Parts{"[abc]"});
  CHECK(found("a", "").empty());
  CHECK(found("\u00e9",
              "a\u00e9"
              "b") == Parts{"a", "[\u00e9]", "b"});
  CHECK(found(".", "a\nb") == Parts{"[a]", "\n", "[b]"});
}

TEST_CASE("patterns: classes are Unicode's") {
  CHECK(found(R"(\p{L}+)", "a\u00e9\u6f221") == Parts{"[a\u00e9\u6f22]", "1"});
  CHECK(found(R"(\P{L})", "a1") == Parts{"a", "[1]"});
  CHECK(found(R"(\p{^L})", "a1") == Parts{"a", "[1]"});
  CHECK(found(R"([^\p{L}]+)", "a12b") == Parts{"a", "[12]", "b"});
  CHECK(found(R"(\d)", "1\u0663x") == Parts{"[1]", "[\u0663]", "x"});  // Arabic-Indic three
  CHECK(found(R"(\s+)", "a \u00a0\u3000b") == Parts{"a", "[ \u00a0\u3000]", "b"});
  CHECK(found(R"([\s\d]+)", "a1 2b") == Parts{"a", "[1 2]", "b"});
  CHECK(found(R"(\u0041)", "xA") == Parts{"x", "[A]"});
  // The members of a class in a class are the outer one's.
  CHECK(found(R"([^(\s|[.,]b)]+)", "a(b|c.d, e") == Parts{"[a]", "(b|", "[c]", ".", "[d]", ", ", "[e]"});
  CHECK(found("[x[y[z]]]+", "axyz]") == Parts{"a", "[xyz]", "]"});
  // One class without another, which has neighbours of its ranges, parts of them and what it lacks.
  CHECK(found(R"([\p{L}\p{N}&&[^\p{Han}\p{Lu}]]+)", "aB\u6f22\u3005c\u30a21\u3007!") ==
        Parts{"[a]", "B\u6f22\u3005", "[c\u30a21]", "\u3007!"});
  CHECK(found(R"(x[\p{Han}\p{Lo}&&[^\p{L}]]*y)", "x\u6f22yxy\u3007x\u3007y") ==
        Parts{"x\u6f22y", "[xy]", "\u3007", "[x\u3007y]"});
  CHECK(found(R"([\p{Han}]+)", "a\u3005\U0002ebf0\U0001b000") ==
        Parts{"a", "[\u3005\U0002ebf0]", "\U0001b000"});
}

TEST_CASE("patterns: groups, and looking around") {
  CHECK(found("(?i:AB)c", "abcABC") == Parts{"[abc]", "ABC"});
  CHECK(found("(?i)ab", "AB") == Parts{"[AB]"});
  CHECK(found("(?i:'s|'ll)s", "'S'LLs'\u017fsT") == Parts{"'S", "['LLs]", "['\u017fs]", "T"});
  CHECK(found(R"((?i:\p{Lu}x))", "aXAXAx") == Parts{"aX", "[AX]", "[Ax]"});  // the property stays what it is
  CHECK(found(R"(\s+(?!\S))", "a  b ") == Parts{"a", "[ ]", " b", "[ ]"});
  CHECK(found("(?<=a)b", "abb") == Parts{"a", "[b]", "b"});
  CHECK(found("^b", "a\nb") == Parts{"a\n", "[b]"});  // ^ is that of a line
}

TEST_CASE("patterns: a repetition without a lower bound begins at none") {
  CHECK(found("ba{,2}", "baaab") == Parts{"[baa]", "a", "[b]"});
  CHECK(found("ba{1,2}?", "baa") == Parts{"[ba]", "a"});
  CHECK(found("a{,}|{,x", "a{,}{,x") == Parts{"[a{,}]", "[{,x]"});  // no repetitions
}

TEST_CASE("patterns: what PCRE2 would read otherwise is refused with the byte of the pattern") {
  const auto refused = [](const std::string& pattern, const std::vector<std::string>& parts) {
    INFO(pattern);
    std::vector<std::string> all = parts;
    all.push_back("t.json");
    check_error(util::ErrorCode::kFormat, all, [&] { Pattern(pattern, "t.json"); });
  };
  refused("a(?P<n>b)", {"a group that begins with", "byte 2 of the pattern"});
  refused("b(?i)a", {"a group", "byte 2"});
  refused("(*ACCEPT)", {"the verb"});
  refused("[a[^b]]", {"'[^' in a class", "byte 3"});
  refused("[a[:alpha:]]", {"'[:' in a class", "byte 3"});
  refused("[a[]]", {"begins with ]"});
  for (const char* pattern : {"[a-[b]]", "[a[-b]]", "[[a]-b]", "[[a-]b]"}) {
    refused(pattern, {"a class in a class beside a -"});
  }
  refused("[a&&b]", {"&&"});
  refused(R"([\p{L}&&\p{Lu}])", {"&&"});
  refused(R"([\p{L}&&[^\p{Hun}]])", {"&&"});
  refused(R"((?i:[\p{L}&&[^\p{Han}]]))", {"&&", "case"});
  refused("[]a]", {"begins with ]"});
  refused(R"(a\w)", {R"(\w)", "byte 2"});
  refused(R"(\b)", {R"(\b)"});
  refused(R"((a)\1)", {R"(\1)"});
  refused(R"(\pL)", {R"(\p without)"});
  refused(R"(\p{Klingon})", {"the property 'Klingon'"});
  refused(R"(\u12)", {R"(\u without four digits)"});
  refused("a\\", {"a \\ at its end"});
  refused("a{2}+", {"}+"});
  refused("a{2}?", {"{n}?", "byte 2"});
  for (const char* pattern : {"(?i:x|ss)", "(?i)aSt", "(?i:f(?:i))", "(?i:f)(?i:l)"})
    refused(pattern, {"where case does not matter"});
  refused("(?i:\u00e9)", {"a letter beyond ASCII where case does not matter", "byte 5"});
  refused("(?i:[\u00df])", {"a letter beyond ASCII"});
  refused(R"((?i:[\p{Lu}]))", {"the property 'Lu' in a class where case does not matter"});
  refused(R"((?i:\u0053))", {R"(\u where case does not matter)"});
  refused(R"((?i)\x53)", {R"(\x where case does not matter)"});
  refused("(a", {"does not compile"});
  refused("a\xff", {"not valid UTF-8"});
  refused(std::string(70'000, 'a'), {"too long"});
}

TEST_CASE("patterns: one that takes too long on a text ends with an error") {
  std::vector<text::Span> spans;
  check_error(util::ErrorCode::kFormat, {"fails on a text", "t.json"},
              [&] { Pattern("(a+)+$", "t.json").find_all(std::string(200, 'a') + "b", spans); });
}

TEST_CASE("split: each behaviour, by a pattern and by a string") {
  CHECK(split_at("-", SplitBehavior::kIsolated, false, "a-b--c") == Parts{"a", "-", "b", "-", "-", "c"});
  CHECK(split_at("-", SplitBehavior::kRemoved, false, "a-b--c") == Parts{"a", "b", "c"});
  CHECK(split_at("-", SplitBehavior::kMergedWithPrevious, false, "a-b--c") == Parts{"a-", "b-", "-", "c"});
  CHECK(split_at("-", SplitBehavior::kMergedWithNext, false, "a-b--c") == Parts{"a", "-b", "-", "-c"});
  CHECK(split_at("-", SplitBehavior::kContiguous, false, "a-b--c") == Parts{"a", "-", "b", "--", "c"});
  CHECK(split_at("-", SplitBehavior::kRemoved, true, "a-b--c") == Parts{"-", "-", "-"});
  CHECK(split_at("-", SplitBehavior::kIsolated, false, "abc") == Parts{"abc"});
  CHECK(split_at("-", SplitBehavior::kMergedWithPrevious, false, "-a-") == Parts{"-", "a-"});
  CHECK(split_at("-", SplitBehavior::kMergedWithNext, false, "-a-") == Parts{"-a", "-"});
}

TEST_CASE("lexers: they cut as the patterns that they stand for") {
  const std::vector<std::string> texts = {"it's I'LL we\u2019re 'S 'sx 'v 'ver",
                                          "  two  spaces  ",
                                          " \n \n x\r\n\r\n",
                                          "a\n\nb",
                                          "1234567 12a3",
                                          "\t\tx",
                                          "don't!!\n\n",
                                          "x_y-z",
                                          "\u00a0\u3000w",
                                          "\u6f22\u5b57\u0663\u0664\u0665\u0666",
                                          "'",
                                          " '",
                                          "''s",
                                          "\r",
                                          " \r\n a",
                                          "e\u0301 \U0001F600\U0001F600 !",
                                          "...\n...",
                                          "  !",
                                          "\n ",
                                          "'\u017f",
                                          "a '\u017fb",
                                          "$100.00",
                                          " ",
                                          ""};
  for (const auto& [pattern, digits] :
       std::vector<std::pair<std::string, int>>{{kGpt2, 0}, {kLlama3, 3}, {kQwen2, 1}}) {
    // "(?:…)" means the same, and is not recognised: PCRE2 does it.
    for (const std::string& text : texts) {
      INFO(pattern << " on " << Json(text).dump());
      const Parts by_pattern =
          words(text::regex_splitter("(?:" + pattern + ")", SplitBehavior::kIsolated, false, "t.json"), text);
      CHECK(words(text::regex_splitter(pattern, SplitBehavior::kIsolated, false, "t.json"), text) ==
            by_pattern);
      CHECK(words(digits == 0 ? text::byte_level_splitter(true, false) : text::llama3_splitter(digits),
                  text) == by_pattern);
    }
  }
}

TEST_CASE("byte level: the space before a text that has none") {
  CHECK(words(text::byte_level_splitter(true, true), "a b") == Parts{" a", " b"});
  CHECK(words(text::byte_level_splitter(true, true), " a") == Parts{" a"});
  CHECK(words(text::byte_level_splitter(false, true), "a b") == Parts{" a b"});
  CHECK(words(text::byte_level_splitter(true, true), "").empty());
}

TEST_CASE("digits: runs or single ones") {
  CHECK(words(text::digits_splitter(false), "ab12c3") == Parts{"ab", "12", "c", "3"});
  CHECK(words(text::digits_splitter(true), "ab12c3") == Parts{"ab", "1", "2", "c", "3"});
  CHECK(words(text::digits_splitter(true), "\u0663\u0664") == Parts{"\u0663", "\u0664"});
  CHECK(words(text::digits_splitter(true), "abc") == Parts{"abc"});
}

TEST_CASE("punctuation: of ASCII and of Unicode, by the behaviour") {
  const auto cut = [](SplitBehavior behavior, const std::string& text) {
    return words(text::punctuation_splitter(behavior), text);
  };
  CHECK(cut(SplitBehavior::kIsolated, "a,b..c") == Parts{"a", ",", "b", ".", ".", "c"});
  CHECK(cut(SplitBehavior::kContiguous, "a,b..c") == Parts{"a", ",", "b", "..", "c"});
  CHECK(cut(SplitBehavior::kRemoved, "a,b..c") == Parts{"a", "b", "c"});
  CHECK(cut(SplitBehavior::kMergedWithNext, "a,b..c") == Parts{"a", ",b", ".", ".c"});
  CHECK(cut(SplitBehavior::kContiguous, "a\u3002$+`\u20ac b") == Parts{"a", "\u3002$+`", "\u20ac b"});
}

TEST_CASE("spelling: steps behind it see letters and numbers that stand for bytes") {
  // The bytes of U+4F60 are e4 bd a0, of which bd is spelled as a half, a number.
  text::PreTokenizer pre_tokenizer;
  pre_tokenizer.add(text::byte_level_splitter(true, false));
  pre_tokenizer.add(text::spelling_splitter());
  pre_tokenizer.add(text::digits_splitter(false));
  pre_tokenizer.add(text::reading_splitter());
  text::Words out;
  pre_tokenizer.split("a \u4f60 12", true, out);
  CHECK(Parts(out.views.begin(), out.views.end()) == Parts{"a", " \xe4", "\xbd", "\xa0", " ", "12"});
}

TEST_CASE("metaspace: the mark for every space, and before a text that has none") {
  const auto meta = [](PrependScheme scheme, bool split) {
    return text::metaspace_splitter("\u2581", scheme, split);
  };
  CHECK(words(meta(PrependScheme::kAlways, true), "a  b") == Parts{"\u2581"
                                                                   "a",
                                                                   "\u2581",
                                                                   "\u2581"
                                                                   "b"});
  CHECK(words(meta(PrependScheme::kAlways, false), "a b") == Parts{"\u2581"
                                                                   "a\u2581"
                                                                   "b"});
  CHECK(words(meta(PrependScheme::kAlways, true), " a") == Parts{"\u2581"
                                                                 "a"});
  CHECK(words(meta(PrependScheme::kNever, true), "a b") == Parts{"a",
                                                                 "\u2581"
                                                                 "b"});
  CHECK(words(meta(PrependScheme::kFirst, true), "a") == Parts{"\u2581"
                                                               "a"});
  CHECK(words(meta(PrependScheme::kFirst, true), "a", false) == Parts{"a"});
  text::PreTokenizer removing;
  removing.add(text::string_splitter("-", SplitBehavior::kRemoved, false));
  removing.add(meta(PrependScheme::kFirst, true));
  text::Words out;
  removing.split("-a", true, out);  // "a" does not open the text
  CHECK(Parts(out.views.begin(), out.views.end()) == Parts{"a"});
}

TEST_CASE("normalizer: NFC, a text put before, replacements, one after another") {
  using text::Normalizer;
  const auto normalized = [](const std::vector<Normalizer::Step>& steps, const std::string& text) {
    Normalizer normalizer;
    for (const auto& step : steps) normalizer.add(step);
    std::string storage;
    return std::string(normalizer.apply(text, storage));
  };
  const Normalizer::Step nfc{Normalizer::Kind::kNfc},
      prepend{.kind = Normalizer::Kind::kPrepend, .content = "_"},
      replace{Normalizer::Kind::kReplace, "aa", "b"};
  CHECK(normalized({}, "e\u0301") == "e\u0301");
  CHECK(normalized({nfc}, "e\u0301") == "\u00e9");
  CHECK(normalized({nfc}, "\u1100\u1161") == "\uac00");
  CHECK(normalized({nfc}, "a\u0323\u0307") == normalized({nfc}, "a\u0307\u0323"));  // marks in either order
  CHECK(normalized({prepend}, "x") == "_x");
  CHECK(normalized({prepend}, "").empty());
  CHECK(normalized({replace}, "aaaaa") == "bba");
  CHECK(normalized({prepend, {Normalizer::Kind::kReplace, "_", "--"}}, "x_") == "--x--");
}
