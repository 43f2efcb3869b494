// Allocator, guard, hooks and kernels of the guarded device. The model is PyTorch's own test device,
// "openreg".
#include "support/guarded_device.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/boxing/KernelFunction.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/accumulate.h>
#include <sys/mman.h>
#include <torch/library.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace depthlens::test {
namespace {

constexpr auto kType = c10::DeviceType::PrivateUse1;
constexpr const char* kName = "guarded";
const c10::Device kDevice(kType, 0);

std::atomic<std::int64_t> operations = 0, bytes_in = 0, bytes_out = 0;
thread_local bool computing = false;  // what is copied meanwhile is the device's own affair

/// A piece of device memory: addresses that cannot be read, and the numbers behind them. The two never
/// coincide, so nothing has to be unlocked while a kernel works, and threads need not wait for one another.
struct Allocation {
  void* address = nullptr;  // for the eyes of tensors
  std::size_t reserved = 0;
  std::unique_ptr<std::uint8_t[]> bytes;
  std::size_t size = 0;

  explicit Allocation(std::size_t wanted) : size(wanted) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    reserved = std::max<std::size_t>(1, (wanted + page - 1) / page) * page;
    address = ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) throw std::bad_alloc();
    bytes = std::make_unique_for_overwrite<std::uint8_t[]>(std::max<std::size_t>(1, wanted));
    std::memset(bytes.get(), 0xFF, wanted);  // NaN in every floating-point type
  }
  ~Allocation() { ::munmap(address, reserved); }
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;
};

void free_allocation(void* allocation) {
  delete static_cast<Allocation*>(allocation);
}

class GuardedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    auto* allocation = new Allocation(size);
    return {allocation->address, allocation, &free_allocation, kDevice};
  }
  void copy_data(void* /*to*/, const void* /*from*/, std::size_t /*size*/) const override {
    TORCH_CHECK(false, "the guarded device copies tensors, not addresses");
  }
};

GuardedAllocator& allocator() {
  static GuardedAllocator only;
  return only;
}

Allocation& allocation_of(const c10::Storage& storage) {
  return *static_cast<Allocation*>(storage.data_ptr().get_context());
}

/// A tensor of the processor with the same numbers, not copied.
at::Tensor numbers_of(const at::Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  TORCH_CHECK(tensor.device() == kDevice, "the guarded device cannot copy from or to ", tensor.device());
  const std::int64_t offset = tensor.storage_offset() * static_cast<std::int64_t>(tensor.element_size());
  return at::from_blob(allocation_of(tensor.storage()).bytes.get() + offset, tensor.sizes(), tensor.strides(),
                       tensor.options().device(at::kCPU));
}

void resize_storage(const c10::Storage& storage, std::size_t size) {
  c10::DataPtr fresh = allocator().allocate(size);
  const Allocation& before = allocation_of(storage);
  std::memcpy(static_cast<Allocation*>(fresh.get_context())->bytes.get(), before.bytes.get(),
              std::min(size, before.size));
  storage.set_data_ptr_noswap(std::move(fresh));
  storage.set_nbytes(size);
}

/// One device and one stream, on which everything has been done when a call returns.
class GuardedGuard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device /*device*/) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device /*device*/) const override {}
  void uncheckedSetDevice(c10::Device /*device*/) const noexcept override {}
  c10::Stream getStream(c10::Device /*device*/) const override { return stream(); }
  c10::Stream getDefaultStream(c10::Device /*device*/) const override { return stream(); }
  c10::Stream getStreamFromGlobalPool(c10::Device /*device*/, bool /*high_priority*/) const override {
    return stream();
  }
  c10::Stream getNewStream(c10::Device /*device*/, int /*priority*/) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream /*stream*/) const override { return stream(); }
  void record(void** /*event*/, const c10::Stream& /*stream*/, c10::DeviceIndex /*device*/,
              c10::EventFlag /*flag*/) const override {}
  void block(void* /*event*/, const c10::Stream& /*stream*/) const override {}
  bool queryEvent(void* /*event*/) const override { return true; }
  bool queryStream(const c10::Stream& /*stream*/) const override { return true; }
  void synchronizeStream(const c10::Stream& /*stream*/) const override {}
  void synchronizeEvent(void* /*event*/) const override {}
  void synchronizeDevice(c10::DeviceIndex /*device*/) const override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }

 private:
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
};

