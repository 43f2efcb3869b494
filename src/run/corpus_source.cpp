// Corpus → windows → queries.
#include <filesystem>

#include "depthlens/run/session.hpp"
#include "depthlens/run/source.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "run/words.hpp"

namespace depthlens::run {

CorpusSource::CorpusSource(const InputOptions& options, const Session& session,
                           const std::filesystem::path& spool_folder, std::uint64_t seed)
    : TextSource(options),
      session_(session),
      corpus_(options.inputs, session.tokenizer(), options.limit, spool_folder) {
  survey_corpus(seed);
  corpus_.rewind();
}

void CorpusSource::survey_corpus(std::uint64_t seed) {
  util::Progress progress("counting tokens", "tokens", 0);
  std::int64_t without_tokens = 0;
  while (const auto document = corpus_.next()) {
    session_.check_in_vocabulary(document->tokens);
    for (const text::TokenId id : document->tokens) survey_.counts.add(id);
    ++inputs_.documents;
    if (document->tokens.empty()) ++without_tokens;
    std::int64_t window_index = 0;
    for (const auto& window :
         data::cut_into_windows(document->tokens, session_.max_length(), session_.bos())) {
      add_window({.document = document->index, .window = window_index++},
                 static_cast<std::int64_t>(window.size()));
    }
    progress.advance(static_cast<std::int64_t>(document->tokens.size()));
  }
  inputs_.files = corpus_.summaries();
  tell_of_same(inputs_.files, "documents");
  if (without_tokens > 0) inputs_.dropped[data::Drop::kNoTokens] = without_tokens;
  if (survey_.windows == 0) {
    if (without_tokens > 0) {
      throw util::input_error({.what = "the input holds no text that makes a token",
                               .where = inputs_.files.front().path,
                               .found = util::cat(without_tokens, " documents without one")});
    }
    throw util::input_error(
        {.what = "the input holds no text",
         .where = inputs_.files.front().path,
         .expected = "documents separated by blank lines, or JSON lines with the key \"text\""});
  }
  end_survey(seed);
}

std::string CorpusSource::size() const {
  return util::cat(counted(survey_.positions, "position"), " in ", counted(survey_.windows, "window"));
}

bool CorpusSource::next_document() {
  windows_.clear();
  next_window_ = 0;
  while (windows_.empty()) {
    auto next = corpus_.next();
    if (!next) return false;
    document_ = std::move(*next);
    // An input may have changed, and only its end will tell.
    session_.check_in_vocabulary(document_.tokens);
    windows_ = data::cut_into_windows(document_.tokens, session_.max_length(), session_.bos());
  }
  return true;
}

void CorpusSource::begin_part(std::int64_t part) {
  const Place& place = plan_.begin(part);
  if (part != part_ + 1) {  // or else it goes on where the one before ended
    first_position_ = plan_.weight_before(part);
    const bool is_at_hand = !windows_.empty() && document_.index == place.document &&
                            next_window_ <= static_cast<std::size_t>(place.window);
    if (!is_at_hand) {
      corpus_.seek(place.document);
      next_document();
    }
    if (document_.index == place.document) next_window_ = static_cast<std::size_t>(place.window);
  }
  part_ = part;
}

bool CorpusSource::next(decode::Query& query) {
  while (true) {
    if (next_window_ >= windows_.size() && !next_document()) return false;
    const Place place = {document_.index, static_cast<std::int64_t>(next_window_)};
    if (part_ + 1 < plan_.num_parts() && place >= plan_.begin(part_ + 1)) return false;
    const std::int64_t room = session_.max_length() - (session_.bos() ? 1 : 0);
    query = {.document = document_.index,
             .window = place.window,
             .window_start = place.window * room,
             .input = static_cast<std::int64_t>(document_.input),
             .input_document = document_.index_in_input,
             .id = document_.id,
             .num_bos = session_.bos() ? 1 : 0,
             .tokens = std::move(windows_[next_window_++]),
             .positions = {}};
    const auto length = static_cast<std::int64_t>(query.tokens.size());
    const std::vector<std::int64_t> positions = chosen(first_position_, length);
    first_position_ += length;
    if (positions.empty()) continue;
    add_positions(query, positions);
    // No position sees what comes after it.
    if (options_.sample() && !session_.angles_go_by_length())
      query.tokens.resize(static_cast<std::size_t>(positions.back()) + 1);
    return true;
  }
}

}  // namespace depthlens::run
