// The restricted unpickler on hostile pickles: they are refused by name, and never run, crash or grow without
// end.
#include "helpers.hpp"

using namespace depthlens;
using namespace depthlens::test;
using namespace depthlens::test::pickle;
using io::PickleValue;
using util::ErrorCode;

namespace {

/// Reads an archive with this data.pkl and one storage of six floats.
PickleValue read(const std::string& data_pkl) {
  const TemporaryFolder folder;
  const auto path = folder.write(
      "x.pt",
      archive({{"data.pkl", data_pkl}, {"data/0", bytes_of<float>({0, 1, 2, 3, 4, 5})}}, {"data.pkl"}));
  return io::read_torch_archive(path);
}

void refuse(const std::string& data_pkl, const std::vector<std::string>& parts) {
  check_error(ErrorCode::kFormat, parts, [&] { read(data_pkl); });
}

std::string repeated(const std::string& part, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += part;
  return all;
}

}  // namespace

TEST_CASE("pickle: names outside the list are refused where they stand") {
  const std::string touch = tuple({text("touch /tmp/depthlens-was-here")});
  refuse(
      kStart + global("os", "system") + touch + kReduce + kStop,
      {"the pickle in '", "x.pt' asks for 'os.system'", "data.pkl, byte 2", "nothing of the file was run"});
  refuse(kStart + global("posix", "system") + touch + kReduce + kStop, {"asks for 'posix.system'"});
  refuse(kStart + text("os") + text("system") + "\x93" + touch + kReduce + kStop, {"asks for 'os.system'"});
  refuse(kStart + global("builtins", "eval") + touch + kReduce + kStop, {"asks for 'builtins.eval'"});
  refuse(kStart + global("__builtin__", "getattr") + kStop, {"asks for '__builtin__.getattr'"});
  refuse(kStart + global("torch.serialization", "_get_layout") + kStop, {"asks for"});
  refuse(kStart + global("torch", "load") + kStop, {"asks for 'torch.load'"});
  refuse(kStart + global("collections.OrderedDict", "update") + kStop, {"asks for"});
  // Inside of what would be allowed around it.
  refuse(kStart + dictionary({text("x"), global("os", "system") + touch + kReduce}) + kStop, {"'os.system'"});
  refuse(kStart + global("torch._utils", "_rebuild_parameter") +
             tuple({global("os", "system") + touch + kReduce, "\x88", "N"}) + kReduce + kStop,
         {"'os.system'"});
  // The module of a STACK_GLOBAL from the memo, control bytes in the name.
  refuse(kStart + text("o\ns") + "q\x01" + "h\x01" + text("\x1b[2J") + "\x93" + kStop, {"'o\\ns.\\x1b[2J'"});
  CHECK_FALSE(std::filesystem::exists("/tmp/depthlens-was-here"));
}

TEST_CASE("pickle: the known functions with wrong arguments") {
  const std::string ordered = global("collections", "OrderedDict");
  const std::string rebuild = global("torch._utils", "_rebuild_tensor_v2");
  const std::string parameter = global("torch._utils", "_rebuild_parameter");
  refuse(kStart + ordered + tuple({text("a")}) + kReduce + kStop, {"an OrderedDict made with arguments"});
  refuse(kStart + ordered + text("a") + kReduce + kStop, {"expected a tuple of arguments, found a string"});
  refuse(kStart + text("os.system") + ")" + kReduce + kStop, {"expected a function to call, found a string"});
  refuse(kStart + global("torch", "FloatStorage") + ")" + kReduce + kStop,
         {"expected a function to call, found a storage type"});
  refuse(kStart + rebuild + ")" + kReduce + kStop, {"0 arguments"});
  refuse(kStart + rebuild + tuple({"N", "N", "N", "N", "N", "N"}) + kReduce + kStop,
         {"expected a storage, found None"});
  const auto with_metadata = [&](const std::string& metadata) {
    return kStart + rebuild + tuple({"N", "N", "N", "N", "N", "N", metadata}) + kReduce + kStop;
  };
  refuse(with_metadata(dictionary({text("neg"), "\x88"})), {"the metadata 'neg'", "resolve_neg()"});
  refuse(with_metadata(text("neg")), {"expected a dictionary of metadata, found a string"});
  for (const char* none : {"N", "}"}) refuse(with_metadata(none), {"expected a storage, found None"});
  refuse(kStart + parameter + ")" + kReduce + kStop, {"0 arguments"});
  refuse(kStart + parameter + tuple({"N", "N", "N"}) + kReduce + kStop, {"expected a tensor, found None"});
  refuse(kStart + ordered + kStop, {"a function as a value"});
  refuse(kStart + global("torch", "HalfStorage") + kStop, {"a storage type as a value"});
  // A result of REDUCE is not callable.
  refuse(kStart + ordered + ")" + kReduce + ")" + kReduce + kStop,
         {"expected a function to call, found a dictionary"});
}

