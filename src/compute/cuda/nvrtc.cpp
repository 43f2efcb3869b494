// Two libraries by dlopen. Declarations follow their public documentation.
#include "compute/cuda/nvrtc.hpp"

#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/folders.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::compute::cuda {
namespace {

namespace fs = std::filesystem;

/// What the loader said last.
std::string loader_reason() {
  const char* text = ::dlerror();
  return text != nullptr ? text : "the loader gives no reason";
}

template <typename Function>
bool find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(::dlsym(library, name));
  return function != nullptr;
}

/// Files of a folder whose name begins so, in order; none where there is no such folder.
std::vector<fs::path> files_named(const fs::path& folder, const std::string& beginning) {
  std::vector<fs::path> found;
  for (const fs::path& path : util::entries_of(folder)) {
    const std::string name = path.filename().string();
    // "alt": a second build for old systems, which the first does not go with.
    if (name.rfind(beginning, 0) == 0 && name.find(".so") != std::string::npos &&
        name.find(".alt") == std::string::npos)
      found.push_back(path);
  }
  return found;
}

/// Where a wheel of libtorch has its CUDA libraries: beside libtorch, and in packages beside that of torch.
std::vector<fs::path> library_folders() {
  std::vector<fs::path> folders;
  void* const loaded = ::dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
  link_map* place = nullptr;
  if (loaded == nullptr || ::dlinfo(loaded, RTLD_DI_LINKMAP, &place) != 0) return folders;
  std::error_code error;
  const fs::path libtorch = fs::canonical(place->l_name, error);
  if (error) return folders;
  folders.push_back(libtorch.parent_path());
  const fs::path packages = libtorch.parent_path().parent_path().parent_path() / "nvidia";
  for (const fs::path& package : util::entries_of(packages)) folders.push_back(package / "lib");
  return folders;
}

/// Every libnvrtc there. First those of the toolkit whose runtime this process has loaded, since a driver
/// that is no newer does not load what a newer toolkit compiles, and packages of two toolkits may stand side
/// by side.
std::vector<fs::path> nvrtc_files() {
  std::vector<fs::path> files;
  for (const fs::path& folder : library_folders()) {
    for (const fs::path& file : files_named(folder, "libnvrtc.so")) files.push_back(file);
  }
  for (const char* major : {"13", "12"}) {
    if (::dlopen(util::cat("libcudart.so.", major).c_str(), RTLD_LAZY | RTLD_NOLOAD) == nullptr) continue;
    const std::string name = util::cat("libnvrtc.so.", major);
    std::stable_partition(files.begin(), files.end(),
                          [&](const fs::path& file) { return file.filename().string().starts_with(name); });
    break;
  }
  return files;
}

/// Opens libnvrtc by its path. Its builtins, which it opens by their bare name, must be there already.
void* open_beside_builtins(const fs::path& file) {
  for (const fs::path& builtins : files_named(file.parent_path(), "libnvrtc-builtins"))
    ::dlopen(builtins.c_str(), RTLD_NOW | RTLD_GLOBAL);
  return ::dlopen(file.c_str(), RTLD_NOW);
}

}  // namespace

std::string Source::digest() const {
  util::Sha256 hash;
  const auto add = [&](const std::string& part) {
    const std::string size = util::cat(part.size(), " ");
    hash.update(size.data(), size.size());
    hash.update(part.data(), part.size());
  };
  add(text);
  for (const Header& header : headers) {
    add(header.name);
    add(header.text);
  }
  for (const std::string& option : options) add(option);
  return hash.hex_digest();
}

std::string architecture_option(std::array<int, 2> capability) {
  return util::cat("--gpu-architecture=sm_", capability[0], capability[1]);
}

struct Compiler::Functions {
  using Program = void*;
  int (*version)(int* major, int* minor);
  int (*create)(Program*, const char* source, const char* name, int num_headers, const char* const* headers,
                const char* const* header_names);
  int (*destroy)(Program*);
  int (*compile)(Program, int num_options, const char* const* options);
  int (*cubin_size)(Program, std::size_t*);
  int (*cubin)(Program, char*);
  int (*log_size)(Program, std::size_t*);
  int (*log)(Program, char*);
  const char* (*error_text)(int);
  /// Null before CUDA 11.2.
  int (*num_architectures)(int*);
  int (*architectures)(int*);

