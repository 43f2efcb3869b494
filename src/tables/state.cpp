// Named arrays, and the bytes of a state: a first line with the version, three lengths (of everything, of the
// header, of the list), header, list of the arrays in JSON, their numbers, and the SHA-256 of all before it.
// Numbers are little-endian.
#include "depthlens/tables/state.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <span>
#include <type_traits>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tables {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kFirstLine = "depthlens state 3\n", kAnyVersion = "depthlens state ";
constexpr std::size_t kDigest = 64;
constexpr std::size_t kNumReplicates = static_cast<std::size_t>(kReplicates);

/// A histogram takes memory up to its greatest value, which a file states in a few bytes: all histograms of a
/// file together may take this much for it.
constexpr std::size_t kMaxPages = std::size_t{1} << 30;
/// No honest file counts further; as many as will ever be merged stay within 64 bits.
constexpr std::uint64_t kMaxCounts = std::uint64_t{1} << 53;

[[noreturn]] void fail_damaged(const std::string& where, std::string expected, std::string found) {
  throw util::format_error({.what = "the state is damaged",
                            .where = where,
                            .expected = std::move(expected),
                            .found = std::move(found),
                            .hint = "It was cut short or changed after it was written: make it anew."});
}

/// Appends numbers to bytes, or only counts how many bytes they take.
class Writer {
 public:
  explicit Writer(std::string* bytes) : bytes_(bytes) {}

  template <typename Number>
  void put(std::span<const Number> numbers) {
    size_ += numbers.size_bytes();
    if (bytes_) bytes_->append(reinterpret_cast<const char*>(numbers.data()), numbers.size_bytes());
  }
  template <typename Number>
  void put(const std::vector<Number>& numbers) {
    put(std::span<const Number>(numbers));
  }
  template <typename Number>
  requires std::is_arithmetic_v<Number>
  void put(Number number) { put(std::span<const Number>(&number, 1)); }
  std::size_t size() const { return size_; }

 private:
  std::string* bytes_;
  std::size_t size_ = 0;
};

/// Takes numbers from bytes that may be damaged.
class Reader {
 public:
  Reader(std::string_view bytes, std::string where, std::size_t& pages_left)
      : bytes_(bytes), where_(std::move(where)), pages_left_(pages_left) {}

  template <typename Number>
  void take(std::span<Number> numbers) {
    if (numbers.size_bytes() > bytes_.size()) {
      fail_damaged(where_, util::cat(numbers.size_bytes(), " more bytes"), util::cat(bytes_.size()));
    }
    if (!numbers.empty()) std::memcpy(numbers.data(), bytes_.data(), numbers.size_bytes());
    bytes_.remove_prefix(numbers.size_bytes());
  }
  template <typename Number>
  void take(std::vector<Number>& numbers) {
    take(std::span<Number>(numbers));
  }
  template <typename Number>
  Number take() {
    Number number;
    take(std::span<Number>(&number, 1));
    return number;
  }
  std::size_t left() const { return bytes_.size(); }

  void expect(bool condition, std::string_view expected) const {
    if (!condition) fail_damaged(where_, std::string(expected), "another value");
  }
  /// Before memory up to a histogram's greatest value is taken.
  void take_pages(std::size_t bytes) {
    if (bytes > pages_left_) fail_damaged(where_, "histograms of smaller values", "too large a value");
    pages_left_ -= bytes;
  }

 private:
  std::string_view bytes_;
  std::string where_;
  std::size_t& pages_left_;
};

/// Signed numbers from files wrap around, where the sum of honest ones does not.
std::int64_t sum_of(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

/// Some arrays are declared while positions are shown, to several experiments at a time.
std::mutex declaring;

void take_greater(double& greatest, double value) {
  if (!std::isnan(greatest) && !(value <= greatest)) greatest = value;
}

}  // namespace

void Maxima::add(std::size_t i, double value) {
  take_greater(pending_[i], value);
}

