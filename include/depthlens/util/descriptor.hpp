// An open file, closed when its owner goes.
#pragma once

#include <unistd.h>

#include <utility>

namespace depthlens::util {

class Descriptor {
 public:
  Descriptor() = default;
  /// Takes what open(2) gave: nothing where that is negative.
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() { reset(); }
  Descriptor(Descriptor&& other) noexcept : descriptor_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    reset(other.release());
    return *this;
  }

  bool is_open() const { return descriptor_ >= 0; }
  int get() const { return descriptor_; }
  /// Gives it away, still open.
  int release() { return std::exchange(descriptor_, -1); }
  /// Closes it, and takes another in its place.
  void reset(int descriptor = -1) {
    if (is_open()) ::close(descriptor_);
    descriptor_ = descriptor;
  }

 private:
  int descriptor_ = -1;
};

}  // namespace depthlens::util
