// SentencePiece models, by the SentencePiece library; around it what Hugging Face's Llama tokenizer adds:
// special tokens in the text.
#include <sentencepiece_processor.h>

#include "agreement.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "formats.hpp"
#include "unicode.hpp"

namespace depthlens::text {
namespace {

using util::cat;

/// Behind a serialized model: its normalizer_spec again, with add_dummy_prefix false. Of a field that stands
/// twice the last one counts, and messages are merged.
constexpr std::string_view kWithoutSpace("\x1a\x02\x18\x00", 4);

/// Where a space is put before a text, or before each part of it between added tokens.
enum class SpaceBefore { kNowhere, kText, kEveryPart };

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string_view content, const std::string& where);

  /// BOS, EOS and what is unknown, by the model; the settings win.
  void add_names_to(TokenizerSettings& settings) const;
  /// The other special tokens of the model.
  void add_control_to(TokenizerSettings& settings) const;
  std::optional<TokenId> find(const std::string& token) const;
  bool puts_space() const { return puts_space_; }
  /// Whether the model has pieces for bytes, of which it makes all characters.
  bool falls_back() const { return processor_.IsByte(processor_.PieceToId("<0x00>")); }
  /// Whether the model changes texts before it cuts them, by all that shows.
  bool normalizes() const;

  /// Throws a format error where `vocabulary`, of a Unigram tokenizer.json, is not the model's.
  void check_pieces(const util::JsonView& vocabulary) const;

  void set_tokens(const AddedTokens& tokens, const SpecialIds& special);
  void set_space(SpaceBefore space) { space_ = space; }
  /// Warns of a text that begins with a space where one is put before it: transformers puts none there.
  void tell_of_two_spaces() { tells_of_two_spaces_ = true; }

  std::vector<TokenId> encode(std::string_view text) const override;
  const std::string& token_bytes(TokenId id) const override;
  TokenId size() const override { return static_cast<TokenId>(token_bytes_.size()); }
  std::string kind() const override { return "SentencePiece"; }

 private:
  void encode_piece(const sentencepiece::SentencePieceProcessor& processor, std::string_view text,
                    std::vector<TokenId>& ids) const;

  std::string where_;
  sentencepiece::SentencePieceProcessor processor_;
  sentencepiece::SentencePieceProcessor without_space_;  // the same, if that one puts a space before texts
  std::vector<std::string> token_bytes_;
  AddedTokenMatcher raw_tokens_, normalized_tokens_;  // the latter are looked for in what those leave
  SpaceBefore space_ = SpaceBefore::kNowhere;
  bool puts_space_ = false;  // the model does, before every text
  bool tells_of_two_spaces_ = false;
};

std::string piece_bytes(const sentencepiece::SentencePieceProcessor& processor, int id) {
  const std::string& piece = processor.IdToPiece(id);
  if (processor.IsControl(id) || processor.IsUnknown(id)) return piece;
  if (processor.IsByte(id)) {
    // "<0x0A>"
    return std::string(1, static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16)));
  }
  std::string bytes;
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

SentencePieceTokenizer::SentencePieceTokenizer(std::string_view content, const std::string& where)
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
  std::vector<TokenId> ids;
  encode_piece(processor_, "a", ids);
  puts_space_ = !ids.empty() && processor_.IdToPiece(ids[0]).compare(0, kSpaceMark.size(), kSpaceMark) == 0;
  if (puts_space_) {
    const auto loaded = without_space_.LoadFromSerializedProto(cat(content, kWithoutSpace));
    DEPTHLENS_ASSERT(loaded.ok());
  }
}

bool SentencePieceTokenizer::normalizes() const {
  constexpr std::pair<std::string_view, std::string_view> kAlike[] = {
      {"a  b", "a b"}, {"\uff21", "A"}, {"A", "a"}};
  return std::any_of(std::begin(kAlike), std::end(kAlike), [&](const auto& pair) {
    return processor_.EncodeAsPieces(pair.first) == processor_.EncodeAsPieces(pair.second);
  });
}

