// torch.save files as PyTorch writes them (tools/scripts/make_torch_archive_golden.py), and damaged archives.
#include "depthlens/util/deflate.hpp"
#include "depthlens/util/files.hpp"
#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;
using io::PickleValue;
using io::TensorFile;
using util::ErrorCode;

namespace {

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(DEPTHLENS_TEST_DATA) / "torch_archives" / name;
}

const PickleValue& item(const PickleValue& dictionary, const std::string& key) {
  REQUIRE(dictionary.kind == PickleValue::Kind::kDictionary);
  for (std::size_t i = 0; i + 1 < dictionary.list.size(); i += 2) {
    if (dictionary.list[i].string == key) return dictionary.list[i + 1];
  }
  FAIL("no key " << key);
  return dictionary;
}

std::vector<std::string> names_of(const TensorFile& file) {
  std::vector<std::string> names;
  for (const auto& [name, entry] : file.entries()) names.push_back(name);
  return names;
}

/// An archive whose data.pkl is {"x": tensor} over the six floats 0 to 5.
std::string six_floats(const pickle::Tensor& tensor = {}) {
  return archive(
      {{"data.pkl",
        pickle::kStart + pickle::dictionary({pickle::text("x"), pickle::tensor(tensor)}) + pickle::kStop},
       {"data/0", bytes_of<float>({0, 1, 2, 3, 4, 5})}});
}

}  // namespace

TEST_CASE("torch archive: every dtype, written by protocols 2 and 4, and without zip") {
  const std::map<std::string, at::ScalarType> dtypes = {
      {"float64", at::kDouble}, {"float32", at::kFloat}, {"float16", at::kHalf}, {"bfloat16", at::kBFloat16},
      {"int64", at::kLong},     {"int32", at::kInt},     {"int16", at::kShort},  {"int8", at::kChar},
      {"uint8", at::kByte},     {"bool", at::kBool}};
  for (const std::string name : {"dtypes.pt", "dtypes_protocol4.pt", "old_dtypes.pt"}) {
    const TensorFile file = TensorFile::open_torch(golden(name));
    REQUIRE(file.entries().size() == dtypes.size());
    for (const auto& [key, dtype] : dtypes) {
      INFO(name << ": " << key);
      std::vector<double> expected = {-1, 0, 2};
      if (dtype == at::kByte) expected = {1, 0, 2};
      if (dtype == at::kBool) expected = {1, 0, 1};
      CHECK(file.view(key).scalar_type() == dtype);
      CHECK(values_of(file.view(key)) == expected);
      CHECK(values_of(file.load(key, at::kFloat)) == expected);
    }
  }
}

TEST_CASE("torch archive: strides, offsets and shared storages") {
  // The latter is of protocol 4, without zip.
  const std::string name_of_file = GENERATE("layouts.pt", "old_layouts.pt");
  INFO(name_of_file);
  const TensorFile file = TensorFile::open_torch(golden(name_of_file));
  const auto check = [&](const std::string& name, std::vector<std::int64_t> shape,
                         std::vector<double> expected) {
    INFO(name);
    CHECK(file.view(name).sizes() == at::IntArrayRef(shape));
    CHECK(values_of(file.view(name)) == expected);
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
      const at::Tensor loaded = file.load(name, dtype);
      CHECK(loaded.is_contiguous());
      CHECK(loaded.scalar_type() == dtype);
      CHECK(loaded.sizes() == at::IntArrayRef(shape));
      CHECK(values_of(loaded) == expected);
    }
  };
  check("base", {3, 4}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  check("transposed", {4, 3}, {0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11});
  check("rows_1_2", {2, 4}, {4, 5, 6, 7, 8, 9, 10, 11});
  check("column_2", {3}, {2, 6, 10});
  check("every_second", {3, 2}, {0, 2, 4, 6, 8, 10});
  check("expanded", {2, 4}, {0, 1, 2, 3, 0, 1, 2, 3});
  check("scalar", {}, {7.5});
  check("empty", {0, 3}, {});
  check("parameter", {2}, {1.5, -2.5});
  // The bytes are used where they lie, unless they lie across.
  CHECK((file.view("transposed").data_ptr() == file.view("base").data_ptr()) ==
        (file.entries().at("base").offset % sizeof(float) == 0));
  CHECK(file.entries().at("transposed").offset == file.entries().at("base").offset);
  CHECK(file.view("transposed").strides() == at::IntArrayRef({1, 4}));
  CHECK(file.entries().at("column_2").length == 9 * sizeof(float));
}

