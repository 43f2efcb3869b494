// Merges from ranks.
#include "ranks.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::text {

bool decode_base64(std::string_view text, std::string& bytes) {
  if (text.empty() || text.size() % 4 != 0) return false;
  bytes.clear();
  std::uint32_t bits = 0;
  int held = 0;
  std::size_t end = text.size();
  while (end > text.size() - 2 && text[end - 1] == '=') --end;
  for (const char c : text.substr(0, end)) {
    std::uint32_t value;
    if (c >= 'A' && c <= 'Z')
      value = static_cast<std::uint32_t>(c - 'A');
    else if (c >= 'a' && c <= 'z')
      value = static_cast<std::uint32_t>(c - 'a' + 26);
    else if (c >= '0' && c <= '9')
      value = static_cast<std::uint32_t>(c - '0' + 52);
    else if (c == '+')
      value = 62;
    else if (c == '/')
      value = 63;
    else
      return false;
    bits = bits << 6 | value;
    held += 6;
    if (held >= 8) {
      held -= 8;
      bytes += static_cast<char>(bits >> held & 0xff);
    }
  }
  return true;
}

std::string token_difference(const Tokenizer& tokenizer, std::int64_t id, const std::string& bytes) {
  using util::cat, util::in_quotes;
  if (id >= tokenizer.size()) return cat("token ", id, " is ", in_quotes(bytes), " and is not there");
  const std::string& own = tokenizer.token_bytes(static_cast<TokenId>(id));
  return own == bytes ? "" : cat("token ", id, " is ", in_quotes(bytes), ", not ", in_quotes(own));
}

void Ranks::add(const std::string& token, const std::function<std::string()>& where) {
  if (!rank_of_.emplace(token, static_cast<TokenId>(tokens_.size())).second)
    throw util::format_error({.what = "a token twice", .where = where(), .found = util::in_quotes(token)});
  tokens_.push_back(token);
}

BpeModel Ranks::model(TokenId first_id, const std::string& where) && {
  BpeModel model;
  model.ignore_merges = true;
  model.byte_ids.fill(kNoToken);
  model.merges = MergeTable(tokens_.size() * 3);
  model.token_bytes.resize(static_cast<std::size_t>(first_id));
  for (std::size_t rank = 0; rank < tokens_.size(); ++rank) {
    const std::string& token = tokens_[rank];
    const TokenId id = first_id + static_cast<TokenId>(rank);
    if (token.size() == 1) model.byte_ids[static_cast<unsigned char>(token[0])] = id;
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = rank_of_.find(token.substr(0, cut));
      if (left == rank_of_.end()) continue;
      const auto right = rank_of_.find(token.substr(cut));
      if (right == rank_of_.end()) continue;
      model.merges.set(first_id + left->second, first_id + right->second,
                       {static_cast<std::uint32_t>(rank), id});
    }
  }
  if (const auto missing = std::find(model.byte_ids.begin(), model.byte_ids.end(), kNoToken);
      missing != model.byte_ids.end()) {
    throw util::format_error({.what = "ranks without a token for every byte",
                              .where = where,
                              .found = util::cat("none for byte ", missing - model.byte_ids.begin())});
  }
  for (auto& [token, rank] : rank_of_) rank += first_id;
  model.words = std::move(rank_of_);
  for (std::string& token : tokens_) model.token_bytes.push_back(std::move(token));
  return model;
}

}  // namespace depthlens::text
