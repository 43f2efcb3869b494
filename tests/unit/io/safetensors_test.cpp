// The safetensors reader: values of every dtype, and each way in which a file can be wrong.
#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;
using io::TensorFile;
using util::ErrorCode;

namespace {

const std::string kTwoTensors = R"({"__metadata__":{"format":"pt"},)"
                                R"("a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                                R"("b":{"dtype":"I64","shape":[],"data_offsets":[16,24]}})";

std::string two_tensors() {
  return safetensors(kTwoTensors, bytes_of<float>({1, -2, 3.5, 4}) + bytes_of<std::int64_t>({7}));
}

/// Opens a file with this header and that many bytes of data, and expects a format error that holds `parts`.
void check_refused(const std::string& header, std::size_t data_bytes, const std::vector<std::string>& parts) {
  const TemporaryFolder folder;
  const auto path = folder.write("bad.safetensors", safetensors(header, std::string(data_bytes, 'x')));
  INFO(header);
  check_error(ErrorCode::kFormat, parts, [&] { TensorFile::open_safetensors(path); });
}

std::string one_tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return util::cat(R"({"w":{"dtype":")", dtype, R"(","shape":)", shape, R"(,"data_offsets":)", offsets, "}}");
}

}  // namespace

TEST_CASE("safetensors: values, shapes, metadata and sizes") {
  const TemporaryFolder folder;
  const TensorFile file = TensorFile::open_safetensors(folder.write("x.safetensors", two_tensors()));
  CHECK(file.entries().size() == 2);
  CHECK(file.metadata().at("format") == "pt");
  CHECK(file.num_elements() == 5);
  CHECK(file.num_bytes() == 24);
  CHECK(file.has("a"));
  CHECK_FALSE(file.has("c"));
  const at::Tensor a = file.view("a");
  CHECK(a.sizes() == at::IntArrayRef({2, 2}));
  CHECK(values_of(a) == std::vector<double>{1, -2, 3.5, 4});
  CHECK(file.view("b").dim() == 0);
  CHECK(file.view("b").scalar_type() == at::kLong);
  CHECK(values_of(file.view("b")) == std::vector<double>{7});
}

TEST_CASE("safetensors: metadata may be null") {
  const TemporaryFolder folder;
  const std::string header = R"({"__metadata__":null,"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  const TensorFile file =
      TensorFile::open_safetensors(folder.write("x.safetensors", safetensors(header, bytes_of<float>({2}))));
  CHECK(file.metadata().empty());
  CHECK(file.entries().size() == 1);
}

TEST_CASE("safetensors: a view outlives its file object, and load copies only where it must") {
  const TemporaryFolder folder;
  const auto path = folder.write("x.safetensors", two_tensors());
  at::Tensor view;
  {
    // The header is padded to 8 bytes by writers; here it is not, so look at a copy that is.
    std::string header = kTwoTensors;
    header.resize((header.size() + 7) / 8 * 8, ' ');
    const auto aligned =
        folder.write("aligned.safetensors",
                     safetensors(header, bytes_of<float>({1, -2, 3.5, 4}) + bytes_of<std::int64_t>({7})));
    const TensorFile file = TensorFile::open_safetensors(aligned);
    view = file.view("a");
    CHECK(file.load("a", at::kFloat).data_ptr() == view.data_ptr());
    CHECK(file.load("a", at::kDouble).data_ptr() != view.data_ptr());
    CHECK(file.load("a", at::kDouble).scalar_type() == at::kDouble);
  }
  CHECK(values_of(view) == std::vector<double>{1, -2, 3.5, 4});
}

TEST_CASE("safetensors: every dtype") {
  struct Case {
    std::string name;
    at::ScalarType dtype;
    std::string bytes;  // of 1, 0, 2
  };
  const auto halves = [](std::uint16_t one, std::uint16_t two) {
    return bytes_of<std::uint16_t>({one, 0, two});
  };
  const std::vector<Case> cases = {
      {"F64", at::kDouble, bytes_of<double>({1, 0, 2})},
      {"F32", at::kFloat, bytes_of<float>({1, 0, 2})},
      {"F16", at::kHalf, halves(0x3c00, 0x4000)},
      {"BF16", at::kBFloat16, halves(0x3f80, 0x4000)},
      {"I64", at::kLong, bytes_of<std::int64_t>({1, 0, 2})},
      {"I32", at::kInt, bytes_of<std::int32_t>({1, 0, 2})},
      {"I16", at::kShort, bytes_of<std::int16_t>({1, 0, 2})},
      {"I8", at::kChar, bytes_of<std::int8_t>({1, 0, 2})},
      {"U8", at::kByte, bytes_of<std::uint8_t>({1, 0, 2})},
      {"BOOL", at::kBool, bytes_of<std::uint8_t>({1, 0, 2})},  // the 2 is true as well
  };
  // Each header length from 0 to 7 modulo 8, so that every dtype is met both aligned and not.
  for (const Case& one : cases) {
    for (int padding = 0; padding < 8; ++padding) {
      INFO(one.name << " with " << padding << " bytes of padding");
      const std::string header =
          one_tensor(one.name, "[3]", util::cat("[0,", one.bytes.size(), "]")) + std::string(padding, ' ');
      const TemporaryFolder folder;
      const TensorFile file =
          TensorFile::open_safetensors(folder.write("x.safetensors", safetensors(header, one.bytes)));
      const std::vector<double> expected = {1, 0, one.dtype == at::kBool ? 1.0 : 2.0};
      CHECK(file.view("w").scalar_type() == one.dtype);
      CHECK(values_of(file.view("w")) == expected);
      CHECK(file.load("w", one.dtype).scalar_type() == one.dtype);
      CHECK(values_of(file.load("w", one.dtype)) == expected);
      CHECK(file.load("w", at::kFloat).scalar_type() == at::kFloat);
      CHECK(values_of(file.load("w", at::kFloat)) == expected);
    }
  }
}

