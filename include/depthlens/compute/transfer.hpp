// Numbers on their way between the host's memory and a device's, for which the host does not wait. All of a
// device's work, copies included, is done in the order in which it was given.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

namespace depthlens::compute {

/// A copy on `device` of `values`, which are on the host and may change when this returns. Undefined stays
/// undefined.
at::Tensor copied_to(at::Device device, const at::Tensor& values);

/// A contiguous copy of `values` in the host's memory, from which that device copies while the host goes on;
/// the tensor itself where it lies in such memory already. Where a card's driver has no more of it, and for
/// other devices, it is ordinary memory.
at::Tensor staged_for(at::Device device, const at::Tensor& values);

/// A place in a device's work: behind all that had been given to it when the mark was made. Move-only.
class WorkMark {
 public:
  /// One that is behind everything.
  WorkMark();
  explicit WorkMark(at::Device device);
  ~WorkMark();
  WorkMark(WorkMark&&) noexcept;
  WorkMark& operator=(WorkMark&&) noexcept;

  /// Until the device has come to it.
  void wait() const;

 private:
  struct Recorded;
  std::unique_ptr<Recorded> recorded_;  // nullptr: nothing to wait for
};

/// A copy on the host of a device's tensor, under way. Of a tensor on the host it is the tensor itself.
class HostCopy {
 public:
  HostCopy() = default;
  explicit HostCopy(const at::Tensor& values);

  bool defined() const { return copy_.defined(); }
  /// The copy, for which it waits; for nothing that was given to the device later.
  const at::Tensor& values() const {
    done_.wait();
    return copy_;
  }

 private:
  at::Tensor copy_;
  WorkMark done_;
};

}  // namespace depthlens::compute
