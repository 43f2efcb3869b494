// The kernels of cards: compiled where an NVRTC is found, kept in a folder, and run where a card is.
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "compute/aten/aten_backend.hpp"
#include "compute/cuda/cuda_backend.hpp"
#include "compute/cuda/cuda_statistics.hpp"
#include "compute/cuda/kernels.hpp"
#include "compute/cuda/split_terms.hpp"
#include "depthlens/compute/log_sum_exp.hpp"
#include "depthlens/compute/runtime.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "support/catch.hpp"
#include "support/devices.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens {
namespace {

namespace fs = std::filesystem;
namespace cuda = compute::cuda;

/// Libtorch's, or that of a toolkit, or the file that DEPTHLENS_TEST_NVRTC names.
std::optional<cuda::Compiler> any_compiler() {
  std::vector<fs::path> places = {{}};
  if (const char* named = std::getenv("DEPTHLENS_TEST_NVRTC")) places.insert(places.begin(), named);
  for (const char* library : {"libnvrtc.so.13", "libnvrtc.so.12"})
    places.emplace_back(fs::path("/usr/local/cuda/lib64") / library);
  for (const fs::path& place : places) {
    if (auto found = cuda::Compiler::open(place)) return *found;
  }
  WARN("skipped: no libnvrtc is found");
  return std::nullopt;
}

TEST_CASE("cuda kernels: every variant compiles for cards of three generations") {
  const auto compiler = any_compiler();
  if (!compiler) return;
  INFO("NVRTC " << compiler->version() << " of " << compiler->place());
  const std::pair<bool, compute::LogitTransform> heads[] = {
      {false, {}}, {true, {.scale = 0.5}}, {false, {.soft_cap = 30}}, {true, {.soft_cap = 30}}};
  for (const std::array<int, 2> capability : {std::array{8, 0}, {9, 0}, {12, 0}}) {
    const std::array<int, 2> of_that_kind{capability[0], 99};
    if (compiler->architecture_for(of_that_kind) == of_that_kind) continue;  // younger than this NVRTC
    const auto check = [&](cuda::Source source, const std::string& name) {
      source.options.push_back("--ptxas-options=-v");
      const auto cubin = compiler->compile(source);
      INFO(name << " for sm_" << capability[0] << capability[1] << ": " << cubin.reason);
      REQUIRE(cubin);
      CHECK(cubin->substr(1, 3) == "ELF");
      CHECK(cubin->find(name) != std::string::npos);
      // A driver keeps what NVRTC made, and then there is no log.
      if (cubin.reason.empty()) return;
      CHECK(cubin.reason.find(" 0 bytes spill stores") != std::string::npos);
      std::smatch registers;
      const std::regex of_function("function '" + name + "'[^]*?Used ([0-9]+) registers");
      REQUIRE(std::regex_search(cubin.reason, registers, of_function));
      std::cout << util::join(source.options, " ") << ": " << registers[1] << " registers\n";
    };
    for (const auto& [bias, transform] : heads) {
      compute::Unembedding head;
      if (bias) head.bias = at::rand({1});
      head.transform = transform;
      for (const std::int64_t watched : {1, 3, 5, 9, 17}) {
        const auto forms = cuda::ReduceForms::of(watched, 10, head, /*logits_are_kept=*/false);
        REQUIRE(forms);
        CHECK(forms->others.watched >= watched);
        check(cuda::reduce_source(forms->others, capability), "depthlens_reduce_tile");
        if (!bias && transform.is_identity() && forms->others.states > 1)
          check(cuda::reduce_source(forms->final_layer, capability), "depthlens_reduce_tile");
      }
    }
    check(cuda::soften_source(capability), "depthlens_soften_tile");
    check(cuda::split_source(capability), "depthlens_split_terms");
  }
}

TEST_CASE("cuda kernels: a card that NVRTC does not know is compiled for as an older one of its kind") {
  const auto compiler = any_compiler();
  if (!compiler) return;
  using Numbers = std::array<int, 2>;
  CHECK(compiler->architecture_for({8, 0}) == Numbers{8, 0});
  CHECK(compiler->architecture_for({9, 0}) == Numbers{9, 0});
  CHECK(compiler->architecture_for({9, 9}) == Numbers{9, 0});
  CHECK(compiler->architecture_for({99, 1}) == Numbers{99, 1});
  CHECK(compiler->compile(cuda::split_source(compiler->architecture_for({9, 9}))));
}

/// Names of the members of a type of a kernel's source, in their order.
std::string members_of(const std::string& text, const std::string& type) {
  const std::string opening = "struct " + type + " {";
  const std::size_t begin = text.find(opening), end = text.find("\n};", begin);
  REQUIRE(begin != std::string::npos);
  const std::string body = std::regex_replace(
      text.substr(begin + opening.size(), end - begin - opening.size()), std::regex("//.*"), "");
  std::vector<std::string> members;
  static const std::regex name(R"(([a-z_]+)\s*[,;])");
  for (std::sregex_iterator i(body.begin(), body.end(), name), last; i != last; ++i)
    members.push_back((*i)[1]);
  return util::join(members, " ");
}

TEST_CASE("cuda kernels: parameters stand in the order in which they are given") {
  CHECK(members_of(cuda::reduce_source({}, {9, 0}).text, "TileWork") ==
        "products stride num_states num_positions first width final_logits final_stride final_max bias scale "
        "cap "
        "num_best num_groups states best_logits best_ids num_found watched watched_logits num_greater "
        "group_begin "
        "group_tokens group_mass");
  CHECK(members_of(cuda::soften_source({9, 0}).text, "SoftenTileWork") ==
        "logits stride num_rows num_gradients first width token_scale scale by_cap num_terms m sum top "
        "coefficients coefficient_stride expected num_expected");
}

TEST_CASE("cuda kernels: what is compiled is kept, and made anew where it is damaged") {
  const auto compiler = any_compiler();
  if (!compiler) return;
  const test::TemporaryFolder folder;
  const cuda::Source source = cuda::split_source({9, 0});
  const auto cubin = compiler->compile(source, folder.path() / "kept");
  REQUIRE(cubin);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder.path() / "kept")) files.push_back(entry.path());
  REQUIRE(files.size() == 1);
  CHECK(files[0].extension() == ".cubin");
  const std::string kept = util::read_file(files[0]);
  CHECK(kept == util::sha256(*cubin) + "\n" + *cubin);
  CHECK(*compiler->compile(source, folder.path() / "kept") == *cubin);

  for (const std::string& damaged : {kept.substr(0, kept.size() / 2), std::string(), kept + "x"}) {
    util::write_file(files[0], damaged);
    CHECK(*compiler->compile(source, folder.path() / "kept") == *cubin);
    CHECK(util::read_file(files[0]) == kept);
  }
  // Another card or other macros are another file.
  REQUIRE(compiler->compile(cuda::split_source({8, 0}), folder.path() / "kept"));
  CHECK(std::distance(fs::directory_iterator(folder.path() / "kept"), {}) == 2);
  // A folder that cannot be: compiled all the same.
  CHECK(*compiler->compile(source, files[0] / "below") == *cubin);
}

