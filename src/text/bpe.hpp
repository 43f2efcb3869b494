// Byte pair encoding of one word: the table of merges, the merging, and a cache of words.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "added_tokens.hpp"
#include "flat_map.hpp"

namespace depthlens::text {

struct Merge {
  std::uint32_t rank = 0;  ///< lower ranks merge first
  TokenId id = kNoToken;   ///< of the merged token
};

/// Merges by the pair of ids. A pair that is set twice keeps the last.
class MergeTable {
 public:
  explicit MergeTable(std::size_t expected_size = 0) : merges_(expected_size) {}
  void set(TokenId left, TokenId right, Merge merge) { merges_.set(key(left, right), merge); }
  const Merge* find(TokenId left, TokenId right) const { return merges_.find(key(left, right)); }
  std::size_t size() const { return merges_.size(); }

 private:
  static std::uint64_t key(TokenId left, TokenId right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  FlatMap<Merge> merges_;
};

/// Merges neighbours until no pair has a merge: always the pair of lowest rank, the leftmost among equals.
/// O(n log n) for long words.
void merge_symbols(const MergeTable& merges, std::vector<TokenId>& symbols);

/// Ids of the words seen lately, one cache for each thread. It serves the tokenizer that used it last.
class WordCache {
 public:
  static constexpr std::size_t kMaxWord = 128;

  /// The calling thread's cache, emptied where another tokenizer used it. `owner` is never used twice.
  static WordCache& of_this_thread(std::uint64_t owner);

  static std::uint64_t hash(std::string_view word);
  /// Appends the ids of `word` and returns true where they are known.
  bool append(std::string_view word, std::uint64_t hash, std::vector<TokenId>& ids) const;
  void insert(std::string_view word, std::uint64_t hash, const TokenId* ids, std::size_t count);

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t bytes = 0;  // offsets into bytes_ and ids_
    std::uint32_t ids = 0;
    std::uint16_t length = 0;  // 0: empty
    std::uint16_t count = 0;
  };
  void clear();

  std::uint64_t owner_ = 0;
  std::size_t size_ = 0;
  std::vector<Slot> slots_;
  std::vector<char> bytes_;
  std::vector<TokenId> ids_;
};

}  // namespace depthlens::text
