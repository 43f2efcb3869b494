// Writes records.jsonl. The lines are put together by hand: a record holds hundreds of numbers, and a tree of
// them would cost more than decoding the position did.
#include "depthlens/report/records.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <deque>
#include <mutex>
#include <tuple>

#include "depthlens/util/error.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/threads.hpp"

namespace depthlens::report {
namespace {

constexpr std::size_t kPiece = 4;           // lines that a thread puts together at a time
constexpr std::size_t kPiecesOfThread = 2;  // of a block, so that no thread waits long for the others
constexpr std::size_t kMaxInteger = 20;     // characters of 64 bits

/// Text that grows at its end; what it takes is kept when it is cleared.
class Text {
 public:
  void clear() { size_ = 0; }
  std::size_t size() const { return size_; }
  std::string_view view() const { return {bytes_.data(), size_}; }
  char last() const { return bytes_[size_ - 1]; }

  void add(std::string_view text) {
    std::memcpy(room(text.size()), text.data(), text.size());
    size_ += text.size();
  }
  void add(std::int64_t value) {
    char* const to = room(kMaxInteger);
    size_ += static_cast<std::size_t>(std::to_chars(to, to + kMaxInteger, value).ptr - to);
  }
  void add(float value) {
    char* const to = room(util::kMaxJsonNumber);
    size_ += static_cast<std::size_t>(util::write_json_number(to, value) - to);
  }

 private:
  char* room(std::size_t more) {
    if (bytes_.size() - size_ < more) bytes_.resize(2 * bytes_.size() + more);
    return bytes_.data() + size_;
  }

  std::string bytes_;
  std::size_t size_ = 0;
};

}  // namespace

/// The texts of tokens as JSON. Each is made when it is first asked for, on any thread.
class RecordWriter::QuotedTokens {
 public:
  explicit QuotedTokens(std::function<std::string(decode::TokenId)> text) : text_(std::move(text)) {}

  /// Before any is asked for: their ids will be below `vocab_size`.
  void begin(std::int64_t vocab_size) {
    const auto size = static_cast<std::size_t>(vocab_size);
    if (size != known_.size()) known_ = std::vector<std::atomic<const std::string*>>(size);
  }

  const std::string& of(decode::TokenId id) {
    const auto place = static_cast<std::size_t>(id);
    DEPTHLENS_ASSERT(place < known_.size());
    const std::string* known = known_[place].load(std::memory_order_acquire);
    return known != nullptr ? *known : make(id);
  }

 private:
  const std::string& make(decode::TokenId id) {
    const std::lock_guard lock(mutex_);  // `text_` is for one thread
    std::atomic<const std::string*>& known = known_[static_cast<std::size_t>(id)];
    if (known == nullptr) known = &quoted_.emplace_back(util::json_string(text_(id)));
    return *known;
  }

  std::function<std::string(decode::TokenId)> text_;
  std::vector<std::atomic<const std::string*>> known_;  // [V]
  std::mutex mutex_;
  std::deque<std::string> quoted_;  // its elements stay where they are
};

/// Puts lines together at the end of a text.
class RecordWriter::Line {
 public:
  Line(const RecordWriter& writer, Text& text) : writer_(writer), options_(writer.options_), text_(text) {}

  void append(const decode::PositionReadout& position);

 private:
  /// ["a", "b", …] of what `item(i)` adds.
  template <typename Item>
  void append_array(std::int64_t count, const Item& item) {
    text_.add("[");
    for (std::int64_t i = 0; i < count; ++i) {
      if (i > 0) text_.add(", ");
      item(i);
    }
    text_.add("]");
  }
  bool begin_field(RecordField field);
  void append_token(decode::TokenId id);
  void append_item(const decode::PositionReadout& position);
  void append_followed(const decode::PositionReadout& position, std::int64_t lens, std::int64_t w);
  void append_lens(const decode::PositionReadout& position, std::int64_t lens);
  void append_options(const decode::PositionReadout& position, std::int64_t lens);
  void append_watched(const decode::PositionReadout& position, std::int64_t lens);

