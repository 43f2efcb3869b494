// A card through the driver: what is given to it, and what is made of its errors. No card is needed.
#include <string>

#include "compute/cuda/nvrtc.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/util/error.hpp"
#include "fake_driver.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"

namespace depthlens {
namespace {

namespace cuda = compute::cuda;
using Grid = cuda::Card::Grid;

/// The function fails with this status while it lives.
class Failing {
 public:
  Failing(const char* name, int status) {
    fake_driver()->failing = name;
    fake_driver()->status = status;
  }
  ~Failing() { fake_driver()->failing = nullptr; }
  Failing(const Failing&) = delete;
  Failing& operator=(const Failing&) = delete;
};

constexpr int kOutOfMemory = 2, kOther = 999;

template <typename Action>
bool runs_out_of_memory(const Action& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return compute::is_out_of_memory(error);
  }
  return false;
}

TEST_CASE("driver: a card tells what it is, and why it cannot be used") {
  const auto card = cuda::Card::open(0);
  REQUIRE(card);
  CHECK(card->capability() == std::array{9, 0});
  CHECK(card->multiprocessors() == 132);
  CHECK(card->free_memory() == 1000);
  CHECK(fake_driver()->depth == 0);
  CHECK(cuda::Card::open(1).reason == "the CUDA driver: invalid device ordinal");
  for (const char* name : {"cuInit", "cuDeviceGet", "cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain"}) {
    INFO(name);
    const Failing failing(name, kOther);
    CHECK(cuda::Card::open(0).reason == "the CUDA driver: some other error");
  }
}

TEST_CASE("driver: a launch has its sizes and argument, in the card's context") {
  const auto card = cuda::Card::open(0);
  REQUIRE(card);
  const auto function = card->load("a cubin", "of this name");
  REQUIRE(function);
  const int argument = 42;
  card->launch(*function, Grid{.x = 7, .y = 3, .threads = 128}, &argument);
  const auto& launch = fake_driver()->launch;
  CHECK(launch.grid[0] == 7);
  CHECK(launch.grid[1] == 3);
  CHECK(launch.grid[2] == 1);
  CHECK(launch.block[0] == 128);
  CHECK(launch.block[1] * launch.block[2] == 1);
  CHECK(launch.argument == 42);
  CHECK(fake_driver()->depth == 0);
}

TEST_CASE("driver: memory that does not suffice is told from other errors") {
  const auto card = cuda::Card::open(0);
  REQUIRE(card);
  const auto function = card->load("a cubin", "of this name");
  REQUIRE(function);
  const int argument = 0;
  const auto launch = [&] { card->launch(*function, {}, &argument); };
  {
    const Failing failing("cuLaunchKernel", kOutOfMemory);
    CHECK(runs_out_of_memory(launch));
  }
  {
    const Failing failing("cuLaunchKernel", kOther);
    CHECK_FALSE(runs_out_of_memory(launch));
    test::check_error(util::ErrorCode::kInternal, {"does not start", "some other error"}, launch);
  }
  for (const char* name : {"cuModuleLoadData", "cuModuleGetFunction"}) {
    INFO(name);
    {
      const Failing failing(name, kOutOfMemory);
      CHECK(runs_out_of_memory([&] { card->load("a cubin", "of this name"); }));
    }
    const Failing failing(name, kOther);
    CHECK(card->load("a cubin", "of this name").reason == "a kernel does not load: some other error");
  }
  {
    const Failing failing("cuCtxPushCurrent_v2", kOther);
    test::check_error(util::ErrorCode::kInternal, {"context", "some other error"}, launch);
  }
  CHECK(fake_driver()->depth == 0);
}

}  // namespace
}  // namespace depthlens