TEST_CASE("pickle: persistent ids") {
  const auto storage = [](const std::string& id) { return kStart + id + "Q" + kStop; };
  const std::string type = global("torch", "FloatStorage");
  refuse(storage(text("0")), {"expected a tuple as persistent id"});
  refuse(storage(tuple({text("storage")})), {"another persistent id"});
  refuse(storage(tuple({text("module"), type, text("0"), text("cpu"), integer(6)})),
         {"another persistent id"});
  refuse(storage(tuple({text("storage"), text("FloatStorage"), text("0"), text("cpu"), integer(6)})),
         {"expected a storage type, found a string"});
  refuse(storage(tuple({text("storage"), type, integer(0), text("cpu"), integer(6)})),
         {"expected a storage key"});
  refuse(storage(tuple({text("storage"), type, text("0"), text("cpu"), text("6")})), {"expected a size"});
  refuse(storage(tuple({text("storage"), type, text("0"), text("cpu"), integer(6)})),
         {"a storage as a value"});
}

TEST_CASE("pickle: a stack that does not fit") {
  refuse("", {"0 bytes before the end"});
  refuse(kStart, {"1 more bytes"});
  refuse(kStart + kStop, {"an empty stack"});
  refuse(kStart + "NN" + kStop, {"values left on the stack"});
  refuse(kStart + "(N" + kStop, {"values left on the stack"});
  refuse(kStart + "N(" + kStop, {"an empty stack"});
  refuse(kStart + "t" + kStop, {"expected a mark"});
  refuse(kStart + "u" + kStop, {"expected a mark"});
  refuse(kStart + "N\x86" + kStop, {"an empty stack"});
  refuse(kStart + "N(N\x86" + kStop, {"an empty stack"});  // what is below a mark is out of reach
  refuse(kStart + "Na" + kStop, {"an empty stack"});
  refuse(kStart + "NNa" + kStop, {"expected a list to append to, found None"});
  refuse(kStart + "]NNs" + kStop, {"expected a dictionary to fill, found a list"});
  refuse(kStart + "}(Nu" + kStop, {"a key without a value"});
  refuse(kStart + "}NNs" + kStop, {"expected a string or an integer as key, found None"});
  refuse(kStart + "}" + text("a") + "Ns" + text("a") + "Ns" + kStop, {"the key 'a' twice"});
  refuse(kStart + "}" + integer(4) + "Ns" + "K\x04Ns" + kStop, {"the key 4 twice"});
  refuse(kStart + "h\x07" + kStop, {"memo entry 7 before it is set"});
  refuse(kStart + "q\x07" + kStop, {"an empty stack"});
  refuse(kStart + "}}b" + kStop, {"expected an OrderedDict"});
  refuse(kStart + "N}b" + kStop, {"expected an OrderedDict", "found None"});
  refuse("\x80\x06N.", {"protocol 2 to 5", "protocol 6"});
  refuse(std::string("\x80\x00N.", 4), {"protocol 0"});
  for (const std::string opcode :
       {"o", "i", "\x81", "\x92", "\x82", "B", "C", "\x8f", "\x98", "p", "g", "I", "S", "P"}) {
    refuse(kStart + "N" + opcode + "NNNN\n\n" + kStop, {"the refused opcode"});
  }
}

TEST_CASE("pickle: lengths that the file does not have") {
  refuse(kStart + "X\xff\xff\xff\xff" + "a", {"4294967295 more bytes", "1 bytes before the end"});
  refuse(kStart + "\x8d\xff\xff\xff\xff\xff\xff\xff\xff" + "a", {"18446744073709551615 more bytes"});
  refuse(kStart + "\x8c\xff" + "a", {"255 more bytes"});
  refuse(kStart + "J\x01", {"4 more bytes"});
  refuse(kStart + "G\x01", {"8 more bytes"});
  refuse(kStart + "\x8a\xff" + "a", {"an integer of 255 bytes"});
  refuse(kStart + "\x8a\x09" + "123456789" + kStop, {"an integer of 9 bytes"});
  refuse(kStart + "cos", {"the end of a line"});
  refuse(kStart + "c" + std::string(300, 'o') + "\nx\n" + kStop, {"the end of a line within 256 bytes"});
  refuse(kStart + text("\xff\xfe") + kStop, {"a string that is not UTF-8"});
}

