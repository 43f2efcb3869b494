// Writes the records of pairs.
#include "depthlens/report/patching_records.hpp"

#include <limits>
#include <utility>

#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::report {
namespace {

/// [a, b, …] of `item(0)` … `item(count − 1)`.
template <typename Item>
std::string array(std::int64_t count, const Item& item) {
  std::string out = "[";
  for (std::int64_t i = 0; i < count; ++i) out += (i > 0 ? ", " : "") + item(i);
  return out + "]";
}

std::string number(double value) {
  return util::json_number(static_cast<float>(value));
}

}  // namespace

PatchingRecords::PatchingRecords(std::function<std::string(decode::TokenId)> token_text,
                                 std::function<void(std::string_view)> write)
    : token_text_(std::move(token_text)), write_(std::move(write)) {}

std::string PatchingRecords::token(decode::TokenId id) const {
  return util::cat("{\"id\": ", id, ", \"text\": ", util::json_string(token_text_(id)), "}");
}

void PatchingRecords::accept(const data::PairItem& item, const decode::PatchingResult& result) {
  const auto prompt = [&](const std::vector<decode::TokenId>& tokens, decode::TokenId answer,
                          const decode::LastPrediction& clean) {
    return util::cat(
        "{\"tokens\": ",
        array(result.length, [&](std::int64_t t) { return token(tokens[static_cast<std::size_t>(t)]); }),
        ", \"answer\": ", token(answer), ", \"final\": ", token(clean.top1),
        ", \"log_probability_difference\": ", number(clean.log_probability_difference),
        ", \"kl\": ", number(clean.kl), "}");
  };
  const auto by_layer = [&](const auto& value) {
    return array(result.num_rows, [&](std::int64_t layer) {
      return array(result.length, [&](std::int64_t p) { return number(value(result.at(layer, p))); });
    });
  };
  using Prediction = decode::LastPrediction;
  constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
  write_(util::cat(
      "{\"document\": ", item.document, ", \"item\": ", item.id.json(),
      ", \"source\": ", prompt(item.pair.source, item.pair.source_answer, result.source),
      ", \"target\": ", prompt(item.pair.target, item.pair.target_answer, result.target), ", \"positions\": ",
      array(result.length,
            [&](std::int64_t p) {
              return util::json_string(
                  data::kTokenRoleNames[static_cast<std::size_t>(item.roles[static_cast<std::size_t>(p)])]);
            }),
      ", \"log_probability_difference\": ",
      by_layer([](const Prediction& p) { return p.log_probability_difference; }), ", \"restored\": ",
      by_layer([&](const Prediction& p) { return result.restored(p).value_or(kNothing); }),
      ", \"kl\": ", by_layer([](const Prediction& p) { return p.kl; }), "}\n"));
}

}  // namespace depthlens::report
