// The text of a training: joined, cut, shuffled by a seed.
#include "depthlens/data/training_text.hpp"

#include <set>

#include "support/catch.hpp"

namespace depthlens {
namespace {

using data::TokenId;
using data::TrainingText;
using Window = std::vector<TokenId>;

TrainingText text_of(data::TrainingTextOptions options, TokenId tokens_a_document, TokenId documents) {
  TrainingText text(options);
  TokenId next = 10;
  for (TokenId d = 0; d < documents; ++d) {
    Window document;
    for (TokenId t = 0; t < tokens_a_document; ++t) document.push_back(next++);
    text.add(document);
  }
  return text;
}

std::vector<Window> all_windows(const TrainingText& text, std::int64_t first = 0) {
  std::vector<Window> windows;
  for (std::int64_t i = 0; i < text.num_windows(); ++i) windows.push_back(text.window(first + i));
  return windows;
}

TEST_CASE("documents are joined with the separator before each, and windows cover the stream once") {
  TrainingText text = text_of({.window_length = 4, .bos = {}, .separator = 2, .vocab_size = 1000}, 5, 3);
  text.shuffle(7, 0);
  CHECK(text.num_tokens() == 18);  // three documents of five tokens and a separator
  CHECK(text.num_windows() == 4);  // two tokens are left over
  const std::vector<Window> windows = all_windows(text);
  CHECK(std::set<Window>(windows.begin(), windows.end()) ==
        std::set<Window>{{2, 10, 11, 12}, {13, 14, 2, 15}, {16, 17, 18, 19}, {2, 20, 21, 22}});
}

TEST_CASE("BOS stands before every window and takes its place in it") {
  TrainingText text = text_of({.window_length = 4, .bos = 1, .separator = {}, .vocab_size = 1000}, 6, 2);
  text.shuffle(0, 0);
  CHECK(text.num_tokens() == 12);
  CHECK(text.num_windows() == 4);
  for (const Window& window : all_windows(text)) {
    CHECK(window.size() == 4);
    CHECK(window.front() == 1);
    CHECK(window[2] == window[1] + 1);
  }
}

TEST_CASE("held-out windows are never trained on, and both are drawn by the seed") {
  const auto make = [](std::uint64_t seed) {
    TrainingText text = text_of({.window_length = 2, .bos = {}, .separator = {}, .vocab_size = 1000}, 100, 1);
    text.shuffle(seed, 10);
    return text;
  };
  const TrainingText text = make(5), same = make(5), other = make(6);
  CHECK(text.num_windows() == 40);
  CHECK(text.num_validation() == 10);
  std::set<Window> seen;
  for (const Window& window : all_windows(text)) seen.insert(window);
  CHECK(seen.size() == 40);
  for (std::int64_t i = 0; i < 10; ++i) CHECK(seen.insert(text.validation_window(i)).second);
  CHECK(seen.size() == 50);
  CHECK(all_windows(text) == all_windows(same));
  CHECK(all_windows(text) != all_windows(other));
}

TEST_CASE("every round reads all windows in another order, and can be gone back to") {
  TrainingText text = text_of({.window_length = 2, .bos = {}, .separator = {}, .vocab_size = 1000}, 60, 1);
  text.shuffle(1, 3);
  const auto first = all_windows(text), second = all_windows(text, text.num_windows());
  CHECK(first != second);
  CHECK(std::set<Window>(first.begin(), first.end()) == std::set<Window>(second.begin(), second.end()));
  CHECK(all_windows(text) == first);
}

TEST_CASE("ids of large vocabularies survive, and the digest tells texts apart") {
  for (const std::int64_t vocab_size : {std::int64_t{65536}, std::int64_t{200000}}) {
    TrainingText text({.window_length = 2, .bos = {}, .separator = {}, .vocab_size = vocab_size});
    const auto last = static_cast<TokenId>(vocab_size - 1);
    text.add({0, last, last, 0});
    text.shuffle(0, 0);
    for (const Window& window : all_windows(text)) CHECK(window[0] + window[1] == last);
    TrainingText same({.window_length = 2, .bos = {}, .separator = {}, .vocab_size = 300000});
    same.add({0, last, last, 0});
    CHECK(text.digest() == same.digest());  // of the ids, however they are kept
    same.add({1});
    CHECK(text.digest() != same.digest());
  }
}

TEST_CASE("one window at least is left for training, and a short text has none") {
  TrainingText text = text_of({.window_length = 4, .bos = {}, .separator = {}, .vocab_size = 1000}, 12, 1);
  text.shuffle(0, 50);
  CHECK(text.num_windows() == 1);
  CHECK(text.num_validation() == 2);
  TrainingText none = text_of({.window_length = 4, .bos = {}, .separator = {}, .vocab_size = 1000}, 3, 1);
  none.shuffle(0, 1);
  CHECK(none.num_windows() == 0);
  CHECK(none.num_validation() == 0);
}

}  // namespace
}  // namespace depthlens
