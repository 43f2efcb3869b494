// What a run is asked for, as flags and settings files say it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/report/record_fields.hpp"
#include "depthlens/report/record_file.hpp"
#include "depthlens/run/choices.hpp"

namespace depthlens::run {

struct InputOptions {
  std::vector<std::string> inputs;
  std::string positions = "all";
  std::int64_t limit = 0;  ///< documents or items; 0: all

  bool last_only() const { return positions == "last"; }
  /// How many positions are drawn from the whole input; nothing where none are.
  std::optional<std::int64_t> sample() const;
};

/// Throws a usage error unless `text` is all, last or sample:N.
void check_positions(const std::string& text);

/// What a list of layers is of: those that are decoded (`--layers`), in any order, L among them anyway; or
/// those that stored states are (`--state-layers`), which rise, each once, and end with L.
enum class LayerList { kDecoded, kOfStates };

/// The layers that `text` lists ("0,4,8", "0-8", "every:4", with commas between), rising; none where it is
/// "", and where all are to be decoded. Throws a usage error for anything else.
std::vector<std::int64_t> parse_layers(const std::string& text, std::int64_t num_layers,
                                       LayerList kind = LayerList::kDecoded);

struct OutputOptions {
  std::string out;  ///< the run folder
  bool overwrite = false;
  bool resume = false;
  std::string shard;  ///< I/N or auto; "": the whole run
};

/// Whether the answers that count are those that are the model's own top-1 only.
inline constexpr Choice<bool> kCorrectOnly[] = {{true, "correct"}, {false, "all"}};

inline constexpr Choice<bool> kAliases[] = {{true, "yes"}, {false, "no"}};

struct TaskOptions {
  bool correct_only = true;
  bool aliases =
      true;  ///< of facts, with `correct_only`: an alias that the model says takes the answer's place
  YesNoAuto whitespace_retry = YesNoAuto::kAuto;  ///< `kAuto`: of words and facts
  std::string classes = "DET,ADP,PUNCT,VERB,NOUN,ADJ";
  std::int64_t min_prompt_chars = 15;
  std::int64_t per_class = 0;
  std::string options;  ///< of questions that have none of their own; a usage error where there are none such
};

struct RecordSettings {
  bool write = true;
  report::RecordFormat format = report::RecordFormat::kJsonl;
  report::RecordFields fields = {};
  std::int64_t top_k = 10;
  std::int64_t most = 20000;  ///< in input order; 0: all
};

}  // namespace depthlens::run
