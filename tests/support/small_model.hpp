// Model folders of a few thousand parameters: a committed checkpoint and a tokenizer that fits its
// vocabulary.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "depthlens/util/json.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens::test {

std::string read_bytes(const std::filesystem::path& path);
void write_bytes(const std::filesystem::path& path, std::string_view bytes);
util::Json read_json(const std::filesystem::path& path);

/// Header and data of a safetensors file, to be changed and written again.
struct Safetensors {
  util::OrderedJson header;
  std::string data;
  static Safetensors read(const std::filesystem::path& path);
  std::string bytes() const;
};

/// A tokenizer.json of 64 tokens: BOS "<s>" (id 0, not added by itself), lower-case letters, space, full
/// stop, comma, line feed, and common pairs of letters.
util::OrderedJson small_tokenizer();
/// Text of the small tokenizer's alphabet.
std::string small_text();

/// Folder `model/` in a temporary folder with config.json, the weights and tokenizer.json of
/// tests/golden/models/NAME.
class SmallModel {
 public:
  explicit SmallModel(const std::string& checkpoint = "gpt2");

  std::filesystem::path folder() const { return temporary_.path() / "model"; }
  std::filesystem::path beside(const std::string& name) const { return temporary_.path() / name; }
  std::string path() const { return folder().string(); }
  /// The committed lens of the checkpoint: "tuned", "jacobian.pt" or "tuned.safetensors".
  std::string lens(const std::string& name) const;

  void write(const std::string& name, std::string_view bytes) const { write_bytes(folder() / name, bytes); }
  void remove(const std::string& name) const { std::filesystem::remove_all(folder() / name); }
  /// Sets keys of config.json.
  void configure(const util::Json& changes) const;
  Safetensors weights() const { return Safetensors::read(folder() / "model.safetensors"); }
  /// A text of the small alphabet, as the file NAME beside the model.
  std::string text_file(const std::string& name = "text.txt") const;

 private:
  std::string checkpoint_;
  TemporaryFolder temporary_;
};

/// A zip archive whose records are stored as they are.
std::string zip_archive(const std::vector<std::pair<std::string, std::string>>& records);

}  // namespace depthlens::test