/// An array of one kind. A kind is a struct with kName, kMinBytes (that a file has for each element, which
/// bounds the size before memory is taken) and a constructor from size and seed, and a line in `kinds`.
struct State::Array {
  struct Kind {
    std::string_view name;
    std::size_t least_bytes;
    std::unique_ptr<Array> (*make)(std::size_t size, std::uint64_t seed);
  };
  struct OfCounts;
  struct OfMaxima;
  struct OfHistograms;
  struct OfSums;
  struct OfWideSums;
  template <typename OfKind>
  static constexpr Kind kind_of() {
    return {OfKind::kName, OfKind::kMinBytes, [](std::size_t size, std::uint64_t seed) {
              std::unique_ptr<Array> made = std::make_unique<OfKind>(size, seed);
              made->kind = OfKind::kName;
              return made;
            }};
  }
  static const Kind* find_kind(std::string_view name);

  virtual ~Array() = default;
  virtual std::size_t size() const = 0;
  virtual std::uint64_t seed() const { return 0; }
  virtual void commit() = 0;
  virtual void drop_pending() = 0;
  virtual void merge(const Array& other) = 0;  // of the same kind, size and seed
  virtual void write(Writer& writer) const = 0;
  virtual void read(Reader& reader) = 0;  // into a new one

  std::string description() const { return util::cat(kind, " of size ", size(), ", seed ", seed()); }

  std::string_view kind;
};

struct State::Array::OfCounts final : Array {
  static constexpr std::string_view kName = "counts";
  static constexpr std::size_t kMinBytes = sizeof(std::int64_t);
  OfCounts(std::size_t size, std::uint64_t /*seed*/) : values(size) {}

  std::size_t size() const override { return values.size(); }
  void commit() override {
    add(values.pending_);
    drop_pending();
  }
  void drop_pending() override { std::fill(values.pending_.begin(), values.pending_.end(), 0); }
  void merge(const Array& other) override { add(dynamic_cast<const OfCounts&>(other).values.committed_); }
  void write(Writer& writer) const override { writer.put(values.committed_); }
  void read(Reader& reader) override { reader.take(values.committed_); }

  void add(const std::vector<std::int64_t>& more) {
    for (std::size_t i = 0; i < more.size(); ++i)
      values.committed_[i] = sum_of(values.committed_[i], more[i]);
  }

  Counts values;
};

struct State::Array::OfMaxima final : Array {
  static constexpr std::string_view kName = "maxima";
  static constexpr std::size_t kMinBytes = sizeof(double);
  OfMaxima(std::size_t size, std::uint64_t /*seed*/) : values(size) {}

  std::size_t size() const override { return values.size(); }
  void commit() override {
    add(values.pending_);
    drop_pending();
  }
  void drop_pending() override { std::fill(values.pending_.begin(), values.pending_.end(), 0.0); }
  void merge(const Array& other) override { add(dynamic_cast<const OfMaxima&>(other).values.committed_); }
  void write(Writer& writer) const override {
    // All NaN alike: their bits depend on where they came from.
    for (const double value : values.committed_)
      writer.put(std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value);
  }
  void read(Reader& reader) override {
    reader.take(values.committed_);
    for (const double value : values.committed_) reader.expect(!(value < 0), "a number of at least 0");
  }

  void add(const std::vector<double>& more) {
    for (std::size_t i = 0; i < more.size(); ++i) take_greater(values.committed_[i], more[i]);
  }

  Maxima values;
};

struct State::Array::OfHistograms final : Array {
  static constexpr std::string_view kName = "histograms";
  static constexpr std::size_t kMinBytes = sizeof(std::uint64_t);
  OfHistograms(std::size_t size, std::uint64_t /*seed*/) : values(size) {}

