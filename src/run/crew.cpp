#include "run/crew.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include "depthlens/run/description.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/interrupt.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::run {
namespace {

// Counters.
constexpr const char* kClaimed = "parts";
constexpr const char* kEnded = "ended parts";
constexpr std::int64_t kNoMoreParts = std::int64_t{1} << 40;

}  // namespace

void Crew::leave(bool fails) {
  if (fails) {
    store_->fail();
    try {
      store_->add(kClaimed, kNoMoreParts);
    } catch (const util::Error&) {
      // Lost; so have the others.
    }
  }
  store_->leave();
}

void Crew::end_part() {
  store_->add(kEnded, 1);
}

PartSet Crew::agree(const util::OrderedJson& identity, const PartSet& done) {
  if (leads()) {
    store_->set("identity", util::json_text(identity));
    store_->set("done", util::json_text(done.json()));
    return done;
  }
  const std::string difference =
      difference_of(util::parse_ordered_json(store_->get("identity"), "rank 0"), identity);
  if (!difference.empty()) {
    throw util::usage_error({.what = util::cat("rank ", ranks_.rank, " and rank 0 are at different runs"),
                             .where = "torchrun",
                             .expected = "the same command for all ranks",
                             .found = "different " + difference});
  }
  const util::Json of_others = util::parse_json(store_->get("done"), "rank 0");
  return PartSet::from_json({of_others, "rank 0"});
}

bool Crew::is_own(std::int64_t i) {
  const std::string name = util::cat(ranks_.rank);
  return store_->set_first(util::cat("claim/", i), name) == name;
}

std::optional<std::int64_t> Crew::claim(std::int64_t count) {
  while (true) {
    const std::int64_t next = store_->add(kClaimed, 1) - 1;
    if (next >= count) return std::nullopt;
    // Where this process stood still meanwhile, a rank that came back may have taken it.
    if (is_own(next)) return next;
  }
}

std::vector<std::int64_t> Crew::own_claims(std::int64_t count) {
  std::vector<std::int64_t> own;
  const std::int64_t claims = std::min(store_->add(kClaimed, 0), count);
  for (std::int64_t i = 0; i < claims; ++i) {
    // It may have died between the claim and saying so, or another rank is about to.
    for (int tries = 0; tries < 100 && !store_->has(util::cat("claim/", i)); ++tries) {
      if (util::interrupted()) throw util::interrupted_error();
      store_->check_failures();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (is_own(i)) own.push_back(i);
  }
  return own;
}

std::string Crew::of_rank(const char* what, int rank) {
  return util::cat(what, "/", rank);
}

std::string Crew::saved() {
  const std::string key = of_rank("saved", ranks_.rank);
  return store_->has(key) ? store_->get(key) : "";
}

bool Crew::have_all_ended() {
  for (int rank = 0; rank < ranks_.world_size; ++rank) {
    if (!has_ended(rank)) return false;
  }
  return true;
}

bool Crew::is_writer() {
  const std::string name = util::cat(ranks_.rank);
  return store_->set_first("writer", name) == name;
}

void Crew::await_end(const std::string& out) {
  using Clock = std::chrono::steady_clock;
  std::int64_t seen = -1;
  auto last = Clock::now();
  while (!is_written()) {
    if (util::interrupted()) throw util::interrupted_error();
    check_failures();
    const std::int64_t ended = store_->add(kEnded, 0);
    if (std::exchange(seen, ended) != ended) last = Clock::now();
    if (Clock::now() - last > kTimeout) {
      throw util::input_error({.what = "not all ranks have done their parts",
                               .where = util::in_quotes(out),
                               .found = util::cat("nothing done within ", kTimeout.count(), " seconds"),
                               .hint = "What was saved is kept: start again with --resume."});
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

}  // namespace depthlens::run
