// Cards copy beside the host from and to pinned memory only; libtorch keeps such memory until its copies are
// done.
#include "depthlens/compute/transfer.hpp"

#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::compute {
namespace {

constexpr std::int64_t kMaxStaged = std::int64_t{64} << 20;  // bytes

}  // namespace

at::Tensor staged_for(at::Device device, const at::Tensor& values) {
  if (device.is_cuda()) {
    // Else the driver would be asked in the name of the first card.
    const c10::DeviceGuard guard(device);
    try {
      return values.contiguous().pin_memory();
    } catch (const c10::Error& error) {
      static std::once_flag told;
      std::call_once(told, [&] {
        util::log_info(util::cat(
            "what ", device.str(),
            " is given goes through ordinary memory, which is slower: ", error.what_without_backtrace()));
      });
    }
  }
  return values.contiguous().clone();
}

at::Tensor copied_to(at::Device device, const at::Tensor& values) {
  if (!values.defined()) return values;
  if (!device.is_cuda())
    return values.to(device, values.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  const auto bytes = static_cast<std::int64_t>(values.nbytes());
  if (bytes <= kMaxStaged || values.size(0) < 2 || values.is_pinned())
    return staged_for(device, values).to(device, values.scalar_type(), /*non_blocking=*/true);
  // The host fills one piece while the one before is copied, and keeps no more pinned memory than for these.
  const at::Tensor out = at::empty(values.sizes(), values.options().device(device));
  const std::int64_t rows = values.size(0), step = std::max<std::int64_t>(1, rows * kMaxStaged / bytes);
  std::array<WorkMark, 2> copied;  // of the last two pieces, in turn
  for (std::int64_t first = 0, piece = 0; first < rows; first += step, ++piece) {
    const std::int64_t count = std::min(step, rows - first);
    WorkMark& mark = copied[static_cast<std::size_t>(piece % 2)];
    mark.wait();
    out.narrow(0, first, count)
        .copy_(staged_for(device, values.narrow(0, first, count)), /*non_blocking=*/true);
    mark = WorkMark(device);
  }
  return out;
}

/// Events are made, asked and given back in the name of their card: libtorch would else wake the first one.
struct WorkMark::Recorded {
  explicit Recorded(at::Device of) : device(of), event(std::in_place, of.type()) {
    const c10::DeviceGuard guard(device);
    event->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
  }
  ~Recorded() {
    try {
      const c10::DeviceGuard guard(device);
      event.reset();
    } catch (const c10::Error&) {
      // A card that has failed: the error is on its way already.
    }
  }
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;

  at::Device device;
  std::optional<c10::Event> event;
};

WorkMark::WorkMark() = default;
WorkMark::WorkMark(at::Device device) {
  if (!device.is_cpu()) recorded_ = std::make_unique<Recorded>(device);
}
WorkMark::~WorkMark() = default;
WorkMark::WorkMark(WorkMark&&) noexcept = default;
WorkMark& WorkMark::operator=(WorkMark&&) noexcept = default;

void WorkMark::wait() const {
  if (recorded_ == nullptr) return;
  const c10::DeviceGuard guard(recorded_->device);
  recorded_->event->synchronize();
}

// A copy to the host that is not waited for lands in pinned memory, and in ordinary memory where there is no
// more of that.
HostCopy::HostCopy(const at::Tensor& values) {
  try {
    copy_ = values.to(at::kCPU, values.scalar_type(), /*non_blocking=*/values.is_cuda());
    done_ = WorkMark(values.device());
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error&) {
    copy_ = values.to(at::kCPU);
  }
}

}  // namespace depthlens::compute