TEST_CASE("torch archive: a state_dict with its _metadata, and one wrapped in a dictionary") {
  const TensorFile plain = TensorFile::open_torch(golden(GENERATE("state_dict.bin", "old_state_dict.bin")));
  CHECK(names_of(plain) == std::vector<std::string>{"0.bias", "0.weight", "1.weight"});
  CHECK(values_of(plain.view("0.weight")) == std::vector<double>{0, 1, 2, 3, 4, 5});
  CHECK(values_of(plain.view("0.bias")) == std::vector<double>{10, 11, 12});
  CHECK(plain.view("1.weight").sizes() == at::IntArrayRef({1, 3}));
  CHECK(plain.num_elements() == 12);
  CHECK(plain.num_bytes() == 48);

  const TensorFile wrapped = TensorFile::open_torch(golden("wrapped.pt"));
  CHECK(names_of(wrapped) == std::vector<std::string>{"model.0.bias", "model.0.weight", "model.1.weight"});
  CHECK(values_of(wrapped.view("model.0.bias")) == std::vector<double>{10, 11, 12});
}

TEST_CASE("torch archive: nested dictionaries with integer keys and every kind of plain value") {
  const PickleValue root = io::read_torch_archive(golden("nested.pt"));
  CHECK(item(root, "n_prompts").integer == 5);
  const PickleValue& jacobians = item(root, "J");
  REQUIRE(jacobians.list.size() == 4);
  CHECK(jacobians.list[0].kind == PickleValue::Kind::kInteger);
  CHECK(jacobians.list[2].integer == 3);
  CHECK(jacobians.list[3].kind == PickleValue::Kind::kTensor);
  CHECK(jacobians.list[3].tensor.dtype == at::kHalf);
  CHECK(jacobians.list[3].tensor.shape == std::vector<std::int64_t>{2, 2});
  const PickleValue& layers = item(root, "source_layers");
  REQUIRE(layers.kind == PickleValue::Kind::kList);
  REQUIRE(layers.list.size() == 2);
  CHECK(layers.list[1].integer == 3);

  const PickleValue& metadata = item(root, "metadata");
  CHECK(item(metadata, "text").string == "na\xc3\xafve");
  CHECK(item(metadata, "number").kind == PickleValue::Kind::kNumber);
  CHECK(item(metadata, "number").number == -1.5);
  CHECK(item(metadata, "yes").kind == PickleValue::Kind::kBool);
  CHECK(item(metadata, "yes").boolean);
  CHECK_FALSE(item(metadata, "no").boolean);
  CHECK(item(metadata, "none").kind == PickleValue::Kind::kNone);
  CHECK(item(metadata, "pair").list.at(1).string == "two");
  CHECK(item(metadata, "big").integer == std::int64_t{1} << 40);
  CHECK(item(metadata, "negative").integer == -(std::int64_t{1} << 40));
  CHECK(item(metadata, "byte").integer == 200);
  CHECK(item(metadata, "short").integer == 60000);
  CHECK(item(metadata, "int").integer == -70000);
  CHECK(item(metadata, "lowest").integer == INT64_MIN);
  CHECK(item(metadata, "empty").kind == PickleValue::Kind::kDictionary);

  const TensorFile file = TensorFile::open_torch(golden("nested.pt"));
  CHECK(names_of(file) == std::vector<std::string>{"J.0", "J.3"});
  CHECK(values_of(file.view("J.3")) == std::vector<double>{1, 2, 3, 4});
}

