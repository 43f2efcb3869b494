// Reads every #include of the project and holds it to the order of the rooms and to the places of third
// parties, as docs/architecture.md has them.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

namespace depthlens::test {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string>& rooms() {
  static const std::vector<std::string> all = {"util",        "io",     "text",  "compute", "model",
                                               "lens",        "decode", "train", "data",    "tables",
                                               "experiments", "report", "run"};
  return all;
}
const std::string kProgram = "tools";

/// Place in the list, lowest first; the program is the highest. -1 for no room.
int height(const std::string& room) {
  if (room == kProgram) return static_cast<int>(rooms().size());
  const auto found = std::find(rooms().begin(), rooms().end(), room);
  return found == rooms().end() ? -1 : static_cast<int>(found - rooms().begin());
}

struct ThirdParty {
  std::string name;
  std::regex includes;
  std::vector<std::string> rooms;
};

const std::vector<ThirdParty>& third_parties() {
  static const std::vector<ThirdParty> all = {
      {"spdlog", std::regex("(spdlog|fmt)/.*"), {"util"}},
      {"OpenSSL", std::regex("openssl/.*"), {"util"}},
      {"nlohmann_json", std::regex("nlohmann/.*"), {"util"}},
      {"sentencepiece", std::regex("sentencepiece.*"), {"text"}},
      {"PCRE2", std::regex("pcre2.*"), {"text"}},
      {"utf8proc", std::regex("utf8proc.*"), {"text"}},
      {"zlib", std::regex("zlib.*"), {"util"}},
      {"liblzma", std::regex("lzma.*"), {"util"}},
      {"zstd", std::regex("zstd.*"), {"util"}},
      {"libcurl", std::regex("curl/.*"), {"io"}},
      {"CLI11", std::regex("CLI/.*"), {kProgram}},
      {"toml++", std::regex("toml.*"), {kProgram}},
      // One place multiplies: what a model, a lens or the decoder multiplies goes through a backend.
      {"libtorch's products",
       std::regex("ATen/(ops/(mm|matmul|linear|addmm|addmv|bmm|baddbmm|einsum)|native/CPUBlas)\\.h"),
       {"compute", "train"}},
      {"intrinsics", std::regex(".*intrin\\.h"), {"compute"}},
      // The room of many processes sees no tensor.
      {"c10d", std::regex("torch/csrc/distributed/c10d/.*"), {"run"}},
      {"libtorch",
       std::regex("(ATen|c10|caffe2|torch)/.*"),
       {"io", "compute", "model", "lens", "decode", "train"}}};
  return all;
}

/// What the rule for libtorch leaves out: the program names its dtypes and tensors, no more.
bool is_exception(const std::string& room, const std::string& include) {
  return room == kProgram && include.rfind("ATen/core/", 0) == 0;
}

struct Include {
  std::string file;  // relative to the root
  int line;
  std::string text;  // the line
  std::string path;
  bool quoted;
};

std::vector<Include> includes_of(const fs::path& root, const fs::path& file) {
  static const std::regex pattern(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"].*)");
  std::vector<Include> found;
  std::ifstream stream(root / file);
  std::smatch match;
  int line = 0;
  for (std::string text; std::getline(stream, text);) {
    ++line;
    if (std::regex_match(text, match, pattern))
      found.push_back({file.string(), line, text, match[2].str(), match[1].str() == "\""});
  }
  return found;
}

/// Room of a file of the project: include/depthlens/ROOM/…, src/ROOM/… or tools/depthlens/….
std::string room_of(const fs::path& file) {
  std::vector<std::string> parts;
  for (const fs::path& part : file) parts.push_back(part.string());
  if (parts.size() > 3 && parts[0] == "include") return parts[2];
  if (parts.size() > 2 && parts[0] == "src") return parts[1];
  if (parts.size() > 2 && parts[0] == "tools" && parts[1] == "depthlens") return kProgram;
  return "";
}

/// Room that a quoted include leads to: depthlens/ROOM/… is public, ROOM/… a private header named from src/,
/// and the rest stands beside the file or below it.
std::string included_room(const fs::path& root, const Include& include) {
  const fs::path path = include.path;
  const fs::path beside = (fs::path(include.file).parent_path() / path).lexically_normal();
  if (fs::exists(root / beside)) return room_of(beside);
  if (*path.begin() == "depthlens") return room_of(fs::path("include") / path);
  return room_of((fs::path("src") / path).lexically_normal());
}

/// Why an include is not allowed; empty where it is.
std::string objection(const fs::path& root, const Include& include) {
  const bool public_header = include.file.rfind("include/", 0) == 0;
  if (public_header && include.path.rfind("torch/", 0) == 0)
    return "a public header includes a header of torch/";
  if (include.path == "torch/torch.h") return "<torch/torch.h> takes half a minute to compile";
  const std::string room = room_of(include.file);
  if (height(room) < 0) return "the file is in no room";
  for (const ThirdParty& party : third_parties()) {
    if (!std::regex_match(include.path, party.includes)) continue;
    const bool allowed = std::count(party.rooms.begin(), party.rooms.end(), room) > 0;
    if (!allowed && !is_exception(room, include.path)) return party.name + " is not named in " + room;
    if (party.name == "libtorch" && room == "decode" && public_header)
      return "public headers of decode are free of libtorch";
    return "";
  }
  if (!include.quoted && include.path.rfind("depthlens/", 0) != 0) return "";
  const std::string other = included_room(root, include);
  if (height(other) < 0) return "leads to no room";
  const bool is_private = include.path.rfind("depthlens/", 0) != 0;
  if (is_private && other != room) return "a private header of " + other;
  if (height(other) > height(room)) return room + " may not include " + other;
  return "";
}

/// Lines "FILE:LINE: TEXT (why)" of the includes under `root` that are not allowed.
std::vector<std::string> violations(const fs::path& root, std::size_t& num_includes) {
  std::vector<std::string> found;
  num_includes = 0;
  for (const char* place : {"include", "src", "tools"}) {
    if (!fs::exists(root / place)) continue;
    for (const auto& item : fs::recursive_directory_iterator(root / place)) {
      const std::string extension = item.path().extension().string();
      if (extension != ".cpp" && extension != ".hpp" && extension != ".h" && extension != ".inc") continue;
      for (const Include& include : includes_of(root, fs::relative(item.path(), root))) {
        ++num_includes;
        const std::string why = objection(root, include);
        if (why.empty()) continue;
        std::ostringstream line;
        line << include.file << ":" << include.line << ": " << include.text << " (" << why << ")";
        found.push_back(line.str());
      }
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

TEST_CASE("rooms include only themselves and rooms below, and third parties only in their place") {
  std::size_t num_includes = 0;
  const auto found = violations(DEPTHLENS_SOURCE_DIR, num_includes);
  CHECK(num_includes > 300);
  for (const std::string& line : found) {
    UNSCOPED_INFO(line);
  }
  CHECK(found.empty());
}

/// Files of the project that hold `text`.
std::vector<std::string> files_with(const std::string& text, const std::vector<std::string>& places) {
  const fs::path root = DEPTHLENS_SOURCE_DIR;
  std::vector<std::string> found;
  for (const std::string& place : places) {
    for (const auto& item : fs::recursive_directory_iterator(root / place)) {
      if (!item.is_regular_file()) continue;
      std::ifstream stream(item.path());
      std::ostringstream all;
      all << stream.rdbuf();
      if (all.str().find(text) != std::string::npos)
        found.push_back(fs::relative(item.path(), root).string());
    }
  }
  return found;
}

TEST_CASE("only the program reads its own environment variables") {
  CHECK(files_with("getenv(\"DEPTHLENS_", {"include", "src"}).empty());
}

TEST_CASE("one place writes JSON documents, whatever bytes they hold") {
  CHECK(files_with(".dump(", {"include", "src", "tools/depthlens"}) ==
        std::vector<std::string>{"src/util/json_text.cpp"});
}

TEST_CASE("every kind of violation is found, and told with its file and line") {
  const TemporaryFolder project;
  const auto allowed = [&](const std::string& file, const std::string& text) {
    project.write(file, text);
    std::size_t count = 0;
    const auto found = violations(project.path(), count);
    INFO(file << "\n" << text);
    CHECK(found.empty());
    CHECK(count >= 1);
  };
  const auto refused = [&](const std::string& file, const std::string& text, const std::string& expected) {
    const fs::path path = project.write(file, text);
    std::size_t count = 0;
    const auto found = violations(project.path(), count);
    fs::remove(path);
    INFO(file << "\n" << text);
    REQUIRE(found.size() == 1);
    CHECK(found.front() == expected);
  };
  allowed("include/depthlens/util/a.hpp", "#pragma once\n#include <string>\n#include <nlohmann/json.hpp>\n");
  allowed("include/depthlens/decode/b.hpp", "#include \"depthlens/util/a.hpp\"\n");
  allowed("src/decode/own.hpp", "#include \"depthlens/decode/b.hpp\"\n#include <ATen/core/Tensor.h>\n");
  allowed("src/decode/kernels/c.cpp", "#include \"decode/own.hpp\"\n# include \"../own.hpp\"\n");
  allowed("src/experiments/d.cpp", "#include \"depthlens/decode/b.hpp\"  // a reason\n");
  allowed("tools/depthlens/e.cpp", "#include <CLI/CLI.hpp>\n#include \"depthlens/decode/b.hpp\"\n");

  refused("src/util/x.cpp", "// one\n#include \"depthlens/decode/b.hpp\"\n",
          "src/util/x.cpp:2: #include \"depthlens/decode/b.hpp\" (util may not include decode)");
  refused("src/util/x.cpp", "  #  include <depthlens/decode/b.hpp>\n",
          "src/util/x.cpp:1:   #  include <depthlens/decode/b.hpp> (util may not include decode)");
  refused("src/data/x.cpp", "#include \"depthlens/tables/y.hpp\"\n",
          "src/data/x.cpp:1: #include \"depthlens/tables/y.hpp\" (data may not include tables)");
  refused("src/lens/x.cpp", "#include \"../decode/own.hpp\"\n",
          "src/lens/x.cpp:1: #include \"../decode/own.hpp\" (a private header of decode)");
  refused("src/report/x.cpp", "#include \"decode/own.hpp\"\n",
          "src/report/x.cpp:1: #include \"decode/own.hpp\" (a private header of decode)");
  refused("src/report/x.cpp", "#include \"missing.hpp\"\n",
          "src/report/x.cpp:1: #include \"missing.hpp\" (leads to no room)");
  refused("src/strange/x.cpp", "#include <string>\n",
          "src/strange/x.cpp:1: #include <string> (the file is in no room)");
  refused("src/io/x.cpp", "#include <spdlog/spdlog.h>\n",
          "src/io/x.cpp:1: #include <spdlog/spdlog.h> (spdlog is not named in io)");
  refused("src/data/x.cpp", "#include <utf8proc.h>\n",
          "src/data/x.cpp:1: #include <utf8proc.h> (utf8proc is not named in data)");
  refused("src/lens/x.cpp", "#include <curl/curl.h>\n",
          "src/lens/x.cpp:1: #include <curl/curl.h> (libcurl is not named in lens)");
  refused("src/model/x.cpp", "#include <sentencepiece_processor.h>\n",
          "src/model/x.cpp:1: #include <sentencepiece_processor.h> (sentencepiece is not named in model)");
  refused("src/experiments/x.cpp", "#include <ATen/core/Tensor.h>\n",
          "src/experiments/x.cpp:1: #include <ATen/core/Tensor.h> (libtorch is not named in experiments)");
  refused("tools/depthlens/x.cpp", "#include <ATen/ops/mm.h>\n",
          "tools/depthlens/x.cpp:1: #include <ATen/ops/mm.h> (libtorch's products is not named in tools)");
  refused("src/decode/x.cpp", "#include <ATen/ops/mm.h>\n",
          "src/decode/x.cpp:1: #include <ATen/ops/mm.h> (libtorch's products is not named in decode)");
  refused("src/model/x.cpp", "#include <immintrin.h>\n",
          "src/model/x.cpp:1: #include <immintrin.h> (intrinsics is not named in model)");
  refused("src/report/x.cpp", "#include <CLI/CLI.hpp>\n",
          "src/report/x.cpp:1: #include <CLI/CLI.hpp> (CLI11 is not named in report)");
  refused("include/depthlens/decode/x.hpp", "#include <c10/core/ScalarType.h>\n",
          "include/depthlens/decode/x.hpp:1: #include <c10/core/ScalarType.h> "
          "(public headers of decode are free of libtorch)");
  refused("include/depthlens/model/x.hpp", "#include <torch/torch.h>\n",
          "include/depthlens/model/x.hpp:1: #include <torch/torch.h> (a public header includes a header of "
          "torch/)");
  refused("src/model/x.cpp", "#include <torch/torch.h>\n",
          "src/model/x.cpp:1: #include <torch/torch.h> (<torch/torch.h> takes half a minute to compile)");
}

}  // namespace depthlens::test
