// Fills the tables of the terminal.
#include "show_table.hpp"

#include <cmath>
#include <optional>

namespace depthlens::tool {

report::TerminalTable as_table(const Collector& found, const std::vector<std::int64_t>& positions,
                               const run::Session& session, report::CellValue value) {
  const auto text_of = [&](decode::TokenId id) { return session.tokenizer().token_text(id); };
  const auto number_of = [&](const Cell& cell) -> double {
    switch (value) {
      case report::CellValue::kProbability:
        return std::exp(cell.top_logprobs.front());
      case report::CellValue::kRank:
        return cell.final.rank;
      case report::CellValue::kTargetRank:
        return cell.target ? static_cast<double>(cell.target->rank) : NAN;
      case report::CellValue::kEntropy:
        return cell.entropy;
      case report::CellValue::kKl:
        return cell.kl_final;
    }
    return NAN;
  };
  report::TerminalTable table = {.tokens = {},
                                 .positions = positions,
                                 .ranked = {},
                                 .panels = {},
                                 .value = value,
                                 .vocab_size = session.spec().vocab_size};
  for (const decode::TokenId token : found.tokens) table.tokens.push_back(text_of(token));
  const bool of_answers = value == report::CellValue::kRank;
  if (of_answers || value == report::CellValue::kTargetRank) {
    for (const decode::TokenId token : of_answers ? found.finals : found.targets)
      table.ranked.push_back(token == decode::kNoToken ? "" : text_of(token));
  }
  for (std::size_t n = 0; n < found.positions.front().size(); ++n) {
    auto& panel = table.panels.emplace_back();
    panel.name = session.lenses()[n]->request().name;
    for (std::size_t t = 0; t < found.positions.size(); ++t) {
      auto& column = panel.cells.emplace_back();
      for (const Cell& cell : found.positions[t][n]) {
        const decode::TokenId top1 = cell.top_ids.front();
        column.push_back(
            {.text = text_of(top1), .value = number_of(cell), .is_answer = top1 == found.finals[t]});
      }
    }
  }
  return table;
}

std::vector<report::WatchTable> watch_tables(const Collector& found,
                                             const std::vector<std::int64_t>& positions,
                                             const run::Session& session) {
  const experiments::Watch& watch = found.watch();
  std::vector<report::WatchTable> tables;
  for (std::size_t t = 0; t < positions.size(); ++t) {
    if (!found.is_watched(t)) continue;
    report::WatchTable& table = tables.emplace_back();
    table.position = positions[t];
    table.token = session.tokenizer().token_text(found.tokens[t]);
    for (const auto& token : watch.tokens) table.tokens.push_back(token.name);
    for (const auto& pair : watch.pairs) {
      // Spelt out, since a comma does not tell which is taken from which.
      table.pairs.push_back(watch.tokens[pair.first].name + "−" + watch.tokens[pair.second].name);
    }
    for (std::size_t n = 0; n < found.positions[t].size(); ++n) {
      auto& panel = table.panels.emplace_back();
      panel.name = session.lenses()[n]->request().name;
      panel.tokens.resize(watch.tokens.size());
      panel.pairs.resize(watch.pairs.size());
      for (const Cell& cell : found.positions[t][n]) {
        for (std::size_t w = 0; w < watch.tokens.size(); ++w) {
          const std::optional<Place>& place = cell.watched[w];
          panel.tokens[w].push_back({.rank = place ? place->rank : 0,
                                     .logprob = place ? static_cast<double>(place->logprob) : NAN});
        }
        for (std::size_t i = 0; i < watch.pairs.size(); ++i)
          panel.pairs[i].push_back(difference(cell, watch.pairs[i]).value_or(NAN));
      }
    }
  }
  return tables;
}

}  // namespace depthlens::tool
