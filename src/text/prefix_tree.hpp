// Which of many strings a text begins with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "flat_map.hpp"

namespace depthlens::text {

/// Strings and a number for each, by their bytes.
class PrefixTree {
 public:
  static constexpr int kNone = -1;

  /// Adds `key`, or replaces its number, which is not negative. An empty key is left out.
  void add(std::string_view key, int number) {
    std::uint32_t node = 0;
    for (const char c : key) {
      if (const std::uint32_t* next = edges_.find(edge(node, c))) {
        node = *next;
      } else {
        const auto made = static_cast<std::uint32_t>(numbers_.size());
        numbers_.push_back(kNone);
        edges_.set(edge(node, c), made);
        node = made;
      }
    }
    if (node != 0) numbers_[node] = number;
  }

  /// Calls use(length, number) for each key that `text` begins with, shortest first.
  template <typename Use>
  void for_each_prefix(std::string_view text, const Use& use) const {
    std::uint32_t node = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const std::uint32_t* next = edges_.find(edge(node, text[i]));
      if (next == nullptr) return;
      node = *next;
      if (numbers_[node] != kNone) use(i + 1, numbers_[node]);
    }
  }

  /// The number of the whole of `text`, or kNone.
  int find(std::string_view text) const {
    int found = kNone;
    for_each_prefix(text, [&](std::size_t length, int number) {
      if (length == text.size()) found = number;
    });
    return found;
  }

 private:
  static std::uint64_t edge(std::uint32_t node, char c) {
    return std::uint64_t{node} << 8 | static_cast<unsigned char>(c);
  }

  FlatMap<std::uint32_t> edges_;        // to a node; node 0 is the root
  std::vector<int> numbers_ = {kNone};  // of the keys that end at a node
};

}  // namespace depthlens::text
