// The store of the ranks, with a thread for each rank.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#undef CHECK
#undef DCHECK

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "depthlens/run/ranks.hpp"
#include "support/catch.hpp"
#include "support/check_error.hpp"

namespace depthlens::test {
namespace {

using std::chrono::seconds;

/// A port that nobody listens at, at this moment.
int free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(::bind(socket, reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  ::close(socket);
  return ntohs(address.sin_port);
}

run::Ranks rank_of(int rank, int world_size, int port, bool store_is_hosted = false) {
  run::Ranks ranks;
  ranks.rank = rank;
  ranks.world_size = world_size;
  ranks.run_id = "test";
  ranks.master_address = "127.0.0.1";
  ranks.master_port = port;
  ranks.store_is_hosted = store_is_hosted;
  return ranks;
}

/// The agent of torchrun: a store that outlives the ranks.
c10::intrusive_ptr<c10d::TCPStore> agent_store() {
  c10d::TCPStoreOptions options;
  options.port = 0;
  options.isServer = true;
  options.waitWorkers = false;
  return c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
}

/// Runs `action` for every rank, each on a thread, and waits for all. Returns what went wrong.
std::vector<std::string> with_ranks(int world_size, const std::function<void(int)>& action) {
  std::vector<std::thread> threads;
  std::vector<std::string> errors;
  std::mutex mutex;
  for (int rank = 0; rank < world_size; ++rank)
    threads.emplace_back([&, rank] {
      try {
        action(rank);
      } catch (const std::exception& error) {
        const std::lock_guard lock(mutex);
        errors.emplace_back(error.what());
      }
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

/// Numbers that the ranks of one start draw from one counter, in order.
std::vector<std::int64_t> dealt(int world_size, int port, bool store_is_hosted, std::int64_t num_parts) {
  std::vector<std::int64_t> all;
  std::mutex mutex;
  const auto errors = with_ranks(world_size, [&](int rank) {
    const auto store = run::connect_store(rank_of(rank, world_size, port, store_is_hosted), seconds(20));
    std::vector<std::int64_t> own;
    for (std::int64_t part = 0; (part = store->add("part", 1) - 1) < num_parts;) own.push_back(part);
    store->leave();
    const std::lock_guard lock(mutex);
    all.insert(all.end(), own.begin(), own.end());
  });
  CHECK(errors == std::vector<std::string>{});
  std::sort(all.begin(), all.end());
  return all;
}

std::vector<std::int64_t> numbers(std::int64_t count) {
  std::vector<std::int64_t> all;
  for (std::int64_t i = 0; i < count; ++i) all.push_back(i);
  return all;
}

}  // namespace

TEST_CASE("a counter deals out every number once, with rank 0 as the host") {
  CHECK(dealt(4, free_port(), false, 200) == numbers(200));
  CHECK(dealt(16, free_port(), false, 40) == numbers(40));
}

TEST_CASE("a start of one rank needs nobody") {
  CHECK(dealt(1, free_port(), false, 3) == numbers(3));
}

TEST_CASE("starts that follow each other on the agent's store share nothing") {
  const auto agent = agent_store();
  for (int start = 0; start < 3; ++start) {
    INFO(start);
    CHECK(dealt(3, agent->getPort(), true, 20) == numbers(20));
  }
  const auto later = run::connect_store(rank_of(0, 1, agent->getPort(), true), seconds(20));
  CHECK(later->earlier_starts() == 3);
  // Fewer machines than before, as after a node that was lost.
  CHECK(dealt(2, agent->getPort(), true, 20) == numbers(20));
}

TEST_CASE("ranks whose restart counts differ meet all the same") {
  const auto agent = agent_store();
  std::atomic<int> num_seen{0};
  const auto errors = with_ranks(2, [&](int rank) {
    run::Ranks ranks = rank_of(rank, 2, agent->getPort(), true);
    ranks.restart = rank;
    const auto store = run::connect_store(ranks, seconds(20));
    store->set(std::to_string(rank), "here");
    if (store->get(std::to_string(1 - rank)) == "here" && store->earlier_starts() == 1) ++num_seen;
    store->leave();
  });
  CHECK(errors == std::vector<std::string>{});
  CHECK(num_seen == 2);
}

TEST_CASE("get waits for the value, has does not, and bytes come back as they are") {
  const int port = free_port();
  const std::string value("\0\xff text\n", 8);
  const auto errors = with_ranks(2, [&](int rank) {
    const auto store = run::connect_store(rank_of(rank, 2, port), seconds(20));
    if (rank == 0) {
      const bool before = store->has("value");
      store->set("asked", before ? "too early" : "");
      if (store->get("value") != value) throw std::runtime_error("another value");
      if (!store->has("value")) throw std::runtime_error("not there");
    } else {
      if (!store->get("asked").empty()) throw std::runtime_error("a value before it was set");
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      store->set("value", value);
    }
    store->leave();
  });
  CHECK(errors == std::vector<std::string>{});
}

TEST_CASE("the host stays until all others have left") {
  const int port = free_port();
  std::atomic<bool> last_has_left{false};
  const auto errors = with_ranks(3, [&](int rank) {
    const auto store = run::connect_store(rank_of(rank, 3, port), seconds(20));
    if (rank == 2) {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      store->set("late", "");
      last_has_left = true;
    }
    store->leave();
    if (rank == 0 && !last_has_left) throw std::runtime_error("rank 0 left first");
  });
  CHECK(errors == std::vector<std::string>{});
}

TEST_CASE("a value that nobody sets is an error after the timeout") {
  const auto store = run::connect_store(rank_of(0, 1, free_port()), seconds(1));
  CHECK(store->earlier_starts() == 0);
  check_error(util::ErrorCode::kInput, {"no other process set 'never' within 1.0 s", "127.0.0.1:"},
              [&] { store->get("never"); });
}

TEST_CASE("a rank that fails ends the waiting of the others, and is named") {
  const int port = free_port();
  const auto errors = with_ranks(3, [&](int rank) {
    const auto store = run::connect_store(rank_of(rank, 3, port), seconds(60));
    if (rank == 2) {
      store->fail();
    } else {
      // Catch's assertions are for one thread.
      const auto require_named = [](const std::function<void()>& action) {
        try {
          action();
        } catch (const util::Error& error) {
          const bool is_named = std::string(error.what()).find("rank 2 has failed") != std::string::npos;
          if (is_named && error.code() == util::ErrorCode::kInput) return;
          throw std::runtime_error(std::string("another error: ") + error.what());
        }
        throw std::runtime_error("no error");
      };
      require_named([&] { store->get("never"); });
      require_named([&] { store->check_failures(); });
    }
    store->leave();
  });
  CHECK(errors == std::vector<std::string>{});
}

TEST_CASE("ranks that do not come are named, and so is a rank 0 that does not") {
  check_error(util::ErrorCode::kUsage, {"not all ranks have come", "3 ranks", "none of 1, 2"},
              [&] { run::connect_store(rank_of(0, 3, free_port()), seconds(1)); });
  const auto agent = agent_store();
  check_error(util::ErrorCode::kUsage, {"rank 0 has not come", std::to_string(agent->getPort())},
              [&] { run::connect_store(rank_of(1, 3, agent->getPort(), true), seconds(1)); });
}

TEST_CASE("an address where nobody answers, and a port that is taken, are errors in our words") {
  const int port = free_port();
  check_error(util::ErrorCode::kUsage, {"no store of the ranks answers", "127.0.0.1:" + std::to_string(port)},
              [&] { run::connect_store(rank_of(1, 2, port), seconds(1)); });
  run::Ranks nowhere = rank_of(1, 2, port);
  nowhere.master_address = "no-such-host.invalid";
  check_error(util::ErrorCode::kUsage, {"no store of the ranks answers", "no-such-host.invalid"},
              [&] { run::connect_store(nowhere, seconds(1)); });
  const auto agent = agent_store();
  check_error(util::ErrorCode::kUsage, {"cannot host the store", "another MASTER_PORT"},
              [&] { run::connect_store(rank_of(0, 2, agent->getPort()), seconds(1)); });
}

TEST_CASE("a store whose host is gone is an error without a stack trace, and can be left") {
  auto agent = agent_store();
  const auto store = run::connect_store(rank_of(0, 1, agent->getPort(), true), seconds(5));
  store->set("key", "value");
  agent.reset();
  const auto lost = [&](const std::function<void()>& action) {
    try {
      action();
    } catch (const util::Error& error) {
      const std::string message = error.what();
      INFO(message);
      CHECK(error.code() == util::ErrorCode::kInput);
      CHECK(message.find("the store of the ranks is lost") == 0);
      CHECK(message.find('\n') == std::string::npos);
      CHECK(message.find("frame #") == std::string::npos);
      return;
    }
    FAIL("no error");
  };
  lost([&] { store->add("part", 1); });
  lost([&] { store->set("key", "other"); });
  lost([&] { store->get("key"); });
  lost([&] { store->has("key"); });
  store->leave();
}

}  // namespace depthlens::test
