// Work on a thread of its own: its order, how much of it waits, and where its errors come out.
#include "depthlens/util/worker.hpp"

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "support/catch.hpp"

using depthlens::util::Worker;

TEST_CASE("worker: work is done in its order, on one thread, and wait() waits for all of it") {
  for (const Worker::Where where : {Worker::Where::kHere, Worker::Where::kOwnThread}) {
    Worker worker(where);
    std::vector<int> done;
    std::vector<std::thread::id> threads;
    for (int i = 0; i < 100; ++i) {
      worker.submit([&, i] {
        done.push_back(i);
        threads.push_back(std::this_thread::get_id());
      });
    }
    worker.wait();
    REQUIRE(done.size() == 100);
    const bool here = where == Worker::Where::kHere;
    for (int i = 0; i < 100; ++i) {
      CHECK(done[static_cast<std::size_t>(i)] == i);
      CHECK(threads[static_cast<std::size_t>(i)] == threads.front());
    }
    CHECK((threads.front() == std::this_thread::get_id()) == here);
    worker.wait();  // nothing more to wait for
  }
}

TEST_CASE("worker: the caller goes on while work is done, one piece ahead of it at most") {
  Worker worker(Worker::Where::kOwnThread);
  std::promise<void> first_may_end, second_may_end;
  std::atomic<int> given = 0, seen = 0;
  worker.submit([&] { first_may_end.get_future().wait(); });
  worker.submit([&] { second_may_end.get_future().wait(); });  // waits
  given = 2;
  std::thread helper([&] {
    // A third piece finds the place taken until the second is taken up.
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    seen = given.load();
    first_may_end.set_value();
  });
  worker.submit([] {});
  given = 3;
  helper.join();
  CHECK(seen == 2);
  second_may_end.set_value();
  worker.wait();
}

TEST_CASE("worker: an error comes out once, and nothing is done after it") {
  for (const bool by_submit : {false, true}) {
    Worker worker(Worker::Where::kOwnThread);
    int done = 0;
    worker.submit([&] { ++done; });
    worker.submit([] { throw std::runtime_error("the work's own"); });
    worker.settle();  // leaves it where it is
    if (by_submit) {
      CHECK_THROWS_WITH(worker.submit([&] { ++done; }), "the work's own");
    } else {
      CHECK_THROWS_WITH(worker.wait(), "the work's own");
    }
    worker.submit([&] { ++done; });
    worker.wait();
    CHECK(done == 1);
  }
  Worker here(Worker::Where::kHere);
  CHECK_THROWS_WITH(here.submit([] { throw std::runtime_error("at once"); }), "at once");
}

TEST_CASE("worker: work that waits behind an error is not done") {
  Worker worker(Worker::Where::kOwnThread);
  std::promise<void> may_fail;
  bool done = false;
  worker.submit([&] {
    may_fail.get_future().wait();
    throw std::runtime_error("late");
  });
  worker.submit([&] { done = true; });
  may_fail.set_value();
  CHECK_THROWS_WITH(worker.wait(), "late");
  CHECK_FALSE(done);
}

TEST_CASE("worker: its end waits for the work, and what work holds is let go") {
  std::atomic<bool> done = false;
  const auto held = std::make_shared<int>(7);
  {
    Worker worker(Worker::Where::kOwnThread);
    worker.submit([&, held] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      done = *held == 7;
    });
    worker.wait();
    CHECK(held.use_count() == 1);
    done = false;
    worker.submit([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      done = true;
    });
  }
  CHECK(done);
}