TEST_CASE("pickle: integers of every length") {
  for (const std::int64_t number : {std::int64_t{0}, std::int64_t{1}, std::int64_t{-1}, std::int64_t{127},
                                    std::int64_t{-128}, std::int64_t{1} << 40, INT64_MAX, INT64_MIN}) {
    CHECK(read(kStart + integer(number) + kStop).integer == number);
  }
  CHECK(read(kStart + std::string("\x8a\x00", 2) + kStop).integer == 0);
  CHECK(read(kStart + "\x8a\x01\xff" + kStop).integer == -1);
  CHECK(read(kStart + "\x8a\x01\x7f" + kStop).integer == 127);
  CHECK(read(kStart + "\x8a\x03" + std::string("\x00\x00\x80", 3) + kStop).integer == -8388608);
  CHECK(read(kStart + "J" + little_endian(0x80000000, 4) + kStop).integer == INT32_MIN);
}

TEST_CASE("pickle: bombs and cycles end at a limit") {
  // Ten lists, each holding the one before ten times: 10^10 values in a few hundred bytes.
  std::string bomb = kStart + "]q" + std::string(1, '\0');
  for (char level = 1; level <= 10; ++level) {
    bomb += "](";
    for (int i = 0; i < 10; ++i) bomb += std::string("h") + static_cast<char>(level - 1);
    bomb += std::string("eq") + level;
  }
  refuse(bomb + "\x85" + kStop, {"values left on the stack"});
  refuse(kStart + "(" + bomb.substr(2) + "t" + kStop, {"more than 1000000 values"});

  // One text of a megabyte, a hundred times.
  refuse(kStart + "](" + text(std::string(1 << 20, 'a')) + "q\x01" + repeated("h\x01", 100) + "e" + kStop,
         {"more than 64.0 MiB of text"});
  // A list in itself, a dictionary in itself.
  refuse(kStart + "]q\x01h\x01" + "a" + kStop, {"nested deeper than 64"});
  refuse(kStart + "}q\x01" + text("x") + "h\x01s" + kStop, {"nested deeper than 64"});
  // Depth, marks, stack and objects.
  refuse(kStart + repeated("]", 100'000) + repeated("a", 99'999) + kStop, {"nested deeper than 64"});
  refuse(kStart + "N" + repeated("\x85", 100'000) + kStop, {"nested deeper than 64"});
  refuse(kStart + repeated("(", 1'100'000) + kStop, {"more than 1000000 marks"});
  refuse(kStart + repeated("N", 1'100'000) + kStop, {"more than 1000000 values on the stack"});
  refuse(kStart + "](" + repeated("N", 900'000) + "e(" + repeated("N", 900'000) + "e(" +
             repeated("N", 900'000) + "e(" + repeated("N", 900'000) + "e(" + repeated("N", 900'000) + "e" +
             kStop,
         {"more than 4000000 objects"});
  refuse(kStart + "N" + repeated("\x94", 1'000) + "\x85" + "h\xff\x85" + kStop, {"values left on the stack"});
}

TEST_CASE("pickle: cut at every byte and with any byte wrong") {
  const std::string whole = kStart + "\x95" + little_endian(9, 8) + global("collections", "OrderedDict") +
                            ")R" + "(" + text("x") + tensor({}) + text("y") + "(" + integer(3) + "G????????" +
                            "\x88t" + "u}" + text("_metadata") + "}sb" + kStop;
  const PickleValue value = read(whole);
  REQUIRE(value.list.size() == 4);
  CHECK(value.list[1].tensor.shape == std::vector<std::int64_t>{2, 3});
  CHECK(value.list[3].list.size() == 3);
  const auto reads = [](const std::string& data_pkl) {
    try {
      read(data_pkl);
      return true;
    } catch (const util::Error&) {
      return false;
    }
  };
  for (std::size_t length = 0; length < whole.size(); ++length) {
    INFO("cut at " << length);
    CHECK_FALSE(reads(whole.substr(0, length)));
  }
  int read_anyway = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const int change : {0x01, 0x04, 0x20, 0x80, 0xff}) {
      read_anyway += reads(changed(whole, i, change));
    }
  }
  CHECK(read_anyway > 0);
}