void SentencePieceTokenizer::add_names_to(TokenizerSettings& settings) const {
  const auto add = [&](const char* key, int id) {
    if (id >= 0 && id < processor_.GetPieceSize())
      settings.name_token(key, {.content = processor_.IdToPiece(id), .special = true});
  };
  add("bos_token", processor_.bos_id());
  add("eos_token", processor_.eos_id());
  add("unk_token", processor_.unk_id());
}

void SentencePieceTokenizer::add_control_to(TokenizerSettings& settings) const {
  for (int id = 0; id < processor_.GetPieceSize(); ++id) {
    if (processor_.IsControl(id))
      settings.more_special.push_back({.content = processor_.IdToPiece(id), .special = true});
  }
}

std::optional<TokenId> SentencePieceTokenizer::find(const std::string& token) const {
  const int id = processor_.PieceToId(token);
  if (id < 0 || id >= processor_.GetPieceSize() || processor_.IdToPiece(id) != token) return std::nullopt;
  return id;
}

void SentencePieceTokenizer::check_pieces(const util::JsonView& vocabulary) const {
  if (!vocabulary.is_array()) vocabulary.fail("a list of pieces and scores");
  const auto fail = [&](const std::string& found) {
    throw util::format_error({.what = "a tokenizer.json with a Unigram model, which depthlens reads from "
                                      "tokenizer.model only; the two "
                                      "differ",
                              .where = cat(vocabulary.where(), " and ", where_),
                              .expected = "the same pieces",
                              .found = found});
  };
  const auto pieces = static_cast<std::size_t>(processor_.GetPieceSize());
  if (vocabulary.size() != pieces) fail(cat(vocabulary.size(), " and ", pieces));
  for (std::size_t i = 0; i < pieces; ++i) {
    const util::Json& entry = vocabulary.raw()[i];
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number())
      vocabulary.at(i).fail("a piece and its score");
    const int id = static_cast<int>(i);
    const std::string& piece = processor_.IdToPiece(id);
    const bool is_special = processor_.IsControl(id) || processor_.IsUnknown(id) || processor_.IsByte(id);
    if (entry[0].get_ref<const std::string&>() != piece ||
        (!is_special && entry[1].get<float>() != processor_.GetScore(id)))
      fail(cat("at ", i, " ", util::summary(entry), " and ", util::in_quotes(piece)));
  }
}

void SentencePieceTokenizer::set_tokens(const AddedTokens& tokens, const SpecialIds& special) {
  for (const AddedToken& token : tokens.all()) {
    if (token.id >= size()) token_bytes_.resize(token.id + 1);
    // A piece that is an added token too, such as a run of spaces, is read as the model has it.
    if (find(token.content) != token.id) token_bytes_[token.id] = token.content;
  }
  std::vector<AddedToken> raw, normalized;
  for (const AddedToken& token : tokens.all()) (token.normalized ? normalized : raw).push_back(token);
  raw_tokens_ = AddedTokenMatcher(std::move(raw));
  normalized_tokens_ = AddedTokenMatcher(std::move(normalized));
  bos_ = special.bos;
  eos_ = special.eos;
  adds_bos_ = special.adds_bos && special.bos.has_value();
}

void SentencePieceTokenizer::encode_piece(const sentencepiece::SentencePieceProcessor& processor,
                                          std::string_view text, std::vector<TokenId>& ids) const {
  std::vector<int> piece_ids;
  const auto status = processor.Encode(text, &piece_ids);
  if (!status.ok()) {
    throw util::format_error({.what = "SentencePiece cannot encode a text",
                              .where = where_,
                              .found = util::valid_utf8(status.ToString())});
  }
  ids.insert(ids.end(), piece_ids.begin(), piece_ids.end());
}

