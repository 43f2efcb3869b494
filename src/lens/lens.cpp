// Which lenses there are, how they are asked for, and what their files have in common.
#include "depthlens/lens/lens.hpp"

#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <map>
#include <set>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "lens_files.hpp"
#include "stored_lens.hpp"

namespace depthlens::lens {
namespace {

struct Kind {
  std::string type;
  bool has_file;
  std::unique_ptr<Lens> (*make)(const LensRequest&, const model::Model&, Alignment);
};

// To add a lens: write its file, declare its maker in lens_files.hpp, add one line here.
const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"logit", false, make_logit_lens},
      {"tuned", true, make_tuned_lens},
      {"jacobian", true, make_jacobian_lens},
  };
  return all;
}

const Kind* find_kind(const std::string& type) {
  const auto found =
      std::find_if(kinds().begin(), kinds().end(), [&](const Kind& kind) { return kind.type == type; });
  return found == kinds().end() ? nullptr : &*found;
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
  const Kind* kind = find_kind(request.type);
  if (kind == nullptr || kind->has_file != !request.path.empty() ||
      (!kind->has_file && colon != std::string::npos)) {
    throw util::usage_error({.what = "unusable lens",
                             .where = "--lens",
                             .expected = "logit, tuned:PATH or jacobian:PATH, perhaps after NAME=",
                             .found = util::in_quotes(text)});
  }
  return request;
}

std::vector<LensRequest> with_names(std::vector<LensRequest> requests) {
  std::set<std::string> taken;
  for (const LensRequest& request : requests) {
    if (!request.name.empty() && !taken.insert(request.name).second) {
      throw util::usage_error(
          {.what = "two lenses are called " + util::in_quotes(request.name), .where = "--lens"});
    }
  }
  std::map<std::string, int> count;
  for (LensRequest& request : requests) {
    if (!request.name.empty()) continue;
    const int number = ++count[request.type];
    request.name = number == 1 ? request.type : util::cat(request.type, "-", number);
    if (!taken.insert(request.name).second) {
      throw util::usage_error(
          {.what = "two lenses are called " + util::in_quotes(request.name), .where = "--lens"});
    }
  }
  return requests;
}

std::unique_ptr<Lens> load_lens(const LensRequest& request, const model::Model& model, Alignment alignment) {
  const Kind* kind = find_kind(request.type);
  DEPTHLENS_ASSERT(kind != nullptr);
  return kind->make(request, model, alignment);
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

std::string parameter_digest(const std::vector<at::Tensor>& parameters) {
  util::Sha256 hash;
  for (const at::Tensor& tensor : parameters) {
    DEPTHLENS_ASSERT(tensor.is_contiguous() && tensor.scalar_type() == at::kFloat);
    hash.update(tensor.const_data_ptr(), static_cast<std::size_t>(tensor.nbytes()));
  }
  return hash.hex_digest();
}

}  // namespace depthlens::lens
