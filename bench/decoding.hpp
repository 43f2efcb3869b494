// What the benchmarks of decoding share: their settings, and what they decode.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "depthlens/compute/statistics.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::bench {

/// The words KEY=VALUE of a command line; ends the program where one is none.
class Settings {
 public:
  Settings(const char* program, int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
      const std::string argument = argv[i];
      const std::size_t equals = argument.find('=');
      if (equals == std::string::npos) {
        std::fprintf(stderr, "%s: expected KEY=VALUE, found '%s'\n", program, argv[i]);
        std::exit(2);
      }
      values_[argument.substr(0, equals)] = argument.substr(equals + 1);
    }
  }

  std::string text(const std::string& key, const std::string& otherwise) const {
    const auto found = values_.find(key);
    return found != values_.end() ? found->second : otherwise;
  }
  std::int64_t number(const std::string& key, std::int64_t otherwise) const {
    std::int64_t value = otherwise;
    const auto found = values_.find(key);
    if (found != values_.end() && !util::parse_int(found->second, value)) std::exit(2);
    return value;
  }

 private:
  std::map<std::string, std::string> values_;
};

/// Random weights [V, d] of a stored type: "float32", "bfloat16" or "float16".
inline compute::Unembedding random_unembedding(std::int64_t vocab_size, std::int64_t d, double deviation,
                                               const std::string& type, at::Device device) {
  compute::Unembedding unembedding;
  unembedding.weight = at::randn({vocab_size, d}, at::TensorOptions(at::kFloat).device(device))
                           .mul_(deviation)
                           .to(type == "bfloat16"  ? at::kBFloat16
                               : type == "float16" ? at::kHalf
                                                   : at::kFloat);
  return unembedding;
}

/// Random states; ten best tokens and two watched ones are asked for.
inline compute::StatisticsInput random_input(std::int64_t num_states, std::int64_t num_positions,
                                             std::int64_t d, std::int64_t vocab_size, at::Device device) {
  compute::StatisticsInput input;
  input.rows = at::randn({num_states * num_positions, d}, at::TensorOptions(at::kFloat).device(device));
  input.num_states = num_states;
  input.num_positions = num_positions;
  input.top_k = 10;
  input.num_watched = 2;
  for (std::int64_t p = 0; p < num_positions; ++p) {
    input.watched.push_back(compute::kNoToken);
    input.watched.push_back(static_cast<compute::TokenId>(p * 131 % vocab_size));
  }
  return input;
}

/// Four groups, as the buckets of frequencies are.
inline std::vector<std::uint8_t> four_groups(std::int64_t vocab_size) {
  std::vector<std::uint8_t> groups(static_cast<std::size_t>(vocab_size), 3);
  for (std::size_t v = 0; v < groups.size() && v < 1000; ++v) groups[v] = v < 10 ? 0 : v < 100 ? 1 : 2;
  return groups;
}

}  // namespace depthlens::bench
