// What the writers write is read back by this project's readers; tools/scripts/check_lens_files.py holds the
// same files against PyTorch and safetensors.
#include "depthlens/io/writers.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>

#include "depthlens/util/files.hpp"
#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;
using io::PickleValue;
using io::TensorFile;
using util::ErrorCode;

namespace {

const std::vector<at::ScalarType> kDtypes = {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong,
                                             at::kInt,    at::kShort, at::kChar, at::kByte,     at::kBool};

/// One tensor of each type with three values: their lengths would leave larger types unaligned in this order.
io::NamedTensors one_of_each() {
  io::NamedTensors tensors;
  for (auto dtype = kDtypes.rbegin(); dtype != kDtypes.rend(); ++dtype)
    tensors.emplace_back(std::string("t.") + at::toString(*dtype), at::arange(3).to(*dtype));
  return tensors;
}

PickleValue text(const std::string& value) {
  PickleValue result;
  result.kind = PickleValue::Kind::kString;
  result.string = value;
  return result;
}
PickleValue integer(std::int64_t value) {
  PickleValue result;
  result.kind = PickleValue::Kind::kInteger;
  result.integer = value;
  return result;
}
PickleValue number(double value) {
  PickleValue result;
  result.kind = PickleValue::Kind::kNumber;
  result.number = value;
  return result;
}
PickleValue boolean(bool value) {
  PickleValue result;
  result.kind = PickleValue::Kind::kBool;
  result.boolean = value;
  return result;
}
PickleValue list(std::vector<PickleValue> items, PickleValue::Kind kind = PickleValue::Kind::kList) {
  PickleValue result;
  result.kind = kind;
  result.list = std::move(items);
  return result;
}
PickleValue dictionary(std::vector<PickleValue> keys_and_values) {
  return list(std::move(keys_and_values), PickleValue::Kind::kDictionary);
}
PickleValue tensor(const at::Tensor& values) {
  PickleValue result;
  result.kind = PickleValue::Kind::kTensor;
  result.values = values;
  return result;
}

void check_equal(const PickleValue& a, const PickleValue& b) {
  REQUIRE(a.kind == b.kind);
  CHECK(a.boolean == b.boolean);
  CHECK(a.integer == b.integer);
  CHECK(a.number == b.number);
  CHECK(a.string == b.string);
  CHECK(a.ordered == b.ordered);
  REQUIRE(a.list.size() == b.list.size());
  for (std::size_t i = 0; i < a.list.size(); ++i) check_equal(a.list[i], b.list[i]);
  if (a.kind != PickleValue::Kind::kTensor) return;
  const at::Tensor values = io::tensor_view(b.tensor);
  CHECK(a.values.scalar_type() == values.scalar_type());
  CHECK(at::equal(a.values, values));
}

std::size_t num_files(const TemporaryFolder& folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& item : std::filesystem::directory_iterator(folder.path())) ++count;
  return count;
}

}  // namespace

TEST_CASE("safetensors writer: every type, empty and strided tensors, metadata") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.safetensors";
  io::NamedTensors tensors = one_of_each();
  const at::Tensor base = at::arange(12, at::kFloat).view({3, 4});
  tensors.emplace_back("transposed", base.t());
  tensors.emplace_back("column", base.select(1, 2));
  tensors.emplace_back("empty", at::empty({0, 3}));
  tensors.emplace_back("scalar", at::tensor(7.5));
  tensors.emplace_back("na\u00efve \"name\"", at::tensor({1, 2}));
  const std::map<std::string, std::string> metadata = {
      {"format", "x"}, {"text", "line\nna\u00efve"}, {"", ""}};
  io::write_safetensors(path, tensors, metadata);

  const TensorFile file = TensorFile::open_safetensors(path);
  CHECK(file.metadata() == metadata);
  REQUIRE(file.entries().size() == tensors.size());
  for (const auto& [name, values] : tensors) {
    INFO(name);
    const io::TensorEntry& entry = file.entries().at(name);
    CHECK(entry.dtype == values.scalar_type());
    CHECK(entry.offset % c10::elementSize(entry.dtype) == 0);
    CHECK(file.view(name).sizes() == values.sizes());
    CHECK(at::equal(file.view(name), values));
  }
  const std::string bytes = util::read_file(path);
  CHECK(static_cast<unsigned char>(bytes[0]) % 8 == 0);
  CHECK(num_files(folder) == 1);
  const auto again = folder.path() / "again.safetensors";
  io::write_safetensors(again, tensors, metadata);
  CHECK(util::read_file(again) == bytes);
}

