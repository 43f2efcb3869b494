// Pieces of work on several threads: each is done once, errors come out in order, and jobs may hold jobs.
#include "depthlens/util/threads.hpp"

#include <atomic>
#include <chrono>
#include <future>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"

using depthlens::util::Threads;

TEST_CASE("threads: every piece is done once, and all are when for_each returns") {
  for (const int count : {1, 2, 7}) {
    Threads threads(count);
    CHECK(threads.count() == count);
    for (const int pieces : {0, 1, 2, 5, 1000}) {
      INFO(count << " threads, " << pieces << " pieces");
      std::vector<int> done(static_cast<std::size_t>(pieces));
      threads.for_each(pieces, [&](std::int64_t i) { ++done[static_cast<std::size_t>(i)]; });
      CHECK(done == std::vector<int>(static_cast<std::size_t>(pieces), 1));
    }
  }
}

TEST_CASE("threads: one thread, or one piece, is the caller's own, in order") {
  Threads one(1), two(2);
  const auto here = std::this_thread::get_id();
  std::vector<std::int64_t> order;
  one.for_each(5, [&](std::int64_t i) {
    CHECK(std::this_thread::get_id() == here);
    order.push_back(i);
  });
  CHECK(order == std::vector<std::int64_t>{0, 1, 2, 3, 4});
  two.for_each(1, [&](std::int64_t) { CHECK(std::this_thread::get_id() == here); });
}

TEST_CASE("threads: as many pieces as threads are done at a time") {
  Threads threads(3);
  std::atomic<int> begun = 0;
  std::promise<void> all_begun;
  const std::shared_future<void> wait = all_begun.get_future().share();
  std::atomic<bool> together = true;
  threads.for_each(3, [&](std::int64_t) {
    if (++begun == 3) all_begun.set_value();
    if (wait.wait_for(std::chrono::seconds(60)) != std::future_status::ready) together = false;
  });
  CHECK(together);
}

TEST_CASE("threads: of errors the first piece's comes out, and what had not begun is not done") {
  for (const int count : {1, 2, 7}) {
    Threads threads(count);
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::atomic<int> done = 0;
      CHECK_THROWS_WITH(threads.for_each(1000,
                                         [&](std::int64_t i) {
                                           ++done;
                                           if (i >= 3) throw std::runtime_error("piece " + std::to_string(i));
                                         }),
                        "piece 3");
      CHECK(done >= 4);
      CHECK(done <= 3 + count);
    }
    std::atomic<int> after = 0;
    threads.for_each(10, [&](std::int64_t) { ++after; });
    CHECK(after == 10);
  }
}

TEST_CASE("threads: jobs within jobs, and of several threads at once") {
  for (const int count : {1, 2, 7}) {
    Threads threads(count);
    std::atomic<int> done = 0;
    const auto work = [&] {
      for (int repeat = 0; repeat < 20; ++repeat) {
        threads.for_each(4, [&](std::int64_t) {
          threads.for_each(5, [&](std::int64_t) { threads.for_each(3, [&](std::int64_t) { ++done; }); });
        });
      }
    };
    std::thread other(work);
    work();
    other.join();
    CHECK(done == 2 * 20 * 4 * 5 * 3);
    CHECK_THROWS_WITH(threads.for_each(3,
                                       [&](std::int64_t i) {
                                         threads.for_each(3, [&](std::int64_t j) {
                                           if (i == 1 && j == 2) throw std::runtime_error("within");
                                         });
                                       }),
                      "within");
  }
}
