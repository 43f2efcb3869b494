// States: the same bytes however the input was dealt out, and no bytes that do harm.
#include "depthlens/tables/state.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "support/catch.hpp"

using namespace depthlens;
using tables::State;

namespace {

const std::string kHeader = R"({"command":"analyze"})";

/// The arrays of some experiment.
struct Arrays {
  explicit Arrays(State& state)
      : counts(state.counts("b.counts", 3)),
        maxima(state.maxima("a.maxima", 2)),
        histograms(state.histograms("c.ranks", 2)),
        sums(state.sums("b.sums", 11, 5)),
        wide(state.wide_sums("d.masses", 2)) {}

  tables::Counts& counts;
  tables::Maxima& maxima;
  tables::Histograms& histograms;
  tables::BootstrapSums& sums;
  tables::WideSums& wide;
};

/// What a part of the input adds, from its number alone.
void add_part(Arrays& arrays, std::uint64_t part) {
  std::mt19937_64 random(part);
  const std::uint64_t items = random() % 4;
  for (std::uint64_t i = 0; i < items; ++i) {
    const std::uint64_t item = part / 2 * 10 + i;  // two parts share items
    for (std::uint64_t c = random() % 3; c < 3; ++c) {
      const auto values = arrays.sums.of(item);
      for (double& value : values) {
        if (random() % 2 == 0)
          value = std::ldexp(static_cast<double>(random() >> 11), static_cast<int>(random() % 80) - 90);
      }
      arrays.counts.add(random() % 3, static_cast<std::int64_t>(random() % 5));
      arrays.maxima.add(random() % 2, static_cast<double>(random() % 1000) / 7);
      arrays.histograms.add(random() % 2,
                            static_cast<std::int64_t>(random() % 3 == 0 ? random() % 50'000 : random() % 9));
    }
  }
  arrays.wide.add_exp(random() % 2, -static_cast<double>(random() % 100'000) / 109);
  arrays.wide.add(random() % 2, static_cast<double>(random() % 1'000'000'000) * 1e3);
}

State state_of(const std::vector<std::uint64_t>& parts) {
  State state;
  Arrays arrays(state);
  for (const std::uint64_t part : parts) {
    add_part(arrays, part);
    state.commit();
  }
  return state;
}

std::vector<std::uint64_t> numbers(std::uint64_t count) {
  std::vector<std::uint64_t> all;
  for (std::uint64_t i = 0; i < count; ++i) all.push_back(i);
  return all;
}

/// A state of few bytes with something of every kind but replicates.
State small_state() {
  State state;
  state.counts("n", 1).add(0, 7);
  state.maxima("m", 1).add(0, 2.5);
  state.histograms("h", 1).add(0, 3);
  state.sums("s", 1, 9);
  state.wide_sums("w", 1).add(0, 0.1);
  state.commit();
  return state;
}

State read(const std::string& bytes) {
  std::string header;
  return State::from_bytes(bytes, "a.state", header);
}

/// The message of the format error.
std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const util::Error& error) {
    CHECK(error.code() == util::ErrorCode::kFormat);
    return error.what();
  }
  FAIL("no error");
  return "";
}
std::string error_of(const std::string& bytes) {
  return error_of([&] { read(bytes); });
}

/// The bytes with lengths and SHA-256 that fit: `list` and `body` may say anything.
std::string forged(const std::string& list, const std::string& body, const std::string& header = kHeader) {
  std::string bytes = "depthlens state 3\n";
  for (const std::uint64_t length :
       {bytes.size() + 24 + header.size() + list.size() + body.size() + 64, header.size(), list.size()})
    bytes.append(reinterpret_cast<const char*>(&length), sizeof(length));
  bytes += header + list + body;
  return bytes + util::sha256(bytes);
}
template <typename Number>
std::string raw(std::initializer_list<Number> values) {
  std::string bytes;
  for (const Number value : values) bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  return bytes;
}
std::string list_of(const std::string& kind, const std::string& size, std::size_t bytes,
                    const std::string& seed = "0") {
  return R"([{"name":"x","kind":")" + kind + R"(","size":)" + size + R"(,"seed":)" + seed + R"(,"bytes":)" +
         std::to_string(bytes) + "}]";
}
std::string error_of_array(const std::string& kind, const std::string& size, const std::string& body) {
  return error_of(forged(list_of(kind, size, body.size()), body));
}

}  // namespace

TEST_CASE("state: values of finished parts, after writing and reading") {
  const State written = [] {
    State state;
    Arrays arrays(state);
    arrays.counts.add(1, 5);
    arrays.counts.add(1);
    arrays.maxima.add(0, 3);
    arrays.maxima.add(0, 2);
    arrays.maxima.add(1, std::nan(""));
    arrays.maxima.add(1, 8);
    for (const std::int64_t rank : {4, 1, 4, 50'000}) arrays.histograms.add(1, rank);
    for (std::uint64_t item = 0; item < 3; ++item) arrays.sums.of(item)[10] = 0.5;
    arrays.wide.add_exp(1, -2000);
    CHECK(arrays.counts[1] == 0);
    CHECK(arrays.maxima[0] == 0);
    CHECK(arrays.histograms[1].count() == 0);
    CHECK(arrays.sums.sum(10) == 0);
    state.commit();
    return state;
  }();
  std::string header;
  State state = State::from_bytes(written.to_bytes(kHeader), "a.state", header);
  CHECK(header == kHeader);
  const Arrays arrays(state);
  CHECK(arrays.counts[0] == 0);
  CHECK(arrays.counts[1] == 6);
  CHECK(arrays.maxima[0] == 3);
  CHECK(std::isnan(arrays.maxima[1]));
  CHECK(arrays.histograms[0].count() == 0);
  CHECK(arrays.histograms[1].count() == 4);
  CHECK(arrays.histograms[1].median() == 4);
  CHECK(arrays.histograms[1].count(50'000) == 1);
  CHECK(arrays.sums.sum(10) == 1.5);
  CHECK(arrays.sums.ratio(10, 10).replicates.size() == 1000);
  CHECK(arrays.wide.log(0) == -std::numeric_limits<double>::infinity());
  CHECK(arrays.wide.log(1) == Approx(-2000).epsilon(1e-15));
  CHECK(state.to_bytes(kHeader) == written.to_bytes(kHeader));
}

TEST_CASE("state: the same bytes whatever the order of the parts and of the merges") {
  const std::string expected = state_of(numbers(40)).to_bytes(kHeader);
  std::mt19937_64 random(1);
  for (int round = 0; round < 12; ++round) {
    std::vector<std::uint64_t> parts = numbers(40);
    std::shuffle(parts.begin(), parts.end(), random);
    std::vector<std::vector<std::uint64_t>> dealt(1 + random() % 6);
    for (const std::uint64_t part : parts) dealt[random() % dealt.size()].push_back(part);
    std::vector<State> states;
    for (const auto& some : dealt) {
      states.push_back(state_of(some));
      if (random() % 2 == 0) states.back() = read(states.back().to_bytes("{}"));
    }
    if (random() % 2 == 0) states.emplace_back();  // one that has declared nothing
    while (states.size() > 1) {                    // any tree
      const auto from = static_cast<std::ptrdiff_t>(random() % states.size());
      State other = std::move(states[static_cast<std::size_t>(from)]);
      states.erase(states.begin() + from);
      states[random() % states.size()].merge(other, "b.state");
    }
    CHECK(states.front().to_bytes(kHeader) == expected);
  }
}

TEST_CASE(
    "state: the same bytes and intervals with few items, with many, and where a merge makes them many") {
  const std::uint64_t most = tables::kKeptItems;
  std::mt19937 random(5);
  for (const std::uint64_t items : {std::uint64_t{1}, std::uint64_t{2}, most - 1, most, most + 1, 3 * most}) {
    INFO(items << " items");
    constexpr std::size_t kSums = 11;
    const auto add = [&](State& state, std::uint64_t item, std::uint32_t times) {
      const std::span<double> values = state.sums("s", kSums, 4).of(item * 7);
      for (std::size_t i = 0; i < kSums; ++i)
        values[i] = (i % 3 == 0 ? 1.0 : 0.37) * static_cast<double>((i + item % 5) * times);
    };
    State whole;
    for (std::uint64_t item = 0; item < items; ++item) {
      add(whole, item, 1);
      add(whole, item, 2);
    }
    whole.commit();
    // Each case somewhere, in parts of any size.
    std::vector<State> shares(3);
    for (std::uint32_t times : {2, 1}) {
      for (std::uint64_t item = items; item-- > 0;) {
        State& share = shares[random() % shares.size()];
        add(share, item, times);
        if (random() % 4 == 0) share.commit();
      }
    }
    State merged;
    for (State& share : shares) {
      share.commit();
      merged.merge(read(share.to_bytes(kHeader)), "a.state");
    }
    CHECK(merged.to_bytes(kHeader) == whole.to_bytes(kHeader));
    CHECK(read(merged.to_bytes(kHeader)).to_bytes(kHeader) == whole.to_bytes(kHeader));
    State again = read(whole.to_bytes(kHeader));
    for (std::size_t i = 0; i < kSums; ++i) {
      const tables::Estimate expected = whole.sums("s", kSums, 4).ratio(i, 3);
      CHECK(expected.replicates.size() == (items > 1 ? std::size_t{tables::kReplicates} : 0));
      for (State* state : {&merged, &again}) {
        const tables::Estimate found = state->sums("s", kSums, 4).ratio(i, 3);
        CHECK(found.value == expected.value);
        CHECK(found.interval.low == expected.interval.low);
        CHECK(found.interval.high == expected.interval.high);
      }
    }
    // A group takes the room of its items, or of replicates.
    const std::size_t row = 8 * (1 + 2 * kSums), replicates = 16'000 * kSums;
    CHECK(whole.to_bytes(kHeader).size() < 1'000 + (items <= most ? items * row : replicates));
  }
}

TEST_CASE("state: how many parts end together does not show") {
  State together;
  Arrays arrays(together);
  for (const std::uint64_t part : numbers(40)) {
    add_part(arrays, part);
    if (part % 13 == 0) together.commit();
  }
  together.commit();
  CHECK(together.to_bytes(kHeader) == state_of(numbers(40)).to_bytes(kHeader));
}

TEST_CASE("state: a part that is dropped leaves no trace") {
  State state;
  Arrays arrays(state);
  const auto add_with_wide_sums_last = [&](std::uint64_t part, bool finish) {
    // Wide sums are added at once: at the end of a part that ends.
    State other;
    Arrays scratch(other);
    add_part(finish ? arrays : scratch, part);
    if (!finish) {
      arrays.counts.add(0, 99);
      arrays.maxima.add(0, std::nan(""));
      arrays.histograms.add(0, 77);
      arrays.sums.of(part)[0] = std::nan("");
      arrays.sums.of(part + 1)[1] = 5;
      arrays.sums.of(part + 2)[2] = 5;  // not taken yet
    }
  };
  for (const std::uint64_t part : numbers(20)) {
    add_with_wide_sums_last(part, false);
    state.drop_pending();
    add_with_wide_sums_last(part, true);
    state.commit();
    add_with_wide_sums_last(part, false);
    CHECK(state.to_bytes(kHeader) == state_of(numbers(part + 1)).to_bytes(kHeader));
    state.drop_pending();
  }
}

TEST_CASE("state: names that only one has are zero in the other") {
  State a, b;
  a.counts("a", 1).add(0, 1);
  a.sums("s", 2, 1).of(3)[1] = 4;
  b.counts("b", 2).add(1, 2);
  b.wide_sums("w", 1).add(0, 0.5);
  a.commit();
  b.commit();
  a.merge(b, "b.state");
  b.merge(a, "a.state");
  CHECK(a.counts("a", 1)[0] == 1);
  CHECK(a.counts("b", 2)[1] == 2);
  CHECK(a.wide_sums("w", 1).value(0) == 0.5);
  CHECK(b.counts("a", 1)[0] == 1);
  CHECK(b.counts("b", 2)[1] == 4);
  CHECK(b.sums("s", 2, 1).sum(1) == 4);
}

TEST_CASE("state: a name is of one kind, size and seed") {
  State state = read(small_state().to_bytes(kHeader));
  CHECK(state.counts("n", 1)[0] == 7);
  for (const std::string& message :
       {error_of([&] { state.counts("n", 2); }), error_of([&] { state.maxima("n", 1); }),
        error_of([&] { state.sums("s", 1, 8); }), error_of([&] { state.sums("s", 2, 9); })}) {
    INFO(message);
    CHECK(message.find("a.state") != std::string::npos);
    CHECK(message.find("expected") != std::string::npos);
  }
  State other;
  other.counts("a", 1).add(0, 3);
  other.counts("n", 1).add(0, 3);
  other.sums("s", 1, 8);
  other.commit();
  const std::string before = state.to_bytes(kHeader);
  const std::string message = error_of([&] { state.merge(other, "b.state"); });
  CHECK(message.find("b.state; expected sums of size 1, seed 9, found sums of size 1, seed 8") !=
        std::string::npos);
  CHECK(state.to_bytes(kHeader) == before);
}

TEST_CASE("state: no items take no room") {
  State state;
  state.sums("s", 1000, 0);
  CHECK(state.to_bytes(kHeader).size() < 40'000);
  state.sums("s", 1000, 0).of(1)[0] = 0;
  state.commit();
  CHECK(state.to_bytes(kHeader).size() < 40'000);
  CHECK(read(state.to_bytes(kHeader)).to_bytes(kHeader) == state.to_bytes(kHeader));
  CHECK(read(State().to_bytes("")).to_bytes("") == State().to_bytes(""));
}

TEST_CASE("state: every changed byte and every missing end is an error") {
  const std::string bytes = small_state().to_bytes(kHeader);
  REQUIRE(read(bytes).to_bytes(kHeader) == bytes);
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (const int change : {1, 0x10, 0x80, 0xff}) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ change);
      const std::string message = error_of(damaged);
      INFO(message);
      CHECK(message.find("a.state") != std::string::npos);
      CHECK(message.find(at < 16   ? "not a state"
                         : at < 18 ? "another version"
                                   : "the state is damaged") != std::string::npos);
    }
  }
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const std::string message = error_of(bytes.substr(0, size));
    CHECK(message.find("the state is damaged") != std::string::npos);
    CHECK(message.find("cut short") != std::string::npos);
  }
  CHECK(error_of(bytes + "x").find("the state is damaged") != std::string::npos);
  CHECK(error_of("depthlens state 4\n" + bytes.substr(18)).find("found 'depthlens state 4'") !=
        std::string::npos);
}

TEST_CASE("state: damage behind a SHA-256 that fits does no harm") {
  // Every byte of the list and of the numbers, with all else right: an error, or a state that can be used.
  const std::string good = small_state().to_bytes(kHeader);
  for (std::size_t at = 18; at < good.size() - 64; ++at) {
    for (const int change : {1, 2, 0x20, 0x80, 0xff}) {
      std::string changed = good.substr(0, good.size() - 64);
      changed[at] = static_cast<char>(changed[at] ^ change);
      changed += util::sha256(changed);
      try {
        State state = read(changed);
        State sum = read(changed);
        for (int i = 0; i < 5; ++i) sum.merge(state, "b.state");
        if (sum.to_bytes(kHeader).empty()) FAIL();
      } catch (const util::Error& error) {
        CHECK(error.code() == util::ErrorCode::kFormat);
      }
    }
  }
}

TEST_CASE("state: lists that promise what is not there") {
  const std::string number(8, '\1');
  CHECK_NOTHROW(read(forged(list_of("counts", "1", 8), number)));
  for (const std::string size : {"2", "1152921504606846977", "2305843009213693953", "9223372036854775807"}) {
    for (const std::string kind : {"counts", "maxima", "histograms", "sums", "wide_sums"}) {
      const std::string message = error_of_array(kind, size, number);
      INFO(message);
      CHECK(message.find("'x'") != std::string::npos);
    }
  }
  CHECK(error_of_array("counts", "0", number).find("no further bytes") != std::string::npos);
  CHECK(error_of_array("ropes", "1", number).find("'ropes'") != std::string::npos);
  for (const std::string size : {"-1", "1.0", "1e30", "18446744073709551615", "\"1\"", "null", "[]"})
    CHECK_FALSE(error_of_array("counts", size, number).empty());
  CHECK_FALSE(error_of(forged(list_of("counts", "1", 8, "1"), number)).empty());
  CHECK_FALSE(error_of(forged(list_of("sums", "1", 8, "-1"), number)).empty());
  CHECK_FALSE(error_of(forged(list_of("counts", "1", 9), number)).empty());
  CHECK(error_of(forged("[]", "x")).find("no bytes after the last array") != std::string::npos);
  for (const std::string list : {"", "{}", "3", "[3]", "[{}]", "[", "[]]", "[null]", "\xff"}) {
    INFO(list);
    CHECK_FALSE(error_of(forged(list, "")).empty());
  }
  const std::string twice = list_of("counts", "1", 8);
  CHECK(error_of(forged(twice.substr(0, twice.size() - 1) + "," + twice.substr(1), number + number))
            .find("every name once") != std::string::npos);
  // Lengths beyond the end, one of them so far that a sum would wrap around.
  for (const std::uint64_t length : {std::uint64_t{1000}, ~std::uint64_t{0}, ~std::uint64_t{0} - 40}) {
    for (const std::size_t which : {1U, 2U}) {
      std::string bytes = forged("[]", "");
      bytes.resize(bytes.size() - 64);
      std::memcpy(bytes.data() + 18 + 8 * which, &length, sizeof(length));
      CHECK(error_of(bytes + util::sha256(bytes)).find("lengths beyond the end") != std::string::npos);
    }
  }
}

TEST_CASE("state: numbers that no state has") {
  CHECK_FALSE(error_of_array("maxima", "1", raw<double>({-1})).empty());
  CHECK_NOTHROW(read(forged(list_of("maxima", "1", 8), raw<double>({INFINITY}))));
  const auto histogram = [](std::uint64_t pairs, std::vector<std::pair<std::uint32_t, std::uint64_t>> all) {
    std::string bytes = raw<std::uint64_t>({pairs});
    for (const auto& [value, count] : all) bytes += raw<std::uint32_t>({value}) + raw<std::uint64_t>({count});
    return bytes;
  };
  CHECK_NOTHROW(read(forged(list_of("histograms", "1", 32), histogram(2, {{3, 1}, {4, 1}}))));
  CHECK_FALSE(error_of_array("histograms", "1", histogram(2, {{3, 1}})).empty());
  CHECK_FALSE(error_of_array("histograms", "1", histogram(~std::uint64_t{0}, {{3, 1}})).empty());
  CHECK_FALSE(error_of_array("histograms", "1", histogram(2, {{3, 1}, {3, 1}})).empty());
  CHECK_FALSE(error_of_array("histograms", "1", histogram(2, {{3, 1}, {2, 1}})).empty());
  CHECK_FALSE(error_of_array("histograms", "1", histogram(1, {{3, 0}})).empty());
  CHECK_FALSE(error_of_array("histograms", "1", histogram(1, {{3, ~std::uint64_t{0}}})).empty());
  CHECK_FALSE(error_of_array("histograms", "1", histogram(2, {{3, std::uint64_t{1} << 53}, {4, 1}})).empty());
  CHECK_FALSE(error_of_array("histograms", "1", histogram(1, {{0x80000000U, 1}})).empty());
  // A few bytes must not take gigabytes.
  std::string far;
  for (int i = 0; i < 5; ++i) far += histogram(1, {{0x7fffffff, 1}});
  CHECK(error_of_array("histograms", "5", far).find("too large a value") != std::string::npos);

  const auto sums = [](std::uint64_t whole, std::uint64_t first, std::uint8_t items, std::uint8_t broken) {
    return raw<std::uint64_t>({whole, 0, first}) + raw<std::uint8_t>({items, broken});
  };
  CHECK_NOTHROW(read(forged(list_of("sums", "1", 26), sums(0, 0, 0, 1))));
  CHECK_FALSE(error_of_array("sums", "1", sums(1, 0, 0, 0)).empty());
  CHECK_FALSE(error_of_array("sums", "1", sums(0, 1, 0, 0)).empty());
  const std::string replicates(8 + 16'000, 0);  // no items one by one
  CHECK_FALSE(error_of_array("sums", "1", sums(1, 1, 3, 0) + replicates).empty());
  CHECK_FALSE(error_of_array("sums", "1", sums(1, 1, 1, 2) + replicates).empty());
  CHECK_FALSE(error_of_array("sums", "1", sums(1, 1, 1, 0)).empty());
  CHECK_FALSE(error_of_array("sums", "1", sums(1, 1, 1, 0) + replicates.substr(1)).empty());
  CHECK_FALSE(error_of_array("sums", "1", sums(0, 0, 0, 0) + replicates).empty());
  CHECK_NOTHROW(read(forged(list_of("sums", "1", 16'034), sums(1, 1, 1, 0) + replicates)));
  // Items one by one: their number, and of each its number and its sums.
  const auto kept = [&](std::uint64_t whole, std::uint64_t count,
                        std::vector<std::pair<std::uint64_t, std::uint64_t>> items) {
    std::string bytes = sums(whole, 1, 2, 0) + raw<std::uint64_t>({count});
    for (const auto& [item, value] : items) bytes += raw<std::uint64_t>({item, value, 0});
    return bytes;
  };
  CHECK_NOTHROW(read(forged(list_of("sums", "1", 82), kept(7, 2, {{1, 3}, {4, 4}}))));
  CHECK(error_of_array("sums", "1", kept(8, 2, {{1, 3}, {4, 4}})).find("the sum of the items") !=
        std::string::npos);
  CHECK(error_of_array("sums", "1", kept(7, 2, {{4, 3}, {4, 4}})).find("rising order") != std::string::npos);
  CHECK(error_of_array("sums", "1", kept(7, 3, {{1, 3}, {4, 4}})).find("sums of items") != std::string::npos);
  CHECK(error_of_array("sums", "1", kept(7, ~std::uint64_t{0}, {{1, 3}})).find("at most 128") !=
        std::string::npos);

  const auto wide = [](std::int32_t top, std::uint64_t digit) {
    return raw<std::int32_t>({top}) + raw<std::uint64_t>({digit, 0, 0});
  };
  CHECK_FALSE(error_of_array("wide_sums", "1", wide(INT32_MIN, 1)).empty());
  CHECK_FALSE(error_of_array("wide_sums", "1", wide(0, 0)).empty());
  // Digits and places at their ends merge and print.
  for (const std::int32_t top : {INT32_MIN + 1, -1, INT32_MAX}) {
    State state = read(forged(list_of("wide_sums", "1", 28), wide(top, ~std::uint64_t{0})));
    State low = read(forged(list_of("wide_sums", "1", 28), wide(INT32_MIN + 1, ~std::uint64_t{0})));
    low.merge(state, "b.state");
    state.merge(low, "b.state");
    CHECK_FALSE(std::isnan(state.wide_sums("x", 1).value(0)));
  }
  // Counts whose sum runs over.
  State most = read(forged(list_of("counts", "1", 8), raw<std::int64_t>({INT64_MAX})));
  State more = read(forged(list_of("counts", "1", 8), raw<std::int64_t>({INT64_MAX})));
  most.merge(more, "b.state");
  CHECK(most.counts("x", 1)[0] == -2);
}

TEST_CASE("wide sums: the same bytes over four hundred orders of magnitude, in any order and any tree") {
  std::mt19937_64 random(6);
  std::vector<double> logs;
  for (int i = 0; i < 400; ++i)
    logs.push_back(std::log(10.0) * (-400 + 412 * static_cast<double>(random() % 10'000) / 1e4));
  std::string expected;
  for (int round = 0; round < 20; ++round) {
    std::vector<State> states(1 + random() % 8);
    for (State& state : states) state.wide_sums("w", 2);
    for (std::size_t i = 0; i < logs.size(); ++i) {
      // The first sum has everything; the second only what is very small.
      tables::WideSums& sums = states[random() % states.size()].wide_sums("w", 2);
      sums.add_exp(0, logs[i]);
      if (logs[i] < -700) sums.add_exp(1, logs[i]);
    }
    while (states.size() > 1) {
      State other = std::move(states.back());
      states.pop_back();
      states[random() % states.size()].merge(other, "b.state");
    }
    const std::string bytes = states.front().to_bytes(kHeader);
    if (round == 0) expected = bytes;
    CHECK(bytes == expected);
    std::shuffle(logs.begin(), logs.end(), random);
  }
  State state = read(expected);
  long double all = 0, small = 0;  // long double: 1e-4932 to 1e4932
  for (const double log : logs) {
    all += std::exp(static_cast<long double>(log));
    if (log < -700) small += std::exp(static_cast<long double>(log));
  }
  CHECK(state.wide_sums("w", 2).value(0) == Approx(static_cast<double>(all)).epsilon(1e-14));
  CHECK(state.wide_sums("w", 2).log(1) == Approx(static_cast<double>(std::log(small))).epsilon(1e-14));
}
