// pos, facts, choices and exit: every table recomputed by brute force from readouts of random items, and
// cases made by hand.
#include <algorithm>
#include <cmath>
#include <optional>

#include "depthlens/tables/bootstrap.hpp"
#include "helpers.hpp"
#include "support/means.hpp"

using namespace depthlens;
using namespace depthlens::test;
using data::InputKind;
using data::TaskItem;
using decode::TokenId;

namespace {

constexpr std::uint64_t kSeed = 21;
const std::vector<std::int64_t> kThresholds = {1, 5, 10};

struct TaskReadouts {
  data::Task task;
  ReadoutBuilder builder{{"logit", "tuned"}, kRows, kVocabulary, 3};

  mutable data::Task labelled = {};  // with the labels of its options

  experiments::Context context() const {
    labelled = task;
    labelled.option_labels = data::option_labels(task.items);
    return {.buckets = some_buckets(), .task = &labelled, .seed = kSeed};
  }
  TableReader table(const std::string& experiment, const std::string& name) const {
    return table_of(experiment, name, builder, context());
  }
  const TaskItem& item_of(const BuiltPosition& position) const {
    return task.items[static_cast<std::size_t>(position.item)];
  }
};

TokenId some_token(std::mt19937& random) {
  return static_cast<TokenId>(random() % kVocabulary);
}

/// Positions for the answer tokens of an item; some are left out, as those that the model does not predict.
void add_positions(TaskReadouts& readouts, std::size_t index, std::mt19937& random) {
  const TaskItem& item = readouts.task.items[index];
  for (std::size_t k = 0; k < item.answer.size(); ++k) {
    if (random() % 5 == 0) continue;
    BuiltPosition& position = readouts.builder.add(1, item.answer[k], some_logits(random), item.document, 0,
                                                   item.first_position() + static_cast<std::int64_t>(k));
    position.item = static_cast<std::int64_t>(index);
    for (const TaskItem::Option& option : item.options) position.watched.push_back(option.id);
  }
}

/// Words of two classes out of three; a third of them with another form.
TaskReadouts some_words() {
  TaskReadouts readouts;
  readouts.task.kind = InputKind::kWords;
  readouts.task.classes = {"NOUN", "ADJ", "DET"};  // no ADJ occurs
  std::mt19937 random(31);
  for (std::size_t i = 0; i < 90; ++i) {
    TaskItem item{.id = "w" + std::to_string(i), .document = static_cast<std::int64_t>(i / 3)};
    item.context.assign(1 + random() % 4, 0);
    item.answer = {some_token(random)};
    if (random() % 3 > 0) item.other_form = some_token(random);
    item.word_class = random() % 3 == 0 ? "DET" : "NOUN";
    readouts.task.items.push_back(item);
    add_positions(readouts, i, random);
  }
  return readouts;
}

TaskReadouts some_facts() {
  TaskReadouts readouts;
  std::mt19937 random(32);
  for (std::size_t i = 0; i < 60; ++i) {
    TaskItem item{.id = "f", .document = static_cast<std::int64_t>(i)};
    item.context.assign(1 + random() % 4, 0);
    const std::size_t length = random() % 3 == 0 ? 3 : 1;  // none of 2
    for (std::size_t k = 0; k < length; ++k) item.answer.push_back(some_token(random));
    readouts.task.items.push_back(item);
    add_positions(readouts, i, random);
  }
  return readouts;
}

/// Questions with two to four options, or all with the same four.
TaskReadouts some_questions(bool same_options) {
  TaskReadouts readouts;
  readouts.task.kind = InputKind::kQuestions;
  std::mt19937 random(33);
  for (std::size_t i = 0; i < 70; ++i) {
    TaskItem item{.id = "q", .document = static_cast<std::int64_t>(i)};
    item.context.assign(3, 0);
    const std::size_t count = same_options ? 4 : 2 + random() % 3;
    for (std::size_t o = 0; o < count; ++o) {
      const auto id = static_cast<TokenId>(2 * o + (same_options ? 0 : random() % 2));
      const std::string text = "opt" + std::to_string(same_options ? o : o + 10 * i);
      item.options.push_back({.text = text, .id = id});
    }
    item.gold_option = random() % count;
    item.answer = {item.options[item.gold_option].id};
    readouts.task.items.push_back(item);
    add_positions(readouts, i, random);
  }
  return readouts;
}

/// Values of single items, and what a table must say of them.
class Values {
 public:
  void add(const BuiltPosition& position, double value) {
    values_.push_back(value);
    means_.add(static_cast<std::uint64_t>(position.item), {&value, 1});
  }
  std::int64_t count() const { return static_cast<std::int64_t>(values_.size()); }
  double mean() const {
    double sum = 0;
    for (const double value : values_) sum += value;
    return sum / static_cast<double>(values_.size());
  }
  double median() const {
    std::vector<double> sorted = values_;
    std::sort(sorted.begin(), sorted.end());
    const std::size_t half = sorted.size() / 2;
    return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }

