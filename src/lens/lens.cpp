// How lenses are asked for, and what their files have in common.
#include "depthlens/lens/lens.hpp"

#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <set>

#include "depthlens/lens/file_names.hpp"
#include "depthlens/lens/lens_types.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "lens_facts.hpp"
#include "lens_files.hpp"
#include "stored_lens.hpp"

namespace depthlens::lens {
namespace {

using Parts = std::vector<std::string>;

/// The names along a path that can tell a lens from another: folders, and the file without its extension. The
/// params.pt of a folder tells nothing.
Parts parts_of_path(const std::string& path) {
  std::filesystem::path rest = std::filesystem::path(path).lexically_normal();
  if (!rest.has_filename()) rest = rest.parent_path();  // behind a slash
  if (rest.filename() == kTunedParameters) rest = rest.parent_path();
  if (rest.extension() == ".pt" || rest.extension() == ".safetensors") rest.replace_extension();
  Parts parts;
  for (const std::filesystem::path& part : rest.relative_path()) parts.push_back(part.string());
  return parts;
}

/// The last `length` parts but for `left_out` at the end.
Parts end_of(const Parts& parts, std::size_t length, std::size_t left_out) {
  const auto end = parts.end() - static_cast<std::ptrdiff_t>(std::min(left_out, parts.size()));
  const std::size_t size = static_cast<std::size_t>(end - parts.begin());
  return {end - static_cast<std::ptrdiff_t>(std::min(length, size)), end};
}

/// The shortest end of `parts` by which it differs from all others of `all`, without the end that all share:
/// "a" of "x/a/lens" beside "x/b/lens".
std::string telling_part(const Parts& parts, const std::set<Parts>& all) {
  const auto share = [&](std::size_t length) {
    return std::all_of(all.begin(), all.end(), [&](const Parts& other) {
      return other.size() > length && end_of(other, length, 0) == end_of(parts, length, 0);
    });
  };
  std::size_t shared = 0;
  while (share(shared + 1)) ++shared;
  std::size_t length = 1;
  const auto is_clear = [&] {
    return std::count_if(all.begin(), all.end(), [&](const Parts& other) {
             return end_of(other, length, shared) == end_of(parts, length, shared);
           }) == 1;
  };
  while (length + shared < parts.size() && !is_clear()) ++length;
  return util::join(end_of(parts, length, shared), "-");
}

/// "TYPE-PART" in the characters of names; a part that begins with the type is enough by itself.
std::string name_with(const std::string& type, std::string part) {
  for (char& c : part) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_' && c != '.') c = '-';
  }
  const bool says_type = part == type || part.rfind(type + "-", 0) == 0 || part.rfind(type + "_", 0) == 0;
  return says_type ? part : type + "-" + part;
}

}  // namespace

at::Tensor Lens::apply_translator(std::int64_t /*index*/, const at::Tensor& /*states*/) const {
  DEPTHLENS_ASSERT(num_translators() > 0);  // and then the lens has its own version of this
  return {};
}

LensRequest parse_lens_request(const std::string& text) {
  LensRequest request;
  std::string rest = text;
  // A name ends at the first "=", unless a ":" comes before it (a path may hold a "=").
  const std::size_t equals = rest.find('=');
  if (equals != std::string::npos && rest.find(':') > equals) {
    request.name = rest.substr(0, equals);
    rest.erase(0, equals + 1);
    const bool plain =
        !request.name.empty() && std::all_of(request.name.begin(), request.name.end(), [](unsigned char c) {
          return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
        });
    if (!plain) {
      throw util::usage_error({.what = "unusable lens name " + util::in_quotes(request.name),
                               .where = "--lens " + text,
                               .expected = "letters, digits, '-', '_' and '.'"});
    }
  }
  const std::size_t colon = rest.find(':');
  request.type = rest.substr(0, colon);
  if (colon != std::string::npos) request.path = rest.substr(colon + 1);
  const LensType* type = find_lens_type(request.type);
  if (type == nullptr || type->files.has_value() == request.path.empty() ||
      (!type->files && colon != std::string::npos)) {
    throw util::usage_error({.what = "unusable lens",
                             .where = "--lens",
                             .expected = lens_words() + ", perhaps after NAME=",
                             .found = util::in_quotes(text)});
  }
  return request;
}

std::vector<LensRequest> with_names(std::vector<LensRequest> requests) {
  std::set<std::string> taken;
  const auto take = [&](const std::string& name) {
    if (taken.insert(name).second) return;
    throw util::usage_error({.what = "two lenses are called " + util::in_quotes(name), .where = "--lens"});
  };
  std::map<std::string, std::set<Parts>> unnamed;  // type → paths
  for (const LensRequest& request : requests) {
    if (!request.name.empty()) take(request.name);
    if (request.name.empty()) unnamed[request.type].insert(parts_of_path(request.path));
  }
  std::map<std::string, int> count;
  for (LensRequest& request : requests) {
    if (!request.name.empty()) continue;
    const std::set<Parts>& paths = unnamed[request.type];
    const std::string name = paths.size() == 1
                                 ? request.type
                                 : name_with(request.type, telling_part(parts_of_path(request.path), paths));
    const int number = ++count[name];
    request.name = number == 1 ? name : util::cat(name, "-", number);
    take(request.name);
  }
  return requests;
}

std::unique_ptr<Lens> load_lens(const LensRequest& request, const model::Model& model, Alignment alignment) {
  const LensType* type = find_lens_type(request.type);
  DEPTHLENS_ASSERT(type != nullptr);
  return type->make(request, model, alignment);
}

at::Tensor checked_parameter(const at::Tensor& tensor, const std::vector<std::int64_t>& shape,
                             const std::string& name, const std::string& file) {
  require_shape(tensor, shape, name, file);
  const at::Tensor values = tensor.to(at::kFloat).contiguous();
  if (!at::isfinite(values).all().item<bool>()) {
    throw util::format_error({.what = "a lens parameter is not finite", .where = file + ": " + name});
  }
  return values;
}

std::string lens_digest(const StoredLens& stored) {
  util::Sha256 hash;
  const auto add = [&](const at::Tensor& tensor) {
    const at::Tensor values = tensor.to(at::kFloat).contiguous();
    hash.update(values.const_data_ptr(), static_cast<std::size_t>(values.nbytes()));
  };
  if (const auto* tuned = std::get_if<StoredTunedLens>(&stored)) {
    for (std::size_t i = 0; i < tuned->weights.size(); ++i) {
      add(tuned->weights[i]);
      if (!tuned->biases.empty()) add(tuned->biases[i]);
    }
    return hash.hex_digest();
  }
  const auto& jacobians = std::get<StoredJacobianLens>(stored).jacobians;
  if (anchor_of(std::get<StoredJacobianLens>(stored).facts) == Anchor::kInput) hash.update("resid_pre\n", 10);
  const bool has_gaps = jacobians.rbegin()->first + 1 != static_cast<std::int64_t>(jacobians.size());
  for (const auto& [block, jacobian] : jacobians) {
    const std::string number = std::to_string(block) + "\n";
    if (has_gaps) hash.update(number.data(), number.size());
    add(jacobian);
  }
  return hash.hex_digest();
}

}  // namespace depthlens::lens
