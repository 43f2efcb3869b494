// The records that a page shows: whole windows in the order of the input, packed into few characters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "depthlens/report/record_fields.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::report {

/// Records are left out so that a page stays below this, unless another bound is asked for.
inline constexpr std::size_t kMaxPageBytes = 2'000'000;

/// Takes lines of records until enough are there for a page of `max_bytes`.
///
/// A window becomes `{"document", "window", "item", …, "records"}`: what its records tell of their place in
/// the input, and of tasks also the end of the prompt, the answer, the class, the texts of the options;
/// "watched" are the texts of the watched tokens. A record becomes `[position, token, target or null, final,
/// "packed"]`, of facts with the answer position behind it; tokens are indices into one table. The packed
/// text holds, lens by lens and layer by layer, numbers of three digits to the base 89: for each prediction
/// its token and −log p, then the final token's rank, the target's rank, entropy and KL(final ‖ layer), then
/// for each option and each watched token its rank and −log p; logarithms, entropies and divergences in
/// thousandths of a nat. The highest number stands for "none", and for what the records have no field of.
/// Without both ids and texts of predictions, no prediction is packed.
class PageRecords {
 public:
  /// Every record must have just these lenses, with `num_rows` layers and `fields` each.
  PageRecords(std::vector<std::string> lenses, std::int64_t num_rows, std::size_t max_bytes = kMaxPageBytes,
              RecordFields fields = {});

  /// Takes a line; `where` (file and line) is for the format errors that it throws. Does nothing when full.
  void add(std::string_view line, const std::string& where);

  /// No further record would find a place in a page.
  bool full() const { return full_; }
  std::int64_t size() const { return static_cast<std::int64_t>(records_.size()); }
  std::size_t max_bytes() const { return max_bytes_; }

  /// The windows that fit into `budget` bytes as one JSON object, safe inside a script element. Where not
  /// even the first window fits, it is kept with fewer predictions, or else cut; nothing where no record
  /// fits.
  std::optional<std::string> json(std::size_t budget) const;

 private:
  struct Record {
    std::string json;
    std::size_t num_tokens;  ///< length of the table of tokens with this record
    std::size_t bytes;       ///< of all records so far and their tokens
  };
  struct Window {
    std::string opening;  ///< {"document": …, … "records": [
    std::size_t begin;    ///< its first record
  };

  std::size_t token_index(std::int64_t id, const std::string& text);
  std::string packed_token(const util::JsonView& token);
  void open_window(const util::JsonView& record);
  std::string packed_lens(const util::JsonView& readout, std::size_t num_watched);
  /// The record's JSON with the first `top_k` predictions of each layer.
  std::string with_predictions(const std::string& record, std::size_t top_k) const;
  std::size_t end_of_window(std::size_t window) const;

  std::vector<std::string> lenses_;
  std::size_t num_rows_;
  std::size_t max_bytes_;
  RecordFields fields_;
  std::size_t top_k_ = 0;  ///< predictions of a layer that the page keeps; of the first record
  bool full_ = false;
  std::size_t bytes_ = 0;
  std::vector<Record> records_;
  std::vector<Window> windows_;
  std::unordered_map<std::int64_t, std::size_t> index_of_token_;
  std::vector<std::string> token_ids_, token_texts_;  ///< as JSON
};

}  // namespace depthlens::report