  bool load(void* library) {
    find(library, "nvrtcGetNumSupportedArchs", num_architectures);
    find(library, "nvrtcGetSupportedArchs", architectures);
    return find(library, "nvrtcVersion", version) && find(library, "nvrtcCreateProgram", create) &&
           find(library, "nvrtcDestroyProgram", destroy) && find(library, "nvrtcCompileProgram", compile) &&
           find(library, "nvrtcGetCUBINSize", cubin_size) && find(library, "nvrtcGetCUBIN", cubin) &&
           find(library, "nvrtcGetProgramLogSize", log_size) && find(library, "nvrtcGetProgramLog", log) &&
           find(library, "nvrtcGetErrorString", error_text);
  }
};

Outcome<Compiler> Compiler::open(const fs::path& file) {
  Compiler compiler;
  void* library = nullptr;
  std::string reason;
  const auto try_to_open = [&](const fs::path& path) {
    if (library != nullptr) return;
    library = path.has_parent_path() ? open_beside_builtins(path) : ::dlopen(path.c_str(), RTLD_NOW);
    if (library != nullptr) {
      compiler.place_ = path.string();
    } else if (reason.empty()) {
      reason = loader_reason();
    }
  };
  if (!file.empty()) {
    try_to_open(file);
  } else {
    for (const fs::path& found : nvrtc_files()) try_to_open(found);
    for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"}) try_to_open(name);
  }
  if (library == nullptr) return failure<Compiler>("NVRTC is not found: " + reason);
  auto functions = std::make_shared<Functions>();
  if (!functions->load(library)) return failure<Compiler>(compiler.place_ + " is too old or damaged");
  int major = 0, minor = 0;
  functions->version(&major, &minor);
  compiler.version_ = util::cat(major, ".", minor);
  compiler.functions_ = std::move(functions);
  return {.value = std::move(compiler), .reason = {}};
}

std::array<int, 2> Compiler::architecture_for(std::array<int, 2> capability) const {
  const Functions& call = *functions_;
  int count = 0;
  if (call.num_architectures == nullptr || call.architectures == nullptr ||
      call.num_architectures(&count) != 0 || count <= 0)
    return capability;
  std::vector<int> known(static_cast<std::size_t>(count));
  if (call.architectures(known.data()) != 0) return capability;
  int newest = -1;
  for (const int one : known) {  // 90: sm_90
    if (one / 10 == capability[0] && one % 10 <= capability[1]) newest = std::max(newest, one % 10);
  }
  return newest < 0 ? capability : std::array{capability[0], newest};
}

Outcome<std::string> Compiler::compile(const Source& source) const {
  std::vector<const char*> headers, names, options;
  for (const Source::Header& header : source.headers) {
    headers.push_back(header.text.c_str());
    names.push_back(header.name.c_str());
  }
  for (const std::string& option : source.options) options.push_back(option.c_str());
  const Functions& call = *functions_;
  Functions::Program program = nullptr;
  if (const int status = call.create(&program, source.text.c_str(), "kernel.cu",
                                     static_cast<int>(headers.size()), headers.data(), names.data());
      status != 0)
    return failure<std::string>(util::cat("NVRTC ", version_, ": ", call.error_text(status)));
  Outcome<std::string> outcome;
  const int status = call.compile(program, static_cast<int>(options.size()), options.data());
  std::size_t size = 0;
  if (call.log_size(program, &size) == 0 && size > 1) {
    outcome.reason.resize(size);
    call.log(program, outcome.reason.data());
    outcome.reason.resize(size - 1);
  }
  if (status == 0 && call.cubin_size(program, &size) == 0 && size > 0) {
    std::string cubin(size, '\0');
    if (call.cubin(program, cubin.data()) == 0) outcome.value = std::move(cubin);
  }
  if (!outcome.value)
    outcome.reason = util::cat("NVRTC ", version_, ": ", call.error_text(status), ": ", outcome.reason);
  call.destroy(&program);
  return outcome;
}

Outcome<std::string> Compiler::compile(const Source& source, const fs::path& folder) const {
  if (folder.empty()) return compile(source);
  const fs::path file = folder / (util::sha256(source.digest() + " " + version_) + ".cubin");
  // The file: the SHA-256 of what follows, a line's end, the cubin.
  constexpr std::size_t kHead = 65;
  if (util::exists(file)) {
    try {
      const std::string kept = util::read_file(file);
      if (kept.size() > kHead &&
          util::sha256(std::string_view(kept).substr(kHead)) + "\n" == kept.substr(0, kHead))
        return {.value = kept.substr(kHead), .reason = {}};
    } catch (const util::Error& error) {
      util::log_detail(error.what());
    }
  }
  Outcome<std::string> compiled = compile(source);
  if (!compiled) return compiled;
  try {
    util::create_folders(folder);
    util::write_file(file, util::sha256(*compiled) + "\n" + *compiled);
  } catch (const util::Error& error) {
    util::log_detail(util::cat("a compiled kernel is not kept: ", error.what()));
  }
  return compiled;
}

