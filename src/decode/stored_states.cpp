// Reads and writes files of residual states.
#include "depthlens/decode/stored_states.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>
#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "decode/stored_tensors.hpp"
#include "depthlens/io/checkpoint.hpp"
#include "depthlens/io/writers.hpp"
#include "depthlens/model/finite.hpp"
#include "depthlens/util/descriptor.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::decode {
namespace {

constexpr const char* kStates = "hidden_states";
constexpr const char* kTokens = "token_ids";
constexpr int kDocumentDigits = 9, kWindowDigits = 6;  // at the least, of names

[[noreturn]] void refuse(const std::string& path, const std::string& what, const std::string& expected,
                         const std::string& found, const std::string& hint = "") {
  throw util::input_error({.what = what, .where = path, .expected = expected, .found = found, .hint = hint});
}

/// Whether somebody holds a lock. The file of one may stay behind, as of vLLM's.
bool is_held(const std::string& lock) {
  const util::Descriptor file(::open(lock.c_str(), O_RDONLY | O_CLOEXEC));
  return file.is_open() && ::flock(file.get(), LOCK_SH | LOCK_NB) != 0;
}

io::TensorFile opened(const std::filesystem::path& path) {
  if (const std::string lock = path.string() + ".lock"; is_held(lock)) {
    refuse(path.string(), "the states are still being written", "nobody that holds " + lock, "somebody",
           "wait for their end; where none writes, the file system has no locks: remove it");
  }
  try {
    return io::TensorFile::open_safetensors(path);
  } catch (const util::Error& error) {
    if (error.code() != util::ErrorCode::kFormat) throw;
    util::ErrorText text = error.text();  // a fault of an input, not of a model
    throw util::input_error(std::move(text));
  }
}

}  // namespace

StoredStates::StoredStates(const std::filesystem::path& path, const Expected& expected)
    : path_(path.string()) {
  const io::TensorFile file = opened(path);
  for (const char* name : {kStates, kTokens}) {
    if (file.has(name)) continue;
    std::vector<std::string> names;
    constexpr std::size_t kShown = 8;
    for (const auto& [other, entry] : file.entries()) names.push_back(other);
    refuse(path_, util::cat("no tensor '", name, "'"), "hidden_states [T, S, d] and token_ids [T]",
           names.empty() ? "no tensor" : util::join_first(names, kShown));
  }
  const io::TensorEntry &states = file.entries().at(kStates), &ids = file.entries().at(kTokens);
  const auto S = static_cast<std::int64_t>(expected.layers.size());
  if (states.shape.size() != 3)
    refuse(path_, "'hidden_states' has the wrong shape", "[T, S, d]", util::shape_text(states.shape));
  if (states.shape[1] != S) {
    refuse(path_, "'hidden_states' holds another number of layers",
           util::cat(S, S == 1 ? " layer" : " layers"), util::cat(states.shape[1]), expected.hint);
  }
  if (states.shape[2] != expected.hidden_size) {
    refuse(path_, "'hidden_states' has another width than the model", util::cat(expected.hidden_size),
           util::cat(states.shape[2]));
  }
  if (ids.shape.size() != 1 || ids.shape[0] != states.shape[0]) {
    refuse(path_, "'token_ids' does not fit 'hidden_states'", util::cat("[", states.shape[0], "]"),
           util::shape_text(ids.shape));
  }
  const auto is_one_of = [](at::ScalarType type, std::initializer_list<at::ScalarType> types) {
    return std::find(types.begin(), types.end(), type) != types.end();
  };
  if (!is_one_of(states.dtype, {at::kFloat, at::kHalf, at::kBFloat16})) {
    refuse(path_, "'hidden_states' has an unsupported type", "float32, float16 or bfloat16",
           at::toString(states.dtype));
  }
  if (!is_one_of(ids.dtype, {at::kLong, at::kInt}))
    refuse(path_, "'token_ids' has an unsupported type", "int64 or int32", at::toString(ids.dtype));
  const at::Tensor all = file.load(kTokens, at::kLong);
  const std::int64_t* first = all.const_data_ptr<std::int64_t>();
  for (std::int64_t t = 0; t < all.size(0); ++t) {
    if (first[t] < 0 || first[t] >= expected.vocab_size) {
      refuse(path_, util::cat("token_ids[", t, "] lies outside the model's vocabulary"),
             util::cat("ids from 0 to ", expected.vocab_size - 1), util::cat(first[t]));
    }
    tokens_.push_back(static_cast<TokenId>(first[t]));
  }
  auto tensors = std::make_unique<Tensors>();
  tensors->path = path_;
  tensors->layers = expected.layers;
  tensors->states = file.view(kStates);
  tensors_ = std::move(tensors);
}

