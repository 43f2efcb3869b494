// Reads run folders and puts pages together. Drawing is left to the scripts in page/.
#include "depthlens/report/page.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <set>

#include "depthlens/report/run_folder.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "report/page_files.hpp"
#include "report/run_files.hpp"

namespace depthlens::report {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMostLayers = 100'000;

/// Six significant digits; the run folder has them all.
std::string cell_json(const util::JsonView& cell) {
  if (cell.is_number() && !cell.is_integer()) {
    std::array<char, 32> buffer;
    const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), cell.as_number(),
                                   std::chars_format::general, 6);
    return {buffer.data(), end.ptr};
  }
  if (!cell.is_null() && !cell.is_integer() && !cell.is_string()) cell.fail("a number, a string or null");
  return cell.raw().dump();
}

std::string table_json(const util::JsonView& table) {
  const util::JsonView columns = table.at("columns"), rows = table.at("rows");
  if (!columns.is_array()) columns.fail("an array of names");
  if (!rows.is_array()) rows.fail("an array of rows");
  std::set<std::string> names;
  for (std::size_t c = 0; c < columns.size(); ++c) {
    if (!names.insert(columns.at(c).as_string()).second) columns.at(c).fail("a name that is not taken yet");
  }
  std::string units = "{}";
  if (table.has("units")) {
    for (const std::string& name : table.at("units").keys()) table.at("units").at(name).as_string();
    units = table.at("units").raw().dump();
  }
  std::string out = "{\"columns\":" + columns.raw().dump() + ",\"units\":" + units + ",\"rows\":[";
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const util::JsonView row = rows.at(r);
    if (!row.is_array() || row.size() != columns.size())
      row.fail(util::cat("a row of ", columns.size(), " cells"));
    out += r > 0 ? ",[" : "[";
    for (std::size_t c = 0; c < row.size(); ++c) out += (c > 0 ? "," : "") + cell_json(row.at(c));
    out += "]";
  }
  return out + "]}";
}

std::string hash_source(std::string_view text) {
  const std::string hex = util::sha256(text);
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string base64;
  unsigned bits = 0;
  int num_bits = 0;
  for (const char digit : hex) {
    bits = (bits << 4) | static_cast<unsigned>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
    num_bits += 4;
    if (num_bits < 6) continue;
    num_bits -= 6;
    base64 += kDigits[(bits >> num_bits) & 63];
  }
  base64 += kDigits[(bits << (6 - num_bits)) & 63];  // 256 bits are 42 digits and four bits
  return "'sha256-" + base64 + "='";
}

struct Slot {
  std::string_view name;
  std::string_view text;
};

/// `page` with every {{name}} replaced; what is put in is not looked at again.
std::string filled(std::string_view page, const std::vector<Slot>& slots) {
  std::string out;
  for (std::size_t place = 0; place < page.size();) {
    const std::size_t open = std::min(page.find("{{", place), page.size());
    out += page.substr(place, open - place);
    if (open == page.size()) break;
    const std::size_t close = page.find("}}", open);
    const auto slot = std::find_if(slots.begin(), slots.end(), [&](const Slot& candidate) {
      return candidate.name == page.substr(open + 2, close - open - 2);
    });
    DEPTHLENS_ASSERT(slot != slots.end());
    out += slot->text;
    place = close + 2;
  }
  return out;
}

std::string page_of(std::string_view data) {
  std::string_view page, style;
  std::string script = "\"use strict\";\n";
  for (const PageFile& file : page_files()) {
    if (file.name == "page.html") page = file.text;
    if (file.name == "page.css") style = file.text;
    if (file.name.ends_with(".js")) script += file.text;
  }
  const std::string script_hash = hash_source(script), style_hash = hash_source(style);
  return filled(page, {{"script-hash", script_hash},
                       {"style-hash", style_hash},
                       {"style", style},
                       {"script", script},
                       {"data", data}});
}

PageRun read_run(const fs::path& folder) {
  const RunTexts texts(folder);
  return describe_run(texts.run, texts.summary, folder);
}

/// Gives lines of the file until the page is full.
void read_records(const fs::path& path, std::int64_t num_expected, PageRecords& records) {
  const auto file = util::MappedFile::open(path);
  const std::string_view text(reinterpret_cast<const char*>(file->data()), file->size());
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size() && !records.full();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    records.add(text.substr(begin, end - begin), util::cat(path.string(), " line ", ++number));
    begin = end + 1;
  }
  if (!records.full() && number < num_expected) {
    throw util::format_error({.what = "records are missing",
                              .where = path.string(),
                              .expected = util::cat(num_expected, " lines, as run.json has it"),
                              .found = std::to_string(number)});
  }
}