TEST_CASE("torch archive: what is refused of files by PyTorch") {
  check_error(ErrorCode::kFormat, {"asks for 'torch._utils._rebuild_tensor_v3'", "uint16.pt"},
              [] { TensorFile::open_torch(golden("uint16.pt")); });
  check_error(ErrorCode::kFormat, {"asks for 'torch.nn.functional.relu'", "nothing of the file was run"},
              [] { TensorFile::open_torch(golden("function.pt")); });
  check_error(ErrorCode::kFormat, {"no dictionary of tensors", "tensor.pt"},
              [] { TensorFile::open_torch(golden("tensor.pt")); });
  CHECK(io::read_torch_archive(golden("tensor.pt")).kind == PickleValue::Kind::kTensor);
}

TEST_CASE("torch archive: files that are no archives") {
  const TemporaryFolder folder;
  const auto refuse = [&](const std::string& bytes, const std::vector<std::string>& parts) {
    const auto path = folder.write("bad.bin", bytes);
    check_error(ErrorCode::kFormat, parts, [&] { TensorFile::open_torch(path); });
  };
  refuse("", {"an empty file"});
  refuse("hello", {"is no file of torch.save that can be read", "another format"});
  refuse("\x80\x02}.", {"a bare pickle"});
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  refuse(tar, {"the first format of torch.save, as tar",
               "torch.save(torch.load(FILE, weights_only=False), FILE)"});
  refuse("version https://git-lfs.github.com/spec/v1\n", {"a git-lfs pointer"});
  refuse("PK\x03\x04 and no more", {"damaged torch.save archive", "bad.bin"});
  check_error(ErrorCode::kInput, {"cannot read", "absent.bin"},
              [&] { TensorFile::open_torch(folder.path() / "absent.bin"); });
}

TEST_CASE("torch archive: the device of a storage does not matter") {
  const TemporaryFolder folder;
  const TensorFile file = TensorFile::open_torch(folder.write("x.pt", six_floats({.location = "cuda:0"})));
  CHECK(values_of(file.view("x")) == std::vector<double>{0, 1, 2, 3, 4, 5});
  CHECK(file.view("x").device().is_cpu());
}

TEST_CASE("torch archive: tensors that leave their storage are refused") {
  const TemporaryFolder folder;
  const auto refuse = [&](const pickle::Tensor& tensor, const std::vector<std::string>& parts) {
    const auto path = folder.write("x.pt", six_floats(tensor));
    check_error(ErrorCode::kFormat, parts, [&] { TensorFile::open_torch(path); });
  };
  const std::int64_t huge = std::int64_t{1} << 62;
  refuse({.num_stored = 7}, {"7 elements of Float", "'data/0' of 24 bytes"});
  refuse({.num_stored = huge}, {"elements of Float"});
  refuse({.num_stored = -1}, {"not negative", "found -1"});
  refuse({.storage_type = "DoubleStorage"}, {"6 elements of Double"});
  refuse({.storage_type = "ComplexFloatStorage"}, {"asks for 'torch.ComplexFloatStorage'"});
  refuse({.key = "1"}, {"no record for a storage", "data/1"});
  refuse({.key = "../../data.pkl"}, {"no record for a storage"});
  refuse({.num_stored = 5}, {"shape [2, 3], strides [3, 1], offset 0", "its storage of 5 elements"});
  refuse({.offset = 1}, {"offset 1", "its storage of 6 elements"});
  refuse({.offset = -1}, {"not negative"});
  refuse({.offset = INT64_MAX}, {"its storage of 6 elements"});
  refuse({.offset = 7, .shape = {0}, .strides = {1}}, {"its storage of 6 elements"});
  refuse({.shape = {2, 4}}, {"shape [2, 4]"});
  refuse({.shape = {2, -3}}, {"not negative", "found -3"});
  refuse({.strides = {-3, 1}}, {"not negative", "found -3"});
  refuse({.strides = {4, 1}}, {"strides [4, 1]"});
  refuse({.strides = {INT64_MAX, INT64_MAX}}, {"its storage of 6 elements"});
  refuse({.shape = {3, 3}, .strides = {huge, huge}}, {"its storage of 6 elements"});
  refuse({.shape = {huge, 8}, .strides = {0, 0}}, {"not larger than the file"});
  refuse({.shape = {huge, 8, 0}, .strides = {0, 0, 0}}, {"not larger than the file"});
  refuse({.shape = {1 << 20}, .strides = {0}}, {"not larger than the file"});
  refuse({.strides = {3}}, {"1 strides", "2 dimensions"});
  refuse({.shape = std::vector<std::int64_t>(17, 1), .strides = std::vector<std::int64_t>(17, 1)},
         {"17 dimensions", "at most 16"});

  const auto path = folder.write("x.pt", six_floats({.offset = 6, .shape = {0}, .strides = {9}}));
  CHECK(TensorFile::open_torch(path).load("x", at::kFloat).numel() == 0);
  const auto last =
      folder.write("y.pt", six_floats({.offset = 5, .shape = {1, 1}, .strides = {INT64_MAX, 1}}));
  CHECK(values_of(TensorFile::open_torch(last).load("x", at::kDouble)) == std::vector<double>{5});
}

