// Strict JSON, and the words of errors about values of a wrong kind.
#include "depthlens/util/json.hpp"

#include <limits>
#include <map>
#include <string>

#include "depthlens/util/text.hpp"
#include "support/check_error.hpp"

using namespace depthlens;
using test::check_error;
using util::ErrorCode;
using util::Json;
using util::JsonView;
using util::parse_config;
using util::parse_json;
using util::parse_ordered_config;

namespace {

void check_refused(const std::string& text, const std::vector<std::string>& parts) {
  INFO(text.substr(0, 80));
  std::vector<std::string> all = parts;
  all.push_back("not valid JSON, f.json");
  check_error(ErrorCode::kFormat, all, [&] { parse_json(text, "f.json"); });
}

std::string nested(std::size_t depth, const std::string& open, const std::string& close) {
  std::string text;
  for (std::size_t i = 0; i < depth; ++i) text += open;
  text += "1";
  for (std::size_t i = 0; i < depth; ++i) text += close;
  return text;
}

}  // namespace

TEST_CASE("json: values of every kind") {
  const Json value =
      parse_json(R"({"s": "\u00e9\n", "i": -7, "d": 0.1, "b": true, "n": null, "a": [1, [2]]})", "f.json");
  CHECK(value.at("s") == "\u00e9\n");
  CHECK(value.at("i") == -7);
  CHECK(value.at("d").get<double>() == 0.1);
  CHECK(value.at("b") == true);
  CHECK(value.at("n").is_null());
  CHECK(value.at("a").at(1).at(0) == 2);
  CHECK(parse_json("18446744073709551615", "x").get<std::uint64_t>() == UINT64_MAX);
}

TEST_CASE("json: a syntax error tells line and column, of a single line the column") {
  check_refused("{\"a\": 1,}", {"found column 9"});
  check_refused("{\n  \"a\": trx\n}", {"line 2, column"});
  check_refused("", {"found column 1"});
  check_refused("[1, 2", {"found column 6"});
}

TEST_CASE("json: what lax readers let pass is refused") {
  for (const char* text : {"{'a': 1}", "[1] 2", "[01]", "[+1]", "[.5]", "[NaN]", "[Infinity]", "// x\n1",
                           "[\"a\nb\"]", "[1e999]", "\"\\ud800\"", "{\"a\" 1}", "{a: 1}", "[\"\\x41\"]"}) {
    check_refused(text, {});
  }
}

TEST_CASE("json: a key twice in one object is refused and named, in other objects it is not") {
  check_refused(R"({"a": 1, "b": 2, "a": 3})", {"'a' twice"});
  check_refused(R"([{"x": {"deep\n": 1, "deep\n": 2}}])", {R"('deep\n' twice)"});
  check_refused(R"({"a": {"b": 1}, "a": 2})", {"'a' twice"});
  CHECK(parse_json(R"([{"a": {"a": 1}}, {"a": 2}])", "x").size() == 2);
}

TEST_CASE("json: nesting up to 512 is read, deeper is refused") {
  CHECK_NOTHROW(parse_json(nested(512, "[", "]"), "x"));
  CHECK_NOTHROW(parse_json(nested(512, "{\"a\":", "}"), "x"));
  check_refused(nested(513, "[", "]"), {"nesting deeper than 512"});
  check_refused(nested(513, "{\"a\":", "}"), {"nesting deeper than 512"});
  check_refused(nested(1'000'000, "[", "]"), {"nesting deeper than 512"});
  // Depth is counted, not the number of containers.
  std::string flat = "[";
  for (int i = 0; i < 2000; ++i) flat += "[],{},";
  CHECK(parse_json(flat + "0]", "x").size() == 4001);
}