  std::size_t size() const override { return values.size(); }
  void commit() override {
    for (const Histograms::Added& added : values.pending_) {
      DEPTHLENS_ASSERT(added.index < values.size());
      values.committed_[added.index].add(added.value);
    }
    drop_pending();
  }
  void drop_pending() override { values.pending_.clear(); }
  void merge(const Array& other) override {
    const auto& more = dynamic_cast<const OfHistograms&>(other).values;
    for (std::size_t i = 0; i < size(); ++i) values.committed_[i].merge(more[i]);
  }
  void write(Writer& writer) const override {
    for (const Histogram& histogram : values.committed_) {
      std::uint64_t different = 0;
      histogram.for_each([&](std::int64_t, std::int64_t) { return ++different != 0; });
      writer.put(different);
      histogram.for_each([&](std::int64_t value, std::int64_t count) {
        writer.put(static_cast<std::uint32_t>(value));
        writer.put(count);
        return true;
      });
    }
  }
  void read(Reader& reader) override {
    for (Histogram& histogram : values.committed_) {
      const auto different = reader.take<std::uint64_t>();
      std::int64_t before = -1;
      std::uint64_t total = 0;
      for (std::uint64_t pair = 0; pair < different; ++pair) {
        const auto value = std::int64_t{reader.take<std::uint32_t>()};
        const auto count = reader.take<std::uint64_t>();
        reader.expect(value > before && value <= INT32_MAX, "values in rising order");
        reader.expect(count > 0 && count <= kMaxCounts - total, "counts of a histogram");
        reader.take_pages(static_cast<std::size_t>(value - before) / 4);
        histogram.add(value, static_cast<std::int64_t>(count));
        before = value;
        total += count;
      }
    }
  }

  Histograms values;
};

struct State::Array::OfSums final : Array {
  static constexpr std::string_view kName = "sums";
  static constexpr std::size_t kMinBytes = 3 * sizeof(std::uint64_t) + 2;
  OfSums(std::size_t size, std::uint64_t seed) : values(size, seed) {}

  std::size_t size() const override { return values.size(); }
  std::uint64_t seed() const override { return values.seed(); }
  void commit() override { values.commit(); }
  void drop_pending() override { values.drop_pending(); }
  void merge(const Array& other) override { values.merge(dynamic_cast<const OfSums&>(other).values); }