TEST_CASE("torch archive: records that are compressed, missing, too large or of another byte order") {
  const TemporaryFolder folder;
  const std::string data_pkl =
      pickle::kStart + pickle::dictionary({pickle::text("x"), pickle::tensor({})}) + pickle::kStop;
  const std::string zeros(4096, '\0');
  const auto path = [&](const std::string& bytes) { return folder.write("x.pt", bytes); };

  check_error(ErrorCode::kFormat, {"a compressed or encrypted record", "data/0", "save it again"}, [&] {
    TensorFile::open_torch(path(archive({{"data.pkl", data_pkl}, {"data/0", zeros}}, {"data/0"})));
  });
  const TensorFile file =
      TensorFile::open_torch(path(archive({{"data.pkl", data_pkl}, {"data/0", zeros}}, {"data.pkl"})));
  CHECK(values_of(file.view("x")) == std::vector<double>(6, 0.0));

  check_error(ErrorCode::kFormat, {"no record 'data.pkl'"}, [&] {
    TensorFile::open_torch(path(archive({{"data/0", zeros}})));
  });
  check_error(ErrorCode::kFormat, {"unsupported byte order", "'little'", "'big'"}, [&] {
    TensorFile::open_torch(path(archive({{"data.pkl", data_pkl}, {"data/0", zeros}, {"byteorder", "big"}})));
  });
  check_error(ErrorCode::kFormat, {"record too large", "byteorder"}, [&] {
    TensorFile::open_torch(path(archive({{"data.pkl", data_pkl}, {"data/0", zeros}, {"byteorder", zeros}})));
  });
  check_error(ErrorCode::kFormat, {"record too large", "data.pkl", "64.0 MiB"}, [&] {
    TensorFile::open_torch(
        path(archive({{"data.pkl", std::string((std::size_t{64} << 20) + 1, 'N')}}, {"data.pkl"})));
  });
  check_error(ErrorCode::kFormat, {"the tensor 'a.b' twice"}, [&] {
    const std::string inner = pickle::dictionary({pickle::text("b"), pickle::tensor({})});
    const std::string twice =
        pickle::dictionary({pickle::text("a.b"), pickle::tensor({}), pickle::text("a"), inner});
    TensorFile::open_torch(
        path(archive({{"data.pkl", pickle::kStart + twice + pickle::kStop}, {"data/0", zeros}})));
  });
}

