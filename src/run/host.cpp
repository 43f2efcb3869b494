// The machine's name and clock.
#include "run/host.hpp"

#include <array>
#include <ctime>

#include "depthlens/util/files.hpp"

namespace depthlens::run {

util::OrderedJson when_and_where(std::chrono::system_clock::time_point started) {
  std::array<char, 32> time = {};
  const std::time_t seconds = std::chrono::system_clock::to_time_t(started);
  std::tm utc = {};
  std::strftime(time.data(), time.size(), "%Y-%m-%dT%H:%M:%SZ", ::gmtime_r(&seconds, &utc));
  const std::chrono::duration<double> since = std::chrono::system_clock::now() - started;
  return {{"started", time.data()}, {"seconds", since.count()}, {"host", util::host_name()}};
}

}  // namespace depthlens::run
