// Logs and progress on stderr, through spdlog.
#include "depthlens/util/log.hpp"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "depthlens/util/text.hpp"

namespace depthlens::util {
namespace {

Verbosity current = Verbosity::kNormal;
std::mutex warnings_mutex;
std::vector<std::string> given_warnings;

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    const bool plain = std::getenv("NO_COLOR") != nullptr;
    auto made = spdlog::stderr_color_mt("depthlens",
                                        plain ? spdlog::color_mode::never : spdlog::color_mode::automatic);
    made->set_pattern("depthlens: %^%l%$: %v");
    return made;
  }();
  return *instance;
}

}  // namespace

void set_verbosity(Verbosity verbosity) {
  current = verbosity;
  logger().set_level(verbosity == Verbosity::kQuiet     ? spdlog::level::warn
                     : verbosity == Verbosity::kVerbose ? spdlog::level::debug
                                                        : spdlog::level::info);
}

Verbosity verbosity() {
  return current;
}

void log_detail(const std::string& text) {
  logger().debug("{}", printable(text));
}
void log_info(const std::string& text) {
  logger().info("{}", printable(text));
}
void log_warning(const std::string& text) {
  const std::string line = printable(text);
  {
    const std::scoped_lock lock(warnings_mutex);
    if (std::find(given_warnings.begin(), given_warnings.end(), line) != given_warnings.end()) return;
    given_warnings.push_back(line);
  }
  logger().warn("{}", line);
}

std::vector<std::string> warnings() {
  const std::scoped_lock lock(warnings_mutex);
  return given_warnings;
}

Progress::Progress(std::string title, std::string unit, std::int64_t total)
    : title_(std::move(title)),
      unit_(std::move(unit)),
      total_(total),
      terminal_(::isatty(STDERR_FILENO) == 1),
      started_(std::chrono::steady_clock::now()),
      printed_(started_) {}

Progress::~Progress() {
  if (!finished_ && terminal_ && done_ > 0 && current != Verbosity::kQuiet) std::fputc('\n', stderr);
}

void Progress::advance(std::int64_t units) {
  done_ += units;
  const auto now = std::chrono::steady_clock::now();
  const auto pause = terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(10);
  if (now - printed_ < pause) return;
  printed_ = now;
  print(false);
}

void Progress::skip(std::int64_t units) {
  done_ += units;
  skipped_ += units;
}

void Progress::set_note(std::string note) {
  note_ = std::move(note);
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  print(true);
}

void Progress::print(bool last) {
  if (current == Verbosity::kQuiet) return;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  const double rate = seconds > 0 ? static_cast<double>(done_ - skipped_) / seconds : 0;
  const bool bytes = unit_ == "bytes";
  const auto number = [&](std::int64_t count) {
    return bytes ? as_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(count, 0)))
                 : with_thousands(count);
  };
  // "1 position", "2 positions"
  const auto unit_of = [&](std::int64_t count) {
    return bytes ? "" : " " + (count == 1 ? unit_.substr(0, unit_.size() - 1) : unit_);
  };
  std::string line = title_ + ": " + number(done_);
  const bool tells_total = total_ > 0 && !last;
  if (tells_total) line += " of " + number(total_);
  line += unit_of(tells_total ? total_ : done_);
  if (const auto whole = static_cast<std::int64_t>(rate); rate > 0)
    line += ", " + number(whole) + unit_of(whole) + "/s";
  if (last) {
    line += ", " + as_duration(seconds);
  } else if (total_ > done_ && rate > 0) {
    line += ", " + as_duration(static_cast<double>(total_ - done_) / rate) + " left";
  }
  if (!note_.empty()) line += "; " + note_;
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%s%s", line.c_str(), last ? "\n" : "");
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
  std::fflush(stderr);
}

}  // namespace depthlens::util
