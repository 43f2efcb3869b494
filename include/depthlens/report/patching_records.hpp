// records.jsonl of activation patching: one line a pair.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "depthlens/data/pairs.hpp"
#include "depthlens/decode/patching.hpp"

namespace depthlens::report {

class PatchingRecords {
 public:
  /// The first `most` pairs get a record (0: all). `write` takes a whole line with its line break;
  /// `token_text` gives a token's text as valid UTF-8.
  PatchingRecords(std::int64_t most, std::function<std::string(decode::TokenId)> token_text,
                  std::function<void(std::string_view)> write);

  void accept(const data::PairItem& item, const decode::PatchingResult& result);

  std::int64_t written() const { return written_; }
  std::int64_t omitted() const { return omitted_; }

 private:
  std::string token(decode::TokenId id) const;

  std::int64_t most_;
  std::function<std::string(decode::TokenId)> token_text_;
  std::function<void(std::string_view)> write_;
  std::int64_t written_ = 0;
  std::int64_t omitted_ = 0;
};

}  // namespace depthlens::report
