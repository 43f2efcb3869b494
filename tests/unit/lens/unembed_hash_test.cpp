// tuned-lens' hash against NumPy's own print (tools/scripts/make_unembed_hash_golden.py).
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <filesystem>

#include "depthlens/io/checkpoint.hpp"
#include "depthlens/lens/provenance.hpp"
#include "depthlens/model/model.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json.hpp"
#include "support/catch.hpp"
#include "support/devices.hpp"

using namespace depthlens;

namespace {

const std::filesystem::path kGolden = DEPTHLENS_TEST_DATA;

/// Where the rows (or columns) of a stored corner stand in the whole matrix.
at::Tensor places(std::int64_t stored, std::int64_t size) {
  if (stored == size) return at::arange(size);
  return at::cat({at::arange(3), at::arange(size - 3, size)});
}

}  // namespace

TEST_CASE("unembed_hash equals tuned-lens' hash of matrices of every kind") {
  const std::string where = (kGolden / "unembed_hash.json").string();
  const util::Json document = util::parse_json(util::read_file(where), where);
  const auto file = io::TensorFile::open_safetensors(kGolden / "unembed_hash.safetensors");
  CHECK(document.size() == file.entries().size());
  for (const auto& [name, described] : document.items()) {
    INFO(name << "\n" << described.value("text", ""));
    const at::Tensor corner = file.view(name);
    const std::vector<std::int64_t> shape = described["shape"];
    at::Tensor whole = at::zeros(shape, corner.scalar_type());
    whole.index_put_({places(corner.size(0), shape[0]).unsqueeze(1), places(corner.size(1), shape[1])},
                     corner);
    CHECK(described["hash"] == lens::unembed_hash(whole));
    CHECK(described["hash"] == lens::unembed_hash(whole.t().contiguous().t()));
  }
}

TEST_CASE("unembed_hash of no numbers is that of NumPy's []") {
  CHECK(lens::unembed_hash(at::empty({0, 4})) == util::sha256("[]"));
}

TEST_CASE("unembed_hash of a model is what its golden lens was made with") {
  for (const std::string variant : {"gpt2", "neox-parallel", "llama-gqa-sharded"}) {
    const std::filesystem::path folder = kGolden / "models" / variant;
    const auto config = util::parse_json(util::read_file(folder / "lens/tuned/config.json"), variant);
    const auto model = model::Model::load(folder, {});
    CHECK(config["unembed_hash"] == lens::unembed_hash(model->head().unembedding.weight));
  }
}

TEST_CASE("model_digest is SHA-256 over the float32 bytes, however the matrix is stored") {
  at::Tensor unembedding = at::arange(3000, at::kFloat).view({1000, 3}) / 8;
  const std::string digest = lens::model_digest(unembedding);
  const auto* bytes = static_cast<const char*>(unembedding.const_data_ptr());
  CHECK(digest == util::sha256({bytes, unembedding.nbytes()}));
  unembedding = unembedding.to(at::kDouble).t().contiguous().t();
  CHECK(lens::model_digest(unembedding) == digest);
  CHECK(lens::model_digest(unembedding + 1e-3) != digest);
}

TEST_CASE("a model's digests are those of what its checkpoint stores, whatever the arithmetic") {
  for (const std::string variant : {"gpt2", "neox-parallel", "llama-gqa-sharded"}) {  // tied and not
    INFO(variant);
    const std::filesystem::path folder = kGolden / "models" / variant;
    const auto exact = model::Model::load(folder, {});
    for (const std::string& device : test::devices()) {
      const auto there = model::Model::load(folder, {.backends = test::backends_on(device)});
      CHECK(lens::model_fingerprint(*there) == lens::model_fingerprint(*exact));
      CHECK(lens::unembed_hash(there->head().unembedding.weight) ==
            lens::unembed_hash(exact->head().unembedding.weight));
    }
    const at::Tensor unembedding = lens::stored_unembedding(*exact);
    for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
      const auto rounded = model::Model::load(folder, {.dtype = dtype});
      if (variant == "gpt2")  // stored as float32
        CHECK(lens::model_digest(rounded->head().unembedding.weight) != lens::model_digest(unembedding));
      CHECK(lens::model_digest(lens::stored_unembedding(*rounded)) == lens::model_digest(unembedding));
      CHECK(lens::model_fingerprint(*rounded) == lens::model_fingerprint(*exact));
      CHECK(lens::unembed_hash(unembedding, dtype) == lens::unembed_hash(rounded->head().unembedding.weight));
    }
    const auto streamed = model::Model::load(folder, {.stream_layers = true});
    CHECK(lens::unembed_hash(lens::stored_unembedding(*streamed)) == lens::unembed_hash(unembedding));
  }
}
