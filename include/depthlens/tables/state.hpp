// What a run has added up, as data: named arrays of a few kinds, which can be written, read and merged by
// code that knows no experiment. Every kind adds up exactly, or in an order that is none of the adding
// process': states of the same input are equal to the last bit, however it was dealt out.
//
// A run is parts (run/plan.hpp). What is added belongs to the part in progress until `commit`, which a run
// calls at the end of each; tables, files and merges see finished parts only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "depthlens/tables/accumulators.hpp"
#include "depthlens/tables/bootstrap.hpp"
#include "depthlens/tables/exact_sums.hpp"

namespace depthlens::tables {

/// Integers that add up.
class Counts {
 public:
  explicit Counts(std::size_t size) : committed_(size), pending_(size) {}
  void add(std::size_t i, std::int64_t count = 1) { pending_[i] += count; }
  /// Of finished parts.
  std::int64_t operator[](std::size_t i) const { return committed_[i]; }
  std::size_t size() const { return committed_.size(); }

 private:
  friend class State;
  std::vector<std::int64_t> committed_, pending_;
};

/// Numbers ≥ 0 of which the greatest counts.
class Maxima {
 public:
  explicit Maxima(std::size_t size) : committed_(size), pending_(size) {}
  /// A NaN stays.
  void add(std::size_t i, double value);
  double operator[](std::size_t i) const { return committed_[i]; }
  std::size_t size() const { return committed_.size(); }

 private:
  friend class State;
  std::vector<double> committed_, pending_;
};

/// Histograms (accumulators.hpp): of values, such as ranks, each how often it occurs.
class Histograms {
 public:
  explicit Histograms(std::size_t size) : committed_(size) {}
  void add(std::size_t i, std::int64_t value) {
    pending_.push_back({static_cast<std::uint32_t>(i), static_cast<std::int32_t>(value)});
  }
  const Histogram& operator[](std::size_t i) const { return committed_[i]; }
  std::size_t size() const { return committed_.size(); }

 private:
  friend class State;
  struct Added {
    std::uint32_t index;
    std::int32_t value;
  };
  std::vector<Histogram> committed_;
  std::vector<Added> pending_;
};

class State {
 public:
  State();
  ~State();
  State(State&&) noexcept;
  State& operator=(State&&) noexcept;

  /// The array of that name, zero where it is new; valid as long as the state. Where there is one of that
  /// name (from a file, or declared before), its kind, size and seed must be the same: a format error
  /// otherwise.
  Counts& counts(const std::string& name, std::size_t size);
  Maxima& maxima(const std::string& name, std::size_t size);
  Histograms& histograms(const std::string& name, std::size_t size);
  BootstrapSums& sums(const std::string& name, std::size_t size, std::uint64_t seed);
  /// What is added to these counts at once: to be done at the end of a part only.
  WideSums& wide_sums(const std::string& name, std::size_t size);

  /// Ends a part: what was added since the last call counts from now on.
  void commit();
  /// Forgets what was added since the last `commit`.
  void drop_pending();

  /// Adds finished parts of another state; names that only one of them has are zero in the other. Throws a
  /// format error (with `where`) where kind, size or seed of a name differ.
  void merge(const State& other, const std::string& where);

  /// Finished parts as bytes: a line that tells what it is, `header` (JSON, of the caller), a list of the
  /// arrays, these, and a SHA-256 of all of it.
  std::string to_bytes(std::string_view header) const;

  /// Reads what `to_bytes` made, header into `header`. Throws a format error, with `where`, for anything
  /// else: cut short, changed, of another version. Sizes are checked before memory is taken.
  static State from_bytes(std::string_view bytes, const std::string& where, std::string& header);

 private:
  struct Array;  // of one kind
  template <typename Kind>
  Kind& get(const std::string& name, std::size_t size, std::uint64_t seed = 0);

  // By name: files do not depend on who declared first.
  std::map<std::string, std::unique_ptr<Array>> arrays_;
  std::string where_;  // the file it was read from, for messages
};

}  // namespace depthlens::tables
