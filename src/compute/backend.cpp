// Which backend serves a device.
#include "depthlens/compute/backend.hpp"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <functional>
#include <optional>

#include "compute/aten/aten_backend.hpp"
#include "compute/cpu/cpu_backend.hpp"
#include "compute/cuda/cuda_backend.hpp"
#include "compute/cuda/nvrtc.hpp"
#include "compute/parallel.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::compute {
namespace {

/// To add one: write its backend, add one line here.
std::shared_ptr<const Backend> make(const BackendOptions& options, at::Device device) {
  require_threads();  // here, since commands that compute nothing need none of them
  if (device.is_cpu() && choose_kernel(options.kernel, Precision::kExact).gemm != nullptr)
    return make_cpu_backend(options);
  if (device.is_cuda()) return make_cuda_backend(options, device);
  return make_aten_backend(options, device);
}

/// The device of that name, there or not.
at::Device parse_device(const std::string& text) {
  std::int64_t index = 0;
  const bool cuda = text == "cuda" || (text.rfind("cuda:", 0) == 0 &&
                                       util::parse_int(text.substr(5), index) && index >= 0 && index < 128);
  if (cuda) return {at::kCUDA, static_cast<at::DeviceIndex>(index)};
  if (text == "cpu") return at::kCPU;
  if (const auto registered = registered_device(text)) return *registered;
  throw util::usage_error({.what = "unknown device",
                           .where = "--device",
                           .expected = "cpu, cuda or cuda:N, or cards with commas (cuda:0,cuda:1)",
                           .found = util::in_quotes(text)});
}

void require_there(at::Device device, const std::string& text) {
  if (!device.is_cuda() || device.index() < num_cuda_devices()) return;
  const int count = num_cuda_devices();
  std::string found = util::cat(count, " CUDA devices"),
              hint = util::cat("they are cuda:0 to cuda:", count - 1);
  if (count == 1) hint = "it is cuda:0";
  if (!at::hasCUDA()) {
    found += ": this depthlens has a libtorch for processors";
    hint = "build it with a CUDA libtorch (docs/install.md)";
  } else if (count == 0) {
    if (const std::string reason = cuda::Card::open(0).reason; !reason.empty()) found += ": " + reason;
    hint = "nvidia-smi shows whether driver and GPU are there";
  }
  throw util::usage_error(
      {.what = "no such device", .where = "--device " + text, .found = found, .hint = hint});
}

/// Of a list with commas, all of which are there.
std::vector<at::Device> devices_of(const std::string& text) {
  const std::vector<std::string> names = util::split(text, ',');
  std::vector<at::Device> devices;
  for (const std::string& name : names) {
    if (name.empty() && names.size() > 1) {
      throw util::usage_error({.what = "an empty entry in a list of devices",
                               .where = "--device " + text,
                               .expected = "cards with commas between them (cuda:0,cuda:1)"});
    }
    const at::Device device = parse_device(name);
    if (std::find(devices.begin(), devices.end(), device) != devices.end()) {
      throw util::usage_error({.what = "a device is named twice",
                               .where = "--device " + text,
                               .found = util::cat(name, ", which is ", device.str())});
    }
    devices.push_back(device);
  }
  for (std::size_t i = 0; i < names.size(); ++i) require_there(devices[i], names[i]);
  return devices;
}

/// A product whose derivative by the rows is one of the same backend. Nothing is kept but the weight as it is
/// stored.
struct RecordedProduct : torch::autograd::Function<RecordedProduct> {
  using Context = torch::autograd::AutogradContext;

  static at::Tensor forward(Context* context, const at::Tensor& rows, const Backend* backend,
                            Precision precision, const at::Tensor& weight) {
    context->save_for_backward({weight});
    context->saved_data["backend"] = reinterpret_cast<std::int64_t>(backend);
    context->saved_data["precision"] = static_cast<std::int64_t>(precision);
    context->saved_data["type"] = rows.scalar_type();
    // Not as the view of a larger tensor that it may be: such a one could not be changed in place later.
    return backend->linear(backend->pack(rows, precision), weight, {}).variable_data();
  }

  static torch::autograd::variable_list backward(Context* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto* backend = reinterpret_cast<const Backend*>(context->saved_data["backend"].toInt());
    const auto precision = static_cast<Precision>(context->saved_data["precision"].toInt());
    const at::ScalarType type = context->saved_data["type"].toScalarType();
    const PackedRows rows = backend->pack(gradients.front().to(type), precision);
    const at::Tensor weight = context->get_saved_variables().front();
    return {backend->linear_back(rows, weight).to(type), {}, {}, {}};
  }
};

}  // namespace

std::shared_ptr<const Backend> Backend::create(const BackendOptions& options) {
  const at::Device device = parse_device(options.device);
  require_there(device, options.device);
  return make(options, device);
}

std::vector<std::shared_ptr<const Backend>> Backend::create_all(const BackendOptions& options) {
  std::vector<std::shared_ptr<const Backend>> backends;
  for (const at::Device device : devices_of(options.device)) backends.push_back(make(options, device));
  return backends;
}

void Backend::require_devices(const std::string& devices) {
  devices_of(devices);
}

at::Tensor Backend::linear(const PackedRows& rows, const at::Tensor& weight, const at::Tensor& bias) const {
  throw_if_stopped(options_.should_stop);
  if (records_gradient(rows.values)) {
    const at::Tensor y = RecordedProduct::apply(rows.values, this, rows.precision, weight);
    return bias.defined() ? y + bias : y;
  }
  at::Tensor y = product(rows, weight, Way::kForward);
  return bias.defined() ? y.add_(bias) : y;
}

at::Tensor Backend::linear_back(const PackedRows& rows, const at::Tensor& weight) const {
  throw_if_stopped(options_.should_stop);
  return product(rows, weight, Way::kBack);
}

bool records_gradient(const at::Tensor& x) {
  return c10::GradMode::is_enabled() && x.requires_grad();
}

}  // namespace depthlens::compute
