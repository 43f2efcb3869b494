// Writes records.jsonl. The lines are put together by hand: a record holds hundreds of numbers, and a tree of
// them would cost more than decoding the position did.
#include "depthlens/report/records.hpp"

#include <algorithm>
#include <tuple>

#include "depthlens/util/json_text.hpp"

namespace depthlens::report {
namespace {

void append(std::string& out, std::int64_t value) {
  out += std::to_string(value);
}

void append(std::string& out, float value) {
  out += util::json_number(value);
}

/// ["a", "b", …] of what `item(i)` appends.
template <typename Item>
void append_array(std::string& out, std::int64_t count, const Item& item) {
  out += '[';
  for (std::int64_t i = 0; i < count; ++i) {
    if (i > 0) out += ", ";
    item(i);
  }
  out += ']';
}

}  // namespace

RecordWriter::RecordWriter(RecordOptions options, std::function<std::string(decode::TokenId)> token_text,
                           std::function<void(std::string_view, std::int64_t)> write,
                           std::function<bool()> wants)
    : options_(options),
      token_text_(std::move(token_text)),
      write_(std::move(write)),
      wants_(std::move(wants)) {}

const std::string& RecordWriter::quoted_token(decode::TokenId id) {
  const auto [place, added] = quoted_.try_emplace(id);
  if (added) place->second = util::json_string(token_text_(id));
  return place->second;
}

void RecordWriter::append_token(decode::TokenId id) {
  if (id == decode::kNoToken) {
    line_ += "null";
    return;
  }
  line_ += "{\"id\": ";
  append(line_, std::int64_t{id});
  line_ += ", \"text\": " + quoted_token(id) + "}";
}

/// The item's id, and what its experiment tells of the position.
void RecordWriter::append_item(const decode::PositionReadout& position) {
  line_ += ", \"item\": ";
  if (options_.task == nullptr) {
    line_ += position.query().id.empty() ? "null" : position.query().id;
    return;
  }
  const data::TaskItem& item = options_.task->items[static_cast<std::size_t>(position.where().item)];
  line_ += util::json_string(item.id);
  switch (options_.task->kind) {
    case data::InputKind::kFacts:
      line_ += ", \"answer_position\": ";
      append(line_, position.where().position - item.first_position() + 1);
      line_ += ", \"answer_length\": ";
      append(line_, static_cast<std::int64_t>(item.answer.size()));
      if (item.by_alias) line_ += ", \"alias\": " + util::json_string(item.answer_text);
      break;
    case data::InputKind::kWords:
      line_ += ", \"class\": " + util::json_string(item.word_class);
      break;
    case data::InputKind::kQuestions:
    case data::InputKind::kCorpus:
    case data::InputKind::kPairs:
      break;
  }
  line_ += ", \"prompt\": " + util::json_string(item.prompt_text);
  line_ += ", \"answer\": " + util::json_string(item.answer_text);
}

/// Id, ranks and log-probabilities of a watched token, null where the position has none; closes the object.
void RecordWriter::append_followed(const decode::PositionReadout& position, std::int64_t lens,
                                   std::int64_t w) {
  const std::int64_t R = position.shape().num_rows;
  const decode::TokenId id = position.watched_id(w);
  if (id == decode::kNoToken) {
    line_ += ", \"id\": null, \"rank\": null, \"logprob\": null}";
    return;
  }
  line_ += ", \"id\": ";
  append(line_, std::int64_t{id});
  line_ += ", \"rank\": ";
  append_array(line_, R, [&](std::int64_t row) { append(line_, std::int64_t{position.rank(lens, row, w)}); });
  line_ += ", \"logprob\": ";
  append_array(line_, R, [&](std::int64_t row) { append(line_, position.logprob(lens, row, w)); });
  line_ += "}";
}

void RecordWriter::append_options(const decode::PositionReadout& position, std::int64_t lens) {
  if (options_.task == nullptr || options_.task->kind != data::InputKind::kQuestions) return;
  const data::TaskItem& item = options_.task->items[static_cast<std::size_t>(position.where().item)];
  if (!begin_field(RecordField::kOptions)) return;
  append_array(line_, static_cast<std::int64_t>(item.options.size()), [&](std::int64_t o) {
    const data::TaskItem::Option& option = item.options[static_cast<std::size_t>(o)];
    line_ += "{\"text\": " + util::json_string(option.text);
    append_followed(position, lens, decode::kFirstWatchedOfQuery + o);
  });
}

void RecordWriter::append_watched(const decode::PositionReadout& position, std::int64_t lens) {
  if (options_.watch == nullptr || options_.watch->empty()) return;
  const experiments::Watch& watch = *options_.watch;
  if (!begin_field(RecordField::kWatched)) return;
  append_array(line_, static_cast<std::int64_t>(watch.tokens.size()), [&](std::int64_t t) {
    const auto token = static_cast<std::size_t>(t);
    line_ += "{\"text\": " + util::json_string(watch.tokens[token].name);
    append_followed(position, lens, watch.index(position.where(), token));
  });
}

/// Writes the key of a field where it is wanted.
bool RecordWriter::begin_field(RecordField field) {
  if (!options_.fields.has(field)) return false;
  if (line_.back() != '{') line_ += ", ";
  line_ += '"';
  line_ += kRecordFieldNames[static_cast<std::size_t>(field)];
  line_ += "\": ";
  return true;
}

void RecordWriter::append_lens(const decode::PositionReadout& position, std::int64_t lens) {
  const std::int64_t R = position.shape().num_rows;
  // The run may have computed more than the records are to show, or there may be fewer tokens than asked for.
  const std::int64_t K = std::min(options_.top_k, position.shape().top_k);
  const auto by_layer = [&](RecordField field, const auto& item) {
    if (begin_field(field)) append_array(line_, R, item);
  };
  const auto of_predictions = [&](RecordField field, const auto& item) {
    by_layer(field, [&](std::int64_t row) { append_array(line_, K, [&](std::int64_t k) { item(row, k); }); });
  };
  of_predictions(RecordField::kTopIds, [&](std::int64_t row, std::int64_t k) {
    append(line_, std::int64_t{position.top_ids(lens, row)[k]});
  });
  of_predictions(RecordField::kTopTokens, [&](std::int64_t row, std::int64_t k) {
    line_ += quoted_token(position.top_ids(lens, row)[k]);
  });
  of_predictions(RecordField::kTopLogprobs, [&](std::int64_t row, std::int64_t k) {
    append(line_, position.top_logprobs(lens, row)[k]);
  });
  const auto of_token = [&](RecordField field, std::int64_t w, const auto& item) {
    if (position.watched_id(w) != decode::kNoToken) return by_layer(field, item);
    if (begin_field(field)) line_ += "null";
  };
  for (const auto& [rank, logprob, w] :
       {std::tuple(RecordField::kFinalRank, RecordField::kFinalLogprob, decode::kWatchedFinal),
        {RecordField::kTargetRank, RecordField::kTargetLogprob, decode::kWatchedTarget}}) {
    const std::int64_t token = w;
    of_token(rank, token,
             [&](std::int64_t row) { append(line_, std::int64_t{position.rank(lens, row, token)}); });
    of_token(logprob, token, [&](std::int64_t row) { append(line_, position.logprob(lens, row, token)); });
  }
  by_layer(RecordField::kEntropy, [&](std::int64_t row) { append(line_, position.entropy(lens, row)); });
  by_layer(RecordField::kKlFinal, [&](std::int64_t row) { append(line_, position.kl_final(lens, row)); });
  by_layer(RecordField::kKlReverse, [&](std::int64_t row) { append(line_, position.kl_reverse(lens, row)); });
  if (begin_field(RecordField::kSettledLayer)) append(line_, position.settled_layer(lens));
  append_options(position, lens);
  append_watched(position, lens);
}

void RecordWriter::accept(const decode::PositionReadout& position) {
  if (!wants_()) return;
  const decode::Query& query = position.query();
  const decode::ReadoutShape& shape = position.shape();
  line_ = "{\"document\": ";
  append(line_, query.document);
  line_ += ", \"window\": ";
  append(line_, query.window);
  line_ += ", \"input\": ";
  append(line_, query.input);
  line_ += ", \"input_document\": ";
  append(line_, query.input_document);
  line_ += ", \"window_start\": ";
  append(line_, query.window_start);
  line_ += ", \"position\": ";
  append(line_, position.where().position);
  append_item(position);
  line_ += ", \"token\": ";
  append_token(position.token());
  line_ += ", \"target\": ";
  append_token(position.watched_id(decode::kWatchedTarget));
  line_ += ", \"final\": ";
  append_token(position.final_id());
  line_ += ", \"lenses\": {";
  for (std::int64_t n = 0; n < shape.num_lenses(); ++n) {
    if (n > 0) line_ += ", ";
    line_ += util::json_string(shape.lens_names[static_cast<std::size_t>(n)]) + ": {";
    append_lens(position, n);
    line_ += "}";
  }
  line_ += "}}\n";
  write_(line_, position.where().item);
}

}  // namespace depthlens::report