  /// Mean and ends of the interval, those by the bootstrap's own test.
  void check_mean(const TableReader& table, std::size_t row, const std::string& column) const {
    INFO(column);
    if (values_.empty()) {
      for (const char* end : {"", "_low", "_high"}) CHECK(table.is_nothing(row, column + end));
      return;
    }
    CHECK(table.number(row, column) == Approx(mean()).epsilon(1e-13).margin(1e-15));
    const auto interval = means_.estimate(0).interval;
    if (values_.size() == 1) {
      CHECK(table.is_nothing(row, column + "_low"));
      return;
    }
    CHECK(table.number(row, column + "_low") == Approx(*interval.low).epsilon(1e-12).margin(1e-15));
    CHECK(table.number(row, column + "_high") == Approx(*interval.high).epsilon(1e-12).margin(1e-15));
  }
  void check_median(const TableReader& table, std::size_t row, const std::string& column) const {
    if (values_.empty()) CHECK(table.is_nothing(row, column));
    if (!values_.empty()) CHECK(table.number(row, column) == median());
  }

 private:
  std::vector<double> values_;
  Means means_{1, kSeed};
};

const BuiltRow& row_of(const BuiltPosition& position, std::size_t lens, std::size_t layer) {
  return position.lenses[lens][layer];
}
double rank_of(const BuiltPosition& position, std::size_t lens, std::size_t layer, TokenId id) {
  return static_cast<double>(ReadoutBuilder::rank(row_of(position, lens, layer), id));
}
double logprob_of(const BuiltPosition& position, std::size_t lens, std::size_t layer, TokenId id) {
  return ReadoutBuilder::logprob(row_of(position, lens, layer), id);
}

/// The first layer with a rank of at most `threshold`.
std::optional<double> earliest(const BuiltPosition& position, std::size_t lens, TokenId id,
                               std::int64_t threshold) {
  for (std::size_t layer = 0; layer < kRows; ++layer) {
    if (rank_of(position, lens, layer, id) <= static_cast<double>(threshold))
      return static_cast<double>(layer);
  }
  return std::nullopt;
}

struct RankValues {
  Values rank, reciprocal, top1;
  void add(const BuiltPosition& position, double value) {
    rank.add(position, value);
    reciprocal.add(position, 1 / value);
    top1.add(position, value == 1 ? 1 : 0);
  }
  void check(const TableReader& table, std::size_t row) const {
    CHECK(table.integer(row, "count") == rank.count());
    rank.check_mean(table, row, "mean_rank");
    rank.check_median(table, row, "median_rank");
    top1.check_mean(table, row, "top1_rate");
  }
};

struct EarliestValues {
  std::int64_t count = 0;
  Values layers;
  void add(const BuiltPosition& position, const std::optional<double>& layer) {
    ++count;
    if (layer) layers.add(position, *layer);
  }
  void check(const TableReader& table, std::size_t row) const {
    CHECK(table.integer(row, "count") == count);
    CHECK(table.integer(row, "reached") == layers.count());
    layers.check_mean(table, row, "mean_layer");
    layers.check_median(table, row, "median_layer");
  }
};

std::string lens_name(std::size_t n) {
  return n == 0 ? "logit" : "tuned";
}

/// The token that pos follows: the word, or its other form where the model says that.
TokenId followed(const TaskItem& item, const BuiltPosition& position) {
  return position.final_id == item.other_form ? item.other_form : item.answer[0];
}

std::size_t leader(const TaskItem& item, const BuiltPosition& position, std::size_t lens, std::size_t layer) {
  std::size_t best = 0;
  for (std::size_t o = 0; o < item.options.size(); ++o) {
    if (logprob_of(position, lens, layer, item.options[o].id) >
        logprob_of(position, lens, layer, item.options[best].id))
      best = o;
  }
  return best;
}

}  // namespace

