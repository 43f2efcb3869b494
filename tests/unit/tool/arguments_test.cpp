// Words and settings files into the values of flags, for a command that has a flag of every kind.
#include "arguments.hpp"

#include <limits>
#include <optional>

#include "flags.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens::test {
namespace {

using tool::Arguments;
using util::ErrorCode;

using Words = std::vector<std::string>;

Words operator+(Words all, const Words& more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

struct Values {
  std::string text, word, name = "default", choice = "red", numbers = "1,2";
  std::vector<std::string> inputs, lenses;
  std::int64_t count = 7, any = 0;
  int threads = 0;
  double factor = 1;
  std::optional<std::int64_t> maybe;
  bool overwrite = false, resume = false, quiet = false, verbose = false;
  std::string config;
};

/// A command with a flag of every kind, and a settings file.
class Bench {
 public:
  TemporaryFolder folder;
  std::string file = (folder.path() / "settings.toml").string();

  Values read(const Words& words) const {
    Values values;
    CLI::App app("", "paint");
    define(app, values);
    const Arguments arguments(app, words);
    CHECK_FALSE(arguments.asks_for_help());
    return values;
  }
  Values read_file(const std::string& text, const Words& by_hand = {}) const {
    folder.write("settings.toml", text);
    return read(Words{"--config", file} + by_hand);
  }
  void refuse(const Words& words, const Words& parts) const {
    check_error(ErrorCode::kUsage, parts, [&] { read(words); });
  }
  void refuse_file(const std::string& text, int line, const Words& parts, const Words& by_hand = {}) const {
    INFO(text);
    const std::string place = file + " line " + std::to_string(line);
    check_error(ErrorCode::kUsage, Words{place} + parts, [&] { read_file(text, by_hand); });
  }

  static void define(CLI::App& app, Values& values) {
    app.add_option("text", values.text);
    app.add_option("word", values.word);
    app.add_option("--name", values.name);
    app.add_option("--choice", values.choice)->check(tool::one_of({"red", "green"}));
    app.add_option("--numbers", values.numbers)->delimiter(',');
    tool::add_repeatable(app, "--input", values.inputs, "");
    tool::add_repeatable(app, "--lens", values.lenses, "", /*lists=*/false);
    app.add_option("--count", values.count)->check(tool::integer(1, 1000));
    app.add_option("--any", values.any)->check(tool::integer());
    app.add_option("--maybe", values.maybe)->check(tool::integer(0));
    app.add_option("--factor", values.factor)->check(tool::number("above 0", [](double x) { return x > 0; }));
    auto* overwrite = app.add_flag("--overwrite", values.overwrite);
    app.add_flag("--resume", values.resume)->excludes(overwrite);
    auto* group = app.add_option_group("Every command");
    auto* quiet = group->add_flag("-q,--quiet", values.quiet);
    group->add_flag("-v,--verbose", values.verbose)->excludes(quiet);
    group->add_option("--threads", values.threads)->check(tool::integer(1, 4096));
    group->add_option("--config", values.config);
  }
};

}  // namespace

TEST_CASE("arguments: numbers are plain decimals within their range") {
  const Bench bench;
  const auto refused = [&](const std::string& flag, const std::string& value, const std::string& expected) {
    for (const Words& words : {Words{flag + "=" + value}, Words{"--quiet", flag, value}}) {
      if (words.size() > 1 && (value == "-inf" || value == "--5")) continue;  // a flag, as it seems
      bench.refuse(words, {"unusable value, " + flag + "; expected " + expected, "found '" + value + "'"});
    }
  };
  for (const std::string value : {"0",     "1001",
                                  "-1",    "+5",
                                  "1e2",   "0x10",
                                  "0b11",  "0o7",
                                  "1_000", "1'000",
                                  "1,000", " 3",
                                  "3 ",    "3.0",
                                  "ten",   "01",
                                  "010",   "00",
                                  "-01",   "-0x1",
                                  "3k",    "99999999999999999999",
                                  "NaN",   "\xef\xbc\x93"})
    refused("--count", value, "an integer from 1 to 1000");
  for (const std::string value : {"9223372036854775808", "-9223372036854775809", "1e400", "--5", "-"})
    refused("--any", value, "an integer of 64 bits");
  refused("--maybe", "-1", "an integer from 0 to 2^63 - 1");
  for (const std::string value : {"nan", "inf", "-inf", "0", "-1", "1e999", "1e-999", "0x1p3", "1,5", "+1",
                                  "one", "010", "1_0", "1f", " 1"})
    refused("--factor", value, "a number above 0");
  bench.refuse({"--count", "010"}, {"plain decimal digits"});

  CHECK(bench.read({"--any", "9223372036854775807"}).any == std::numeric_limits<std::int64_t>::max());
  CHECK(bench.read({"--any", "-9223372036854775808"}).any == std::numeric_limits<std::int64_t>::min());
  CHECK(bench.read({"--any=-5"}).any == -5);
  CHECK(bench.read({"--any", "0"}).any == 0);
  CHECK(bench.read({"--count", "1000", "--threads", "4096"}).count == 1000);
  CHECK(bench.read({"--maybe", "0"}).maybe == 0);
  CHECK_FALSE(bench.read({}).maybe);
  for (const auto& [text, value] :
       {std::pair("1", 1.0), {"0.5", 0.5}, {".5", 0.5}, {"1e-3", 1e-3}, {"2.5E+1", 25.0}, {"0.1", 0.1}})
    CHECK(bench.read({"--factor", text}).factor == value);
}

TEST_CASE("arguments: a value is what it says, and an empty one is refused") {
  const Bench bench;
  for (const std::string flag : {"--name", "--choice", "--numbers", "--input", "--lens", "--count", "--any",
                                 "--maybe", "--factor", "--threads", "--config"}) {
    const Words parts = {"an empty value, " + flag, "an unset variable of the shell"};
    bench.refuse({flag, ""}, parts);
    bench.refuse({flag + "="}, parts);
  }
  bench.refuse({""}, {"an empty value, text"});
  bench.refuse({"a", ""}, {"an empty value, word"});
  bench.refuse({"--input", "a", ""}, {"an empty value, --input"});
  bench.refuse({"--count=", "a", "b", "5"}, {"unexpected argument", "'5'"});  // not the value

  for (const std::string value : {"{}", "[a,b]", "[]", "a,b", "%%", "a=b", "--x", "-x", "=", "'a'", "\"a\"",
                                  " ", "true", "0", "a\nb", "$x"}) {
    INFO(value);
    CHECK(bench.read({"--name=" + value}).name == value);
    CHECK(bench.read({"--numbers=" + value}).numbers == value);
    CHECK(bench.read({"--input=" + value}).inputs == Words{value});
    CHECK(bench.read({"--input=" + value, "--input", "b"}).inputs == Words{value, "b"});
    CHECK(bench.read({"--", value}).text == value);
  }
  CHECK(bench.read({"--input", "a", "-", "-5", "--input", "b"}).inputs == Words{"a", "-", "-5", "b"});
  const Values mixed = bench.read({"--lens", "a", "text", "--lens=b", "--", "--word"});
  CHECK(mixed.lenses == Words{"a", "b"});
  CHECK(mixed.text == "text");
  CHECK(mixed.word == "--word");
  CHECK(bench.read({"-q"}).quiet);
  CHECK(bench.read({"--quiet", "-q"}).quiet);
  CHECK(bench.read({"--overwrite=true"}).overwrite);
  CHECK_FALSE(bench.read({"--overwrite=false"}).overwrite);
  CHECK(bench.read({"--overwrite=false", "--resume"}).resume);
}

TEST_CASE("arguments: words that are not as they should be") {
  const Bench bench;
  bench.refuse({"--cuont", "3"}, {"unknown flag '--cuont', paint", "did you mean '--count'?"});
  bench.refuse({"-count", "3"}, {"unknown flag '-count'", "did you mean '--count'?"});
  bench.refuse({"--Count=3"}, {"unknown flag '--Count'", "did you mean '--count'?"});
  bench.refuse({"--nothing-like-it"}, {"unknown flag '--nothing-like-it'", "depthlens paint --help"});
  bench.refuse({"-qv"}, {"unknown flag '-qv'"});
  bench.refuse({"-x"}, {"unknown flag '-x'"});
  bench.refuse({"--=3"}, {"unknown flag '--'"});
  bench.refuse({"--name"}, {"a value is missing, --name", "found nothing"});
  bench.refuse({"--name", "--quiet"}, {"a value is missing, --name", "found '--quiet'"});
  bench.refuse({"--name", "--odd"}, {"a value is missing, --name", "found '--odd'", "--name=--odd"});
  bench.refuse({"--name", "--", "x"}, {"a value is missing, --name"});
  bench.refuse({"--count", "3", "--count", "4"},
               {"given twice, --count; expected one value, found '3' and '4'"});
  bench.refuse({"--overwrite=1"}, {"a switch takes no value, --overwrite", "found '1'"});
  bench.refuse({"a", "b", "c", "d"}, {"unexpected arguments, paint; found 'c', 'd'"});
  bench.refuse({"a", "b", "c"}, {"an unexpected argument, paint; found 'c'"});
  bench.refuse({"--choice", "rad"},
               {"unusable value, --choice; expected one of red, green", "did you mean 'red'?"});
  bench.refuse({"-v", "-q"}, {"--verbose and --quiet contradict each other"});
  bench.refuse({"--overwrite", "--resume"}, {"--overwrite and --resume contradict each other"});

  Values values;
  CLI::App app("", "paint");
  Bench::define(app, values);
  CHECK(Arguments(app, {"--count", "ten", "-h", "--nonsense"}).asks_for_help());
}

TEST_CASE("settings file: values have the type of their flag and arrive as they are") {
  const Bench bench;
  const Values values = bench.read_file(
      "\xef\xbb\xbf# with a byte order mark and CRLF\r\n"
      "name = 'a=b,{}[c] %% \"d\"' # a comment\r\n"
      "\"choice\" = \"green\"\r\n"
      "numbers = [3, 4]\r\n"
      "input = [\"-a\", \"[b,c]\",\r\n  \"{}\"]\r\n"
      "lens = \"[d]\"\r\n"
      "count = 1_0\r\n"
      "any = 0x10\r\n"
      "factor = 1e-3\r\n"
      "overwrite = false\r\n"
      "quiet = true\r\n");
  CHECK(values.name == "a=b,{}[c] %% \"d\"");
  CHECK(values.choice == "green");
  CHECK(values.numbers == "3,4");
  CHECK(values.inputs == Words{"-a", "[b,c]", "{}"});
  CHECK(values.lenses == Words{"[d]"});
  CHECK(values.count == 10);
  CHECK(values.any == 16);
  CHECK(values.factor == 1e-3);
  CHECK_FALSE(values.overwrite);
  CHECK(values.quiet);
  CHECK(bench.read_file("numbers = \"5,6\"\n").numbers == "5,6");
  CHECK(bench.read_file("numbers = [\"a\", \"b\"]\n").numbers == "a,b");
  CHECK(bench.read_file("input = [\"{}\"]\n").inputs == Words{"{}"});
  CHECK(bench.read_file("factor = 2\n").factor == 2);
  CHECK(bench.read_file("factor = 0.1\n").factor == 0.1);
  CHECK(bench.read_file("name = \"--quiet\"\n").name == "--quiet");
  CHECK(bench.read_file("name = \"a\\nb\"\n").name == "a\nb");
  CHECK(bench.read_file("").name == "default");
  CHECK(bench.read_file("any = 9223372036854775807\n").any == std::numeric_limits<std::int64_t>::max());
}

TEST_CASE("settings file: a flag by hand wins, and over the opposite too") {
  const Bench bench;
  const std::string file = "count = 3\nquiet = true\noverwrite = true\ninput = [\"a\", \"b\"]\n";
  Values values = bench.read_file(file, {"--count", "4", "--input", "c"});
  CHECK(values.count == 4);
  CHECK(values.inputs == Words{"c"});
  CHECK(values.quiet);
  for (const char* flag : {"-v", "--verbose"}) {
    values = bench.read_file(file, {flag});
    CHECK(values.verbose);
    CHECK_FALSE(values.quiet);
  }
  values = bench.read_file(file, {"--resume"});
  CHECK(values.resume);
  CHECK_FALSE(values.overwrite);
  CHECK_FALSE(bench.read_file(file, {"--quiet=false"}).quiet);
  CHECK(bench.read_file(file, {"--verbose=false"}).quiet);
  CHECK(bench.read_file("verbose = true\n", {"-q"}).quiet);
  CHECK(bench.read_file("quiet = false\n", {"-v"}).verbose);
  CHECK(bench.read_file("quiet = false\nverbose = true\n").verbose);
  CHECK(bench.read_file("count = 0\n", {"--count", "5"}).count == 5);  // what is replaced may be unusable
  CHECK(bench.read_file("count = 3\n", {"--", "--count=5"}).count == 3);
}

TEST_CASE("settings file: errors name file, line and key") {
  const Bench bench;
  bench.refuse_file("any = 1\ncount = = 3\n", 2, {"not valid TOML", "found 'count = = 3'"});
  bench.refuse_file("quiet = true numbers = \"3,9\"\n", 1, {"not valid TOML", "numbers"});
  bench.refuse_file("; count = 3\n", 1, {"not valid TOML", "; count = 3"});
  bench.refuse_file("count = 010\n", 1, {"not valid TOML", "count = 010"});
  bench.refuse_file("count = 3\n\ncount = 4\n", 3, {"not valid TOML", "count"});
  bench.refuse_file("count\n", 1, {"not valid TOML", "count"});
  bench.refuse_file("count =", 1, {"not valid TOML", "count"});
  bench.refuse_file("count = 99999999999999999999\n", 1, {"not valid TOML", "count"});
  bench.refuse_file("name = \"3,9\n", 1, {"not valid TOML", "name"});
  bench.refuse_file("name = True\n", 1, {"not valid TOML", "name"});
  bench.refuse_file("name = bare\n", 1, {"not valid TOML", "name"});
  bench.refuse_file("input = [\"a\",\n  \"b\"\n", 2, {"not valid TOML"});
  bench.refuse_file("count = 3\rany = 4\n", 1, {"not valid TOML"});

  bench.refuse_file("any = 1\n\ncont = 3\n", 3, {"unknown key 'cont'", "did you mean 'count'?"});
  for (const std::string key : {"help", "config", "version", "paint", "q", "text", "--count", "Count"})
    bench.refuse_file(key + " = true\n", 1, {"unknown key '" + key + "'", ": " + key + ";"});
  bench.refuse_file("\"\" = 1\n", 1, {"unknown key ''"});
  bench.refuse_file("b = 1\n# a\na = 2\n", 1, {"unknown key 'b'"});  // the first line counts
  bench.refuse_file("\n[paint]\ncount = 3\n", 2, {"section", ": paint"});
  bench.refuse_file("paint.count = 3\n", 1, {"section", ": paint"});
  bench.refuse_file("[[count]]\na = 1\n", 1, {"section", ": count"});
  bench.refuse_file("count = {a = 1}\n", 1, {"section", ": count"});

  const auto wrong = [&](const std::string& line, const std::string& expected, const std::string& found) {
    const std::string key = line.substr(0, line.find(' '));
    bench.refuse_file(
        "# first\n" + line + "\n", 2,
        {"a value of the wrong type", ": " + key + "; expected " + expected + ", found " + found});
  };
  wrong("count = \"3\"", "an integer", "the string '3'");
  wrong("count = \"\"", "an integer", "the string ''");
  wrong("count = 3.0", "an integer", "the number 3");
  wrong("count = 1e1", "an integer", "the number 10");
  wrong("count = true", "an integer", "true");
  wrong("count = [3]", "an integer", "a list");
  wrong("count = 2024-01-01", "an integer", "a date or a time");
  wrong("maybe = \"3\"", "an integer", "the string '3'");
  wrong("threads = 1.5", "an integer", "the number 1.5");
  wrong("factor = \"1\"", "a number", "the string '1'");
  wrong("factor = true", "a number", "true");
  wrong("name = 3", "a string", "the integer 3");
  wrong("name = [\"a\"]", "a string", "a list");
  wrong("choice = false", "a string", "false");
  wrong("quiet = \"true\"", "true or false", "the string 'true'");
  wrong("overwrite = 1", "true or false", "the integer 1");
  wrong("numbers = 10", "a string or a list", "the integer 10");
  wrong("numbers = [10, 1.5]", "a string or an integer", "the number 1.5");
  wrong("numbers = [[10]]", "a string or an integer", "a list");
  wrong("lens = 3", "a string or a list of strings", "the integer 3");
  wrong("lens = [\"a\", 3]", "a string", "the integer 3");
  wrong("lens = [[\"a\"]]", "a string", "a list");
  // In a list over several lines the element's line counts.
  bench.refuse_file("lens = [\n  \"a\",\n  3\n]\n", 3, {"wrong type", ": lens", "the integer 3"});
  bench.refuse_file("numbers = [\n  1,\n  \"2,3\"\n]\n", 3, {"cannot stand in this list", ": numbers"});

  bench.refuse_file("name = \"\"\n", 1, {"an empty value", ": name", "without the key"});
  bench.refuse_file("lens = []\n", 1, {"an empty list", ": lens"});
  bench.refuse_file("lens = [\"a\", \"\"]\n", 1, {"an empty value", ": lens"});
  bench.refuse_file("numbers = [\"a,b\"]\n", 1, {"cannot stand in this list", ": numbers", "'a,b'"});
  bench.refuse_file("numbers = [\"a\", \"\"]\n", 1, {"cannot stand in this list", ": numbers"});
  bench.refuse_file("name = \"a\\u0000b\"\n", 1, {"NUL", ": name"});
  bench.refuse_file("count = 0\n", 1, {"unusable value", ": count; expected an integer from 1 to 1000"});
  bench.refuse_file("count = 0x10000\n", 1, {"unusable value", ": count", "found '65536'"});
  bench.refuse_file("factor = nan\n", 1, {"unusable value", ": factor", "a number above 0", "found 'nan'"});
  bench.refuse_file("factor = -inf\n", 1, {"unusable value", ": factor", "found '-inf'"});
  bench.refuse_file("choice = \"blue\"\n", 1, {"unusable value", ": choice", "found 'blue'"});
  bench.refuse_file("quiet = true\nverbose = true\n", 2, {"contradict", ": verbose", "line 1: quiet"});

  bench.refuse_file("any = 1\n# \xff\n", 2, {"not UTF-8", "found \\xff"});
  bench.refuse_file(std::string("\xff\xfes\0e\0", 6), 1, {"not UTF-8"});
  check_error(ErrorCode::kInput, {"cannot read 'missing.toml'"}, [&] {
    bench.read({"--config", "missing.toml"});
  });
  check_error(ErrorCode::kInput, {"a folder"}, [&] { bench.read({"--config", bench.folder.path()}); });
  check_error(ErrorCode::kInput, {"too large"},
              [&] { bench.read_file(std::string(std::size_t{2} << 20, '\n')); });
}

TEST_CASE("errors that are found later blame the file for what it gave") {
  const Bench bench;
  bench.folder.write("settings.toml", "any = 1\nnumbers = [3, 2]\nname = \"x\"\n");
  Values values;
  CLI::App app("", "paint");
  Bench::define(app, values);
  const Arguments arguments(app, {"--config", bench.file, "--name", "y"});
  const auto where = [&](const std::string& blamed) {
    return arguments.located(util::usage_error({.what = "wrong", .where = blamed})).text().where;
  };
  CHECK(where("--numbers") == bench.file + " line 2: numbers");
  CHECK(where("--numbers 3,2") == bench.file + " line 2: numbers 3,2");
  CHECK(where("--numbers-of-others") == "--numbers-of-others");
  CHECK(where("--name") == "--name");
  CHECK(where("numbers") == "numbers");
  CHECK(arguments.located(util::input_error({.what = "gone"})).code() == ErrorCode::kInput);
}

TEST_CASE("a flag that has no effect is refused where it was given") {
  Values values;
  CLI::App app("", "paint");
  Bench::define(app, values);
  const Arguments arguments(app, {"--count", "3", "--overwrite=false", "-q"});
  const auto check = [&](const std::string& flag, bool holds) {
    tool::check_effects(app,
                        {{.flags = {"--any", flag}, .holds = holds, .needs = "a wall", .found = "a floor"}});
  };
  check("--count", true);
  check("--name", false);
  check("--overwrite", false);  // asks for nothing
  check_error(ErrorCode::kUsage, {"no effect in this run, --count; expected a wall, found a floor"},
              [&] { check("--count", false); });
  CHECK(tool::all_flags_but(
            app, {"--name", "--numbers", "--input", "--lens", "--any", "--factor", "text", "word"}) ==
        Words{"--choice", "--count", "--maybe", "--overwrite", "--resume"});
}

}  // namespace depthlens::test
