// --watch and --watch-pair: tokens by text or number.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "depthlens/experiments/watch.hpp"
#include "depthlens/text/tokenizer.hpp"
#include "depthlens/util/json.hpp"

namespace depthlens::tool {

struct WatchOptions {
  std::vector<std::string> tokens;
  std::vector<std::string> pairs;

  bool given() const { return !tokens.empty() || !pairs.empty(); }
};

/// Adds --watch and --watch-pair.
void add_watch_options(CLI::App& app, WatchOptions& options);

/// The tokens that the options name, and a line of the log that tells which they are. A text is what the
/// tokenizer makes one token of, or else, and where it begins with a space, the text of one token of the
/// vocabulary; "#17" is token 17; "#target" and "#distractor" are those of `WatchedToken::Kind`. Throws usage
/// errors for texts of several tokens, which it shows, for ids that are not below `vocab_size` (the model's)
/// and for unusable pairs.
experiments::Watch find_watched(const WatchOptions& options, const text::Tokenizer& tokenizer,
                                std::int64_t vocab_size);

/// `settings.watch`, `settings.watch_pairs` and `settings.watch_pair_tokens` of run.json.
void describe_watched(const experiments::Watch& watch, util::OrderedJson& settings);

}  // namespace depthlens::tool
