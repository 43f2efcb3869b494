// records.jsonl: one line for each analysed position, as docs/output.md describes it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>

#include "depthlens/data/task.hpp"
#include "depthlens/decode/listener.hpp"
#include "depthlens/experiments/watch.hpp"

namespace depthlens::report {

struct RecordOptions {
  std::int64_t top_k = 10;
  std::int64_t most = 20000;                  ///< records written, in input order; 0: all
  const data::Task* task = nullptr;           ///< that asks for the positions; nullptr: a corpus
  const experiments::Watch* watch = nullptr;  ///< tokens that every position watches; may be none
};

class RecordWriter : public decode::Listener {
 public:
  /// `write` takes a whole line with its line break; `token_text` gives a token's text as valid UTF-8.
  RecordWriter(RecordOptions options, std::function<std::string(decode::TokenId)> token_text,
               std::function<void(std::string_view)> write);

  decode::Needs needs() const override {
    return {.top_k = options_.top_k, .token_groups = {}, .num_groups = 0};
  }
  void accept(const decode::PositionReadout& position) override;

  std::int64_t written() const { return written_; }
  std::int64_t omitted() const { return omitted_; }

 private:
  const std::string& quoted_token(decode::TokenId id);
  void append_token(decode::TokenId id);
  void append_item(const decode::PositionReadout& position);
  void append_followed(const decode::PositionReadout& position, std::int64_t lens, std::int64_t w);
  void append_options(const decode::PositionReadout& position, std::int64_t lens);
  void append_watched(const decode::PositionReadout& position, std::int64_t lens);

  RecordOptions options_;
  std::function<std::string(decode::TokenId)> token_text_;
  std::function<void(std::string_view)> write_;
  std::unordered_map<decode::TokenId, std::string> quoted_;
  std::string line_;
  std::int64_t written_ = 0;
  std::int64_t omitted_ = 0;
};

}  // namespace depthlens::report
