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
  /// `write` takes a whole line with its line break; `token_text` gives a token's text as valid UTF-8.
  PatchingRecords(std::function<std::string(decode::TokenId)> token_text,
                  std::function<void(std::string_view)> write);

  void accept(const data::PairItem& item, const decode::PatchingResult& result);

 private:
  std::string token(decode::TokenId id) const;

  std::function<std::string(decode::TokenId)> token_text_;
  std::function<void(std::string_view)> write_;
};

}  // namespace depthlens::report