std::vector<TokenId> SentencePieceTokenizer::encode(std::string_view text) const {
  require_valid_utf8(text, "the text to be tokenized");
  constexpr std::size_t kLong = std::size_t{16} << 20, kMemoryOfByte = 160;  // measured: 100 to 155
  if (text.size() > kLong) {
    util::log_warning(
        cat("a document of ", util::as_bytes(text.size()), ": SentencePiece takes up to ",
            util::as_bytes(kMemoryOfByte * text.size()),
            " of memory to tokenize it; blank lines, or JSON lines, cut a text into documents"));
  }
  std::vector<TokenId> ids;
  std::vector<Segment> parts, segments;
  raw_tokens_.split(text, parts);
  for (const Segment& part : parts) {
    if (part.id != kNoToken) {
      segments.push_back(part);
    } else {
      normalized_tokens_.split(part.text, segments);
    }
  }
  for (const Segment& segment : segments) {
    const bool at_start = segment.text.data() == text.data();
    const bool wants_space = space_ == SpaceBefore::kEveryPart || (space_ == SpaceBefore::kText && at_start);
    if (segment.id == kNoToken && wants_space && tells_of_two_spaces_ && segment.text.front() == ' ') {
      util::log_warning(cat(where_,
                            ": of texts that begin with a space, SentencePiece's ids are used, with a space "
                            "more; transformers leaves its own out"));
    }
    if (segment.id != kNoToken) {
      ids.push_back(segment.id);
    } else if (wants_space && !puts_space_ && segment.text.front() != ' ') {
      encode_piece(processor_, cat(" ", segment.text), ids);
    } else {
      encode_piece(puts_space_ && !wants_space ? without_space_ : processor_, segment.text, ids);
    }
  }
  return ids;
}

const std::string& SentencePieceTokenizer::token_bytes(TokenId id) const {
  static const std::string none;
  return id >= 0 && id < size() ? token_bytes_[id] : none;
}

/// `scheme`: of the tokenizer.json that transformers reads, if there is one.
SpaceBefore space_before(const SentencePieceTokenizer& tokenizer, const TokenizerClass& tokenizer_class,
                         const TokenizerSettings& settings, std::optional<PrependScheme> scheme) {
  const auto by_legacy = [&](bool legacy_by_default) {
    return settings.legacy.value_or(legacy_by_default) ? SpaceBefore::kEveryPart : SpaceBefore::kText;
  };
  if (tokenizer_class.steps == ClassSteps::kLlama) {
    if (!settings.add_prefix_space.value_or(true)) return SpaceBefore::kNowhere;
    return tokenizer_class.heeds_legacy ? by_legacy(false) : SpaceBefore::kText;
  }
  if (tokenizer_class.steps == ClassSteps::kGemma) return SpaceBefore::kNowhere;
  if (scheme) {
    return *scheme == PrependScheme::kAlways  ? SpaceBefore::kEveryPart
           : *scheme == PrependScheme::kFirst ? SpaceBefore::kText
                                              : SpaceBefore::kNowhere;
  }
  return tokenizer.puts_space() ? by_legacy(true) : SpaceBefore::kNowhere;
}