TEST_CASE("safetensors writer: no tensors, no metadata; one type in the given order") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.safetensors";
  io::write_safetensors(path, {}, {});
  CHECK(TensorFile::open_safetensors(path).entries().empty());
  io::write_safetensors(path, {{"b", at::tensor({1.0F})}, {"a", at::tensor({2.0F})}}, {});
  const std::string expected = R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                               R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})";
  CHECK(util::read_file(path).substr(8, expected.size()) == expected);
}

TEST_CASE("torch archive writer: values of every kind") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "lens.v1.pt";
  std::vector<PickleValue> integers;
  for (const std::int64_t value : {0L, 1L, 255L, 256L, 65535L, 65536L, 2147483647L, 2147483648L, -1L,
                                   -2147483648L, -2147483649L, INT64_MAX, INT64_MIN})
    integers.push_back(integer(value));
  std::vector<PickleValue> tensors;
  for (const auto& [name, values] : one_of_each()) {
    tensors.push_back(text(name));
    tensors.push_back(tensor(values));
  }
  PickleValue state = dictionary(std::move(tensors));
  state.ordered = true;
  const PickleValue value = dictionary(
      {text("integers"), list(integers), text("numbers"), list({number(-1.5), number(1e300), number(0)}),
       text("plain"), list({PickleValue(), boolean(true), boolean(false), text(""), text("na\u00efve\n")}),
       text("state"), state, text("empty"), list({dictionary({}), list({})}), text("J"),
       dictionary({integer(0), tensor(at::arange(4).view({2, 2}).to(at::kHalf)), integer(-3),
                   tensor(at::arange(6, at::kFloat).view({2, 3}).t()), integer(7), tensor(at::tensor(2.5)),
                   integer(8), tensor(at::empty({0, 3}))})});
  io::write_torch_archive(path, value);
  check_equal(value, io::read_torch_archive(path));
  CHECK(num_files(folder) == 1);
  // What was read can be written again, and the bytes do not depend on when.
  const std::string bytes = util::read_file(path);
  io::write_torch_archive(path, io::read_torch_archive(path));
  CHECK(util::read_file(path) == bytes);
  CHECK(bytes.find("archive/data.pkl") != std::string::npos);  // as of torch.save into a stream
}

TEST_CASE("writers: a failure leaves nothing and says why") {
  const TemporaryFolder folder;
  const at::Tensor values = at::arange(3);
  const auto write_both = [&](const std::filesystem::path& place, const at::Tensor& x,
                              const std::string& name, ErrorCode code,
                              const std::vector<std::string>& parts) {
    check_error(code, parts, [&] { io::write_safetensors(place, {{name, x}}, {}); });
    check_error(code, parts, [&] { io::write_torch_archive(place, dictionary({text(name), tensor(x)})); });
  };
  write_both(folder.path() / "absent" / "x.pt", values, "x", ErrorCode::kOutput, {"cannot write", "x.pt"});
  std::filesystem::create_directory(folder.path() / "taken");
  write_both(folder.path() / "taken", values, "x", ErrorCode::kOutput, {"cannot write", "taken"});
  write_both(folder.path() / "x.pt", values.to(at::kComplexFloat), "x", ErrorCode::kFormat,
             {"x.pt", "Complex"});
  write_both(folder.path() / "x.pt", values, "\xff", ErrorCode::kFormat, {"UTF-8"});
  CHECK(num_files(folder) == 1);  // the folder
}
