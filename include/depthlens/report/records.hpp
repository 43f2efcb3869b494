// records.jsonl: one line for each analysed position, as docs/output.md describes it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>

#include "depthlens/data/task.hpp"
#include "depthlens/decode/listener.hpp"
#include "depthlens/experiments/watch.hpp"
#include "depthlens/report/record_fields.hpp"

namespace depthlens::report {

struct RecordOptions {
  std::int64_t top_k = 10;
  const data::Task* task = nullptr;           ///< that asks for the positions; nullptr: a corpus
  const experiments::Watch* watch = nullptr;  ///< tokens that every position watches; may be none
  RecordFields fields = {};                   ///< of each lens
};

class RecordWriter : public decode::Listener {
 public:
  /// `write` takes a whole line with its line break, and the number of the item that it is about (−1: of a
  /// corpus); `token_text` gives a token's text as valid UTF-8. A position for which `wants` is false gets no
  /// line.
  RecordWriter(
      RecordOptions options, std::function<std::string(decode::TokenId)> token_text,
      std::function<void(std::string_view line, std::int64_t item)> write,
      std::function<bool()> wants = [] { return true; });

  decode::Needs needs() const override {
    // `settled_layer` looks at the first guess.
    return {
        .top_k = options_.fields.has_predictions() ? options_.top_k : 1, .token_groups = {}, .num_groups = 0};
  }
  void accept(const decode::PositionReadout& position) override;

 private:
  const std::string& quoted_token(decode::TokenId id);
  bool begin_field(RecordField field);
  void append_token(decode::TokenId id);
  void append_item(const decode::PositionReadout& position);
  void append_followed(const decode::PositionReadout& position, std::int64_t lens, std::int64_t w);
  void append_lens(const decode::PositionReadout& position, std::int64_t lens);
  void append_options(const decode::PositionReadout& position, std::int64_t lens);
  void append_watched(const decode::PositionReadout& position, std::int64_t lens);

  RecordOptions options_;
  std::function<std::string(decode::TokenId)> token_text_;
  std::function<void(std::string_view, std::int64_t)> write_;
  std::function<bool()> wants_;
  std::unordered_map<decode::TokenId, std::string> quoted_;
  std::string line_;
};

}  // namespace depthlens::report
