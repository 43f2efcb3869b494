// records.jsonl: one line for each analysed position, as docs/output.md describes it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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
  ~RecordWriter() override;

  decode::Needs needs() const override {
    // `settled_layer` looks at the first guess.
    return {
        .top_k = options_.fields.has_predictions() ? options_.top_k : 1, .token_groups = {}, .num_groups = 0};
  }
  void begin(const decode::ReadoutShape& shape) override;
  void accept(const decode::PositionReadout& position) override;
  /// Puts lines together on all threads. Lines are written, and `wants` is asked, by one thread at a time, in
  /// the order of the positions; a few lines may be made that turn out not to be wanted.
  void accept_all(std::span<const decode::PositionReadout> positions, util::Threads& threads) override;

 private:
  class QuotedTokens;
  class Line;
  struct Block;

  void make(Block& block, std::size_t piece) const;
  void write(const Block& block);

  RecordOptions options_;
  std::function<void(std::string_view, std::int64_t)> write_;
  std::function<bool()> wants_;
  std::unique_ptr<QuotedTokens> tokens_;
  std::vector<std::string> lens_keys_;  // by lens: its name and what stands between that and its numbers
  std::unique_ptr<Block> written_, next_;
};

}  // namespace depthlens::report
