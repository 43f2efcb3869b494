// Which sources with which macros, and what a launch is given.
#include "compute/cuda/kernels.hpp"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "compute/cuda/kernel_files.hpp"
#include "compute/cuda/split_terms.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/rounding.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::compute::cuda {
namespace {

std::string text_of(std::string_view name) {
  for (const KernelFile& file : kernel_files()) {
    if (file.name == name) return std::string(file.text);
  }
  DEPTHLENS_ASSERT(false);
  return {};
}

/// Holds the size of a kernel's type to ours when it is compiled; a test holds the members to their order.
std::string size_check(const char* type, std::size_t size) {
  return util::cat("\nstatic_assert(sizeof(depthlens::compute::cuda::", type, ") == ", size,
                   ", \"as in kernels.hpp\");\n");
}

std::vector<Source::Header> headers(const std::vector<std::string>& names) {
  std::vector<Source::Header> all;
  for (const std::string& name : names) all.push_back({name, text_of(name)});
  return all;
}

/// Mirrors split_terms.cu.
struct SplitWork {
  const void* numbers;
  void* terms;
  long long count;
  int num_terms;
  int type;
};

}  // namespace

std::optional<ReduceVariant> ReduceVariant::for_watched(std::int64_t watched) {
  // Every watched token of every state of a block takes two registers.
  for (const ReduceVariant& variant : {ReduceVariant{4, 2}, ReduceVariant{4, 4}, ReduceVariant{2, 8},
                                       ReduceVariant{1, 16}, ReduceVariant{1, kMaxWatched}}) {
    if (watched <= variant.watched) return variant;
  }
  return std::nullopt;
}

Source reduce_source(const ReduceVariant& variant, std::array<int, 2> capability) {
  return {.text = text_of("reduce_tile.cu") + size_check("TileWork", sizeof(ReduceWork)) +
                  size_check("RowState", sizeof(KeptRow)),
          .headers = headers({"both_sides.hpp", "row_sums.hpp"}),
          .options = {architecture_option(capability), "--std=c++17",
                      util::cat("-DDEPTHLENS_STATES=", variant.states),
                      util::cat("-DDEPTHLENS_WATCHED=", variant.watched),
                      util::cat("-DDEPTHLENS_BIAS=", variant.bias ? 1 : 0),
                      util::cat("-DDEPTHLENS_TRANSFORM=", static_cast<int>(variant.transform))}};
}

Source soften_source(std::array<int, 2> capability) {
  return {.text = text_of("soften_tile.cu") + size_check("SoftenTileWork", sizeof(SoftenWork)),
          .headers = headers({"bfloat16.hpp", "both_sides.hpp", "row_sums.hpp", "softmax_terms.hpp"}),
          .options = {architecture_option(capability), "--std=c++17"}};
}

Source split_source(std::array<int, 2> capability) {
  return {.text = text_of("split_terms.cu"),
          .headers = headers({"bfloat16.hpp", "both_sides.hpp"}),
          .options = {architecture_option(capability), "--std=c++17"}};
}

namespace {

class CardKernels : public Kernels {
 public:
  CardKernels(Card card, std::filesystem::path cache) : card_(std::move(card)), cache_(std::move(cache)) {}

  bool has_reduction(const ReduceVariant& variant) override { return static_cast<bool>(reduction(variant)); }
  void reduce(const ReduceVariant& variant, const ReduceWork& work) override;
  bool has_softening() override { return static_cast<bool>(softening()); }
  void soften(const SoftenWork& work) override;
  at::Tensor split(const at::Tensor& x, std::int64_t count) override;
  void multiply(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, bool add) override {
    at::Tensor to = out;
    if (add) {
      at::addmm_out(to, to, a, b, at::kFloat);
    } else {
      at::mm_out(to, a, b, at::kFloat);
    }
  }

 private:
  /// `source_of`: the source for an architecture.
  template <typename SourceOf>
  Outcome<void*> build(const SourceOf& source_of, const std::string& function);
  /// Says once why a kernel is not there.
  void say(const Outcome<void*>& kernel);
  const Outcome<void*>& reduction(const ReduceVariant& variant);
  const Outcome<void*>& softening();
  const Outcome<void*>& splitting();