TEST_CASE("pos.rank: recomputed by brute force") {
  const TaskReadouts words = some_words();
  const TableReader table = words.table("pos", "pos.rank");
  const auto& classes = words.task.classes;
  REQUIRE(table.num_rows() == 2 * kRows * 3);
  for (std::size_t n = 0; n < 2; ++n) {
    for (std::size_t layer = 0; layer < kRows; ++layer) {
      for (std::size_t c = 0; c < 3; ++c) {
        const std::size_t r = (n * kRows + layer) * 3 + c;
        INFO("row " << r);
        RankValues values;
        for (const BuiltPosition& position : words.builder.positions()) {
          const TaskItem& item = words.item_of(position);
          if (item.word_class == classes[c])
            values.add(position, rank_of(position, n, layer, followed(item, position)));
        }
        CHECK((values.rank.count() == 0) == (classes[c] == "ADJ"));
        CHECK(table.word(r, "lens") == lens_name(n));
        CHECK(table.integer(r, "layer") == static_cast<std::int64_t>(layer));
        CHECK(table.word(r, "class") == classes[c]);
        values.check(table, r);
        values.reciprocal.check_mean(table, r, "mean_reciprocal_rank");
      }
    }
  }
}

TEST_CASE("pos.earliest: recomputed by brute force, by class and bucket") {
  const TaskReadouts words = some_words();
  const TableReader table = words.table("pos", "pos.earliest");
  const data::TokenBuckets buckets = some_buckets();
  REQUIRE(table.num_rows() == 2 * 3 * 5 * 3);
  std::int64_t other_forms = 0;
  for (std::size_t n = 0; n < 2; ++n) {
    for (std::size_t c = 0; c < 3; ++c) {
      for (std::size_t b = 0; b < 5; ++b) {
        for (std::size_t t = 0; t < 3; ++t) {
          const std::size_t r = ((n * 3 + c) * 5 + b) * 3 + t;
          INFO("row " << r);
          EarliestValues values;
          for (const BuiltPosition& position : words.builder.positions()) {
            const TaskItem& item = words.item_of(position);
            const TokenId id = followed(item, position);
            other_forms += id != item.answer[0] ? 1 : 0;
            if (item.word_class != words.task.classes[c]) continue;
            if (b > 0 && buckets.bucket_of[static_cast<std::size_t>(id)] != b - 1) continue;
            values.add(position, earliest(position, n, id, kThresholds[t]));
          }
          CHECK(table.word(r, "lens") == lens_name(n));
          CHECK(table.word(r, "class") == words.task.classes[c]);
          CHECK(table.word(r, "bucket") == (b == 0 ? "all" : buckets.names[b - 1]));
          CHECK(table.integer(r, "threshold") == kThresholds[t]);
          values.check(table, r);
        }
      }
    }
  }
  CHECK(other_forms > 0);
}