  // Totals word by word; then, if a sum has an item, how many items' rows follow, each its item, its whole
  // parts and its fractions; or 0, [kReplicates, sums] whole parts and as many fractions.
  void write(Writer& writer) const override {
    const auto& totals = values.totals_;
    for (const auto& total : totals) writer.put(total.whole);
    for (const auto& total : totals) writer.put(total.fraction);
    for (const auto& total : totals) writer.put(total.first);
    for (const auto& total : totals) writer.put(total.items);
    for (const auto& total : totals) writer.put(std::uint8_t{total.broken});
    const BootstrapSums::Rows& kept = values.kept_;
    if (kept.items.empty() && values.replicates_.whole.empty()) return;
    writer.put(std::uint64_t{kept.items.size()});
    std::vector<std::uint64_t> row(size());
    for (std::size_t k = 0; k < kept.items.size(); ++k) {
      writer.put(kept.items[k]);
      for (const auto* words : {&kept.whole, &kept.fraction}) {
        for (std::size_t i = 0; i < row.size(); ++i) row[i] = (*words)[k * values.eights_ + i / 8].of[i % 8];
        writer.put(row);
      }
    }
    if (!kept.items.empty()) return;
    for (const auto* words : {&values.replicates_.whole, &values.replicates_.fraction}) {
      for (std::size_t r = 0; r < kNumReplicates; ++r) {
        for (std::size_t i = 0; i < row.size(); ++i) row[i] = (*words)[i / 8 * kNumReplicates + r].of[i % 8];
        writer.put(row);
      }
    }
  }
  void read(Reader& reader) override {
    auto& totals = values.totals_;
    for (auto& total : totals) total.whole = reader.take<std::uint64_t>();
    for (auto& total : totals) total.fraction = reader.take<std::uint64_t>();
    for (auto& total : totals) total.first = reader.take<std::uint64_t>();
    bool any_item = false;
    for (auto& total : totals) {
      total.items = reader.take<std::uint8_t>();
      reader.expect(total.items <= 2, "none, one or several (2) items");
      reader.expect(total.items > 0 || (total.first == 0 && total.whole == 0 && total.fraction == 0),
                    "zero where there is no item");
      any_item = any_item || total.items > 0;
    }
    for (auto& total : totals) {
      const auto broken = reader.take<std::uint8_t>();
      reader.expect(broken <= 1, "0 or 1");
      total.broken = broken == 1;
    }
    if (!any_item) return;
    std::vector<std::uint64_t> row(size());
    if (const auto kept = reader.take<std::uint64_t>(); kept > 0) {
      read_kept(reader, kept);
      return;
    }
    reader.expect(reader.left() / (2 * sizeof(std::uint64_t) * kNumReplicates) >= size(), "replicates");
    values.replicates_ = values.no_replicates();
    for (auto* words : {&values.replicates_.whole, &values.replicates_.fraction}) {
      for (std::size_t r = 0; r < kNumReplicates; ++r) {
        reader.take(row);
        for (std::size_t i = 0; i < row.size(); ++i) (*words)[i / 8 * kNumReplicates + r].of[i % 8] = row[i];
      }
    }
  }
  void read_kept(Reader& reader, std::uint64_t count) {
    reader.expect(count <= kKeptItems, util::cat("at most ", kKeptItems, " items one by one"));
    reader.expect(reader.left() / (sizeof(std::uint64_t) * (1 + 2 * size())) >= count, "sums of items");
    BootstrapSums::Rows rows;
    rows.whole.resize(static_cast<std::size_t>(count) * values.eights_);
    rows.fraction.resize(rows.whole.size());
    std::vector<std::uint64_t> row(size());
    BootstrapSums sum(size(), seed());
    for (std::size_t k = 0; k < count; ++k) {
      const auto item = reader.take<std::uint64_t>();
      reader.expect(rows.items.empty() || item > rows.items.back(), "items in rising order");
      rows.items.push_back(item);
      for (auto* words : {&rows.whole, &rows.fraction}) {
        reader.take(row);
        for (std::size_t i = 0; i < row.size(); ++i) (*words)[k * values.eights_ + i / 8].of[i % 8] = row[i];
      }
      for (std::size_t i = 0; i < size(); ++i) {
        const std::size_t at = k * values.eights_ + i / 8;
        sum.totals_[i].merge({.whole = rows.whole[at].of[i % 8], .fraction = rows.fraction[at].of[i % 8]});
      }
    }
    for (std::size_t i = 0; i < size(); ++i) {
      const auto &whole = sum.totals_[i], &stated = values.totals_[i];
      reader.expect(whole.whole == stated.whole && whole.fraction == stated.fraction, "the sum of the items");
    }
    values.set_kept(std::move(rows));
  }

  BootstrapSums values;
};

struct State::Array::OfWideSums final : Array {
  static constexpr std::string_view kName = "wide_sums";
  static constexpr std::size_t kMinBytes = sizeof(std::int32_t) + 3 * sizeof(std::uint64_t);
  OfWideSums(std::size_t size, std::uint64_t /*seed*/) : values(size) {}

  std::size_t size() const override { return values.size(); }
  void commit() override {}
  void drop_pending() override {}
  void merge(const Array& other) override { values.merge(dynamic_cast<const OfWideSums&>(other).values); }
  void write(Writer& writer) const override {
    writer.put(values.top_);
    writer.put(values.digits_);
  }
  void read(Reader& reader) override {
    reader.take(values.top_);
    reader.take(values.digits_);
    for (std::size_t i = 0; i < size(); ++i) {
      const std::uint64_t* digits = values.digits_.data() + 3 * i;
      const bool nothing = values.top_[i] == WideSums::kNothing;
      reader.expect(!nothing || (digits[0] == 0 && digits[1] == 0 && digits[2] == 0),
                    "zero where nothing was added");
      reader.expect(nothing || digits[0] != 0, "a highest digit");
    }
  }

  WideSums values;
};

const State::Array::Kind* State::Array::find_kind(std::string_view name) {
  static constexpr std::array kinds = {kind_of<OfCounts>(), kind_of<OfMaxima>(), kind_of<OfHistograms>(),
                                       kind_of<OfSums>(), kind_of<OfWideSums>()};
  const auto found =
      std::find_if(kinds.begin(), kinds.end(), [&](const Kind& kind) { return kind.name == name; });
  return found == kinds.end() ? nullptr : &*found;
}

