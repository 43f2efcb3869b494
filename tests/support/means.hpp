// Bootstrap means that own their sums, and end a part whenever they are read: for a test's own computation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "depthlens/tables/bootstrap.hpp"

namespace depthlens::test {

class Means {
 public:
  Means(std::size_t num_means, std::uint64_t seed) : sums_(num_means + 1, seed) {}

  void add(std::uint64_t item, std::span<const double> values) {
    tables::BootstrapMeans(sums_).add(item, values);
  }
  std::int64_t count() const { return read().count(); }
  tables::Estimate estimate(std::size_t i) const { return read().estimate(i); }

 private:
  tables::BootstrapMeans read() const {
    sums_.commit();
    return tables::BootstrapMeans(sums_);
  }
  mutable tables::BootstrapSums sums_;
};

}  // namespace depthlens::test
