// What a test sees and sets of the driver in fake_driver.cpp.
#pragma once

namespace depthlens::test {

struct FakeDriver {
  struct Launch {
    unsigned grid[3] = {}, block[3] = {};
    int argument = 0;
  };
  const char* failing = nullptr;  ///< the function that returns `status`; none
  int status = 0;                 ///< a CUresult
  int depth = 0;                  ///< contexts pushed and not popped
  Launch launch = {};             ///< the last one
};

}  // namespace depthlens::test

extern "C" depthlens::test::FakeDriver* fake_driver();