TEST_CASE("torch archive: a file cut at every byte is refused") {
  const TemporaryFolder folder;
  const std::string whole = util::read_file(golden(GENERATE("state_dict.bin", "old_state_dict.bin")));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    INFO("cut at " << length);
    CHECK_FALSE(survives(folder, whole.substr(0, length), TensorFile::open_torch));
  }
}

TEST_CASE("torch archive: any byte of a file may be wrong; then it is refused, or no value has changed") {
  const TemporaryFolder folder;
  const auto values_in = [](const std::filesystem::path& path) {
    std::vector<double> all;
    const TensorFile file = TensorFile::open_torch(path);
    for (const auto& [name, entry] : file.entries()) {
      for (const double value : values_of(file.load(name, at::kFloat))) all.push_back(value);
    }
    return all;
  };
  const std::string whole = util::read_file(golden("state_dict.bin"));
  const std::vector<double> right = values_in(golden("state_dict.bin"));
  int read = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const int change : {0x01, 0x80, 0xff}) {
      const auto path = folder.write("damaged", changed(whole, i, change));
      try {
        const std::vector<double> values = values_in(path);
        ++read;
        if (values == right) continue;
        FAIL("another value after byte " << i << " changed");
      } catch (const util::Error&) {
      }
      std::filesystem::remove(path);
    }
  }
  CHECK(read > 0);
}

TEST_CASE("torch archive: any byte of a file without zip may be wrong; only values and texts can change") {
  const TemporaryFolder folder;
  const std::string whole = util::read_file(golden("old_state_dict.bin"));
  int read = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const int change : {0x01, 0x04, 0x80, 0xff})
      read += survives(folder, changed(whole, i, change), TensorFile::open_torch);
  }
  CHECK(read > 0);
}

TEST_CASE("torch archive: what a file without zip states twice must be the same, and nothing in it is run") {
  const TemporaryFolder folder;
  using pickle::dictionary, pickle::text, pickle::tensor;
  const auto x = [](pickle::Tensor parts = {}) {
    parts.view = "N";
    return dictionary({text("x"), tensor(parts)});
  };
  const auto path = [&](const pickle::OldFile& parts) { return folder.write("x.bin", old_file(parts)); };
  const auto refuse = [&](const pickle::OldFile& parts, const std::vector<std::string>& says) {
    check_error(ErrorCode::kFormat, says, [&] { TensorFile::open_torch(path(parts)); });
  };
  const std::string six = little_endian(6, 8) + bytes_of<float>({0, 1, 2, 3, 4, 5});
  CHECK(values_of(TensorFile::open_torch(path({.value = x()})).view("x")) ==
        std::vector<double>{0, 1, 2, 3, 4, 5});

  refuse({.value = pickle::global("os", "system") + pickle::tuple({text("true")}) + pickle::kReduce},
         {"x.bin' asks for 'os.system'", "byte ", "nothing of the file was run"});
  refuse({.value = x(), .keys = pickle::global("os", "system")}, {"asks for 'os.system'"});
  refuse({.value = x(), .machine = pickle::global("os", "system")}, {"asks for 'os.system'"});
  refuse({.value = x(), .version = "K\x07"}, {"unsupported version", "1001", "found 7"});
  refuse({.value = x(), .machine = dictionary({text("little_endian"), "\x89"})}, {"unsupported byte order"});
  refuse({.value = x(), .machine = "]"}, {"unsupported byte order"});
  refuse({.value = x(), .machine = x()}, {"no tensors beside the value"});
  refuse({.value = x(), .keys = x()}, {"no tensors beside the value"});
  refuse({.value = x(), .keys = "}"}, {"keys of storages", "found none"});
  refuse({.value = x(), .keys = "]", .storages = ""}, {"storage '0'", "its bytes", "found none"});
  refuse({.value = x(), .keys = "](" + text("1") + "e"}, {"storage '1'", "found another"});
  refuse({.value = x(), .keys = "](" + text("0") + text("0") + "e", .storages = six + six},
         {"storage '0'", "found one twice"});
  refuse({.value = x(), .storages = six + "x"}, {"end of the storages", "damaged file of torch.save"});
  refuse({.value = x(), .storages = little_endian(7, 8) + six.substr(8)},
         {"storage '0'", "6 elements", "found 7"});
  refuse({.value = x(), .storages = six.substr(0, 31)}, {"storage '0'", "24 bytes from byte"});
  refuse({.value = x(), .storages = six.substr(0, 7)}, {"storage '0'", "a file of"});
  refuse({.value = x({.num_stored = 0, .shape = {0}, .strides = {1}}), .storages = ""}, {"storage '0'"});
  refuse({.value = x({.num_stored = std::int64_t{1} << 60})},
         {"storage '0'", "elements of Float", "a file of"});
  refuse({.value = x({.num_stored = -1})}, {"not negative"});
  refuse({.value = x({.shape = {4, 3}})}, {"shape [4, 3]", "its storage of 6 elements"});
  const std::string of_two_types = dictionary(
      {text("x"), tensor({.view = "N"}), text("y"), tensor({.storage_type = "IntStorage", .view = "N"})});
  refuse({.value = of_two_types}, {"storage '0'", "one type and one size"});
  refuse({.value = dictionary({text("x"), tensor({})})},
         {"another persistent id", "number of elements, view"});
  const std::string view = pickle::tuple({text("1"), pickle::integer(0), pickle::integer(6)});
  refuse({.value = dictionary({text("x"), tensor({.view = view})})},
         {"no view of another storage, as PyTorch before 0.4 has", "found a tuple"});
}