/// Names by which several runs can be told apart: the folders' own, with as much of the path as it takes.
std::vector<std::string> distinct_names(const std::vector<fs::path>& folders) {
  std::vector<fs::path> whole;
  for (const fs::path& folder : folders) {
    fs::path path = fs::absolute(folder).lexically_normal();
    whole.push_back(path.has_filename() ? path : path.parent_path());
  }
  std::vector<std::string> names;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    fs::path name = whole[i].filename(), above = whole[i].parent_path();
    const auto is_taken = [&] {
      for (std::size_t j = 0; j < whole.size(); ++j) {
        const std::string other = "/" + whole[j].relative_path().string();
        if (whole[j] != whole[i] && other.ends_with("/" + name.string())) return true;
      }
      return false;
    };
    while (is_taken() && above.has_relative_path()) {
      name = above.filename() / name;
      above = above.parent_path();
    }
    names.push_back(util::valid_utf8(name.string()));
  }
  return names;
}

}  // namespace

std::string safe_in_script(std::string_view json) {
  std::string out;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (c == '<') {
      out += "\\u003c";
    } else if (c == '>') {
      out += "\\u003e";
    } else if (c == '&') {
      out += "\\u0026";
    } else if (json.substr(i, 3) == "\xe2\x80\xa8" || json.substr(i, 3) == "\xe2\x80\xa9") {
      out += json[i + 2] == '\xa8' ? "\\u2028" : "\\u2029";
      i += 2;
    } else {
      out += c;
    }
  }
  return out;
}

PageRun describe_run(std::string_view run_json, std::string_view summary_json, const fs::path& folder) {
  const std::string run_path = (folder / "run.json").string();
  util::Json document = util::parse_json(run_json, run_path);
  if (document.is_object()) document.erase("volatile");
  const util::JsonView run(document, run_path);
  check_schema(run);
  PageRun described;
  described.num_layers = run.at("model").at("layers").as_integer(0, kMostLayers);
  if (run.has("lenses")) {
    const util::JsonView lenses = run.at("lenses");
    if (!lenses.is_array()) lenses.fail("an array of lenses");
    for (std::size_t n = 0; n < lenses.size(); ++n) {
      described.lenses.push_back(lenses.at(n).at("name").as_string());
    }
  }
  if (run.has("counts")) {
    described.num_records = run.at("counts").get_integer("records", 0, INT64_MAX, 0);
  }

  const std::string summary_path = (folder / "summary.json").string();
  const util::Json tables_document = util::parse_json(summary_json, summary_path);
  const util::JsonView summary(tables_document, summary_path);
  check_schema(summary);
  const util::JsonView tables = summary.at("tables");
  std::string json = "\"run\":" + document.dump() + ",\"tables\":{";
  bool first = true;
  for (const std::string& name : tables.keys()) {
    json += (first ? "" : ",") + util::Json(name).dump() + ":" + table_json(tables.at(name));
    first = false;
  }
  described.json = safe_in_script(json + "}");
  return described;
}

std::string run_page(const PageRun& run, const PageRecords& records) {
  const std::string opening = "{\"runs\":[{" + run.json + "}],\"records\":";
  std::string data = opening + "null}";
  if (records.size() > 0) {
    const std::size_t other = page_of(data).size();
    data = opening + records.json(kMostPageBytes - std::min(kMostPageBytes, other)) + "}";
  }
  return page_of(data);
}

std::string run_page(const fs::path& folder) {
  const PageRun run = read_run(folder);
  PageRecords records(run.lenses, run.num_layers);
  const fs::path path = folder / "records.jsonl";
  std::error_code ignored;
  // Without a lens nothing was decoded: such records, of patching, are of another form.
  if (!run.lenses.empty() && fs::exists(path, ignored)) read_records(path, run.num_records, records);
  return run_page(run, records);
}

std::string comparison_page(const std::vector<fs::path>& folders) {
  const std::vector<std::string> names = distinct_names(folders);
  std::string data = "{\"runs\":[";
  for (std::size_t i = 0; i < folders.size(); ++i) {
    data += util::cat(i > 0 ? "," : "", "{\"name\":", safe_in_script(util::Json(names[i]).dump()), ",",
                      read_run(folders[i]).json, "}");
  }
  return page_of(data + "],\"records\":null}");
}

}  // namespace depthlens::report
