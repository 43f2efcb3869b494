// The store of a torchrun start: c10d's TCPStore, whose errors become ours, with waits that a signal can end.
//
// The agent's store outlives a restart of the ranks, and TORCHELASTIC_RESTART_COUNT does not tell the starts
// apart: it is each agent's own count, and those of several machines differ once one of them has had a
// failure. So rank 0 gives every start a name of its own, and tells it to those ranks only that it has met in
// this start.
#include <torch/csrc/distributed/c10d/exception.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>
#include <vector>

#include "depthlens/run/ranks.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::run {
namespace {

using Clock = std::chrono::steady_clock;

std::string place_of_store(const Ranks& ranks) {
  return util::cat("the store at ", ranks.master_address, ":", ranks.master_port);
}

std::string first_line(const c10::Error& error) {
  std::string text = error.what_without_backtrace();
  text.resize(std::min(text.find('\n'), text.size()));
  return text;
}

/// c10d warns of every failed try, with a stack trace, besides throwing. Whoever sets TORCH_CPP_LOG_LEVEL
/// sees it.
void quiet_c10d() {
  constexpr int kFatal = 3;
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr)
    FLAGS_caffe2_log_level = std::max(FLAGS_caffe2_log_level, kFatal);
}

/// Sleeps between looks at the store: short at first, when the answer is near.
class Waiting {
 public:
  explicit Waiting(std::chrono::milliseconds timeout) : end_(Clock::now() + timeout) {}

  /// False when the time is over.
  bool again() {
    if (util::interrupted()) throw util::interrupted_error();
    if (Clock::now() >= end_) return false;
    std::this_thread::sleep_for(pause_);
    pause_ = std::min(pause_ * 2, std::chrono::milliseconds(64));
    return true;
  }

 private:
  Clock::time_point end_;
  std::chrono::milliseconds pause_{1};
};

class TcpStore final : public Store {
  // Before its uses: its type is deduced.
  template <typename Action>
  auto guarded(Action action) {
    try {
      return action();
    } catch (const c10::Error& error) {
      // Where all are told to end, the host may be the first to do so.
      if (util::interrupted()) throw util::interrupted_error();
      throw util::input_error(
          {.what = "the store of the ranks is lost",
           .where = util::cat(ranks_.master_address, ":", ranks_.master_port),
           .found = util::in_quotes(first_line(error)),
           .hint = "The process that hosts it has ended; what was saved is kept: start again."});
    }
  }

 public:
  TcpStore(const Ranks& ranks, std::chrono::seconds timeout) : ranks_(ranks), timeout_(timeout) {
    quiet_c10d();
    connect();
    prefix_ = util::cat("depthlens/", ranks_.run_id, "/");
    const std::string name = ranks_.rank == 0 ? gather() : join();
    prefix_ += name + "/";
    // Only rank 0 has it until all have come; the others wait here.
    constexpr char kEarlier[] = "/earlier";
    if (ranks_.rank == 0) set(kEarlier, util::cat(earlier_starts_));
    std::int64_t earlier = 0;
    util::parse_int(get(kEarlier), earlier);
    earlier_starts_ = static_cast<int>(earlier);
  }

  int earlier_starts() const override { return earlier_starts_; }
  bool rejoins() const override { return rejoins_; }

  std::int64_t add(const std::string& key, std::int64_t n) override {
    return guarded([&] { return store_->add(prefix_ + key, n); });
  }

  void set(const std::string& key, const std::string& value) override {
    guarded([&] {
      store_->set(prefix_ + key, std::vector<std::uint8_t>(value.begin(), value.end()));
      return 0;
    });
  }

  std::string get(const std::string& key) override {
    // Not c10d's own wait: nothing ends that one early.
    for (Waiting waiting(timeout_); !has(key);) {
      check_failures();
      if (!waiting.again())
        throw util::input_error(
            {.what = util::cat("no other process set ", util::in_quotes(key), " within ", duration()),
             .where = place_of_store(ranks_),
             .hint = "Another rank has died or hangs; what was saved is kept: start again."});
    }
    return guarded([&] {
      const std::vector<std::uint8_t> value = store_->get(prefix_ + key);
      return std::string(value.begin(), value.end());
    });
  }

  bool has(const std::string& key) override {
    return guarded([&] { return store_->check({prefix_ + key}); });
  }

  std::string set_first(const std::string& key, const std::string& value) override {
    return guarded([&] {
      const std::vector<std::uint8_t> there =
          store_->compareSet(prefix_ + key, {}, std::vector<std::uint8_t>(value.begin(), value.end()));
      return std::string(there.begin(), there.end());
    });
  }

  void fail() override {
    failed_ = true;
    try {
      set(kFailed, util::cat(ranks_.rank));
    } catch (const util::Error&) {
      // The others have lost the store as well.
    }
  }

  void check_failures() override {
    if (!has(kFailed)) return;
    // Where all are told to end, another may be the first to do so.
    if (util::interrupted()) throw util::interrupted_error();
    const std::string rank = guarded([&] {
      const std::vector<std::uint8_t> value = store_->get(prefix_ + kFailed);
      return std::string(value.begin(), value.end());
    });
    throw util::input_error({.what = util::cat("rank ", rank, " has failed"),
                             .where = place_of_store(ranks_),
                             .hint = "It says why. What was saved is kept: start again with --resume."});
  }

