// Tables of eval-lens that no experiment of a corpus run makes: bits per byte, and translators on other
// layers.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/decode/listener.hpp"
#include "depthlens/tables/bootstrap.hpp"
#include "depthlens/tables/table.hpp"

namespace depthlens::experiments {

/// How long a text is.
struct TextSize {
  std::int64_t tokens = 0;  ///< of the text, without BOS
  std::int64_t bytes = 0;   ///< in UTF-8
};

/// Bits per byte of one nat per token: tokens / bytes / ln 2. The text must have bytes.
double bits_per_byte_of_a_nat(const TextSize& size);

/// `lens.bits_per_byte` from the table `lens.quality`, intervals too; what is nothing there is nothing here.
tables::Table bits_per_byte_table(const tables::Table& quality, const TextSize& size);

/// `lens.transfer`, from runs whose lenses are views of single translators (lens::make_transfer_lens). The
/// views may come in several runs, each view in one of them.
class Transfer : public decode::Listener {
 public:
  /// `seed` is that of the intervals.
  explicit Transfer(std::uint64_t seed = 0) : seed_(seed) {}

  struct View {
    std::string lens;
    std::int64_t translator = 0;
  };

  /// Tells which view each lens of the next run is, in the run's order.
  void expect(std::vector<View> views) { expected_ = std::move(views); }

  decode::Needs needs() const override { return {}; }
  void begin(const decode::ReadoutShape& shape) override;
  void accept(const decode::PositionReadout& position) override;

  /// All runs so far, in the order of the views; layer L, where no translator has a part, is left out.
  tables::Table table() const;

 private:
  struct Result {
    View view;
    std::size_t num_layers;
    tables::BootstrapMeans means;  // [layers, 2]
  };
  std::uint64_t seed_;
  std::vector<View> expected_;
  std::vector<Result> results_;
  std::size_t first_ = 0;  // of the present run, in results_
};

}  // namespace depthlens::experiments
