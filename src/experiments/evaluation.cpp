// lens.bits_per_byte and lens.transfer (docs/methods.md).
#include "depthlens/experiments/evaluation.hpp"

#include <algorithm>
#include <numbers>
#include <optional>

#include "depthlens/tables/estimates.hpp"
#include "depthlens/util/error.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {
namespace {
constexpr std::size_t kStatistics = 2;  // of a translator on a layer: KL, agreement
}

double bits_per_byte_of_a_nat(const TextSize& size) {
  DEPTHLENS_ASSERT(size.bytes > 0);
  return static_cast<double>(size.tokens) / static_cast<double>(size.bytes) / std::numbers::ln2;
}

tables::Table bits_per_byte_table(const tables::Table& quality, const TextSize& size) {
  const double factor = bits_per_byte_of_a_nat(size);
  tables::Table table{.name = "lens.bits_per_byte", .columns = {{"lens"}, {"layer"}}, .rows = {}};
  std::vector<std::size_t> sources;  // columns of `quality`
  const auto index_of = [&](const std::string& name) {
    const auto found = std::find_if(quality.columns.begin(), quality.columns.end(),
                                    [&](const tables::Column& column) { return column.name == name; });
    DEPTHLENS_ASSERT(found != quality.columns.end());
    return static_cast<std::size_t>(found - quality.columns.begin());
  };
  const std::vector<std::string> names = {"kl_final", "kl_reverse", "entropy", "cross_entropy"};
  const auto take = [&](const std::string& name) {
    table.columns.push_back({name, "bits per byte"});
    sources.push_back(index_of(name));
  };
  for (const std::string& name : names) take(name);
  for (const std::string& name : names) {
    take(name + "_low");
    take(name + "_high");
  }
  const std::size_t lens = index_of("lens"), layer = index_of("layer");
  for (const auto& row : quality.rows) {
    std::vector<tables::Cell> cells = {row[lens], row[layer]};
    for (const std::size_t source : sources) {
      const auto* nats = std::get_if<double>(&row[source]);
      cells.push_back(tables::cell(nats != nullptr ? std::optional(*nats * factor) : std::nullopt));
    }
    table.add(std::move(cells));
  }
  return table;
}

void Transfer::begin(const decode::ReadoutShape& shape) {
  DEPTHLENS_ASSERT(static_cast<std::int64_t>(expected_.size()) == shape.num_lenses());
  first_ = results_.size();
  for (View& view : expected_) {
    const auto layers = static_cast<std::size_t>(shape.num_rows - 1);
    results_.push_back({std::move(view), layers, tables::BootstrapMeans(layers * kStatistics, seed_)});
  }
  expected_.clear();
}

void Transfer::accept(const decode::PositionReadout& position) {
  for (std::size_t n = first_; n < results_.size(); ++n) {
    const auto lens = static_cast<std::int64_t>(n - first_);
    std::vector<double> values;
    for (std::size_t layer = 0; layer < results_[n].num_layers; ++layer) {
      const auto row = static_cast<std::int64_t>(layer);
      values.push_back(position.kl_final(lens, row));
      values.push_back(position.top1(lens, row) == position.final_id() ? 1 : 0);
    }
    results_[n].means.add(unit_of(position), values);
  }
}

tables::Table Transfer::table() const {
  using tables::kEstimated;
  tables::EstimateTable table("lens.transfer", {{"lens"},
                                                {"translator"},
                                                {"layer"},
                                                {"positions", "positions"},
                                                {"kl_final", "nats", kEstimated},
                                                {"top1_agreement", "share of positions", kEstimated}});
  for (const Result& result : results_) {
    for (std::size_t layer = 0; layer < result.num_layers; ++layer) {
      const std::size_t i = layer * kStatistics;
      table.add({result.view.lens, result.view.translator, static_cast<std::int64_t>(layer),
                 result.means.count(), result.means.estimate(i), result.means.estimate(i + 1)});
    }
  }
  return std::move(table).finish();
}

}  // namespace depthlens::experiments