  void leave() override {
    const auto left = [](int rank) { return util::cat("/left/", rank); };
    try {
      set(left(ranks_.rank), "yes");
      if (!is_host()) return;
      // Whoever is told to end has no time for all of that, nor are there any to wait for where one has
      // failed; but the others are to learn why.
      constexpr std::chrono::seconds kToldToEnd(15), kAfterFailure(30);
      const auto begin = Clock::now();
      const auto patience = [&] {
        return util::interrupted() ? kToldToEnd : failed_ ? std::min(kAfterFailure, timeout_) : timeout_;
      };
      for (int rank = 0; rank < ranks_.world_size;) {
        if (has(left(rank))) {
          ++rank;
        } else if (Clock::now() - begin < patience()) {
          std::this_thread::sleep_for(std::chrono::milliseconds(20));
        } else {
          return;
        }
      }
    } catch (const util::Error&) {
      // Gone, or told to end: there is nobody to wait for.
    }
  }

 private:
  static constexpr char kFailed[] = "/failed";
  static constexpr char kStart[] = "start";  // its name, when all have come

  bool is_host() const { return ranks_.rank == 0 && !ranks_.store_is_hosted; }

  /// In short tries: c10d's own wait can be ended by nobody, and is longer than it is told.
  void connect() {
    constexpr std::chrono::seconds kTry(10);
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(ranks_.master_port);
    options.isServer = is_host();
    options.waitWorkers = false;
    options.timeout = is_host() ? timeout_ : std::min(kTry, timeout_);
    const auto begin = Clock::now();
    for (bool told = false; store_ == nullptr;) {
      try {
        store_ = c10::make_intrusive<c10d::TCPStore>(ranks_.master_address, options);
      } catch (const c10::Error& error) {
        if (util::interrupted()) throw util::interrupted_error();
        if (!is_host() && Clock::now() - begin + kTry < timeout_) {
          if (!std::exchange(told, true)) util::log_info("waiting for rank 0 and " + place_of_store(ranks_));
          std::this_thread::sleep_for(std::chrono::milliseconds(200));
          continue;
        }
        throw util::usage_error(
            {.what = is_host() ? "cannot host the store of the ranks" : "no store of the ranks answers",
             .where = util::cat("MASTER_ADDR:MASTER_PORT ", ranks_.master_address, ":", ranks_.master_port),
             .found = util::in_quotes(first_line(error)),
             .hint = is_host()
                         ? "Rank 0 needs a port that is free: choose another MASTER_PORT."
                         : "All ranks need the address and port of rank 0's machine, and rank 0 must run."});
      }
    }
    store_->setTimeout(timeout_);
  }

  /// Rank 0: names this start and waits until all have heard it. What a rank of an earlier start has left is
  /// answered too, where nobody listens.
  std::string gather() {
    const std::string name = util::unique_name();
    // Counts what agents do not: the starts after another machine has failed, joined or left.
    earlier_starts_ = std::max(static_cast<int>(add("starts", 1)) - 1, ranks_.restart);
    std::set<int> missing;
    for (int rank = 1; rank < ranks_.world_size; ++rank) missing.insert(rank);
    std::map<int, std::string> answered;
    for (Waiting waiting(timeout_);;) {
      for (auto rank = missing.begin(); rank != missing.end();) {
        const std::string heard = util::cat("heard/", name, "/", *rank);
        if (has(heard)) {
          std::int64_t restart = 0;
          util::parse_int(get(heard), restart);
          earlier_starts_ = std::max(earlier_starts_, static_cast<int>(restart));
          rank = missing.erase(rank);
          continue;
        }
        const std::string hello = util::cat("hello/", *rank);
        if (has(hello)) {
          const std::string caller = get(hello);
          if (std::exchange(answered[*rank], caller) != caller) set("answer/" + caller, name);
        }
        ++rank;
      }
      if (missing.empty()) {
        if (is_host()) set(kStart, name);
        return name;
      }
      if (waiting.again()) continue;
      std::vector<std::string> names;
      for (const int rank : missing) names.push_back(util::cat(rank));
      throw util::usage_error(
          {.what = util::cat("not all ranks have come within ", duration()),
           .where = place_of_store(ranks_),
           .expected = util::cat(ranks_.world_size, " ranks"),
           .found = util::cat("none of ", util::join(names, ", ")),
           .hint = "Start all ranks with one WORLD_SIZE, and several machines by one rendezvous."});
    }
  }

  std::string join() {
    const std::string caller = util::unique_name();
    set(util::cat("hello/", ranks_.rank), caller);
    for (Waiting waiting(timeout_); !has("answer/" + caller);) {
      // Rank 0's own store is as old as its start: whoever has been heard in it comes back.
      if (!ranks_.store_is_hosted && has(kStart)) {
        const std::string name = get(kStart);
        rejoins_ = has(util::cat("heard/", name, "/", ranks_.rank));
        if (rejoins_) return name;
      }
      if (!waiting.again()) {
        throw util::usage_error(
            {.what = util::cat("rank 0 has not come within ", duration()),
             .where = place_of_store(ranks_),
             .hint = "Start all ranks with one WORLD_SIZE, and several machines by one rendezvous."});
      }
    }
    const std::string name = get("answer/" + caller);
    set(util::cat("heard/", name, "/", ranks_.rank), util::cat(ranks_.restart));
    return name;
  }

  std::string duration() const { return util::as_duration(static_cast<double>(timeout_.count())); }

  Ranks ranks_;
  std::chrono::seconds timeout_;
  std::string prefix_;
  int earlier_starts_ = 0;
  bool rejoins_ = false, failed_ = false;
  c10::intrusive_ptr<c10d::TCPStore> store_;
};

}  // namespace

std::unique_ptr<Store> connect_store(const Ranks& ranks, std::chrono::seconds timeout) {
  return std::make_unique<TcpStore>(ranks, timeout);
}

}  // namespace depthlens::run
