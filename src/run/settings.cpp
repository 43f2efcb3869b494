// Settings in words.
#include "depthlens/run/settings.hpp"

#include <cstdint>
#include <set>
#include <string_view>

#include "depthlens/util/error.hpp"
#include "depthlens/util/ranges.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::run {
namespace {

constexpr std::string_view kSample = "sample:";

}  // namespace

void check_positions(const std::string& text) {
  if (text == "all" || text == "last") return;
  if (text.starts_with(kSample) && util::parse_index(text.substr(kSample.size())).value_or(0) > 0) return;
  throw util::usage_error({.what = "unknown choice of positions",
                           .expected = "all, last or sample:N with N of at least 1",
                           .found = util::in_quotes(text)});
}

std::vector<std::int64_t> parse_layers(const std::string& text, std::int64_t num_layers, LayerList kind) {
  if (text.empty()) return {};
  const bool of_states = kind == LayerList::kOfStates;
  const std::string flag = of_states ? "--state-layers" : "--layers";
  std::set<std::int64_t> layers;
  const auto add = [&](std::int64_t layer) {
    if (of_states && !layers.empty() && layer <= *layers.rbegin()) {
      throw util::usage_error({.what = "the layers of stored states do not rise",
                               .where = flag + " " + text,
                               .expected = "each layer once, in rising order, as the file holds them",
                               .found = util::cat(layer, " behind ", *layers.rbegin())});
    }
    layers.insert(layer);
  };
  for (const std::string& part : util::split(text, ',')) {
    const auto refuse = [&]() -> util::Error {
      return util::usage_error(
          {.what = "not a list of layers",
           .where = flag + " " + text,
           .expected =
               util::cat("numbers from 0 to ", num_layers, ", ranges A-B and every:K, with commas between"),
           .found = part.empty() ? "nothing between two commas" : util::in_quotes(part)});
    };
    const std::string item(util::trimmed(part));
    constexpr std::string_view kEvery = "every:";
    if (item.rfind(kEvery, 0) == 0) {
      const auto step = util::parse_index(item.substr(kEvery.size()));
      if (!step || *step < 1 || *step > INT32_MAX) throw refuse();
      for (std::int64_t layer = 0; layer <= num_layers; layer += *step) add(layer);
      continue;
    }
    const auto range = util::parse_range(item);
    if (!range || range->first > range->last || range->last > num_layers) throw refuse();
    for (std::int64_t layer = range->first; layer <= range->last; ++layer) add(layer);
  }
  if (of_states && *layers.rbegin() != num_layers) {
    throw util::usage_error(
        {.what = "the states of the last layer are not among the stored ones",
         .where = flag + " " + text,
         .expected = util::cat("layer ", num_layers, ", the model's own output, at the end")});
  }
  layers.insert(num_layers);
  if (!of_states && static_cast<std::int64_t>(layers.size()) > num_layers) return {};
  return {layers.begin(), layers.end()};
}

std::optional<std::int64_t> InputOptions::sample() const {
  std::int64_t count = 0;
  if (positions.rfind(kSample, 0) != 0) return std::nullopt;
  const bool checked = util::parse_int(positions.substr(kSample.size()), count);
  DEPTHLENS_ASSERT(checked);
  return count;
}

}  // namespace depthlens::run
