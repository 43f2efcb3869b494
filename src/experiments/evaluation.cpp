// lens.bits_per_byte and lens.transfer (docs/methods.md).
#include "depthlens/experiments/evaluation.hpp"

#include <algorithm>
#include <numbers>
#include <optional>

#include "depthlens/tables/bootstrap.hpp"
#include "depthlens/tables/estimates.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {
namespace {

constexpr std::size_t kTranslatorStatistics = 2;  // of a translator on a layer: KL, agreement

/// [L, kTranslatorStatistics] of a translator, and cases.
tables::BootstrapMeans means_of(const Context& context, const std::string& lens, std::int64_t translator,
                                std::int64_t num_layers) {
  return tables::BootstrapMeans(
      context.state->sums(util::cat("transfer.", lens, ".", translator),
                          static_cast<std::size_t>(num_layers) * kTranslatorStatistics + 1, context.seed));
}

/// Layer L, where no translator has a part, is left out.
class TransferListener : public decode::Listener {
 public:
  TransferListener(const Context& context, std::vector<TranslatorView> views)
      : context_(context), views_(std::move(views)) {}

  void begin(const decode::ReadoutShape& shape) override {
    DEPTHLENS_ASSERT(static_cast<std::int64_t>(views_.size()) == shape.num_lenses());
    num_layers_ = shape.last_layer();
    means_.clear();
    for (const TranslatorView& view : views_)
      means_.push_back(means_of(context_, view.lens, view.translator, num_layers_));
  }

  void accept(const decode::PositionReadout& position) override {
    std::vector<double> values;
    for (std::size_t n = 0; n < means_.size(); ++n) {
      const auto lens = static_cast<std::int64_t>(n);
      values.clear();
      for (std::int64_t row = 0; row < num_layers_; ++row) {
        values.push_back(position.kl_final(lens, row));
        values.push_back(position.top1(lens, row) == position.final_id() ? 1 : 0);
      }
      means_[n].add(unit_of(position), values);
    }
  }

 private:
  Context context_;
  std::vector<TranslatorView> views_;
  std::int64_t num_layers_ = 0;
  std::vector<tables::BootstrapMeans> means_;  // by view
};

class Evaluation : public Experiment {
 public:
  Evaluation(const Context& context, const EvaluationContext& evaluation)
      : context_(context), evaluation_(evaluation), trajectory_(make_trajectory(context)) {}

  decode::Needs needs() const override { return trajectory_->needs(); }
  void begin(const decode::ReadoutShape& shape) override { trajectory_->begin(shape); }
  void accept(const decode::PositionReadout& position) override { trajectory_->accept(position); }

  std::vector<tables::Table> tables() const override {
    std::vector<tables::Table> all = trajectory_->tables();
    all.push_back(bits_per_byte_table(all.front(), evaluation_.size));
    if (!evaluation_.transfer.empty()) all.push_back(transfer());
    return all;
  }

 private:
  tables::Table transfer() const {
    using tables::kEstimated;
    tables::EstimateTable table("lens.transfer", {{"lens"},
                                                  {"translator"},
                                                  {"layer"},
                                                  {"positions", "positions"},
                                                  {"kl_final", "nats", kEstimated},
                                                  {"top1_agreement", "share of positions", kEstimated}});
    for (const auto& [lens, num_translators] : evaluation_.transfer) {
      for (std::int64_t translator = 0; translator < num_translators; ++translator) {
        const auto means = means_of(context_, lens, translator, evaluation_.num_layers);
        for (std::int64_t layer = 0; layer < evaluation_.num_layers; ++layer) {
          const std::size_t i = static_cast<std::size_t>(layer) * kTranslatorStatistics;
          table.add({lens, translator, layer, means.count(), means.estimate(i), means.estimate(i + 1)});
        }
      }
    }
    return std::move(table).finish();
  }

  Context context_;
  EvaluationContext evaluation_;
  std::unique_ptr<Experiment> trajectory_;
};

}  // namespace

double bits_per_byte_of_a_nat(const TextSize& size) {
  DEPTHLENS_ASSERT(size.bytes > 0);
  return static_cast<double>(size.tokens) / static_cast<double>(size.bytes) / std::numbers::ln2;
}

tables::Table bits_per_byte_table(const tables::Table& quality, const TextSize& size) {
  const double factor = bits_per_byte_of_a_nat(size);
  tables::Table table{.name = "lens.bits_per_byte", .columns = {{"lens"}, {"layer"}}, .rows = {}};
  std::vector<std::size_t> sources;    // columns of `quality`
  std::vector<std::size_t> estimates;  // places among its estimated ones
  const auto index_of = [&](const std::string& name) {
    const auto found = std::find_if(quality.columns.begin(), quality.columns.end(),
                                    [&](const tables::Column& column) { return column.name == name; });
    DEPTHLENS_ASSERT(found != quality.columns.end());
    return static_cast<std::size_t>(found - quality.columns.begin());
  };
  const std::vector<std::string> names = {"kl_final", "kl_reverse", "entropy", "cross_entropy"};
  const auto is_estimated = [](const tables::Column& column) { return column.estimated; };
  const auto take = [&](const std::string& name, bool estimated) {
    table.columns.push_back({name, "bits per byte", estimated});
    sources.push_back(index_of(name));
  };
  for (const std::string& name : names) {
    take(name, /*estimated=*/true);
    const auto column = quality.columns.begin() + static_cast<std::ptrdiff_t>(sources.back());
    DEPTHLENS_ASSERT(column->estimated);
    estimates.push_back(
        static_cast<std::size_t>(std::count_if(quality.columns.begin(), column, is_estimated)));
  }
  for (const std::string& name : names) {
    take(name + "_low", /*estimated=*/false);
    take(name + "_high", /*estimated=*/false);
  }
  const auto num_estimated =
      static_cast<std::size_t>(std::count_if(quality.columns.begin(), quality.columns.end(), is_estimated));
  const std::size_t lens = index_of("lens"), layer = index_of("layer");
  for (const auto& row : quality.rows) {
    std::vector<tables::Cell> cells = {row[lens], row[layer]};
    for (const std::size_t source : sources) {
      const auto* nats = std::get_if<double>(&row[source]);
      cells.push_back(tables::cell(nats != nullptr ? std::optional(*nats * factor) : std::nullopt));
    }
    table.add(std::move(cells));
  }
  if (quality.replicates.empty()) return table;
  constexpr auto kReplicates = static_cast<std::size_t>(tables::kReplicates);
  table.replicates.reserve(quality.rows.size() * estimates.size() * kReplicates);
  for (std::size_t row = 0; row < quality.rows.size(); ++row) {
    for (const std::size_t i : estimates) {
      const float* nats = quality.replicates.data() + (row * num_estimated + i) * kReplicates;
      for (std::size_t k = 0; k < kReplicates; ++k)
        table.replicates.push_back(static_cast<float>(nats[k] * factor));
    }
  }
  return table;
}

std::unique_ptr<Experiment> make_evaluation(const Context& context, const EvaluationContext& evaluation) {
  return std::make_unique<Evaluation>(context, evaluation);
}

std::unique_ptr<decode::Listener> make_transfer_listener(const Context& context,
                                                         std::vector<TranslatorView> views) {
  return std::make_unique<TransferListener>(context, std::move(views));
}

}  // namespace depthlens::experiments