TEST_CASE("torch archive: a changed byte of a storage is found when it is read, and the record named") {
  const TemporaryFolder folder;
  const std::string whole = util::read_file(golden("state_dict.bin"));
  const std::string four_floats = bytes_of<float>({0, 1, 2, 3});
  const std::size_t place = whole.find(four_floats);
  REQUIRE(place != std::string::npos);
  const auto path = folder.write("x.bin", changed(whole, place + 5, 0x10));
  const TensorFile file = TensorFile::open_torch(path);  // reads headers only
  CHECK(values_of(file.view("0.bias")) == std::vector<double>{10, 11, 12});
  for (int times = 0; times < 2; ++times) {
    check_error(ErrorCode::kFormat, {"damaged torch.save archive", "x.bin: state_dict/data/0", "CRC-32"},
                [&] { file.view("0.weight"); });
    check_error(ErrorCode::kFormat, {"state_dict/data/0"}, [&] { file.load("0.weight", at::kDouble); });
    check_error(ErrorCode::kFormat, {"state_dict/data/0"},
                [&] { file.load_transposed("0.weight", at::kFloat); });
  }
  const std::string pickle = changed(whole, whole.find("_rebuild_tensor_v2") + 30, 0x01);
  check_error(ErrorCode::kFormat, {"state_dict/data.pkl", "CRC-32"},
              [&] { TensorFile::open_torch(folder.write("y.bin", pickle)); });
}

TEST_CASE("torch archive: one that was saved without checksums is read") {
  const TensorFile file = TensorFile::open_torch(golden("no_checksums.pt"));
  CHECK(values_of(file.view("x")) == std::vector<double>{0, 1, 2, 3, 4, 5});
}

