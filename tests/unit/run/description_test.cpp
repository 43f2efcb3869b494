// What a run is, written into saved states and read from them.
#include "depthlens/run/description.hpp"

#include <vector>

#include "depthlens/util/text.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"

namespace depthlens::test {
namespace {

using run::RunContext;
using util::OrderedJson;

/// A context of three layers and one lens.
RunContext some_context() {
  RunContext context;
  context.experiments = "flips,settling";
  context.seed = 7;
  context.edges = {10, 100};
  context.counts.add(3, 5);
  context.evaluation =
      experiments::EvaluationContext{.size = {}, .transfer = {{"tuned", 2}}, .num_layers = 2};
  context.shape.lens_names = {"tuned"};
  context.shape.num_rows = 3;
  context.shape.top_k = 5;
  context.shape.num_groups = 2;
  context.shape.vocab_size = 64;
  context.shape.state_of = {0, 1, 2};
  context.shape.num_states = 3;
  return context;
}

}  // namespace

TEST_CASE("a run's context is read as it was written") {
  const OrderedJson written = some_context().json();
  const util::Json json(written);
  CHECK(RunContext::from_json({json, "x"}).json() == written);
}

TEST_CASE("a run's context that says what cannot be is refused by its place") {
  const auto refused = [](const std::string& place, const OrderedJson& value) {
    OrderedJson changed = some_context().json();
    changed[OrderedJson::json_pointer(place)] = value;
    const util::Json json(changed);
    INFO(place << " " << value);
    const std::string told = "file" + util::join(util::split(place, '/'), ": ");
    check_error(util::ErrorCode::kFormat, {told}, [&] { RunContext::from_json({json, "file"}); });
  };
  const OrderedJson falling = OrderedJson::array({100, 10});
  refused("/edges", falling);
  refused("/edges", OrderedJson::array({0, 10}));
  refused("/edges", std::vector<int>(201, 1));
  refused("/shape/top_k", 65);
  refused("/shape/num_states", 4);
  refused("/shape/state_of", OrderedJson::array({0, 1, 3}));
  refused("/evaluation/layers", 4);
  refused("/token_counts/ids", OrderedJson::array({64}));
}

}  // namespace depthlens::test
