// Merging, in two ways that give the same: a scan for words, a heap for what is longer.
#include "bpe.hpp"

#include <algorithm>
#include <cstring>

namespace depthlens::text {
namespace {

constexpr std::size_t kScanLimit = 64;
constexpr std::uint32_t kNoRank = ~std::uint32_t{0};

void merge_by_scan(const MergeTable& table, std::vector<TokenId>& symbols) {
  Merge merges[kScanLimit];  // merges[i]: of symbols i and i + 1
  std::size_t size = symbols.size();
  const auto look_up = [&](std::size_t i) {
    const Merge* merge = table.find(symbols[i], symbols[i + 1]);
    merges[i] = merge != nullptr ? *merge : Merge{kNoRank, kNoToken};
  };
  for (std::size_t i = 0; i + 1 < size; ++i) look_up(i);
  while (size > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < size; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNoRank) break;
    symbols[best] = merges[best].id;
    std::copy(symbols.begin() + best + 2, symbols.begin() + size, symbols.begin() + best + 1);
    --size;
    std::copy(merges + best + 1, merges + size, merges + best);
    if (best + 1 < size) look_up(best);
    if (best > 0) look_up(best - 1);
  }
  symbols.resize(size);
}

struct Candidate {
  std::uint32_t rank;
  std::uint32_t position;
  TokenId id;
  bool operator<(const Candidate& other) const {  // of a heap whose top is the largest
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

void merge_by_heap(const MergeTable& table, std::vector<TokenId>& symbols) {
  constexpr std::uint32_t kNone = ~std::uint32_t{0};
  const auto size = static_cast<std::uint32_t>(symbols.size());
  std::vector<std::uint32_t> previous(size), next(size);
  std::vector<Candidate> heap;
  for (std::uint32_t i = 0; i < size; ++i) {
    previous[i] = i > 0 ? i - 1 : kNone;
    next[i] = i + 1 < size ? i + 1 : kNone;
    if (i + 1 == size) break;
    if (const Merge* merge = table.find(symbols[i], symbols[i + 1]))
      heap.push_back({merge->rank, i, merge->id});
  }
  std::make_heap(heap.begin(), heap.end());
  const auto consider = [&](std::uint32_t left, std::uint32_t right) {
    if (const Merge* merge = table.find(symbols[left], symbols[right])) {
      heap.push_back({merge->rank, left, merge->id});
      std::push_heap(heap.begin(), heap.end());
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate top = heap.back();
    heap.pop_back();
    const std::uint32_t left = top.position;
    if (symbols[left] == kNoToken || next[left] == kNone) continue;  // merged away meanwhile
    const std::uint32_t right = next[left];
    const Merge* merge = table.find(symbols[left], symbols[right]);
    if (merge == nullptr || merge->id != top.id) continue;  // one of the two is another symbol by now
    symbols[left] = top.id;
    symbols[right] = kNoToken;
    next[left] = next[right];
    if (next[left] != kNone) {
      previous[next[left]] = left;
      consider(left, next[left]);
    }
    if (previous[left] != kNone) consider(previous[left], left);
  }
  symbols.erase(std::remove(symbols.begin(), symbols.end(), kNoToken), symbols.end());
}

constexpr std::size_t kSlots = std::size_t{1} << 17;
constexpr std::size_t kMaxWords = kSlots / 2;

}  // namespace

void merge_symbols(const MergeTable& merges, std::vector<TokenId>& symbols) {
  if (symbols.size() <= kScanLimit) {
    merge_by_scan(merges, symbols);
  } else {
    merge_by_heap(merges, symbols);
  }
}

WordCache& WordCache::of_this_thread(std::uint64_t owner) {
  thread_local WordCache cache;
  if (cache.owner_ != owner) {
    cache.clear();
    cache.owner_ = owner;
  }
  return cache;
}

void WordCache::clear() {
  slots_.assign(kSlots, Slot{});
  bytes_.clear();
  ids_.clear();
  size_ = 0;
}

std::uint64_t WordCache::hash(std::string_view word) {
  constexpr std::uint64_t kFactor = 0x9e3779b97f4a7c15u;
  const char* at = word.data();
  std::size_t left = word.size();
  std::uint64_t state = word.size() * kFactor;
  while (left >= 8) {
    std::uint64_t eight;
    std::memcpy(&eight, at, 8);
    state = (state ^ eight) * kFactor;
    state ^= state >> 32;
    at += 8;
    left -= 8;
  }
  std::uint64_t rest = 0;
  for (std::size_t i = 0; i < left; ++i) rest = rest << 8 | static_cast<unsigned char>(at[i]);
  state = (state ^ rest) * kFactor;
  return state ^ (state >> 29);
}

bool WordCache::append(std::string_view word, std::uint64_t hash, std::vector<TokenId>& ids) const {
  for (std::size_t i = hash & (kSlots - 1);; i = (i + 1) & (kSlots - 1)) {
    const Slot& slot = slots_[i];
    if (slot.length == 0) return false;
    if (slot.hash == hash && slot.length == word.size() &&
        std::memcmp(bytes_.data() + slot.bytes, word.data(), word.size()) == 0) {
      ids.insert(ids.end(), ids_.begin() + slot.ids, ids_.begin() + slot.ids + slot.count);
      return true;
    }
  }
}

void WordCache::insert(std::string_view word, std::uint64_t hash, const TokenId* ids, std::size_t count) {
  if (size_ == kMaxWords) clear();
  std::size_t i = hash & (kSlots - 1);
  while (slots_[i].length != 0) i = (i + 1) & (kSlots - 1);
  slots_[i] = {hash, static_cast<std::uint32_t>(bytes_.size()), static_cast<std::uint32_t>(ids_.size()),
               static_cast<std::uint16_t>(word.size()), static_cast<std::uint16_t>(count)};
  bytes_.insert(bytes_.end(), word.begin(), word.end());
  ids_.insert(ids_.end(), ids, ids + count);
  ++size_;
}

}  // namespace depthlens::text