TEST_CASE("earliest layers by rank: recomputed by brute force for 21 ranks") {
  const std::vector<std::int64_t> ranks = {1,   2,   3,   5,   7,    10,   20,   30,   50,   70,   100,
                                           200, 300, 500, 700, 1000, 2000, 3000, 5000, 7000, 10000};
  const auto check = [&](const TableReader& table, std::size_t first, const auto& positions, std::size_t n) {
    for (std::size_t t = 0; t < ranks.size(); ++t) {
      INFO("row " << first + t);
      EarliestValues values;
      for (const auto& [position, id] : positions)
        values.add(*position, earliest(*position, n, id, ranks[t]));
      CHECK(table.integer(first + t, "threshold") == ranks[t]);
      values.check(table, first + t);
    }
  };
  using Followed = std::vector<std::pair<const BuiltPosition*, TokenId>>;
  const TaskReadouts words = some_words();
  const TableReader by_class = words.table("pos", "pos.earliest_by_rank");
  REQUIRE(by_class.num_rows() == 2 * 3 * ranks.size());
  for (std::size_t n = 0; n < 2; ++n) {
    for (std::size_t c = 0; c < 3; ++c) {
      Followed positions;
      for (const BuiltPosition& position : words.builder.positions()) {
        const TaskItem& item = words.item_of(position);
        if (item.word_class == words.task.classes[c])
          positions.emplace_back(&position, followed(item, position));
      }
      const std::size_t first = (n * 3 + c) * ranks.size();
      CHECK(by_class.word(first, "lens") == lens_name(n));
      CHECK(by_class.word(first, "class") == words.task.classes[c]);
      check(by_class, first, positions, n);
    }
  }
  const TaskReadouts facts = some_facts();
  const TableReader by_place = facts.table("facts", "facts.earliest_by_rank");
  const std::vector<std::pair<std::size_t, std::size_t>> groups = {{1, 1}, {3, 1}, {3, 2}, {3, 3}};
  REQUIRE(by_place.num_rows() == 2 * groups.size() * ranks.size());
  for (std::size_t n = 0; n < 2; ++n) {
    for (std::size_t g = 0; g < groups.size(); ++g) {
      Followed positions;
      for (const BuiltPosition& position : facts.builder.positions()) {
        const TaskItem& item = facts.item_of(position);
        const auto place = static_cast<std::size_t>(position.position - item.first_position()) + 1;
        if (item.answer.size() == groups[g].first && place == groups[g].second)
          positions.emplace_back(&position, position.target);
      }
      const std::size_t first = (n * groups.size() + g) * ranks.size();
      CHECK(by_place.integer(first, "answer_length") == static_cast<std::int64_t>(groups[g].first));
      CHECK(by_place.integer(first, "answer_position") == static_cast<std::int64_t>(groups[g].second));
      check(by_place, first, positions, n);
    }
  }
}

TEST_CASE("facts: recomputed by brute force, by length of the answer and place in it") {
  const TaskReadouts facts = some_facts();
  const TableReader rank = facts.table("facts", "facts.rank"), first = facts.table("facts", "facts.earliest");
  const std::vector<std::pair<std::size_t, std::size_t>> groups = {{1, 1}, {3, 1}, {3, 2}, {3, 3}};
  REQUIRE(rank.num_rows() == 2 * kRows * groups.size());
  REQUIRE(first.num_rows() == 2 * groups.size() * 3);
  const auto positions_of = [&](std::size_t g) {
    std::vector<const BuiltPosition*> found;
    for (const BuiltPosition& position : facts.builder.positions()) {
      const TaskItem& item = facts.item_of(position);
      const auto place = static_cast<std::size_t>(position.position - item.first_position()) + 1;
      if (item.answer.size() == groups[g].first && place == groups[g].second) found.push_back(&position);
    }
    return found;
  };
  for (std::size_t n = 0; n < 2; ++n) {
    for (std::size_t g = 0; g < groups.size(); ++g) {
      CHECK(positions_of(g).size() > 5);
      const auto check_place = [&](const TableReader& table, std::size_t r) {
        CHECK(table.word(r, "lens") == lens_name(n));
        CHECK(table.integer(r, "answer_length") == static_cast<std::int64_t>(groups[g].first));
        CHECK(table.integer(r, "answer_position") == static_cast<std::int64_t>(groups[g].second));
      };
      for (std::size_t layer = 0; layer < kRows; ++layer) {
        const std::size_t r = (n * kRows + layer) * groups.size() + g;
        INFO("facts.rank, row " << r);
        RankValues values;
        for (const BuiltPosition* position : positions_of(g))
          values.add(*position, rank_of(*position, n, layer, position->target));
        check_place(rank, r);
        CHECK(rank.integer(r, "layer") == static_cast<std::int64_t>(layer));
        values.check(rank, r);
      }
      for (std::size_t t = 0; t < 3; ++t) {
        const std::size_t r = (n * groups.size() + g) * 3 + t;
        INFO("facts.earliest, row " << r);
        EarliestValues values;
        for (const BuiltPosition* position : positions_of(g))
          values.add(*position, earliest(*position, n, position->target, kThresholds[t]));
        check_place(first, r);
        CHECK(first.integer(r, "threshold") == kThresholds[t]);
        values.check(first, r);
      }
    }
  }
}