TEST_CASE("json: infinities in what Python wrote are read, where they may stand") {
  const Json read =
      parse_config(R"({"a": [0.0, Infinity], "b": -Infinity, "NaN": NaN, "c": "Infinity \" NaN"})", "f");
  CHECK(read.at("a") == Json{0.0, {{"__float__", "Infinity"}}});
  CHECK(read.at("b") == Json{{"__float__", "-Infinity"}});
  CHECK(read.at("NaN") == Json{{"__float__", "NaN"}});
  CHECK(read.at("c") == "Infinity \" NaN");
  CHECK(parse_ordered_config("[Infinity]", "f").at(0).contains("__float__"));
  for (const std::string wrong :
       {"Infinity1", "+Infinity", "{Infinity: 1}", "[infinity]", "\"Infinity", "1Infinity"})
    check_error(ErrorCode::kFormat, {"not valid JSON"}, [&] { parse_config(wrong, "f"); });
  check_error(ErrorCode::kFormat, {"not valid JSON"}, [] { parse_json("[Infinity]", "f"); });
}

TEST_CASE("json: in the order of the document, and as strictly") {
  CHECK(util::parse_ordered_json(R"({"b": 1, "a": 2})", "f").dump() == R"({"b":1,"a":2})");
  check_error(ErrorCode::kFormat, {"f", "nesting"},
              [] { util::parse_ordered_json(std::string(500000, '['), "f"); });
  check_error(ErrorCode::kFormat, {"f", "twice"},
              [] { util::parse_ordered_json(R"({"a": 1, "a": 2})", "f"); });
}

TEST_CASE("json: invalid UTF-8 is refused, and the message itself is valid") {
  // The place told is that of the first byte that cannot go on.
  for (const auto& [bytes, column] : std::map<std::string, int>{
           {"\xff", 9}, {"\xc3", 10}, {"\xc0\xaf", 9}, {"\xed\xa0\x80", 10}, {"\xf4\x90\x80\x80", 10}}) {
    check_refused("{\"k\": \"a" + bytes + "\"}", {util::cat("found column ", column)});
    check_refused("{\"" + bytes + "\": 1}", {"found column"});
  }
  try {
    parse_json("[\"\xff\xfe\"]", "f.json");
    FAIL("no error");
  } catch (const util::Error& error) {
    CHECK_NOTHROW(Json(error.what()).dump());  // dump refuses invalid UTF-8
  }
}

TEST_CASE("json view: the path of keys and indices is reported") {
  const Json value = parse_json(R"({"model": {"merges": [["a", "b"], ["c", 5]]}})", "t.json");
  const JsonView merge = JsonView(value, "t.json").at("model").at("merges").at(std::size_t{1});
  CHECK(merge.where() == "t.json: model: merges[1]");
  CHECK(merge.at(std::size_t{0}).as_string() == "c");
  check_error(ErrorCode::kFormat, {"t.json: model: merges[1][1]; expected a string, found 5"},
              [&] { merge.at(std::size_t{1}).as_string(); });
  check_error(ErrorCode::kFormat, {"expected an array with more than 2 values"},
              [&] { merge.at(std::size_t{2}); });
  check_error(ErrorCode::kFormat, {"missing key 'vocab', t.json: model"},
              [&] { JsonView(value, "t.json").at("model").at("vocab"); });
}

TEST_CASE("json view: a value of a wrong kind tells what was expected and found") {
  const Json value = parse_json(R"({"s": "x", "n": 1.5, "b": false, "o": {"k": 1, "l": 2}, "a": [1, 2],
                                    "long": [1, 2, 3, 4, 5, 6, 7, 8, 9]})",
                                "f");
  const JsonView view(value, "f");
  check_error(ErrorCode::kFormat, {"f: s; expected true or false, found \"x\""},
              [&] { view.at("s").as_bool(); });
  check_error(ErrorCode::kFormat, {"f: b; expected a number, found false"},
              [&] { view.at("b").as_number(); });
  check_error(ErrorCode::kFormat, {"f: n; expected an integer from 0 to 9, found 1.5"},
              [&] { view.at("n").as_integer(0, 9); });
  check_error(ErrorCode::kFormat, {"f: o; expected a string, found an object of 2 keys"},
              [&] { view.at("o").as_string(); });
  check_error(ErrorCode::kFormat, {"found [1,2]"}, [&] { view.at("a").as_string(); });
  check_error(ErrorCode::kFormat, {"found an array of 9 values"}, [&] { view.at("long").as_string(); });
  check_error(ErrorCode::kFormat, {"f: a; expected an object with the key 'x'"},
              [&] { view.at("a").at("x"); });
  check_error(ErrorCode::kFormat, {"f: s; expected an object"}, [&] { view.at("s").keys(); });
  check_error(ErrorCode::kFormat, {"f: o; expected an array"}, [&] { view.at("o").at(std::size_t{0}); });
}

