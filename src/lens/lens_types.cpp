// The table of the types, and what is made of it.
#include "depthlens/lens/lens_types.hpp"

#include <algorithm>

#include "depthlens/io/hub.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "lens_files.hpp"

namespace depthlens::lens {

// To add a lens: write its file, declare its maker in lens_files.hpp, add one entry here.
const std::vector<LensType>& lens_types() {
  static const std::vector<LensType> all = {
      {.name = "logit", .title = "logit", .make = make_logit_lens},
      {.name = kTunedType,
       .title = "tuned",
       .make = make_tuned_lens,
       .files = LensTypeFiles{.expected = "params.pt and config.json, or FILE.safetensors",
                              .kind = LensKind::kTuned,
                              .on_hub = "MODEL",
                              .find = &io::Hub::tuned_lens},
       .has_alignment = true},
      {.name = kJacobianType,
       .title = "Jacobian",
       .make = make_jacobian_lens,
       .files = LensTypeFiles{.expected = "FILE.pt with 'J', or FILE.safetensors",
                              .kind = LensKind::kJacobian,
                              .on_hub = "ORG/NAME:FILE",
                              .find = &io::Hub::jacobian_lens,
                              .named_by_file = true}}};
  return all;
}

const LensType* find_lens_type(const std::string& name) {
  const auto found = std::find_if(lens_types().begin(), lens_types().end(),
                                  [&](const LensType& type) { return type.name == name; });
  return found == lens_types().end() ? nullptr : &*found;
}

const LensType& type_of(const StoredLens& stored) {
  const LensType* type =
      find_lens_type(std::holds_alternative<StoredTunedLens>(stored) ? kTunedType : kJacobianType);
  DEPTHLENS_ASSERT(type != nullptr);
  return *type;
}

const LensType* take_type(std::string& text) {
  for (const LensType& type : lens_types()) {
    const std::string beginning = type.name + ":";
    if (!type.files || text.rfind(beginning, 0) != 0) continue;
    text.erase(0, beginning.size());
    return &type;
  }
  return nullptr;
}

std::string lens_words() {
  std::vector<std::string> all;
  for (const LensType& type : lens_types()) all.push_back(type.words());
  return either(all);
}

std::string lens_file_words() {
  std::vector<std::string> all;
  for (const LensType& type : lens_types()) {
    if (type.files) all.push_back(type.words());
  }
  return either(all);
}

std::vector<std::string> hub_lens_words() {
  std::vector<std::string> all;
  for (const LensType& type : lens_types()) {
    if (type.files && !type.files->on_hub.empty()) all.push_back(type.name + ":" + type.files->on_hub);
  }
  return all;
}

std::string either(const std::vector<std::string>& words) {
  DEPTHLENS_ASSERT(!words.empty());
  const std::string first = util::join({words.begin(), words.end() - 1}, ", ");
  return first.empty() ? words.back() : first + " or " + words.back();
}

std::filesystem::path place_of(const LensType& type, const std::string& named, const io::Hub& hub) {
  DEPTHLENS_ASSERT(type.files.has_value());
  return type.files->find == nullptr ? std::filesystem::path(named) : (hub.*type.files->find)(named);
}

void locate(LensRequest& request, const io::Hub& hub) {
  const LensType* type = find_lens_type(request.type);
  DEPTHLENS_ASSERT(type != nullptr);
  if (!type->files) return;
  request.found = place_of(*type, request.path, hub);
  if (type->files->named_by_file) request.path = io::with_file(request.path, request.found);
}

}  // namespace depthlens::lens