class GuardedHooks final : public at::PrivateUse1HooksInterface {
 public:
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex /*device*/) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex /*device*/) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex /*device*/) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex /*device*/) const override { return 0; }
  at::Device getDeviceFromPtr(void* /*data*/) const override { return kDevice; }
  // Random numbers are the processor's too. at::manual_seed asks for this one.
  const at::Generator& getDefaultGenerator(c10::DeviceIndex /*device*/) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  // A registered device becomes libtorch's first choice, also for memory that is pinned for CUDA.
  bool isPinnedPtr(const void* data) const override {
    return has_cuda() && at::detail::getCUDAHooks().isPinnedPtr(data);
  }
  at::Allocator* getPinnedMemoryAllocator() const override {
    return has_cuda() ? at::detail::getCUDAHooks().getPinnedMemoryAllocator() : c10::GetCPUAllocator();
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, std::size_t size) const override {
    resize_storage(storage, size);
  }

 private:
  static bool has_cuda() { return at::detail::getCUDAHooks().deviceCount() > 0; }
};

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout> /*layout*/, std::optional<at::Device> /*device*/,
                 std::optional<bool> /*pin_memory*/, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout> /*layout*/, std::optional<at::Device> /*device*/,
                         std::optional<bool> /*pin_memory*/) {
  return at::detail::empty_strided_generic(size, stride, &allocator(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool /*non_blocking*/) {
  if (from.is_cpu() && !computing) bytes_in += static_cast<std::int64_t>(from.nbytes());
  if (to.is_cpu() && !computing) bytes_out += static_cast<std::int64_t>(to.nbytes());
  numbers_of(to).copy_(numbers_of(from));
  return to;
}

/// What libtorch's fallback gives to the processor's kernel. An empty tensor may be there to be resized,
/// which borrowed memory cannot.
std::vector<at::Tensor> to_cpu(at::TensorList tensors) {
  std::vector<at::Tensor> all;
  for (const at::Tensor& tensor : tensors) {
    const bool borrowed = tensor.is_cpu() || tensor.numel() > 0;
    all.push_back(borrowed ? numbers_of(tensor)
                           : at::empty(tensor.sizes(), tensor.options().device(at::kCPU)));
  }
  return all;
}

/// After the kernel, for what it has changed.
at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) to.resize_(from.sizes());
  const at::Tensor numbers = numbers_of(to);
  if (numbers.const_data_ptr() != from.const_data_ptr()) numbers.copy_(from);
  return to;
}

/// libtorch's own would copy the numbers as if they were the host's.
const at::Tensor& resize(const at::Tensor& self, at::IntArrayRef size,
                         std::optional<at::MemoryFormat> format) {
  TORCH_CHECK(!format || *format == at::MemoryFormat::Contiguous,
              "the guarded device knows one memory format");
  if (self.sizes() == size) return self;
  const auto needed =
      static_cast<std::size_t>(self.storage_offset() + c10::multiply_integers(size)) * self.element_size();
  if (needed > self.storage().nbytes()) resize_storage(self.storage(), needed);
  self.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return self;
}

void for_each_tensor(const c10::IValue& value, const std::function<void(const at::Tensor&)>& use) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) use(value.toTensor());
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) {
      if (tensor.defined()) use(tensor);
    }
  } else if (value.isOptionalTensorList()) {
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
      if (tensor && tensor->defined()) use(*tensor);
    }
  }
}

/// Every operation that has no kernel of its own and is not made of others: by the processor's kernel.
void compute(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  ++operations;
  const std::string& name = op.schema().name();
  // libtorch's fallback would take tensors from anywhere. As with CUDA, only single numbers may be the
  // host's, and indices, which are moved.
  static const std::set<std::string> takes_indices = {"aten::index", "aten::index_put_",
                                                      "aten::_index_put_impl_"};
  for (const c10::IValue& argument : torch::jit::last(*stack, op.schema().arguments().size())) {
    for_each_tensor(argument, [&](const at::Tensor& tensor) {
      const bool allowed = tensor.device() == kDevice || tensor.dim() == 0 || takes_indices.contains(name);
      TORCH_CHECK(allowed, "tensors of different devices: ", name, " got one of ", tensor.device(),
                  " beside ", kName);
    });
  }
  struct Computing {
    const bool before = std::exchange(computing, true);
    ~Computing() { computing = before; }
  } const until_the_end;
  at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
  // Results are put where the first tensor is, which may be a number of the host.
  const std::size_t count = op.schema().returns().size();
  for (std::size_t i = 0; i < count; ++i) {
    const c10::AliasInfo* alias = op.schema().returns()[i].alias_info();
    c10::IValue& result = (*stack)[stack->size() - count + i];
    if (alias != nullptr || !result.isTensor() || !result.toTensor().defined()) continue;
    if (result.toTensor().is_cpu()) result = result.toTensor().to(kDevice);
  }
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", TORCH_FN(empty));
  library.impl("empty_strided", TORCH_FN(empty_strided));
  library.impl("resize_", TORCH_FN(resize));
  library.impl("_copy_from", TORCH_FN(copy_from));
  library.impl("_copy_from_and_resize", TORCH_FN(copy_from_and_resize));
  library.impl("_to_cpu", TORCH_FN(to_cpu));
  // Of these the processor's own kernels look at shapes and strides only.
  library.impl("view", TORCH_FN(at::native::view));
  library.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  library.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  library.impl("unfold", TORCH_FN(at::native::unfold));
  library.impl("set_.source_Tensor", TORCH_FN(at::native::set_tensor_));
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>());
}

/// Before main: autograd counts the devices once, when it is first used. Not beside a card: libtorch's
/// autograd knows one kind of accelerator a process, and fails on the card's gradients where this one is
/// registered too.
const bool registered = [] {
  if (at::detail::getCUDAHooks().deviceCount() > 0) return false;
  static GuardedGuard guard;
  static GuardedHooks hooks;
  c10::register_privateuse1_backend(kName);
  c10::SetAllocator(kType, &allocator());
  const c10::impl::DeviceGuardImplRegistrar registrar(kType, &guard);
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

}  // namespace

std::optional<std::string> guarded_device() {
  if (!registered) return std::nullopt;
  return kName;
}

GuardedCounts guarded_counts() {
  return {.operations = operations, .bytes_in = bytes_in, .bytes_out = bytes_out};
}

}  // namespace depthlens::test
