// Lists of layers.
#include "depthlens/run/settings.hpp"

#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/check_error.hpp"

using namespace depthlens;
using run::LayerList;
using run::parse_layers;
using Layers = std::vector<std::int64_t>;

TEST_CASE("layers: lists, ranges and steps, in any order, and L always") {
  CHECK(parse_layers("", 12).empty());
  CHECK(parse_layers("8,4,0,4", 12) == Layers{0, 4, 8, 12});
  CHECK(parse_layers("every:5, 1-2", 12) == Layers{0, 1, 2, 5, 10, 12});
  CHECK(parse_layers("every:13", 12) == Layers{0, 12});
  CHECK(parse_layers("12", 12) == Layers{12});
  CHECK(parse_layers("0-11", 12).empty());  // all
  for (const std::string text :
       {"13", "-1", "3-2", "every:0", "every:-1", "a", "0x1", "1,,2", "1,", "01", "1-"}) {
    INFO(text);
    test::check_error(util::ErrorCode::kUsage, {"not a list of layers, --layers " + text, "from 0 to 12"},
                      [&] { parse_layers(text, 12); });
  }
  test::check_error(util::ErrorCode::kUsage, {"nothing between two commas"},
                    [] { parse_layers("0,,4", 12); });
}

TEST_CASE("layers of stored states: rising, each once, L at the end") {
  CHECK(parse_layers("0,5,12", 12, LayerList::kOfStates) == Layers{0, 5, 12});
  CHECK(parse_layers("every:4", 12, LayerList::kOfStates) == Layers{0, 4, 8, 12});
  for (const std::string text : {"12,5,0", "0,5,5,12", "5,0,12", "0-4,3-12"}) {
    INFO(text);
    test::check_error(util::ErrorCode::kUsage, {"do not rise, --state-layers " + text},
                      [&] { parse_layers(text, 12, LayerList::kOfStates); });
  }
  test::check_error(util::ErrorCode::kUsage, {"last layer are not among the stored ones", "layer 12"},
                    [] { parse_layers("0,5", 12, LayerList::kOfStates); });
}
