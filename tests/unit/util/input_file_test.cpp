// Inputs: compressed in each way, cut and damaged anywhere, larger than allowed; pipes that are read twice,
// and files that change between two readings.
#include "depthlens/util/input_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "support/check_error.hpp"
#include "support/compressed.hpp"
#include "support/temporary_folder.hpp"

using namespace depthlens;
using test::check_error;
using test::gzip;
using test::xz;
using test::zstd;
using util::ErrorCode;
using util::InputFile;
using util::InputReader;

namespace {

constexpr std::uint64_t kLimit = 1 << 20;

struct Compression {
  std::string name;
  std::string (*compress)(std::string_view);
};
const std::vector<Compression>& compressions() {
  static const std::vector<Compression> all = {{"gzip", gzip}, {"xz", xz}, {"zstd", zstd}};
  return all;
}

/// Half a megabyte that does not repeat soon: several pieces of the reader's.
std::string long_text() {
  std::string text;
  for (std::uint32_t i = 0; text.size() < 500'000; ++i) text += std::to_string(i * 2654435761U) + '\n';
  return text;
}

/// The whole of a file of these bytes.
std::string whole(const std::string& bytes, std::uint64_t limit = kLimit) {
  const test::TemporaryFolder folder;
  InputFile file(folder.write("x.bin", bytes).string());
  return InputReader(file).rest(limit);
}

std::string read(InputFile& file) {
  InputReader reader(file);
  std::string bytes = reader.rest(kLimit);
  reader.finish();
  return bytes;
}

/// A FIFO into which another thread writes once.
class Fifo {
 public:
  Fifo(const test::TemporaryFolder& folder, std::string bytes) : path_((folder.path() / "fifo").string()) {
    if (::mkfifo(path_.c_str(), 0600) != 0) throw std::runtime_error("mkfifo failed");
    writer_ = std::thread(
        [this, bytes = std::move(bytes)] { std::ofstream(path_, std::ios::binary) << bytes << std::flush; });
  }
  ~Fifo() { writer_.join(); }
  Fifo(const Fifo&) = delete;
  Fifo& operator=(const Fifo&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::thread writer_;
};

}  // namespace

TEST_CASE("input: what was compressed comes back, one member or several") {
  for (const auto& [name, compress] : compressions()) {
    INFO(name);
    for (const std::string& text :
         {std::string(), std::string("a"), std::string("tide\0table", 10), long_text()})
      CHECK((whole(compress(text)) == text));
    CHECK(whole(compress("ebb ") + compress("") + compress("and ") + compress("flow")) == "ebb and flow");
    CHECK((whole(compress(long_text()) + compress("end")) == long_text() + "end"));
  }
  CHECK((whole(long_text()) == long_text()));
  CHECK(whole("").empty());
  CHECK(whole(xz("ebb") + std::string(8, '\0') + xz("flow")) == "ebbflow");  // padding of xz
}

TEST_CASE(
    "input: compression is recognised by the first bytes, whatever the name, and the digest is the file's") {
  const test::TemporaryFolder folder;
  for (const auto& [name, compress] : compressions()) {
    const std::string bytes = compress("tide");
    InputFile file(folder.write("named-anything.txt", bytes).string());
    InputReader reader(file);
    CHECK(reader.rest(kLimit) == "tide");
    CHECK(reader.finish() == util::sha256(bytes));
  }
  for (const char* bytes : {"", "\x1f", "{}", "\x1f\x8c",
                            "\xfd"
                            "7z",
                            "\x28\xb5\x2f"})
    CHECK(whole(bytes) == bytes);
}

TEST_CASE("input: lines are those of the text, however it is cut into pieces") {
  const std::string text = "one\n\nthree\r\n" + std::string(200'000, 'x') + "\n" + long_text() + "last";
  for (const std::string& bytes : {text, gzip(text), text + "\n"}) {
    const test::TemporaryFolder folder;
    InputFile file(folder.write("x", bytes).string());
    InputReader reader(file);
    std::string joined, line;
    std::int64_t lines = 0;
    while (reader.next_line(line)) {
      CHECK(line.find('\n') == std::string::npos);
      joined += line + "\n";
      ++lines;
    }
    CHECK((joined == text + "\n"));
    CHECK(lines == std::count(text.begin(), text.end(), '\n') + 1);
    CHECK(reader.line_feeds() == lines - (bytes.back() == '\n' ? 0 : 1));
    CHECK_FALSE(reader.next_line(line));
    CHECK(reader.finish() == util::sha256(bytes));
  }
}

TEST_CASE("input: a cut at any byte is reported, with the place") {
  const std::string text = "The tide comes in twice a day, and twice a day it goes.";
  for (const auto& [name, compress] : compressions()) {
    INFO(name);
    const std::string bytes = compress(text);
    for (std::size_t size = 6; size < bytes.size(); ++size) {
      INFO(size);
      check_error(
          ErrorCode::kInput,
          {"damaged " + name + " file", "x.bin, byte " + std::to_string(size), "an end in the middle"},
          [&] { whole(bytes.substr(0, size)); });
      // The second member, behind a whole one.
      check_error(ErrorCode::kInput, {"damaged " + name + " file", "an end in the middle"},
                  [&] { whole(bytes + bytes.substr(0, size)); });
    }
    const std::string longer = compress(long_text());
    for (const std::size_t size : {longer.size() / 3, longer.size() - 9, longer.size() - 1}) {
      check_error(ErrorCode::kInput, {"an end in the middle"}, [&] { whole(longer.substr(0, size)); });
    }
  }
}

TEST_CASE("input: damage is reported") {
  const std::string text = "The tide comes in twice a day, and twice a day it goes.";
  const auto check_damaged = [](const std::string& name, const std::string& bytes) {
    check_error(ErrorCode::kInput, {"damaged " + name + " file", "x.bin, byte "}, [&] { whole(bytes); });
  };
  const auto flipped = [](std::string bytes, std::size_t place) {
    bytes[place] = static_cast<char>(bytes[place] ^ 0x55);
    return bytes;
  };
  const std::string a = gzip(text), b = xz(text), c = zstd(text);
  for (const std::size_t place : {std::size_t{2}, a.size() - 8, a.size() - 1})  // method, CRC, size
    check_damaged("gzip", flipped(a, place));
  for (std::size_t place = 6; place < b.size(); ++place) check_damaged("xz", flipped(b, place));
  for (const std::size_t place : {std::size_t{4}, c.size() - 4, c.size() - 1})  // header, checksum
    check_damaged("zstd", flipped(c, place));
  check_damaged("gzip", "\x1f\x8b");
  for (const auto& [name, compress] : compressions()) check_damaged(name, compress(text) + "tail, and more");
}

TEST_CASE("input: not more than the limit is unpacked, however small the file") {
  const std::string zeros(50'000'000, '0'), text(1000, 'x');
  for (const auto& [name, compress] : compressions()) {
    INFO(name);
    const std::string bomb = compress(zeros);
    REQUIRE(bomb.size() < 100'000);
    check_error(ErrorCode::kInput, {"x.bin' is too large when decompressed", "1.0 MiB"},
                [&] { whole(bomb); });
    CHECK(whole(compress(text), 1000) == text);
    check_error(ErrorCode::kInput, {"too large"}, [&] { whole(compress(text), 999); });
    // The members together.
    check_error(ErrorCode::kInput, {"too large"}, [&] { whole(compress(text) + compress("y"), 1000); });
  }
  check_error(ErrorCode::kInput, {"x.bin' is too large; expected at most"}, [&] { whole(text, 999); });
}

TEST_CASE("input: a pipe is kept while it is read, and can then be read again") {
  const std::string text = long_text();
  for (const std::string& bytes : {text, xz(text), std::string()}) {
    const test::TemporaryFolder folder;
    const Fifo fifo(folder, bytes);
    CHECK_FALSE(util::can_be_read_again(fifo.path()));
    InputFile file(fifo.path(), folder.path() / "run" / "not" / "yet");
    for (int reading = 0; reading < 3; ++reading) {
      InputReader reader(file);
      CHECK((reader.rest(kLimit) == (bytes.empty() ? "" : text)));
      CHECK(reader.finish() == util::sha256(bytes));
    }
    // The copy has no name.
    for (const auto& item : std::filesystem::directory_iterator(folder.path()))
      CHECK(item.path().filename() == "fifo");
  }
}

TEST_CASE("input: of a pipe that is not taken whole all is kept") {
  const test::TemporaryFolder folder;
  const std::string text = long_text();
  const Fifo fifo(folder, text);
  InputFile file(fifo.path(), folder.path());
  std::string line;
  {
    InputReader reader(file);
    CHECK(reader.next_line(line));
    CHECK(line == "0");
    CHECK(reader.finish() == util::sha256(text));
  }
  CHECK((read(file) == text));
}

TEST_CASE("input: what changed since the first reading is reported") {
  const std::string text = "the tide is low\n";
  const auto check_changed = [&](const std::string& found, const auto& change) {
    const test::TemporaryFolder folder;
    const std::filesystem::path path = folder.write("in.txt", text);
    InputFile file(path.string());
    CHECK(read(file) == text);
    CHECK(read(file) == text);
    change(folder);
    check_error(ErrorCode::kInput,
                {"in.txt' changed while the run was reading it", util::sha256(text), found},
                [&] { read(file); });
  };
  const std::string other = "the tide is out\n";
  check_changed(util::sha256(other), [&](const auto& folder) { folder.write("in.txt", other); });
  check_changed("17 bytes", [&](const auto& folder) { folder.write("in.txt", text + "."); });
  check_changed("4 bytes", [&](const auto& folder) { folder.write("in.txt", "the\n"); });
  check_changed("0 bytes", [&](const auto& folder) { folder.write("in.txt", ""); });
  check_changed(util::sha256(other), [&](const auto& folder) {
    std::filesystem::rename(folder.write("new.txt", other), folder.path() / "in.txt");
  });
  check_changed("no regular file", [&](const auto& folder) {
    std::filesystem::remove(folder.path() / "in.txt");
    REQUIRE(::mkfifo((folder.path() / "in.txt").c_str(), 0600) == 0);
  });
}

TEST_CASE("input: a file with another date or another inode and the same bytes has not changed") {
  const test::TemporaryFolder folder;
  const std::filesystem::path path = folder.write("in.txt", "tide");
  InputFile file(path.string());
  CHECK(read(file) == "tide");
  folder.write("in.txt", "tide");
  CHECK(read(file) == "tide");
  std::filesystem::rename(folder.write("new.txt", "tide"), path);
  CHECK(read(file) == "tide");
  std::filesystem::remove(path);
  check_error(ErrorCode::kInput, {"cannot read", "in.txt", "No such file"}, [&] { read(file); });
}

TEST_CASE("input: stdin that is a file is read from where it stands, again too") {
  const test::TemporaryFolder folder;
  folder.write("in.txt", "head\nthe rest\n");
  const int stdin_before = ::dup(STDIN_FILENO), in = ::open((folder.path() / "in.txt").c_str(), O_RDONLY);
  REQUIRE(::dup2(in, STDIN_FILENO) == STDIN_FILENO);
  ::lseek(STDIN_FILENO, 5, SEEK_SET);
  {
    InputFile file("-");
    CHECK(read(file) == "the rest\n");
    CHECK(read(file) == "the rest\n");
    folder.write("in.txt", "head\nthe best\n");
    check_error(ErrorCode::kInput, {"changed"}, [&] { read(file); });
    CHECK_FALSE(util::can_be_read_again("-"));
  }
  ::close(in);
  if (stdin_before >= 0) ::dup2(stdin_before, STDIN_FILENO);
  if (stdin_before >= 0) ::close(stdin_before);
}

TEST_CASE("inputs: what is missing, a folder, or given twice though it can be read once") {
  const test::TemporaryFolder folder;
  const std::string file = folder.write("a.txt", "a").string(), fifo = (folder.path() / "fifo").string(),
                    link = (folder.path() / "link").string();
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  std::filesystem::create_symlink(fifo, link);
  util::check_inputs({file, fifo, file});
  CHECK(util::can_be_read_again(file));
  check_error(ErrorCode::kInput, {"cannot read", "none.txt'", "--input", "No such file"}, [&] {
    util::check_inputs({file, (folder.path() / "none.txt").string()});
  });
  check_error(ErrorCode::kInput, {"cannot read", "--input", "a folder"},
              [&] { util::check_inputs({folder.path().string()}); });
  check_error(ErrorCode::kInput, {"File name too long"},
              [&] { util::check_inputs({std::string(5000, 'x')}); });
  for (const std::string& other : {fifo, link})
    check_error(ErrorCode::kUsage, {"can be read only once", "--input " + other}, [&] {
      util::check_inputs({fifo, file, other});
    });
}

TEST_CASE("inputs: a name tells what is in it, compressed or not") {
  for (const char* name :
       {"a.jsonl", "TRAIN.JSONL", "a.jsonl.gz", "a.JsonL.XZ", "/x.y/a.b.jsonl.zst", "a.jsonl.bgz"})
    CHECK(util::content_extension(name) == ".jsonl");
  for (const char* name : {"-", "", "gz", ".gz", "/dev/fd/63", "a", "a.gz", "x.txt/a"})
    CHECK(util::content_extension(name).empty());
  CHECK(util::content_extension("a.txt.tar") == ".tar");
}