TEST_CASE("facts: an answer that stays below a threshold is counted and has no layer") {
  TaskReadouts facts;
  facts.task.items = {TaskItem{.id = "never", .context = {1}, .answer = {0}},
                      TaskItem{.id = "once", .context = {1}, .answer = {1}}};
  // Token 0 has rank 12 at every layer. Token 1 has rank 11, but 6 at layer 2 (of the other lens: 1).
  std::vector<double> rising(kVocabulary), sixth = rising, top = rising;
  for (std::size_t v = 0; v < rising.size(); ++v)
    rising[v] = sixth[v] = top[v] = 0.5 * static_cast<double>(v);
  sixth[1] = 3.25;
  top[1] = 9;
  for (std::int64_t item = 0; item < 2; ++item) {
    facts.builder
        .add(1, static_cast<TokenId>(item),
             {{rising, rising, sixth, rising, rising}, {rising, rising, top, rising, rising}})
        .item = item;
  }
  const TableReader table = facts.table("facts", "facts.earliest");
  REQUIRE(table.num_rows() == 6);
  for (const std::size_t r : {0U, 1U}) {  // logit, at most 1 and at most 5
    CHECK(table.integer(r, "count") == 2);
    CHECK(table.integer(r, "reached") == 0);
    for (const char* column : {"mean_layer", "median_layer", "mean_layer_low", "mean_layer_high"})
      CHECK(table.is_nothing(r, column));
  }
  for (const std::size_t r : {2U, 3U, 4U, 5U}) {
    CHECK(table.integer(r, "count") == 2);
    CHECK(table.integer(r, "reached") == 1);
    CHECK(table.number(r, "mean_layer") == 2);
    CHECK(table.number(r, "median_layer") == 2);
    CHECK(table.is_nothing(r, "mean_layer_low"));  // of one item
  }
}

TEST_CASE("facts: without positions there are no groups") {
  TaskReadouts facts;
  for (const char* name : {"facts.rank", "facts.earliest"}) CHECK(facts.table("facts", name).num_rows() == 0);
}

