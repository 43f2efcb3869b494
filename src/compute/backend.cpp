// Which backend serves a device.
#include "depthlens/compute/backend.hpp"

#include <c10/core/GradMode.h>

#include <functional>
#include <optional>

#include "compute/aten/aten_backend.hpp"
#include "compute/cpu/cpu_backend.hpp"
#include "compute/cuda/cuda_backend.hpp"
#include "compute/parallel.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::compute {
namespace {

/// To add one: write its backend, add one line here.
std::shared_ptr<const Backend> make(const BackendOptions& options, at::Device device) {
  if (device.is_cpu() && choose_kernel(options.kernel, Precision::kExact).gemm != nullptr)
    return make_cpu_backend(options);
  if (device.is_cuda()) return make_cuda_backend(options, device);
  return make_aten_backend(options, device);
}

at::Device parse_device(const std::string& text) {
  std::int64_t index = 0;
  const bool cuda = text == "cuda" || (text.rfind("cuda:", 0) == 0 &&
                                       util::parse_int(text.substr(5), index) && index >= 0 && index < 128);
  if (cuda) {
    if (index < num_cuda_devices()) return {at::kCUDA, static_cast<at::DeviceIndex>(index)};
    throw util::usage_error({.what = "no such device",
                             .where = "--device " + text,
                             .found = util::cat(num_cuda_devices(), " CUDA devices"),
                             .hint = "this needs a GPU and depthlens built with a CUDA libtorch"});
  }
  if (text == "cpu") return at::kCPU;
  if (const auto registered = registered_device(text)) return *registered;
  throw util::usage_error({.what = "unknown device",
                           .where = "--device",
                           .expected = "cpu, cuda or cuda:N",
                           .found = util::in_quotes(text)});
}

}  // namespace

std::shared_ptr<const Backend> Backend::create(const BackendOptions& options) {
  return make(options, parse_device(options.device));
}

at::Tensor Backend::linear(const PackedRows& rows, const at::Tensor& weight, const at::Tensor& bias) const {
  throw_if_stopped(options_.should_stop);
  return product(rows, weight, bias);
}

bool records_gradient(const at::Tensor& x) {
  return c10::GradMode::is_enabled() && x.requires_grad();
}

}  // namespace depthlens::compute
