// SentencePiece models, by the SentencePiece library; around it what Hugging Face's Llama tokenizer adds:
// special tokens in the text.
#include <sentencepiece_processor.h>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "formats.hpp"
#include "unicode.hpp"

namespace depthlens::text {
namespace {

using util::cat;

/// Encoded before a text, it takes the space that the model puts before every text, and leaves the text
/// without one.
constexpr char kShield = '\x01';

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string_view content, const std::string& where,
                         const TokenizerSettings& settings, const util::JsonView* json);

  std::vector<TokenId> encode(std::string_view text) const override;
  const std::string& token_bytes(TokenId id) const override;
  TokenId size() const override { return static_cast<TokenId>(token_bytes_.size()); }
  std::string kind() const override { return "SentencePiece"; }

 private:
  void encode_piece(std::string_view text, std::vector<TokenId>& ids) const;
  void find_shield();

  std::string where_;
  sentencepiece::SentencePieceProcessor processor_;
  std::vector<std::string> token_bytes_;
  AddedTokenMatcher added_;
  bool space_before_every_piece_ = false;
  std::vector<TokenId>
      shield_ids_;  // what the shield is encoded to; empty: the model gives it no ids of its own
};

std::string piece_bytes(const sentencepiece::SentencePieceProcessor& processor, int id) {
  const std::string& piece = processor.IdToPiece(id);
  if (processor.IsControl(id) || processor.IsUnknown(id)) return piece;
  if (processor.IsByte(id)) {
    // "<0x0A>"
    return std::string(1, static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16)));
  }
  std::string bytes;
  constexpr std::string_view kSpaceMark = "\u2581";
  for (std::size_t i = 0; i < piece.size();) {
    if (piece.compare(i, kSpaceMark.size(), kSpaceMark) == 0) {
      bytes += ' ';
      i += kSpaceMark.size();
    } else {
      bytes += piece[i++];
    }
  }
  return bytes;
}

bool is_byte_piece(std::string_view piece) {
  constexpr std::string_view kDigits = "0123456789ABCDEFabcdef";
  return piece.size() == 6 && piece.substr(0, 3) == "<0x" && piece[5] == '>' &&
         kDigits.find(piece[3]) != std::string_view::npos && kDigits.find(piece[4]) != std::string_view::npos;
}

SentencePieceTokenizer::SentencePieceTokenizer(std::string_view content, const std::string& where,
                                               const TokenizerSettings& settings, const util::JsonView* json)
    : where_(where) {
  const auto status = processor_.LoadFromSerializedProto(content);
  const int pieces = status.ok() ? processor_.GetPieceSize() : 0;
  if (!status.ok() || pieces <= 0 || pieces > kMaxTokens) {
    throw util::format_error(
        {.what = "not a SentencePiece model",
         .where = where,
         .found = status.ok() ? cat(pieces, " pieces") : util::valid_utf8(status.ToString())});
  }
  token_bytes_.reserve(pieces);
  for (int id = 0; id < pieces; ++id) {
    const std::string& piece = processor_.IdToPiece(id);
    if (!util::is_valid_utf8(piece) || (processor_.IsByte(id) && !is_byte_piece(piece))) {
      throw util::format_error({.what = "a piece that is not valid",
                                .where = cat(where, ", piece ", id),
                                .found = util::in_quotes(piece)});
    }
    token_bytes_.push_back(piece_bytes(processor_, id));
  }
  const auto vocabulary = [&](const std::string& token) -> std::optional<TokenId> {
    const int id = processor_.PieceToId(token);
    if (id < 0 || id >= pieces || processor_.IdToPiece(id) != token) return std::nullopt;
    return id;
  };
  AddedTokens tokens(vocabulary, pieces);
  if (json != nullptr) add_json_tokens(*json, tokens);
  TokenizerSettings with_model = settings;
  const auto default_token = [&](std::optional<std::string>& name, int id) {
    if (!name && id >= 0 && id < pieces) {
      name = processor_.IdToPiece(id);
      with_model.named.push_back({.content = *name, .special = true});
    }
  };
  default_token(with_model.bos, processor_.bos_id());
  default_token(with_model.eos, processor_.eos_id());
  default_token(with_model.unk, processor_.unk_id());
  add_tokens_of(with_model, tokens);
  for (const AddedToken& token : tokens.all()) {
    if (token.id >= size()) token_bytes_.resize(token.id + 1);
    token_bytes_[token.id] = token.content;
  }
  added_ = AddedTokenMatcher(tokens.all());
  space_before_every_piece_ = settings.legacy.value_or(false);

  if (with_model.bos) bos_ = tokens.id_of(*with_model.bos);
  if (with_model.eos) eos_ = tokens.id_of(*with_model.eos);
  if (settings.add_bos) {
    adds_bos_ = *settings.add_bos;
  } else if (json != nullptr && has_post_processor(*json)) {
    adds_bos_ = post_processor_bos(*json).has_value();
  } else {
    adds_bos_ = true;
  }
  adds_bos_ = adds_bos_ && bos_.has_value();
  find_shield();
}

void SentencePieceTokenizer::find_shield() {
  std::vector<TokenId> shield, with_text;
  encode_piece(std::string(1, kShield), shield);
  encode_piece(std::string(1, kShield) + "a", with_text);
  const bool stands_alone = !shield.empty() && with_text.size() == shield.size() + 1 &&
                            std::equal(shield.begin(), shield.end(), with_text.begin()) &&
                            processor_.IsByte(shield.back());
  if (stands_alone) shield_ids_ = shield;
}

void SentencePieceTokenizer::encode_piece(std::string_view text, std::vector<TokenId>& ids) const {
  std::vector<int> piece_ids;
  const auto status = processor_.Encode(text, &piece_ids);
  if (!status.ok()) {
    throw util::format_error({.what = "SentencePiece cannot encode a text",
                              .where = where_,
                              .found = util::valid_utf8(status.ToString())});
  }
  ids.insert(ids.end(), piece_ids.begin(), piece_ids.end());
}

std::vector<TokenId> SentencePieceTokenizer::encode(std::string_view text) const {
  require_valid_utf8(text, "the text to be tokenized");
  std::vector<TokenId> ids;
  std::vector<Segment> segments;
  added_.split(text, segments);
  for (const Segment& segment : segments) {
    if (segment.id != kNoToken) {
      ids.push_back(segment.id);
    } else if (segment.text.data() == text.data() || space_before_every_piece_ || shield_ids_.empty()) {
      encode_piece(segment.text, ids);
    } else {
      std::string shielded(1, kShield);
      shielded += segment.text;
      const auto start = static_cast<std::ptrdiff_t>(ids.size());
      encode_piece(shielded, ids);
      ids.erase(ids.begin() + start, ids.begin() + start + static_cast<std::ptrdiff_t>(shield_ids_.size()));
    }
  }
  return ids;
}

const std::string& SentencePieceTokenizer::token_bytes(TokenId id) const {
  static const std::string none;
  return id >= 0 && id < size() ? token_bytes_[id] : none;
}

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view content, const std::string& where,
                                                        const TokenizerSettings& settings,
                                                        const util::JsonView* json) {
  return std::make_unique<SentencePieceTokenizer>(content, where, settings, json);
}

}  // namespace depthlens::text