TEST_CASE("json view: null counts as absent") {
  const Json value = parse_json(R"({"x": null, "y": 0})", "f");
  const JsonView view(value, "f");
  CHECK_FALSE(view.has("x"));
  CHECK_FALSE(view.has("z"));
  CHECK(view.has("y"));
  CHECK(view.get_integer("x", 0, 9, 5) == 5);
  CHECK(view.get_string("x", "other") == "other");
  check_error(ErrorCode::kFormat, {"the key 'x' is null, f"}, [&] { view.at("x"); });
}

TEST_CASE("json view: integers within bounds only") {
  const Json value =
      parse_json("[0, 10, 11, -1, 1e1, 9223372036854775807, 9223372036854775808, -9223372036854775808]", "f");
  const JsonView view(value, "f");
  const auto integer = [&](std::size_t i, std::int64_t low, std::int64_t high) {
    return view.at(i).as_integer(low, high);
  };
  CHECK(integer(0, 0, 10) == 0);
  CHECK(integer(1, 0, 10) == 10);
  CHECK(integer(5, 0, INT64_MAX) == INT64_MAX);
  CHECK(integer(7, INT64_MIN, 0) == INT64_MIN);
  for (const std::size_t i : {2, 3, 4}) CHECK_THROWS_AS(integer(i, 0, 10), util::Error);
  // One more than the largest must not turn into a negative number that fits.
  CHECK_THROWS_AS(integer(6, INT64_MIN, INT64_MAX), util::Error);
}

TEST_CASE("json view: fallbacks are for absent keys, not for wrong values") {
  const Json value = parse_json(R"({"b": true, "i": 3, "d": 2.5, "s": "text", "bad": []})", "f");
  const JsonView view(value, "f");
  CHECK(view.get_bool("b", false));
  CHECK(view.get_bool("none", true));
  CHECK(view.get_integer("i", 0, 9, 1) == 3);
  CHECK(view.get_number("d", 1) == 2.5);
  CHECK(view.get_number("i", 1) == 3.0);
  CHECK(view.get_number("none", 0.25) == 0.25);
  CHECK(view.get_string("s", "") == "text");
  CHECK_THROWS_AS(view.get_bool("bad", true), util::Error);
  CHECK_THROWS_AS(view.get_integer("i", 5, 9, 6), util::Error);
  CHECK_THROWS_AS(view.get_string("i", ""), util::Error);
}

TEST_CASE("json view: numbers must be finite") {
  const Json infinite = std::numeric_limits<double>::infinity();
  check_error(ErrorCode::kFormat, {"f; expected a finite number"},
              [&] { JsonView(infinite, "f").as_number(); });
}

TEST_CASE("json summary: long values are cut to a readable length and stay valid UTF-8") {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "\u00e9";
  const std::string cut = util::summary(Json(text));
  CHECK(cut.size() < 100);
  CHECK(cut.find("\uFFFD") == std::string::npos);
  CHECK(cut.substr(cut.size() - 3) == "…");
  CHECK_NOTHROW(Json(cut).dump());
  CHECK(util::summary(Json(nullptr)) == "null");
  CHECK(util::summary(Json("x")) == "\"x\"");
  CHECK(util::summary(util::parse_config("[NaN]", "config.json")[0]) == "NaN");
}
