// Puts small model folders together.
#include "support/small_model.hpp"

#include <fstream>
#include <iterator>
#include <stdexcept>

namespace depthlens::test {
namespace {

namespace fs = std::filesystem;

std::string little_endian(std::uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

std::uint32_t crc32(std::string_view bytes) {
  std::uint32_t crc = 0xffffffffU;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320U : 0);
  }
  return ~crc;
}

}  // namespace

std::string read_bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const fs::path& path, std::string_view bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

util::Json read_json(const fs::path& path) {
  return util::Json::parse(read_bytes(path));
}

Safetensors Safetensors::read(const fs::path& path) {
  const std::string bytes = read_bytes(path);
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(bytes.at(i));
  return {.header = util::OrderedJson::parse(bytes.substr(8, length)), .data = bytes.substr(8 + length)};
}

std::string Safetensors::bytes() const {
  const std::string text = header.dump();
  return little_endian(text.size(), 8) + text + data;
}

util::OrderedJson small_tokenizer() {
  util::OrderedJson vocab = {{"<s>", 0}}, merges = util::OrderedJson::array();
  const auto add = [&](const std::string& token) { vocab[token] = vocab.size(); };
  for (char c = 'a'; c <= 'z'; ++c) add(std::string(1, c));
  const std::string space = "\u0120", line_feed = "\u010A";
  for (const std::string& token : {space, line_feed, std::string("."), std::string(",")}) add(token);
  const std::pair<std::string, std::string> pairs[] = {
      {"t", "h"}, {"th", "e"},  {space, "t"}, {space, "the"}, {space, "a"}, {"i", "n"},   {"e", "r"},
      {"o", "n"}, {space, "s"}, {"r", "e"},   {"a", "n"},     {"an", "d"},  {space, "w"}, {"o", "r"},
      {"e", "a"}, {"i", "t"},   {"o", "u"},   {"e", "n"},     {space, "b"}, {space, "o"}, {"i", "s"},
      {"a", "t"}, {"l", "l"},   {space, "h"}, {space, "f"},   {space, "c"}, {"in", "g"},  {"e", "s"},
      {"l", "e"}, {space, "m"}, {space, "d"}, {"o", "m"},     {"i", "c"}};
  for (const auto& [left, right] : pairs) {
    add(left + right);
    merges.push_back(left + " " + right);
  }
  const util::OrderedJson byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const util::OrderedJson bos = {{"id", 0},         {"content", "<s>"}, {"single_word", false},
                                 {"lstrip", false}, {"rstrip", false},  {"normalized", false},
                                 {"special", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", util::OrderedJson::array({bos})},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", byte_level},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", merges}}}};
}

std::string small_text() {
  return "the water of the harbour was still, and a boat came in on the tide.\n"
         "it was the last one, and the men on it sang.\n"
         "\n"
         "in the morning there was bread and there was rain.\n"
         "\n"
         "nothing else came of it.\n";
}

SmallModel::SmallModel(const std::string& checkpoint) : checkpoint_(checkpoint) {
  const fs::path source = fs::path(DEPTHLENS_TEST_DATA) / "models" / checkpoint;
  fs::create_directories(folder());
  for (const auto& item : fs::directory_iterator(source)) {
    const std::string name = item.path().filename().string();
    if (item.is_regular_file() && name != "reference.safetensors") write(name, read_bytes(item.path()));
  }
  write("tokenizer.json", small_tokenizer().dump());
  write("tokenizer_config.json", R"({"bos_token": "<s>", "tokenizer_class": "PreTrainedTokenizerFast"})");
}

std::string SmallModel::lens(const std::string& name) const {
  return (fs::path(DEPTHLENS_TEST_DATA) / "models" / checkpoint_ / "lens" / name).string();
}

void SmallModel::configure(const util::Json& changes) const {
  util::Json config = read_json(folder() / "config.json");
  config.update(changes);
  write("config.json", config.dump(2));
}

std::string SmallModel::text_file(const std::string& name) const {
  write_bytes(beside(name), small_text());
  return beside(name).string();
}

std::string zip_archive(const std::vector<std::pair<std::string, std::string>>& records) {
  std::string bytes, directory;
  for (const auto& [name, content] : records) {
    const std::string common = little_endian(0, 4) + little_endian(0, 4) + little_endian(crc32(content), 4) +
                               little_endian(content.size(), 4) + little_endian(content.size(), 4) +
                               little_endian(name.size(), 2) + little_endian(0, 2);
    directory += "PK\x01\x02" + little_endian(20, 2) + little_endian(20, 2) + common + little_endian(0, 2) +
                 little_endian(0, 2) + little_endian(0, 2) + little_endian(0, 4) +
                 little_endian(bytes.size(), 4) + name;
    bytes += "PK\x03\x04" + little_endian(20, 2) + common + name + content;
  }
  const std::uint64_t start = bytes.size();
  return bytes + directory + "PK\x05\x06" + little_endian(0, 4) + little_endian(records.size(), 2) +
         little_endian(records.size(), 2) + little_endian(directory.size(), 4) + little_endian(start, 4) +
         little_endian(0, 2);
}

}  // namespace depthlens::test
