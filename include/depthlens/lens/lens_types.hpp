// The types of lenses that there are: what flags and files call them, and what each of them has.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "depthlens/lens/lens.hpp"
#include "depthlens/lens/lens_file.hpp"

namespace depthlens::io {
class Hub;
}

namespace depthlens::lens {

inline constexpr const char* kTunedType = "tuned";
inline constexpr const char* kJacobianType = "jacobian";

/// The files of a type that has some.
struct LensTypeFiles {
  std::string expected;            ///< what they are, for messages
  LensKind kind = LensKind::kAny;  ///< for `find_lens`
  std::string on_hub = {};         ///< what names one on the hub, "MODEL"; "": none is there
  /// The place of one of them, fetched where it is on the hub; nullptr: they are named by their paths alone.
  std::filesystem::path (io::Hub::*find)(const std::string&) const = nullptr;
  bool named_by_file = false;  ///< on the hub by their own name, which a run tells where a folder was named
};

struct LensType {
  std::string name;   ///< in --lens, in run.json and in metadata: "tuned"
  std::string title;  ///< in messages, before "lens"
  std::unique_ptr<Lens> (*make)(const LensRequest&, const model::Model&, Alignment);
  std::optional<LensTypeFiles> files = {};
  bool has_alignment = false;  ///< whether `Alignment` is anything to it

  /// As --lens takes it: "logit", "tuned:PATH".
  std::string words() const { return files ? name + ":PATH" : name; }
};

/// In the order in which they are told.
const std::vector<LensType>& lens_types();
/// The type of that name, or nullptr.
const LensType* find_lens_type(const std::string& name);
const LensType& type_of(const StoredLens& stored);
/// The type that `text`, "NAME:REST", begins with, of those that have files, or nullptr. Takes the name off.
const LensType* take_type(std::string& text);

/// "logit, tuned:PATH or jacobian:PATH".
std::string lens_words();
/// The same of lenses from files alone.
std::string lens_file_words();
/// "tuned:MODEL", "jacobian:ORG/NAME:FILE".
std::vector<std::string> hub_lens_words();
/// "a, b or c".
std::string either(const std::vector<std::string>& words);

/// Where the files are of a lens of a type that has some, which a flag names: a path, or what the hub has.
std::filesystem::path place_of(const LensType& type, const std::string& named, const io::Hub& hub);
/// Says in the request where the files are.
void locate(LensRequest& request, const io::Hub& hub);

}  // namespace depthlens::lens