  const RecordWriter& writer_;
  const RecordOptions& options_;
  Text& text_;
};

/// Lines of neighbouring positions, put together in pieces.
struct RecordWriter::Block {
  struct Piece {
    Text text;
    std::vector<std::size_t> ends;  // of its lines
  };
  std::span<const decode::PositionReadout> positions;  // as long as these are valid
  std::vector<Piece> pieces;                           // at least num_pieces(): their memory is kept

  void begin(std::span<const decode::PositionReadout> of) {
    positions = of;
    pieces.resize(std::max(pieces.size(), num_pieces()));
  }
  std::size_t num_pieces() const { return (positions.size() + kPiece - 1) / kPiece; }
  std::span<const decode::PositionReadout> positions_of(std::size_t piece) const {
    return positions.subspan(piece * kPiece, std::min(kPiece, positions.size() - piece * kPiece));
  }
};

void RecordWriter::Line::append_token(decode::TokenId id) {
  if (id == decode::kNoToken) {
    text_.add("null");
    return;
  }
  text_.add("{\"id\": ");
  text_.add(std::int64_t{id});
  text_.add(", \"text\": ");
  text_.add(writer_.tokens_->of(id));
  text_.add("}");
}

/// The item's id, and what its experiment tells of the position.
void RecordWriter::Line::append_item(const decode::PositionReadout& position) {
  text_.add(", \"item\": ");
  if (options_.task == nullptr) {
    text_.add(position.query().id.empty() ? "null" : position.query().id);
    return;
  }
  const data::TaskItem& item = options_.task->items[static_cast<std::size_t>(position.where().item)];
  text_.add(item.id.json());
  switch (options_.task->kind) {
    case data::InputKind::kFacts:
      text_.add(", \"answer_position\": ");
      text_.add(position.where().position - item.first_position() + 1);
      text_.add(", \"answer_length\": ");
      text_.add(static_cast<std::int64_t>(item.answer.size()));
      if (item.by_alias) text_.add(", \"alias\": " + util::json_string(item.answer_text));
      break;
    case data::InputKind::kWords:
      text_.add(", \"class\": " + util::json_string(item.word_class));
      text_.add(", \"other_form\": ");
      append_token(item.other_form);
      break;
    case data::InputKind::kQuestions:
    case data::InputKind::kCorpus:
    case data::InputKind::kPairs:
      break;
  }
  text_.add(", \"prompt\": " + util::json_string(item.prompt_text));
  text_.add(", \"answer\": " + util::json_string(item.answer_text));
}

/// Id, ranks and log-probabilities of a watched token, null where the position has none; closes the object.
void RecordWriter::Line::append_followed(const decode::PositionReadout& position, std::int64_t lens,
                                         std::int64_t w) {
  const std::int64_t R = position.shape().num_rows;
  const decode::TokenId id = position.watched_id(w);
  if (id == decode::kNoToken) {
    text_.add(", \"id\": null, \"rank\": null, \"logprob\": null}");
    return;
  }
  text_.add(", \"id\": ");
  text_.add(std::int64_t{id});
  text_.add(", \"rank\": ");
  append_array(R, [&](std::int64_t row) { text_.add(std::int64_t{position.rank(lens, row, w)}); });
  text_.add(", \"logprob\": ");
  append_array(R, [&](std::int64_t row) { text_.add(position.logprob(lens, row, w)); });
  text_.add("}");
}

void RecordWriter::Line::append_options(const decode::PositionReadout& position, std::int64_t lens) {
  if (options_.task == nullptr || options_.task->kind != data::InputKind::kQuestions) return;
  const data::TaskItem& item = options_.task->items[static_cast<std::size_t>(position.where().item)];
  if (!begin_field(RecordField::kOptions)) return;
  append_array(static_cast<std::int64_t>(item.options.size()), [&](std::int64_t o) {
    const data::TaskItem::Option& option = item.options[static_cast<std::size_t>(o)];
    text_.add("{\"text\": " + util::json_string(option.text));
    append_followed(position, lens, decode::kFirstWatchedOfQuery + o);
  });
}

void RecordWriter::Line::append_watched(const decode::PositionReadout& position, std::int64_t lens) {
  if (options_.watch == nullptr || options_.watch->empty()) return;
  const experiments::Watch& watch = *options_.watch;
  if (!begin_field(RecordField::kWatched)) return;
  append_array(static_cast<std::int64_t>(watch.tokens.size()), [&](std::int64_t t) {
    const auto token = static_cast<std::size_t>(t);
    text_.add("{\"text\": " + util::json_string(watch.tokens[token].name));
    append_followed(position, lens, watch.index(position.where(), token));
  });
}

/// Writes the key of a field where it is wanted.
bool RecordWriter::Line::begin_field(RecordField field) {
  if (!options_.fields.has(field)) return false;
  if (text_.last() != '{') text_.add(", ");
  text_.add("\"");
  text_.add(kRecordFieldNames[static_cast<std::size_t>(field)]);
  text_.add("\": ");
  return true;
}

void RecordWriter::Line::append_lens(const decode::PositionReadout& position, std::int64_t lens) {
  const std::int64_t R = position.shape().num_rows;
  // The run may have computed more than the records are to show, or there may be fewer tokens than asked for.
  const std::int64_t K = std::min(options_.top_k, position.shape().top_k);
  const auto by_layer = [&](RecordField field, const auto& item) {
    if (begin_field(field)) append_array(R, item);
  };
  // Of a layer's predictions, in their order.
  const auto of_predictions = [&](RecordField field, const auto& values_of, const auto& item) {
    by_layer(field, [&](std::int64_t row) {
      const auto values = values_of(row);
      append_array(K, [&](std::int64_t k) { item(values[static_cast<std::size_t>(k)]); });
    });
  };
  const auto ids = [&](std::int64_t row) { return position.top_ids(lens, row); };
  of_predictions(RecordField::kTopIds, ids, [&](decode::TokenId id) { text_.add(std::int64_t{id}); });
  of_predictions(RecordField::kTopTokens, ids,
                 [&](decode::TokenId id) { text_.add(writer_.tokens_->of(id)); });
  of_predictions(
      RecordField::kTopLogprobs, [&](std::int64_t row) { return position.top_logprobs(lens, row); },
      [&](float logprob) { text_.add(logprob); });
  const auto of_token = [&](RecordField field, std::int64_t w, const auto& item) {
    if (position.watched_id(w) != decode::kNoToken) return by_layer(field, item);
    if (begin_field(field)) text_.add("null");
  };
  for (const auto& [rank, logprob, w] :
       {std::tuple(RecordField::kFinalRank, RecordField::kFinalLogprob, decode::kWatchedFinal),
        {RecordField::kTargetRank, RecordField::kTargetLogprob, decode::kWatchedTarget}}) {
    const std::int64_t token = w;
    of_token(rank, token,
             [&](std::int64_t row) { text_.add(std::int64_t{position.rank(lens, row, token)}); });
    of_token(logprob, token, [&](std::int64_t row) { text_.add(position.logprob(lens, row, token)); });
  }
  by_layer(RecordField::kEntropy, [&](std::int64_t row) { text_.add(position.entropy(lens, row)); });
  by_layer(RecordField::kKlFinal, [&](std::int64_t row) { text_.add(position.kl_final(lens, row)); });
  by_layer(RecordField::kKlReverse, [&](std::int64_t row) { text_.add(position.kl_reverse(lens, row)); });
  if (begin_field(RecordField::kSettledLayer)) text_.add(position.settled_layer(lens));
  append_options(position, lens);
  append_watched(position, lens);
}

/// A whole line with its line break.
void RecordWriter::Line::append(const decode::PositionReadout& position) {
  const decode::Query& query = position.query();
  text_.add("{\"document\": ");
  text_.add(query.document);
  text_.add(", \"window\": ");
  text_.add(query.window);
  text_.add(", \"input\": ");
  text_.add(query.input);
  text_.add(", \"input_document\": ");
  text_.add(query.input_document);
  text_.add(", \"window_start\": ");
  text_.add(query.window_start);
  text_.add(", \"position\": ");
  text_.add(position.where().position);
  append_item(position);
  text_.add(", \"token\": ");
  append_token(position.token());
  text_.add(", \"target\": ");
  append_token(position.watched_id(decode::kWatchedTarget));
  text_.add(", \"final\": ");
  append_token(position.final_id());
  text_.add(", \"lenses\": {");
  for (std::size_t n = 0; n < writer_.lens_keys_.size(); ++n) {
    if (n > 0) text_.add(", ");
    text_.add(writer_.lens_keys_[n]);
    append_lens(position, static_cast<std::int64_t>(n));
    text_.add("}");
  }
  text_.add("}}\n");
}

RecordWriter::RecordWriter(RecordOptions options, std::function<std::string(decode::TokenId)> token_text,
                           std::function<void(std::string_view, std::int64_t)> write,
                           std::function<bool()> wants)
    : options_(options),
      write_(std::move(write)),
      wants_(std::move(wants)),
      tokens_(std::make_unique<QuotedTokens>(std::move(token_text))),
      written_(std::make_unique<Block>()),
      next_(std::make_unique<Block>()) {}

RecordWriter::~RecordWriter() = default;

void RecordWriter::begin(const decode::ReadoutShape& shape) {
  tokens_->begin(shape.vocab_size);
  lens_keys_.clear();
  for (const std::string& name : shape.lens_names) lens_keys_.push_back(util::json_string(name) + ": {");
}

void RecordWriter::accept(const decode::PositionReadout& position) {
  if (!wants_()) return;
  next_->begin({&position, 1});
  make(*next_, 0);
  write(*next_);
}

void RecordWriter::make(Block& block, std::size_t i) const {
  Block::Piece& piece = block.pieces[i];
  piece.text.clear();
  piece.ends.clear();
  Line line(*this, piece.text);
  for (const decode::PositionReadout& position : block.positions_of(i)) {
    line.append(position);
    piece.ends.push_back(piece.text.size());
  }
}

/// Those lines of a block that are wanted.
void RecordWriter::write(const Block& block) {
  for (std::size_t i = 0; i < block.num_pieces(); ++i) {
    const Block::Piece& piece = block.pieces[i];
    const auto positions = block.positions_of(i);
    std::size_t begin = 0;
    for (std::size_t p = 0; p < positions.size(); begin = piece.ends[p++]) {
      if (wants_()) write_(piece.text.view().substr(begin, piece.ends[p] - begin), positions[p].where().item);
    }
  }
}

void RecordWriter::accept_all(std::span<const decode::PositionReadout> positions, util::Threads& threads) {
  if (threads.count() == 1 || positions.size() <= kPiece) return Listener::accept_all(positions, threads);
  // While a block is put together, the one before is written.
  const std::size_t size = static_cast<std::size_t>(threads.count()) * kPiecesOfThread * kPiece;
  written_->begin({});
  while (!positions.empty() || !written_->positions.empty()) {
    const bool wants = wants_();
    if (!wants && written_->positions.empty()) {
      positions = positions.subspan(1);
      continue;
    }
    next_->begin(positions.first(wants ? std::min(size, positions.size()) : 0));
    positions = positions.subspan(next_->positions.size());
    threads.for_each(1 + static_cast<std::int64_t>(next_->num_pieces()), [&](std::int64_t i) {
      if (i == 0) {
        write(*written_);
      } else {
        make(*next_, static_cast<std::size_t>(i - 1));
      }
    });
    std::swap(written_, next_);
  }
}

}  // namespace depthlens::report