TEST_CASE("choices.option: recomputed by brute force") {
  for (const bool same_options : {true, false}) {
    const TaskReadouts questions = some_questions(same_options);
    const TableReader table = questions.table("choices", "choices.option");
    REQUIRE(table.num_rows() == 2 * kRows * 4);
    for (std::size_t n = 0; n < 2; ++n) {
      for (std::size_t layer = 0; layer < kRows; ++layer) {
        std::int64_t leads = 0;
        for (std::size_t o = 0; o < 4; ++o) {
          const std::size_t r = (n * kRows + layer) * 4 + o;
          INFO("row " << r);
          Values rank, probability, first;
          for (const BuiltPosition& position : questions.builder.positions()) {
            const TaskItem& item = questions.item_of(position);
            if (o >= item.options.size()) continue;
            rank.add(position, rank_of(position, n, layer, item.options[o].id));
            probability.add(position, std::exp(logprob_of(position, n, layer, item.options[o].id)));
            const bool leading = leader(item, position, n, layer) == o;
            first.add(position, leading ? 1 : 0);
            leads += leading ? 1 : 0;
          }
          CHECK(table.word(r, "lens") == lens_name(n));
          CHECK(table.integer(r, "layer") == static_cast<std::int64_t>(layer));
          // By text where all items have the same ones, else by place.
          CHECK(table.word(r, "option") ==
                (same_options ? "opt" + std::to_string(o) : std::string(1, "ABCD"[o])));
          CHECK(table.integer(r, "count") == rank.count());
          rank.check_mean(table, r, "mean_rank");
          rank.check_median(table, r, "median_rank");
          probability.check_mean(table, r, "mean_probability");
          first.check_mean(table, r, "leads");
        }
        // One option leads in every item, ties or not.
        CHECK(leads == static_cast<std::int64_t>(questions.builder.positions().size()));
      }
    }
  }
}

TEST_CASE("choices.accuracy: recomputed by brute force") {
  const TaskReadouts questions = some_questions(false);
  const TableReader table = questions.table("choices", "choices.accuracy");
  REQUIRE(table.num_rows() == 2 * kRows);
  for (std::size_t n = 0; n < 2; ++n) {
    for (std::size_t layer = 0; layer < kRows; ++layer) {
      const std::size_t r = n * kRows + layer;
      INFO("row " << r);
      Values right, in_top;
      for (const BuiltPosition& position : questions.builder.positions()) {
        const TaskItem& item = questions.item_of(position);
        right.add(position, leader(item, position, n, layer) == item.gold_option ? 1 : 0);
        bool all = true;
        for (const TaskItem::Option& option : item.options)
          all = all && rank_of(position, n, layer, option.id) <= static_cast<double>(2 * item.options.size());
        in_top.add(position, all ? 1 : 0);
      }
      CHECK(table.word(r, "lens") == lens_name(n));
      CHECK(table.integer(r, "layer") == static_cast<std::int64_t>(layer));
      CHECK(table.integer(r, "count") == right.count());
      right.check_mean(table, r, "accuracy");
      in_top.check_mean(table, r, "options_in_top");
    }
  }
}

TEST_CASE("choices: of options with equal probability the first leads") {
  TaskReadouts questions;
  questions.task.kind = InputKind::kQuestions;
  TaskItem item{.id = "q", .context = {1}, .answer = {5}};
  item.options = {{.text = "no", .id = 9}, {.text = "yes", .id = 5}};
  item.gold_option = 1;
  questions.task.items = {item};
  std::vector<double> equal(kVocabulary, 0), last(kVocabulary, 0);
  last[5] = 1;
  BuiltPosition& position =
      questions.builder.add(1, 5, {{equal, equal, equal, equal, last}, {equal, equal, equal, equal, last}});
  position.item = 0;
  position.watched = {9, 5};
  const TableReader option = questions.table("choices", "choices.option"),
                    accuracy = questions.table("choices", "choices.accuracy");
  CHECK(option.word(0, "option") == "no");
  CHECK(option.number(0, "leads") == 1);
  CHECK(option.number(0, "mean_rank") == 1);  // ranks are strict: equal logits, equal ranks
  CHECK(option.number(1, "leads") == 0);
  CHECK(option.number(1, "mean_rank") == 1);
  CHECK(accuracy.number(0, "accuracy") == 0);
  CHECK(accuracy.number(4, "accuracy") == 1);
  CHECK(accuracy.number(0, "options_in_top") == 1);
}

