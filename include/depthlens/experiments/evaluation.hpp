// Tables of eval-lens that no experiment of a corpus run makes: bits per byte, and translators on other
// layers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "depthlens/decode/listener.hpp"
#include "depthlens/experiments/experiment.hpp"
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

/// What eval-lens is about, beside the readouts of its lenses.
struct EvaluationContext {
  TextSize size;
  /// Lenses whose translators are tried on other layers, by name, and how many translators each has; empty:
  /// none.
  std::vector<std::pair<std::string, std::int64_t>> transfer = {};
  std::int64_t num_layers = 0;  ///< L
};

/// One translator of a lens.
struct TranslatorView {
  std::string lens;
  std::int64_t translator = 0;
};

/// The experiment of eval-lens: the tables of `trajectory`, `lens.bits_per_byte` and, where translators are
/// tried, `lens.transfer`. Of the engine's groups it listens to the first one.
std::unique_ptr<Experiment> make_evaluation(const Context& context, const EvaluationContext& evaluation);

/// The listener of a group of the engine's whose lenses are views of single translators
/// (lens::make_transfer_lens): these.
std::unique_ptr<decode::Listener> make_transfer_listener(const Context& context,
                                                         std::vector<TranslatorView> views);

}  // namespace depthlens::experiments