TEST_CASE("torch archive: what stands twice in a zip must be the same") {
  const TemporaryFolder folder;
  const std::string data_pkl =
      pickle::kStart + pickle::dictionary({pickle::text("x"), pickle::tensor({})}) + pickle::kStop;
  const std::string six = bytes_of<float>({0, 1, 2, 3, 4, 5});
  // Version, flags, method, date and time, CRC, sizes, length of the name and of the extra field.
  const auto header = [](const std::string& name, const std::string& content, std::uint32_t crc,
                         std::size_t size, int flags = 0, std::size_t offset = 0, bool central = false) {
    const std::string common = little_endian(20, 2) + little_endian(static_cast<std::uint64_t>(flags), 2) +
                               little_endian(0, 6) + little_endian(crc, 4) + little_endian(size, 4) +
                               little_endian(size, 4) + little_endian(name.size(), 2) + little_endian(0, 2);
    if (!central) return "PK\x03\x04" + common + name + content;
    return "PK\x01\x02" + little_endian(20, 2) + common + little_endian(0, 10) + little_endian(offset, 4) +
           name;
  };
  const auto end = [](std::size_t records, const std::string& directory, std::size_t offset) {
    return "PK\x05\x06" + little_endian(0, 4) + little_endian(records, 2) + little_endian(records, 2) +
           little_endian(directory.size(), 4) + little_endian(offset, 4) + little_endian(0, 2);
  };
  const std::uint32_t crc_pkl = util::crc32(data_pkl), crc_six = util::crc32(six);
  const std::string first = header("a/data.pkl", data_pkl, crc_pkl, data_pkl.size());
  const std::string first_entry = header("a/data.pkl", "", crc_pkl, data_pkl.size(), 0, 0, true);
  const auto archive_of = [&](const std::string& second, const std::string& second_entry,
                              const std::string& behind = "") {
    const std::string bytes = first + second + behind, directory = first_entry + second_entry;
    return folder.write("x.pt", bytes + directory + end(2, directory, bytes.size()));
  };
  const std::size_t at = first.size();
  const auto refuse = [&](const std::filesystem::path& path, const std::vector<std::string>& parts) {
    check_error(ErrorCode::kFormat, parts, [&] { TensorFile::open_torch(path).view("x"); });
  };
  const std::string good = header("a/data/0", six, crc_six, 24);
  const std::string good_entry = header("a/data/0", "", crc_six, 24, 0, at, true);
  CHECK(values_of(TensorFile::open_torch(archive_of(good, good_entry)).view("x")) ==
        std::vector<double>{0, 1, 2, 3, 4, 5});
  refuse(archive_of(header("a/data/0", six, crc_six + 1, 24), good_entry), {"a/data/0", "another checksum"});
  refuse(archive_of(header("a/data/0", six, crc_six, 23), good_entry), {"a/data/0", "another size"});
  refuse(archive_of(header("a/data/1", six, crc_six, 24), good_entry), {"a/data/0", "another name"});
  refuse(archive_of(good, header("a/data/0", "", crc_six, 24, 0, 0, true)), {"a/data/0", "overlap"});
  refuse(archive_of(good, header("a/data.pkl", "", crc_six, 24, 0, at, true)),
         {"a/data.pkl", "one record of that name", "found two"});
  refuse(archive_of(header("a/data/0", six, crc_six, 25), header("a/data/0", "", crc_six, 25, 0, at, true)),
         {"a/data/0"});
  // Behind the bytes, with and without its mark.
  constexpr int kBehind = 8;
  const std::string later = header("a/data/0", six, 0, 0, kBehind);
  const std::string later_entry = header("a/data/0", "", crc_six, 24, kBehind, at, true);
  const auto descriptor = [&](std::uint32_t crc) {
    return little_endian(crc, 4) + little_endian(24, 4) + little_endian(24, 4);
  };
  for (const std::string mark : {"PK\x07\x08", ""}) {
    CHECK(values_of(
              TensorFile::open_torch(archive_of(later, later_entry, mark + descriptor(crc_six))).view("x")) ==
          std::vector<double>{0, 1, 2, 3, 4, 5});
    refuse(archive_of(later, later_entry, mark + descriptor(crc_six + 1)),
           {"a/data/0", "another checksum behind the bytes"});
  }
  const std::string whole = util::read_file(archive_of(good, good_entry));
  refuse(folder.write("x.pt", whole + "x"), {"an end of the archive", "found none"});
  refuse(folder.write("x.pt", changed(whole, whole.size() - 12, 0x01)), {"damaged torch.save archive"});
}