State::State() = default;
State::~State() = default;
State::State(State&&) noexcept = default;
State& State::operator=(State&&) noexcept = default;

template <typename Kind>
Kind& State::get(const std::string& name, std::size_t size, std::uint64_t seed) {
  const auto wanted = [&] { return Array::kind_of<Kind>().make(size, seed); };
  const std::lock_guard lock(declaring);
  auto found = arrays_.find(name);
  if (found == arrays_.end()) found = arrays_.emplace(name, wanted()).first;
  Array& array = *found->second;
  if (array.kind != Kind::kName || array.size() != size || array.seed() != seed) {
    throw util::format_error(
        {.what = "the state is not one of this run: its " + util::in_quotes(name) + " differs",
         .where = where_,
         .expected = wanted()->description(),
         .found = array.description()});
  }
  return dynamic_cast<Kind&>(array);
}

Counts& State::counts(const std::string& name, std::size_t size) {
  return get<Array::OfCounts>(name, size).values;
}
Maxima& State::maxima(const std::string& name, std::size_t size) {
  return get<Array::OfMaxima>(name, size).values;
}
Histograms& State::histograms(const std::string& name, std::size_t size) {
  return get<Array::OfHistograms>(name, size).values;
}
BootstrapSums& State::sums(const std::string& name, std::size_t size, std::uint64_t seed) {
  return get<Array::OfSums>(name, size, seed).values;
}
WideSums& State::wide_sums(const std::string& name, std::size_t size) {
  return get<Array::OfWideSums>(name, size).values;
}

void State::commit() {
  for (const auto& [name, array] : arrays_) array->commit();
}

void State::drop_pending() {
  for (const auto& [name, array] : arrays_) array->drop_pending();
}

void State::merge(const State& other, const std::string& where) {
  for (const auto& [name, theirs] : other.arrays_) {  // all of them before anything changes
    const auto ours = arrays_.find(name);
    if (ours == arrays_.end() || ours->second->description() == theirs->description()) continue;
    throw util::format_error({.what = "states of different runs: their " + util::in_quotes(name) + " differ",
                              .where = where,
                              .expected = ours->second->description(),
                              .found = theirs->description()});
  }
  for (const auto& [name, theirs] : other.arrays_) {
    auto ours = arrays_.find(name);
    if (ours == arrays_.end()) {
      const Array::Kind* kind = Array::find_kind(theirs->kind);
      ours = arrays_.emplace(name, kind->make(theirs->size(), theirs->seed())).first;
    }
    ours->second->merge(*theirs);
  }
}

std::string State::to_bytes(std::string_view header) const {
  util::OrderedJson list = util::OrderedJson::array();
  std::size_t numbers = 0;
  for (const auto& [name, array] : arrays_) {
    Writer counter(nullptr);
    array->write(counter);
    numbers += counter.size();
    list.push_back({{"name", name},
                    {"kind", array->kind},
                    {"size", array->size()},
                    {"seed", array->seed()},
                    {"bytes", counter.size()}});
  }
  const std::string list_text = util::json_text(list);
  const std::array<std::uint64_t, 3> lengths = {
      kFirstLine.size() + sizeof(lengths) + header.size() + list_text.size() + numbers + kDigest,
      header.size(), list_text.size()};
  std::string bytes;
  bytes.reserve(lengths[0]);
  bytes += kFirstLine;
  Writer writer(&bytes);
  writer.put(std::span<const std::uint64_t>(lengths));
  bytes += header;
  bytes += list_text;
  for (const auto& [name, array] : arrays_) array->write(writer);
  bytes += util::sha256(bytes);
  return bytes;
}