TEST_CASE("exit.accuracy: recomputed by brute force, for each kind of task") {
  for (const TaskReadouts& readouts : {some_words(), some_facts(), some_questions(true)}) {
    const TableReader table = readouts.table("exit", "exit.accuracy");
    REQUIRE(table.num_rows() == 2 * kRows);
    for (std::size_t n = 0; n < 2; ++n) {
      for (std::size_t layer = 0; layer < kRows; ++layer) {
        const std::size_t r = n * kRows + layer;
        INFO("row " << r);
        Values right, logprob, agreement, kl;
        for (const BuiltPosition& position : readouts.builder.positions()) {
          const TaskItem& item = readouts.item_of(position);
          const BuiltRow& row = row_of(position, n, layer);
          bool is_right = top1(row) == position.target;
          if (readouts.task.kind == InputKind::kWords) is_right = is_right || top1(row) == item.other_form;
          if (readouts.task.kind == InputKind::kQuestions)
            is_right = leader(item, position, n, layer) == item.gold_option;
          right.add(position, is_right ? 1 : 0);
          logprob.add(position, logprob_of(position, n, layer, position.target));
          agreement.add(position, top1(row) == position.final_id ? 1 : 0);
          kl.add(position, static_cast<float>(row.kl_final));
        }
        CHECK(table.word(r, "lens") == lens_name(n));
        CHECK(table.integer(r, "layer") == static_cast<std::int64_t>(layer));
        CHECK(table.integer(r, "blocks_skipped") == static_cast<std::int64_t>(kRows - 1 - layer));
        CHECK(table.integer(r, "count") == right.count());
        right.check_mean(table, r, "accuracy");
        logprob.check_mean(table, r, "answer_logprob");
        agreement.check_mean(table, r, "agreement");
        kl.check_mean(table, r, "kl_final");
      }
      // At the last layer nothing is skipped.
      CHECK(table.number(n * kRows + kRows - 1, "agreement") == 1);
      CHECK(table.number(n * kRows + kRows - 1, "kl_final") == 0);
    }
  }
}

TEST_CASE("tasks: without positions counts are 0 and means do not exist") {
  TaskReadouts nothing;
  nothing.task.kind = InputKind::kWords;
  nothing.task.classes = {"NOUN"};
  for (const auto& [experiment, name] :
       std::vector<std::pair<std::string, std::string>>{{"pos", "pos.rank"},
                                                        {"pos", "pos.earliest"},
                                                        {"choices", "choices.accuracy"},
                                                        {"exit", "exit.accuracy"}}) {
    INFO(name);
    const TableReader table = nothing.table(experiment, name);
    REQUIRE(table.num_rows() > 0);
    CHECK(table.integer(0, "count") == 0);
  }
  CHECK(nothing.table("pos", "pos.rank").is_nothing(0, "mean_rank"));
  CHECK(nothing.table("pos", "pos.earliest").is_nothing(0, "median_layer"));
  CHECK(nothing.table("exit", "exit.accuracy").is_nothing(0, "accuracy"));
  CHECK(nothing.table("choices", "choices.option").num_rows() == 0);
}

TEST_CASE("tasks: positions in several chunks give the same tables as in one") {
  const TaskReadouts words = some_words();
  const auto& positions = words.builder.positions();
  for (const char* name : {"pos", "exit"}) {
    Trial once(name, words.context()), again(name, words.context());
    once.show(words.builder);
    again.last().begin(words.builder.shape());
    for (std::size_t first = 0; first < positions.size(); first += 17) {
      ReadoutBuilder chunk({"logit", "tuned"}, kRows, kVocabulary, 3);
      for (std::size_t p = first; p < std::min(first + 17, positions.size()); ++p) chunk.add(positions[p]);
      chunk.show(again.last(), false);
      if (first % 2 == 0) again.state.commit();
    }
    again.state.commit();
    const auto expected = once.last().tables(), found = again.last().tables();
    REQUIRE(expected.size() == found.size());
    for (std::size_t t = 0; t < expected.size(); ++t) CHECK((expected[t].rows == found[t].rows));
  }
}