StoredStates::~StoredStates() = default;

void StoredStates::check_values() const {
  constexpr std::int64_t kAtOnce = 1024;
  const auto T = static_cast<std::int64_t>(tokens_.size());
  for (const std::int64_t layer : tensors_->layers) {
    for (std::int64_t first = 0; first < T; first += kAtOnce) {
      std::vector<std::int64_t> positions(static_cast<std::size_t>(std::min(kAtOnce, T - first)));
      std::iota(positions.begin(), positions.end(), first);
      tensors_->rows(layer, positions);
    }
  }
}

at::Tensor StoredStates::Tensors::rows(std::int64_t layer, const std::vector<std::int64_t>& positions) const {
  const auto place = std::find(layers.begin(), layers.end(), layer);
  DEPTHLENS_ASSERT(place != layers.end());
  const at::Tensor index = at::from_blob(const_cast<std::int64_t*>(positions.data()),
                                         {static_cast<std::int64_t>(positions.size())}, at::kLong);
  const at::Tensor chosen = states.select(1, place - layers.begin()).index_select(0, index).to(at::kFloat);
  // A norm adds up squares.
  const double most = model::largest_for_norm(chosen.size(1));
  const at::Tensor fits = (chosen.abs() <= most).all(1);  // not so where a value is NaN
  if (fits.all().item<bool>()) return chosen;
  const std::int64_t row = fits.to(at::kInt).argmin().item<std::int64_t>();
  const bool finite = at::isfinite(chosen[row]).all().item<bool>();
  refuse(path, finite ? "states that are too large for float32" : "states that are not finite",
         finite ? util::cat("values up to ", most) : "finite numbers",
         util::cat(finite ? "a larger one" : "NaN or an infinity", " at layer ", layer, ", position ",
                   positions[static_cast<std::size_t>(row)]));
}

bool StoredStates::look_normed(const model::OutputHead& head) const {
  // Fewer could have a mean square of 1 by chance.
  constexpr std::int64_t kMin = 4, kMax = 64;
  constexpr double kRounding = 1e-2;
  const at::Tensor& states = tensors_->states;
  if (head.norm == model::NormKind::kNone || states.size(0) < kMin) return false;
  const at::Tensor last = states.select(1, states.size(1) - 1).narrow(0, 0, std::min(kMax, states.size(0)));
  at::Tensor standard = last.to(at::kDouble);
  const auto on_host = [](const at::Tensor& x) { return x.to(at::kCPU, at::kDouble); };
  if (head.norm_bias.defined()) standard = standard - on_host(head.norm_bias);
  if (head.norm_weight.defined()) standard = standard / on_host(head.norm_weight);
  const auto all_near = [&](const at::Tensor& values, double value) {
    return ((values - value).abs() < kRounding).all().item<bool>();  // not so of NaN
  };
  if (!all_near(standard.square().mean(1), 1)) return false;
  return head.norm != model::NormKind::kLayerNorm || all_near(standard.mean(1), 0);
}

std::optional<WindowPlace> place_of_states(const std::filesystem::path& file) {
  const std::string name = file.filename().string();
  const std::size_t dash = name.find('-'), dot = name.find('.');
  const auto number = [&](std::size_t begin, std::size_t end, int least, std::int64_t& value) {
    return end >= begin + static_cast<std::size_t>(least) &&
           name.find_first_not_of("0123456789", begin) == end &&
           util::parse_int(std::string_view(name).substr(begin, end - begin), value);
  };
  WindowPlace place;
  if (dash == name.npos || dot == name.npos || dash > dot || name.substr(dot) != ".safetensors" ||
      !number(0, dash, kDocumentDigits, place.document) ||
      !number(dash + 1, dot, kWindowDigits, place.window))
    return std::nullopt;
  return place;
}

void write_states(const std::filesystem::path& folder, const Query& query,
                  const std::vector<at::Tensor>& residuals, std::int64_t first) {
  const auto T = static_cast<std::int64_t>(query.tokens.size());
  std::vector<at::Tensor> layers;
  for (const at::Tensor& states : residuals) {
    if (states.defined()) layers.push_back(states.narrow(0, first, T).to(at::kCPU));
  }
  std::vector<std::int64_t> ids(query.tokens.begin(), query.tokens.end());
  const at::Tensor tokens = at::from_blob(ids.data(), {T}, at::kLong);
  std::array<char, 64> name;
  std::snprintf(name.data(), name.size(), "%0*lld-%0*lld.safetensors", kDocumentDigits,
                static_cast<long long>(query.document), kWindowDigits, static_cast<long long>(query.window));
  io::write_safetensors(folder / name.data(), {{kStates, at::stack(layers, 1)}, {kTokens, tokens}}, {});
}

}  // namespace depthlens::decode