State State::from_bytes(std::string_view bytes, const std::string& where, std::string& header) {
  if (!bytes.starts_with(kFirstLine.substr(0, bytes.size()))) {
    const std::string_view line = bytes.substr(0, std::min(bytes.find('\n'), std::size_t{40}));
    throw util::format_error(
        {.what = bytes.starts_with(kAnyVersion) ? "a state of another version" : "not a state",
         .where = where,
         .expected = util::in_quotes(kFirstLine.substr(0, kFirstLine.size() - 1)),
         .found = util::in_quotes(line),
         .hint = bytes.starts_with(kAnyVersion) ? "another depthlens wrote it: go on with that one, or begin "
                                                  "anew with --overwrite"
                                                : ""});
  }
  std::array<std::uint64_t, 3> lengths = {};
  const std::size_t fixed = kFirstLine.size() + sizeof(lengths) + kDigest;
  if (bytes.size() < fixed) {
    fail_damaged(where, util::cat("at least ", fixed, " bytes"), util::cat(bytes.size(), ", cut short"));
  }
  std::memcpy(lengths.data(), bytes.data() + kFirstLine.size(), sizeof(lengths));
  if (lengths[0] != bytes.size()) {
    fail_damaged(where, util::cat(lengths[0], " bytes"),
                 util::cat(bytes.size(), bytes.size() < lengths[0] ? ", cut short" : ""));
  }
  if (util::sha256(bytes.substr(0, bytes.size() - kDigest)) != bytes.substr(bytes.size() - kDigest)) {
    fail_damaged(where, "bytes of the SHA-256 at its end", "others");
  }
  // From here on damage is deliberate; it must do no harm.
  std::string_view rest = bytes.substr(0, bytes.size() - kDigest).substr(kFirstLine.size() + sizeof(lengths));
  if (lengths[1] > rest.size() || lengths[2] > rest.size() - lengths[1]) {
    fail_damaged(where, "a header and a list of arrays", "lengths beyond the end");
  }
  const std::string_view header_text = rest.substr(0, lengths[1]);
  const util::Json list = util::parse_json(rest.substr(lengths[1], lengths[2]), where + ": list of arrays");
  rest.remove_prefix(lengths[1] + lengths[2]);

  const util::JsonView view(list, where + ": list of arrays");
  if (!view.is_array()) view.fail("a list");
  State state;
  state.where_ = where;
  std::size_t pages_left = kMaxPages;
  for (std::size_t a = 0; a < view.size(); ++a) {
    const util::JsonView entry = view.at(a);
    const std::string name = entry.at("name").as_string();
    const std::string place = util::cat(where, ": ", util::in_quotes(name));
    const std::string kind_name = entry.at("kind").as_string();
    const Array::Kind* kind = Array::find_kind(kind_name);
    if (!kind) {
      throw util::format_error({.what = "an array of an unknown kind",
                                .where = place,
                                .expected = "a kind of this version of depthlens",
                                .found = util::in_quotes(kind_name)});
    }
    const util::JsonView seed = entry.at("seed");
    if (!seed.raw().is_number_unsigned()) seed.fail("an integer from 0 to 2^64 - 1");
    const auto length = static_cast<std::size_t>(entry.at("bytes").as_integer(0, INT64_MAX));
    const auto size = static_cast<std::size_t>(entry.at("size").as_integer(0, INT64_MAX));
    if (length > rest.size()) fail_damaged(place, util::cat(length, " bytes"), util::cat(rest.size()));
    if (size > length / kind->least_bytes) {
      fail_damaged(place, util::cat(size, " ", kind_name), util::cat(length, " bytes, too few"));
    }
    std::unique_ptr<Array> array = kind->make(size, seed.raw().get<std::uint64_t>());
    if (array->seed() != seed.raw().get<std::uint64_t>()) seed.fail("0, since this kind has no seed");
    Reader reader(rest.substr(0, length), place, pages_left);
    array->read(reader);
    if (reader.left() != 0) fail_damaged(place, "no further bytes", util::cat(reader.left()));
    rest.remove_prefix(length);
    if (!state.arrays_.emplace(name, std::move(array)).second) {
      fail_damaged(place, "every name once", "the name again");
    }
  }
  if (!rest.empty()) fail_damaged(where, "no bytes after the last array", util::cat(rest.size()));
  header = header_text;
  return state;
}

}  // namespace depthlens::tables
