// Windows of a joined corpus, in an order drawn by a seed.
#include "depthlens/data/training_text.hpp"

#include <algorithm>
#include <numeric>
#include <random>

#include "depthlens/util/error.hpp"

namespace depthlens::data {
namespace {

/// Fisher and Yates' shuffle; std::shuffle draws differently in every standard library.
void shuffle_in_place(std::vector<std::int64_t>& values, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (std::size_t i = values.size(); i > 1; --i) {
    // The remainder favours no index by more than 2^-40 for any corpus.
    std::swap(values[i - 1], values[random() % i]);
  }
}

}  // namespace

void TrainingText::add(const std::vector<TokenId>& document) {
  const auto append = [&](TokenId id) {
    DEPTHLENS_ASSERT(id >= 0 && id < options_.vocab_size);
    if (narrow()) {
      small_.push_back(static_cast<std::uint16_t>(id));
    } else {
      large_.push_back(id);
    }
  };
  if (options_.separator) append(*options_.separator);
  for (const TokenId id : document) append(id);
}

void TrainingText::shuffle(std::uint64_t seed, std::int64_t num_validation) {
  const std::int64_t text_length = options_.window_length - (options_.bos ? 1 : 0);
  DEPTHLENS_ASSERT(text_length >= 1 && num_validation >= 0);
  seed_ = seed;
  std::vector<std::int64_t> windows(static_cast<std::size_t>(num_tokens() / text_length));
  std::iota(windows.begin(), windows.end(), 0);
  shuffle_in_place(windows, seed);
  const auto held_out = std::min<std::int64_t>(
      num_validation, std::max<std::int64_t>(0, static_cast<std::int64_t>(windows.size()) - 1));
  validation_.assign(windows.end() - held_out, windows.end());
  training_.assign(windows.begin(), windows.end() - held_out);
  std::sort(training_.begin(), training_.end());
  std::sort(validation_.begin(), validation_.end());
}

std::int64_t TrainingText::num_tokens() const {
  return static_cast<std::int64_t>(narrow() ? small_.size() : large_.size());
}

std::int64_t TrainingText::num_windows() const {
  return static_cast<std::int64_t>(training_.size());
}

std::vector<TokenId> TrainingText::tokens_of(std::int64_t window) const {
  const std::int64_t text_length = options_.window_length - (options_.bos ? 1 : 0);
  std::vector<TokenId> tokens;
  tokens.reserve(static_cast<std::size_t>(options_.window_length));
  if (options_.bos) tokens.push_back(*options_.bos);
  for (std::int64_t t = 0; t < text_length; ++t)
    tokens.push_back(token(static_cast<std::size_t>(window * text_length + t)));
  return tokens;
}

std::vector<TokenId> TrainingText::window(std::int64_t i) const {
  DEPTHLENS_ASSERT(i >= 0 && !training_.empty());
  const std::int64_t epoch = i / num_windows();
  if (epoch != ordered_epoch_) {
    order_ = training_;
    shuffle_in_place(order_, seed_ + 1 + static_cast<std::uint64_t>(epoch));
    ordered_epoch_ = epoch;
  }
  return tokens_of(order_[static_cast<std::size_t>(i % num_windows())]);
}

std::vector<TokenId> TrainingText::validation_window(std::int64_t i) const {
  return tokens_of(validation_.at(static_cast<std::size_t>(i)));
}

std::string TrainingText::digest() const {
  util::Sha256 hash;
  constexpr std::int64_t kPart = 1 << 16;
  std::vector<TokenId> part;
  for (std::int64_t first = 0; first < num_tokens(); first += kPart) {
    part.clear();
    for (std::int64_t i = first; i < std::min(first + kPart, num_tokens()); ++i)
      part.push_back(token(static_cast<std::size_t>(i)));
    hash.update(part.data(), part.size() * sizeof(TokenId));
  }
  return hash.hex_digest();
}

}  // namespace depthlens::data