struct Card::Driver {
  int (*init)(unsigned flags);
  int (*device)(int*, int index);
  int (*attribute)(int*, int attribute, int device);
  int (*retain)(void** context, int device);
  int (*push)(void* context);
  int (*pop)(void** context);
  int (*memory)(std::size_t* free, std::size_t* total);
  int (*load)(void** module, const void* image);
  int (*function)(void**, void* module, const char* name);
  int (*launch)(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream, void** parameters,
                void** extra);
  int (*error_text)(int, const char**);

  bool find_all(void* library) {
    return find(library, "cuInit", init) && find(library, "cuDeviceGet", device) &&
           find(library, "cuDeviceGetAttribute", attribute) &&
           find(library, "cuDevicePrimaryCtxRetain", retain) && find(library, "cuCtxPushCurrent_v2", push) &&
           find(library, "cuCtxPopCurrent_v2", pop) && find(library, "cuMemGetInfo_v2", memory) &&
           find(library, "cuModuleLoadData", load) && find(library, "cuModuleGetFunction", function) &&
           find(library, "cuLaunchKernel", launch) && find(library, "cuGetErrorString", error_text);
  }
  std::string text(int status) const {
    const char* text = nullptr;
    if (error_text(status, &text) == 0 && text != nullptr) return text;
    return util::cat("CUDA error ", status);
  }
  /// Throws where it says that memory does not suffice, as libtorch does.
  void check_memory(int status, const char* action) const {
    constexpr int kOutOfMemory = 2;
    TORCH_CHECK_WITH(OutOfMemoryError, status != kOutOfMemory, "CUDA out of memory: ", action);
  }
};

/// The card's context is the thread's while this lives.
class Card::InContext {
 public:
  explicit InContext(const Card& card) : driver_(*card.driver_) {
    if (const int status = driver_.push(card.context_); status != 0)
      throw util::Error(util::ErrorCode::kInternal,
                        {.what = "the CUDA device's context cannot be used", .found = driver_.text(status)});
  }
  ~InContext() {
    void* popped = nullptr;
    driver_.pop(&popped);
  }
  InContext(const InContext&) = delete;
  InContext& operator=(const InContext&) = delete;

 private:
  const Driver& driver_;
};

Outcome<Card> Card::open(int index) {
  void* const library = ::dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) return failure<Card>("there is no CUDA driver: " + loader_reason());
  auto driver = std::make_shared<Driver>();
  if (!driver->find_all(library)) return failure<Card>("the CUDA driver is too old or damaged");
  Card card;
  card.index_ = index;
  constexpr int kMultiprocessors = 16, kMajor = 75, kMinor = 76;  // attributes
  int status = driver->init(0);
  if (status == 0) status = driver->device(&card.device_, index);
  const auto attribute = [&](int which, int& value) {
    if (status == 0) status = driver->attribute(&value, which, card.device_);
  };
  attribute(kMajor, card.capability_[0]);
  attribute(kMinor, card.capability_[1]);
  attribute(kMultiprocessors, card.multiprocessors_);
  if (status == 0) status = driver->retain(&card.context_, card.device_);
  if (status != 0) return failure<Card>("the CUDA driver: " + driver->text(status));
  card.driver_ = std::move(driver);
  return {.value = std::move(card), .reason = {}};
}

std::uint64_t Card::free_memory() const {
  const InContext here(*this);
  std::size_t free = 0, total = 0;
  return driver_->memory(&free, &total) == 0 ? free : 0;
}

Outcome<void*> Card::load(const std::string& cubin, const std::string& function) const {
  const InContext here(*this);
  void *module = nullptr, *found = nullptr;
  int status = driver_->load(&module, cubin.data());
  if (status == 0) status = driver_->function(&found, module, function.c_str());
  driver_->check_memory(status, "a kernel does not load");
  if (status != 0) return failure<void*>("a kernel does not load: " + driver_->text(status));
  return {.value = found, .reason = {}};
}

void Card::launch(void* function, const Grid& grid, const void* argument) const {
  const InContext here(*this);
  void* parameters[] = {const_cast<void*>(argument)};
  const int status =
      driver_->launch(function, static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), 1,
                      static_cast<unsigned>(grid.threads), 1, 1, 0, nullptr, parameters, nullptr);
  driver_->check_memory(status, "a kernel does not start");
  if (status != 0)
    throw util::Error(util::ErrorCode::kInternal,
                      {.what = "a kernel does not start on the CUDA device", .found = driver_->text(status)});
}

}  // namespace depthlens::compute::cuda
