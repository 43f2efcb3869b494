// Kernels of our own on a card: compiled when the program runs, by the NVRTC that comes with a CUDA libtorch,
// and launched through the driver. Both libraries are opened by name, with declarations of our own, so that
// one build serves machines with and without a card, and none needs a toolkit. What is missing is a value
// with a reason, no error: libtorch's operations do the same work, slower.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace depthlens::compute::cuda {

/// A value, or in a few words why there is none.
template <typename T>
struct Outcome {
  std::optional<T> value = {};
  std::string reason = {};
  explicit operator bool() const { return value.has_value(); }
  const T& operator*() const { return *value; }
  const T* operator->() const { return &*value; }
};
template <typename T>
Outcome<T> failure(std::string reason) {
  return {.value = {}, .reason = std::move(reason)};
}

/// What a kernel is compiled from.
struct Source {
  struct Header {
    std::string name, text;
  };
  std::string text;
  std::vector<Header> headers = {};
  std::vector<std::string> options = {};  ///< macros ("-DNAME=1") and the architecture

  /// SHA-256 of all of it.
  std::string digest() const;
};

/// "--gpu-architecture=sm_90" for {9, 0}.
std::string architecture_option(std::array<int, 2> capability);

/// libnvrtc, opened.
class Compiler {
 public:
  /// Looks beside libtorch, where its wheel has it, then where the loader looks. `file`: that one instead.
  static Outcome<Compiler> open(const std::filesystem::path& file = {});

  const std::string& version() const { return version_; }  ///< "13.0"
  const std::string& place() const { return place_; }      ///< path or name under which it was opened
  /// What to compile for a card of this capability: the newest that it knows whose code the card runs, which
  /// has the same first number and no greater second one. The card's own where it knows none.
  std::array<int, 2> architecture_for(std::array<int, 2> capability) const;
  /// A cubin. `reason` is the compiler's log, of a success too.
  Outcome<std::string> compile(const Source& source) const;
  /// The same by way of a file in `folder`, whose name is made of all that the result depends on. One that is
  /// damaged is made anew; a folder that cannot be written is no failure. Empty: no file.
  Outcome<std::string> compile(const Source& source, const std::filesystem::path& folder) const;

 private:
  struct Functions;
  std::shared_ptr<const Functions> functions_;
  std::string version_, place_;
};

/// A card through the driver.
class Card {
 public:
  /// Opens libcuda and holds the context that libtorch uses too.
  static Outcome<Card> open(int index);

  int index() const { return index_; }
  std::array<int, 2> capability() const { return capability_; }  ///< {9, 0}: sm_90
  int multiprocessors() const { return multiprocessors_; }
  /// Bytes.
  std::uint64_t free_memory() const;

  /// A function of a module, which stays loaded while the process lives. Throws where memory does not suffice
  /// (compute::is_out_of_memory), which may be otherwise the next time.
  Outcome<void*> load(const std::string& cubin, const std::string& function) const;
  struct Grid {
    std::int64_t x = 1, y = 1;
    int threads = 256;
  };
  /// Puts a launch into the default stream, which libtorch uses, and returns at once. `argument`: the
  /// function's one parameter. Throws where the driver refuses it, for want of memory as `load`.
  void launch(void* function, const Grid& grid, const void* argument) const;

 private:
  struct Driver;
  class InContext;
  std::shared_ptr<const Driver> driver_;
  int index_ = 0, device_ = 0;
  void* context_ = nullptr;
  std::array<int, 2> capability_ = {};
  int multiprocessors_ = 0;
};

}  // namespace depthlens::compute::cuda
