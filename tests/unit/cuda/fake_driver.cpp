// A CUDA driver for tests: one card of capability 9.0, whose calls do nothing but be counted, or fail as a
// test says. The functions are those that nvrtc.cpp looks for, after NVIDIA's public documentation of the
// driver.
#include "fake_driver.hpp"

#include <cstddef>
#include <cstring>

namespace {
depthlens::test::FakeDriver driver;
int card, context, code, function;

int status_of(const char* name) {
  return driver.failing != nullptr && std::strcmp(driver.failing, name) == 0 ? driver.status : 0;
}
}  // namespace

extern "C" {
depthlens::test::FakeDriver* fake_driver() {
  return &driver;
}

int cuInit(unsigned /*flags*/) {
  return status_of("cuInit");
}
int cuDeviceGet(int* device, int index) {
  *device = card;
  return index == 0 ? status_of("cuDeviceGet") : 101;
}
int cuDeviceGetAttribute(int* value, int attribute, int /*device*/) {
  *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 132;
  return status_of("cuDeviceGetAttribute");
}
int cuDevicePrimaryCtxRetain(void** retained, int /*device*/) {
  *retained = &context;
  return status_of("cuDevicePrimaryCtxRetain");
}
int cuCtxPushCurrent_v2(void* pushed) {
  const int status = pushed == &context ? status_of("cuCtxPushCurrent_v2") : 201;
  if (status == 0) ++driver.depth;
  return status;
}
int cuCtxPopCurrent_v2(void** popped) {
  *popped = &context;
  --driver.depth;
  return 0;
}
int cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  *free = driver.depth > 0 ? 1000 : 0;
  *total = 2000;
  return status_of("cuMemGetInfo_v2");
}
int cuModuleLoadData(void** module, const void* /*image*/) {
  *module = &code;
  return status_of("cuModuleLoadData");
}
int cuModuleGetFunction(void** found, void* module, const char* /*name*/) {
  *found = &function;
  return module == &code ? status_of("cuModuleGetFunction") : 500;
}
int cuLaunchKernel(void* launched, unsigned x, unsigned y, unsigned z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned /*shared_bytes*/, void* /*stream*/, void** parameters,
                   void** /*extra*/) {
  if (launched != &function || driver.depth != 1) return 400;
  const int status = status_of("cuLaunchKernel");
  if (status == 0)
    driver.launch = {{x, y, z}, {block_x, block_y, block_z}, *static_cast<const int*>(parameters[0])};
  return status;
}
int cuGetErrorString(int status, const char** text) {
  *text = status == 2 ? "out of memory" : status == 101 ? "invalid device ordinal" : "some other error";
  return 0;
}
}