/// Tells of an added token that transformers looks for behind its normalizer, where spaces are marks and are
/// not stripped.
void warn_of_normalized(const AddedTokens& tokens, const TokenizerClass& tokenizer_class,
                        const std::string& where) {
  if (tokenizer_class.steps == ClassSteps::kLlama) return;  // it has no normalizer
  const bool is_gemma = tokenizer_class.steps == ClassSteps::kGemma;
  const auto is_alike = [&](const AddedToken& token) {
    if (!token.normalized) return true;
    if (is_gemma) {
      return !token.lstrip && !token.rstrip && token.content.find(' ') == std::string::npos &&
             token.content.find(kSpaceMark) == std::string::npos;
    }
    return false;
  };
  const auto token = std::find_if_not(tokens.all().begin(), tokens.all().end(), is_alike);
  if (token == tokens.all().end()) return;
  util::log_warning(cat(where, ": the added token ", util::in_quotes(token->content),
                        " is looked for in texts as they are; transformers looks for it behind the "
                        "normalizer (normalized is true)"));
}

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view content, const std::string& where,
                                                        TokenizerSettings settings,
                                                        const util::JsonView* json) {
  auto tokenizer = std::make_unique<SentencePieceTokenizer>(content, where);
  const TokenizerClass& tokenizer_class = class_of(settings, false);
  if (!is_known_class(settings) ||
      !(tokenizer_class.steps == ClassSteps::kOfFile || tokenizer_class.over_characters())) {
    throw util::format_error(
        {.what = cat("depthlens does not know how the class ", describe_class(tokenizer_class, settings),
                     " reads a SentencePiece model"),
         .where = where,
         .expected = "tokenizer_class LlamaTokenizer or GemmaTokenizer"});
  }
  add_names_of_class(tokenizer_class, settings);
  tokenizer->add_names_to(settings);
  // So does transformers, that a space can be put behind each of them.
  if (json == nullptr && tokenizer_class.steps == ClassSteps::kOfFile && tokenizer->puts_space()) {
    for (AddedToken& token : settings.added) token.normalized = false;
  }
  // Without a tokenizer.json the model's special tokens take the place of the list that counts second; in a
  // Unigram one they are pieces like any other.
  if (json == nullptr && !settings.lists_extra_special) settings.more_special.clear();
  if (json != nullptr || !settings.lists_extra_special) tokenizer->add_control_to(settings);
  AddedTokens tokens([&](const std::string& token) { return tokenizer->find(token); }, tokenizer->size());
  std::optional<PostProcessor> post_processor;
  std::optional<PrependScheme> scheme;
  if (json != nullptr) {
    tokenizer->check_pieces(json->at("model").at("vocab"));
    util::log_warning(cat(where, " is used; the Unigram model, normalizer and pre_tokenizer of ",
                          json->where(),
                          ", converted from it, are not read, but for Metaspace's prepend_scheme"));
    name_padding(*json, settings);
    add_json_tokens(*json, tokens);
    post_processor = read_post_processor(*json);
    scheme = metaspace_scheme(*json);
  }
  add_tokens_of(settings, tokens);
  tokenizer->set_tokens(
      tokens, special_ids(settings, tokenizer_class, tokens, post_processor ? &*post_processor : nullptr));
  tokenizer->set_space(space_before(*tokenizer, tokenizer_class, settings, scheme));
  if (tokenizer->puts_space() &&
      (tokenizer_class.steps == ClassSteps::kLlama || scheme || !settings.legacy.value_or(true)))
    tokenizer->tell_of_two_spaces();
  const std::string of_class = cat("; the class ", describe_class(tokenizer_class, settings));
  if (tokenizer_class.over_characters() && tokenizer->normalizes()) {
    util::log_warning(cat(where, " changes texts before it cuts them", of_class,
                          " leaves them as they are in transformers 5"));
  }
  if (tokenizer_class.drops_unknown && !tokenizer->falls_back()) {
    util::log_warning(cat(where, " makes its unknown token of characters that it does not have", of_class,
                          " leaves them out in transformers 5"));
  }
  warn_of_normalized(tokens, tokenizer_class, where);
  return tokenizer;
}

std::string sentencepiece_difference(std::string_view content, const std::string& where,
                                     const TokenizerSettings& settings, const util::JsonView& json,
                                     const Tokenizer& tokenizer) {
  SentencePieceTokenizer other(content, where);
  AddedTokens tokens([&](const std::string& token) { return other.find(token); }, other.size());
  add_json_tokens(json, tokens);
  add_tokens_of(settings, tokens);
  other.set_tokens(tokens, {});
  other.set_space(tokenizer.encode("a") == other.encode("a") ? SpaceBefore::kNowhere : SpaceBefore::kText);
  return first_difference(tokenizer, other);
}

}  // namespace depthlens::text