TEST_CASE("cuda kernels: what is not there has a reason") {
  const auto missing = cuda::Compiler::open("/nowhere/libnvrtc.so.13");
  CHECK(!missing);
  CHECK(missing.reason.find("/nowhere/libnvrtc.so.13") != std::string::npos);
  if (compute::num_cuda_devices() == 0)
    CHECK(cuda::Card::open(0).reason.find("CUDA driver") != std::string::npos);
  const auto compiler = any_compiler();
  if (!compiler) return;
  const auto broken = compiler->compile({.text = "int f() { return nothing; }"});
  CHECK(!broken);
  CHECK(broken.reason.find("\"nothing\" is undefined") != std::string::npos);
}

TEST_CASE("cuda kernels: terms by the card's kernel are those of libtorch's operations") {
  if (compute::num_cuda_devices() == 0) return;
  const auto card = cuda::Card::open(0);
  REQUIRE(card);
  CHECK(card->free_memory() > 0);
  CHECK(card->multiprocessors() > 0);
  const auto kernels = cuda::make_card_kernels(*card);
  at::manual_seed(8);
  for (const at::ScalarType type : {at::kFloat, at::kHalf, at::kBFloat16}) {
    for (const std::int64_t width : {4, 33, 4096}) {
      const at::Tensor x = (at::randn({500, width}) * 3).to(type).to(at::kCUDA);
      for (const std::int64_t count : {1, 2, 3}) {
        INFO(at::toString(type) << ", " << width << ", " << count << " terms");
        CHECK(at::equal(kernels->split(x, count), cuda::split_terms(x, count)));
        CHECK(at::equal(kernels->split(x, count).cpu(), cuda::split_terms(x.cpu(), count)));
      }
    }
  }
}

TEST_CASE("cuda kernels: a softmax by the card's kernel is that of float64, whatever its tiles") {
  if (compute::num_cuda_devices() == 0) return;
  const auto card = cuda::Card::open(0);
  REQUIRE(card);
  const auto kernels = cuda::make_card_kernels(*card);
  if (!kernels->has_softening()) return;
  at::manual_seed(9);
  for (const auto& [scale, cap] : {std::pair{1.0, 0.0}, {0.5, 6.0}}) {
    compute::Unembedding head;
    head.weight = at::randn({20011, 192}) / 5;
    head.transform = {.scale = scale, .soft_cap = cap};
    const at::Tensor rows = at::randn({300, 192}), token_scale = at::rand({20011});
    compute::Unembedding wide = head;
    wide.weight = head.weight.to(at::kDouble);
    const auto expected =
        compute::log_sum_exp(*compute::make_aten_pass(wide), rows.to(at::kDouble), 130, token_scale);
    head.weight = head.weight.to(at::kCUDA);
    // Of 2,048 tokens, and of all.
    for (const std::int64_t tile_bytes : {std::int64_t{0}, std::int64_t{1} << 28}) {
      for (const auto& [precision, error] : {std::pair{compute::Precision::kFloat32, 1e-5},
                                             {compute::Precision::kExact, 5e-5},
                                             {compute::Precision::kFast, 2e-2}}) {
        INFO("cap " << cap << ", tiles of " << tile_bytes << " bytes, " << cuda::row_terms(precision)
                    << " terms");
        const auto pass = compute::make_cuda_pass(kernels, precision, head, tile_bytes);
        const auto found = compute::log_sum_exp(*pass, rows.to(at::kCUDA), 130, token_scale.to(at::kCUDA));
        const auto gap = [](const at::Tensor& a, const at::Tensor& b) {
          return (a.to(at::kCPU, at::kDouble) - b).abs().max().item<double>();
        };
        CHECK(gap(found.value, expected.value) < error);
        CHECK(gap(found.gradient, expected.gradient) < error);
        if (precision == compute::Precision::kFloat32) CHECK(at::equal(found.top.cpu(), expected.top));
        const auto again = compute::log_sum_exp(*pass, rows.to(at::kCUDA), 130, token_scale.to(at::kCUDA));
        CHECK(at::equal(again.value, found.value));
        CHECK(at::equal(again.gradient, found.gradient));
      }
    }
  }
}

}  // namespace
}  // namespace depthlens
