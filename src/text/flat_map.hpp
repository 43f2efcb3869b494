// An open-addressing hash map from 64-bit keys, for the tables that every word of a text asks: merges,
// characters, trie edges.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace depthlens::text {

/// Keys are any value but `kNoKey`. Nothing is ever erased.
template <typename Value>
class FlatMap {
 public:
  static constexpr std::uint64_t kNoKey = ~std::uint64_t{0};

  explicit FlatMap(std::size_t expected_size = 0) { allocate(expected_size); }

  std::size_t size() const { return size_; }

  /// The value of `key`, or null; valid until the next `set`.
  const Value* find(std::uint64_t key) const {
    for (std::size_t slot = first_slot(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return &slots_[slot].value;
      if (slots_[slot].key == kNoKey) return nullptr;
    }
  }

  /// Sets or replaces.
  void set(std::uint64_t key, Value value) {
    if ((size_ + 1) * 2 > slots_.size()) grow();
    std::size_t slot = first_slot(key);
    while (slots_[slot].key != key && slots_[slot].key != kNoKey) slot = (slot + 1) & mask_;
    if (slots_[slot].key == kNoKey) ++size_;
    slots_[slot] = {key, value};
  }

 private:
  struct Slot {
    std::uint64_t key = kNoKey;
    Value value{};
  };

  std::size_t first_slot(std::uint64_t key) const {
    const std::uint64_t mixed = (key ^ (key >> 32)) * 0x9e3779b97f4a7c15u;
    return (mixed >> 32) & mask_;
  }

  void allocate(std::size_t expected_size) {
    std::size_t slots = 16;
    while (slots < expected_size * 2 + 2) slots *= 2;
    slots_.assign(slots, Slot{});
    mask_ = slots - 1;
    size_ = 0;
  }

  void grow() {
    std::vector<Slot> old;
    old.swap(slots_);
    allocate(old.size());
    for (const Slot& slot : old) {
      if (slot.key != kNoKey) set(slot.key, slot.value);
    }
  }

  std::vector<Slot> slots_;
  std::size_t mask_ = 0;
  std::size_t size_ = 0;
};

}  // namespace depthlens::text
