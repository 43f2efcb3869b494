// Writes the readouts of a text as JSON.
#include "show_json.hpp"

#include <optional>

#include "depthlens/util/json.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::tool {

std::string as_json(const Collector& found, const std::vector<std::int64_t>& positions,
                    const run::Session& session, const std::string& text) {
  using util::cat, util::json_number;
  const auto quoted = [](const std::string& any) {
    return util::json_string(any, util::JsonAlphabet::kAscii);
  };
  const auto dumped = [](const util::OrderedJson& part) {
    return util::json_text(part, -1, util::JsonAlphabet::kAscii);
  };
  const auto token = [&](decode::TokenId id) {
    return cat("\"id\": ", id, ", \"text\": ", quoted(session.tokenizer().token_text(id)));
  };
  const auto list = [](std::size_t count, const char* separator, const auto& item) {
    std::string out;
    for (std::size_t i = 0; i < count; ++i) out += (i > 0 ? separator : "") + item(i);
    return out;
  };
  const auto watched = [&](const Cell& cell, std::size_t t) -> std::string {
    if (!found.is_watched(t)) return "";
    const experiments::Watch& watch = found.watch();
    const std::string tokens = list(watch.tokens.size(), ", ", [&](std::size_t w) {
      const experiments::WatchedToken& watched_token = watch.tokens[w];
      const bool fixed = watched_token.kind == experiments::WatchedToken::Kind::kToken;
      const decode::TokenId id = fixed ? watched_token.id : found.targets[t];
      const std::optional<Place>& place = cell.watched[w];
      return cat("{\"text\": ", quoted(watched_token.name), ", \"id\": ", place ? std::to_string(id) : "null",
                 ", \"rank\": ", place ? std::to_string(place->rank) : "null",
                 ", \"logprob\": ", place ? json_number(place->logprob) : "null", "}");
    });
    const std::string pairs = list(watch.pairs.size(), ", ", [&](std::size_t i) {
      const std::optional<double> nats = difference(cell, watch.pairs[i]);
      return cat("{\"pair\": ", quoted(watch.pairs[i].name),
                 ", \"difference\": ", nats ? json_number(static_cast<float>(*nats)) : "null", "}");
    });
    return cat(", \"watched\": [", tokens, "], \"differences\": [", pairs, "]");
  };
  const auto layer = [&](const Cell& cell, std::size_t t) {
    const std::string top = list(cell.top_ids.size(), ", ", [&](std::size_t k) {
      return cat("{", token(cell.top_ids[k]), ", \"logprob\": ", json_number(cell.top_logprobs[k]), "}");
    });
    return cat("    {\"top\": [", top, "], \"final_rank\": ", cell.final.rank,
               ", \"final_logprob\": ", json_number(cell.final.logprob),
               ", \"target_rank\": ", cell.target ? std::to_string(cell.target->rank) : "null",
               ", \"target_logprob\": ", cell.target ? json_number(cell.target->logprob) : "null",
               ", \"entropy\": ", json_number(cell.entropy), ", \"kl_final\": ", json_number(cell.kl_final),
               watched(cell, t), "}");
  };
  const auto position = [&](std::size_t t) {
    const auto& lenses = found.positions[t];
    const decode::TokenId target = found.targets[t];
    return cat("  {\"position\": ", positions[t], ", \"token\": {", token(found.tokens[t]),
               "}, \"target\": ", target == decode::kNoToken ? "null" : cat("{", token(target), "}"),
               ", \"final\": {", token(found.finals[t]), "}, \"lenses\": {\n",
               list(lenses.size(), ",\n",
                    [&](std::size_t n) {
                      return cat("   ", quoted(session.lenses()[n]->request().name), ": [\n",
                                 list(lenses[n].size(), ",\n",
                                      [&](std::size_t row) { return layer(lenses[n][row], t); }),
                                 "]");
                    }),
               "}}");
  };
  return cat("{\"model\": ", dumped(session.describe_model()),
             ",\n \"lenses\": ", dumped(session.describe_lenses()), ",\n \"text\": ", quoted(text),
             ",\n \"positions\": [\n", list(found.tokens.size(), ",\n", position), "]}\n");
}

}  // namespace depthlens::tool