TEST_CASE("safetensors: a tensor that is converted in several pieces") {
  const std::int64_t rows = 1300;
  const std::int64_t columns = 2049;  // the pieces end inside of rows
  std::vector<std::uint16_t> halves(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < halves.size(); ++i)
    halves[i] = static_cast<std::uint16_t>(i % 0x7f00);  // finite bf16
  for (const int padding : {0, 1}) {                     // with 1 the elements are not aligned
    std::string header =
        one_tensor("BF16", util::cat("[", rows, ",", columns, "]"), util::cat("[0,", halves.size() * 2, "]"));
    header.resize((header.size() + 7) / 8 * 8 + static_cast<std::size_t>(padding), ' ');
    const TemporaryFolder folder;
    const TensorFile file =
        TensorFile::open_safetensors(folder.write("x.safetensors", safetensors(header, bytes_of(halves))));
    for (int pass = 0; pass < 2; ++pass) {  // the pages come back after they were released
      const at::Tensor loaded = file.load("w", at::kFloat);
      REQUIRE(loaded.sizes() == at::IntArrayRef({rows, columns}));
      const float* values = loaded.data_ptr<float>();
      std::int64_t wrong = 0;
      for (std::size_t i = 0; i < halves.size(); ++i) {
        const std::uint32_t bits = std::uint32_t{halves[i]} << 16;
        if (std::memcmp(&bits, values + i, 4) != 0) ++wrong;
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("safetensors: no tensors, and tensors without elements") {
  const TemporaryFolder folder;
  CHECK(TensorFile::open_safetensors(folder.write("none.safetensors", safetensors("{}", "")))
            .entries()
            .empty());
  const std::string header = R"({"e":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},)"
                             R"("w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                             R"("z":{"dtype":"F64","shape":[2,0],"data_offsets":[2,2]}})";
  const TensorFile file =
      TensorFile::open_safetensors(folder.write("e.safetensors", safetensors(header, "ab")));
  CHECK(file.load("e", at::kFloat).sizes() == at::IntArrayRef({0, 3}));
  CHECK(file.load("z", at::kFloat).sizes() == at::IntArrayRef({2, 0}));
  CHECK(values_of(file.view("w")) == std::vector<double>{'a', 'b'});
}

TEST_CASE("safetensors: a tensor that is absent is named, with the nearest name") {
  const TemporaryFolder folder;
  const std::string header = R"({"lm_head.weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  const TensorFile file =
      TensorFile::open_safetensors(folder.write("x.safetensors", safetensors(header, "a")));
  check_error(ErrorCode::kFormat, {"no tensor 'lm_head.weigth'", "x.safetensors", "'lm_head.weight'"},
              [&] { file.view("lm_head.weigth"); });
  check_error(ErrorCode::kFormat, {"no tensor 'lm_head.weigth'"},
              [&] { file.load("lm_head.weigth", at::kFloat); });
}

TEST_CASE("safetensors: files that are no safetensors files") {
  const TemporaryFolder folder;
  const auto refuse = [&](const std::string& bytes, const std::vector<std::string>& parts) {
    const auto path = folder.write("bad.safetensors", bytes);
    check_error(ErrorCode::kFormat, parts, [&] { TensorFile::open_safetensors(path); });
  };
  refuse("", {"is no safetensors file", "8 bytes of header length", "0 bytes"});
  refuse("abc", {"found 3 bytes"});
  refuse(little_endian(3, 8) + "{}", {"cut or no safetensors file", "at most 2 bytes", "header length of 3"});
  refuse(little_endian(UINT64_MAX, 8) + "{}", {"header length of 18446744073709551615"});
  refuse(little_endian(0, 8), {"expected a JSON object"});
  refuse(safetensors(" {}", ""), {"byte 8", "expected a JSON object"});
  refuse(safetensors("[]", ""), {"expected a JSON object"});
  refuse(safetensors("{} x", ""), {"not valid JSON"});
  refuse(safetensors("{\"a\xff\":1}", ""), {"not valid JSON"});
  refuse("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
         {"a git-lfs pointer", "git lfs pull"});
  check_error(ErrorCode::kInput, {"cannot read", "absent.safetensors"},
              [&] { TensorFile::open_safetensors(folder.path() / "absent.safetensors"); });
  check_error(ErrorCode::kInput, {"a folder"}, [&] { TensorFile::open_safetensors(folder.path()); });
}

TEST_CASE("safetensors: headers that do not fit their file") {
  check_refused(one_tensor("F8_E5M2", "[2]", "[0,2]"), 2, {"unsupported dtype", ": w", "BF16", "'F8_E5M2'"});
  check_refused(one_tensor("float32", "[2]", "[0,8]"), 8, {"unsupported dtype", "'float32'"});
  check_refused(one_tensor("F32", "[2]", "[0,8]"), 7, {"data_offsets", "within the 7 bytes"});
  check_refused(one_tensor("F32", "[2]", "[8,0]"), 8, {"begin and end in order"});
  check_refused(one_tensor("F32", "[2]", "[0,4]"), 8, {"8 bytes for shape [2] of Float"});
  check_refused(one_tensor("F32", "[2]", "[0,12]"), 12, {"8 bytes for shape"});
  check_refused(one_tensor("F32", "[2]", "[-8,0]"), 8, {"data_offsets[0]", "an integer from 0"});
  check_refused(one_tensor("F32", "[2]", "[0,18446744073709551615]"), 8,
                {"data_offsets[1]", "an integer from 0"});
  check_refused(one_tensor("F32", "[2]", "[0]"), 8, {"an array of begin and end"});
  check_refused(one_tensor("F32", "[2]", "{}"), 8, {"an array of begin and end"});
  check_refused(one_tensor("F32", "[-2]", "[0,8]"), 8, {"shape[0]", "an integer from 0"});
  check_refused(one_tensor("F32", "[2.0]", "[0,8]"), 8, {"shape[0]", "an integer from 0"});
  check_refused(one_tensor("F32", "2", "[0,8]"), 8, {"shape", "an array"});
  check_refused(one_tensor("F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, {"at most 16 sizes"});
  check_refused(one_tensor("F32", "[4294967296,4294967296]", "[0,0]"), 0, {"the shape is too large"});
  check_refused(one_tensor("F32", "[4294967296,4294967296,0]", "[0,0]"), 0, {"the shape is too large"});
  check_refused(one_tensor("F64", "[4611686018427387904]", "[0,0]"), 0, {"the shape is too large"});
  check_refused(one_tensor("F32", "[2]", "[4,12]"), 12, {"a hole between tensors", "begin of 0", "found 4"});
  check_refused(one_tensor("F32", "[2]", "[0,8]"), 9,
                {"bytes that belong to no tensor", "expected 8", "found 9"});
  check_refused(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
                6, {"tensors overlap", ": b"});
  check_refused(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                R"("b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
                5, {"a hole between tensors", ": b"});
  check_refused(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                R"("a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
                4, {"'a' twice"});
  check_refused(R"({"a":{"shape":[2],"data_offsets":[0,2]}})", 2, {"missing key 'dtype'"});
  check_refused(R"({"a":{"dtype":"U8","data_offsets":[0,2]}})", 2, {"missing key 'shape'"});
  check_refused(R"({"a":{"dtype":"U8","shape":[2]}})", 2, {"missing key 'data_offsets'"});
  check_refused(R"({"a":7})", 0, {": a", "an object"});
  check_refused(R"({"__metadata__":{"format":7}})", 0, {"__metadata__: format", "a string"});
  check_refused(R"({"__metadata__":[]})", 0, {"an object"});
  check_refused(R"({"x":null})", 0, {"an object"});
  check_refused(util::cat("{\"a\":", std::string(600, '['), std::string(600, ']'), "}"), 0,
                {"nesting deeper than 512"});
}

TEST_CASE("safetensors: a file cut at every byte is refused") {
  const TemporaryFolder folder;
  const std::string whole = two_tensors();
  const auto opens = [&](const std::string& bytes) {
    return survives(folder, bytes, TensorFile::open_safetensors);
  };
  REQUIRE(opens(whole));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    INFO("cut at " << length);
    CHECK_FALSE(opens(whole.substr(0, length)));
  }
  CHECK_FALSE(opens(whole + "x"));
}

TEST_CASE("safetensors: any byte of the header may be wrong") {
  const TemporaryFolder folder;
  const std::string whole = two_tensors();
  int read = 0;
  for (std::size_t i = 0; i < 8 + kTwoTensors.size(); ++i) {
    for (const int change : {0x01, 0x02, 0x10, 0x80, 0xff}) {
      read += survives(folder, changed(whole, i, change), TensorFile::open_safetensors);
    }
  }
  CHECK(read > 0);  // such as another name of a tensor
}