  Card card_;
  std::filesystem::path cache_;
  std::mutex mutex_;
  std::optional<Outcome<Compiler>> compiler_;
  std::map<ReduceVariant, Outcome<void*>> reductions_;
  std::optional<Outcome<void*>> softening_, splitting_;
  bool said_ = false;
};

template <typename SourceOf>
Outcome<void*> CardKernels::build(const SourceOf& source_of, const std::string& function) {
  if (!compiler_) compiler_ = Compiler::open();
  if (!*compiler_) return failure<void*>(compiler_->reason);
  const Compiler& compiler = **compiler_;
  const Source source = source_of(compiler.architecture_for(card_.capability()));
  const Outcome<std::string> cubin = compiler.compile(source, cache_);
  if (!cubin) return failure<void*>(cubin.reason);
  return card_.load(*cubin, function);
}

void CardKernels::say(const Outcome<void*>& kernel) {
  if (kernel || said_) return;
  said_ = true;
  util::log_info("sums over the vocabulary on the card by libtorch's operations, which is slower: " +
                 kernel.reason);
}

const Outcome<void*>& CardKernels::reduction(const ReduceVariant& variant) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto found = reductions_.find(variant);
  if (found == reductions_.end()) {
    const auto source = [&](std::array<int, 2> architecture) { return reduce_source(variant, architecture); };
    found = reductions_.emplace(variant, build(source, "depthlens_reduce_tile")).first;
    say(found->second);
  }
  return found->second;
}

void CardKernels::reduce(const ReduceVariant& variant, const ReduceWork& work) {
  if (work.num_states == 0 || work.num_positions == 0) return;
  card_.launch(*reduction(variant),
               {.x = work.num_positions, .y = util::ceil_div(work.num_states, variant.states)}, &work);
}

const Outcome<void*>& CardKernels::softening() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!softening_) {
    softening_ = build(soften_source, "depthlens_soften_tile");
    say(*softening_);
  }
  return *softening_;
}

void CardKernels::soften(const SoftenWork& work) {
  if (work.num_rows > 0) card_.launch(*softening(), {.x = work.num_rows}, &work);
}

const Outcome<void*>& CardKernels::splitting() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!splitting_) splitting_ = build(split_source, "depthlens_split_terms");
  return *splitting_;
}

at::Tensor CardKernels::split(const at::Tensor& x, std::int64_t count) {
  const at::ScalarType type = x.scalar_type();
  const bool known = type == at::kFloat || type == at::kHalf || type == at::kBFloat16;
  if (count == 1 || !known || x.numel() == 0 || x.numel() % 4 != 0) return split_terms(x, count);
  const Outcome<void*>& kernel = splitting();
  if (!kernel) return split_terms(x, count);
  const at::Tensor numbers = x.contiguous();
  if (reinterpret_cast<std::uintptr_t>(numbers.const_data_ptr()) % 16 != 0) return split_terms(x, count);
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.insert(shape.begin(), count);
  at::Tensor terms = at::empty(shape, x.options().dtype(at::kBFloat16));
  const SplitWork work{.numbers = numbers.const_data_ptr(),
                       .terms = terms.mutable_data_ptr(),
                       .count = numbers.numel(),
                       .num_terms = static_cast<int>(count),
                       .type = type == at::kFloat  ? 0
                               : type == at::kHalf ? 1
                                                   : 2};
  constexpr std::int64_t kOfBlock = 4 * 256;
  card_.launch(
      *kernel,
      {.x = std::min<std::int64_t>(util::ceil_div(work.count, kOfBlock), 16L * card_.multiprocessors())},
      &work);
  return terms;
}

}  // namespace

std::shared_ptr<Kernels> make_card_kernels(const Card& card, const std::filesystem::path& cache) {
  // What is compiled and loaded serves all backends of a card.
  static std::mutex mutex;
  static std::map<int, std::shared_ptr<Kernels>> of_cards;
  const std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<Kernels>& kernels = of_cards[card.index()];
  if (kernels == nullptr) kernels = std::make_shared<CardKernels>(card, cache);
  return kernels;
}

}  // namespace depthlens::compute::cuda
