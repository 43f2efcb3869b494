// Sums that do not depend on the order of their terms, nor on how these are dealt out to processes.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace depthlens::tables {

/// A number with 64 binary places: `whole` + `fraction` / 2⁶⁴. Integers are exact, other doubles are off by
/// 2⁻⁶⁵ at the most; sums of such numbers are exact as long as they stay below 2⁶³.
struct FixedPoint {
  std::int64_t whole = 0;
  std::uint64_t fraction = 0;

  bool operator==(const FixedPoint&) const = default;
};

/// Whether `value` is finite and small enough (below 2⁵²) for many of its like to be added up.
inline bool fits_fixed_point(double value) {
  return std::abs(value) < 0x1p52;
}
/// `value` must fit.
FixedPoint to_fixed_point(double value);
/// The nearest double.
double to_double(const FixedPoint& value);

/// Sums of numbers ≥ 0 of any magnitude, such as probabilities: each sum keeps the 64 to 96 leading bits of
/// what was added, whatever the order, and has no smallest value. 28 bytes a sum.
///
/// A sum holds three digits to the base 2³², the highest of which is the highest that any term has; what
/// terms have below is left out, so that the result depends on the set of terms alone. Digits do not carry
/// until they are read: there may be 2³¹ terms.
class WideSums {
 public:
  WideSums() = default;
  explicit WideSums(std::size_t size);

  std::size_t size() const { return top_.size(); }

  /// Adds `value` (finite, ≥ 0) to sum i.
  void add(std::size_t i, double value);
  /// Adds e^`log_value`, which may be too small for a number; −∞ adds nothing.
  void add_exp(std::size_t i, double log_value);

  /// The nearest double, 0 where it is too small for one.
  double value(std::size_t i) const;
  /// Its natural logarithm, also where `value` is 0 for want of range; −∞ where nothing was added.
  double log(std::size_t i) const;

  /// Sizes must agree.
  void merge(const WideSums& other);

 private:
  friend class State;
  static constexpr std::int32_t kNothing = std::numeric_limits<std::int32_t>::min();

  void add_term(std::size_t i, double m, std::int64_t exponent);
  void add_digits(std::size_t i, std::int32_t top, const std::array<std::uint64_t, 3>& digits);

  std::vector<std::int32_t> top_;  // place of the highest digit: it counts 2^(32 · top); kNothing: no term
  std::vector<std::uint64_t> digits_;  // [size, 3], highest first
};

}  // namespace depthlens::tables
