// Reads run folders and puts pages together. Drawing is left to the scripts in page/.
#include "depthlens/report/page.hpp"

#include <algorithm>
#include <map>

#include "depthlens/report/record_file.hpp"
#include "depthlens/report/run_folder.hpp"
#include "depthlens/tables/table_json.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"
#include "report/page_files.hpp"
#include "report/run_files.hpp"

namespace depthlens::report {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxLayers = 100'000;

std::string text_json(const std::string& text) {
  return util::json_text(util::Json(text));
}

/// {"NAME": TABLE, …}, in the order of the names. Six significant digits; the run folder has them all.
std::string tables_json(const std::vector<tables::Table>& tables) {
  std::map<std::string, const tables::Table*> by_name;
  for (const tables::Table& table : tables) by_name[table.name] = &table;
  std::string out = "{";
  for (const auto& [name, table] : by_name)
    out += (out.size() > 1 ? "," : "") + text_json(name) + ":" +
           tables::to_json(*table, tables::JsonForm::kSmall);
  return out + "}";
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
  const RunFiles files(folder);
  return describe_run(files.run().raw(), read_summary(files.summary()), files.run().where());
}

/// Gives the chosen lines of the file until the page is full.
void read_records(const fs::path& path, const PageRun& run, RecordChoice& choice, PageRecords& records) {
  RecordReader reader(path);
  const bool takes_all = choice.takes_all();
  bool saw_all = false;
  while (reader.has_checksum() || !(takes_all && records.full())) {
    std::string_view line;
    saw_all = !reader.next(line);
    if (saw_all) break;
    if (takes_all && records.full()) continue;
    const std::string where = reader.where();
    if (!takes_all) {
      // Nearly all of a record are its lenses. This key cannot be part of a text, where quotes are escaped.
      const std::size_t lenses = line.find(", \"lenses\":");
      const util::Json head = util::parse_json(
          lenses == line.npos ? std::string(line) : util::cat(line.substr(0, lenses), "}"), where);
      if (!choice.takes({head, where})) continue;
    }
    records.add(line, where);
  }
  if (saw_all && reader.number() < run.num_records) {
    throw util::format_error({.what = "records are missing",
                              .where = path.string(),
                              .expected = util::cat(run.num_records, " lines, as run.json has it"),
                              .found = std::to_string(reader.number())});
  }
  choice.check_found(run.num_documents);
}

/// What the page of a comparison knows of a run's difference to the first one.
std::string difference_json(const RunDifference& difference) {
  if (!difference.unpaired.empty())
    return "{\"paired\":false,\"why\":" + safe_in_script(text_json(difference.unpaired)) + "}";
  return safe_in_script("{\"paired\":true,\"tables\":" + tables_json(difference.tables) + "}");
}

/// Integers that would be others in a browser become texts.
void keep_exact(util::Json& value) {
  constexpr std::int64_t kMax = std::int64_t{1} << 53;
  if (value.is_structured()) {
    for (util::Json& inner : value) keep_exact(inner);
  } else if (value.is_number_unsigned() ? value.get<std::uint64_t>() > static_cast<std::uint64_t>(kMax)
                                        : value.is_number_integer() && (value.get<std::int64_t>() > kMax ||
                                                                        value.get<std::int64_t>() < -kMax)) {
    value = util::json_text(value);
  }
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

PageRun describe_run(const util::Json& given, const std::vector<tables::Table>& tables,
                     const std::string& where) {
  util::Json document = given;
  if (document.is_object()) document.erase("volatile");
  keep_exact(document);
  const util::JsonView run(document, where);
  check_schema(run);
  PageRun described;
  described.num_rows = run.at("model").at("layers").as_integer(0, kMaxLayers) + 1;
  if (run.has("settings") && run.at("settings").has("layers")) {
    const util::JsonView layers = run.at("settings").at("layers");
    if (!layers.is_array() || layers.size() == 0) layers.fail("an array of layers");
    for (std::size_t i = 0; i < layers.size(); ++i) layers.at(i).as_integer(0, kMaxLayers);
    described.num_rows = static_cast<std::int64_t>(layers.size());
  }
  if (run.has("settings") && run.at("settings").has("record_fields"))
    described.fields = RecordFields::from_json(run.at("settings").at("record_fields"));
  if (run.has("lenses")) {
    const util::JsonView lenses = run.at("lenses");
    if (!lenses.is_array()) lenses.fail("an array of lenses");
    for (std::size_t n = 0; n < lenses.size(); ++n) {
      described.lenses.push_back(lenses.at(n).at("name").as_string());
    }
  }
  if (run.has("counts")) {
    described.num_records = run.at("counts").get_integer("records", 0, INT64_MAX, 0);
    described.num_documents = run.at("counts").get_integer("documents", 0, INT64_MAX, -1);
  }
  described.json =
      safe_in_script("\"run\":" + util::json_text(document) + ",\"tables\":" + tables_json(tables));
  return described;
}

std::string run_page(const PageRun& run, const PageRecords& records, const RecordChoice& choice) {
  const std::string opening = "{\"runs\":[{" + run.json + "}],\"records\":";
  std::string data = opening + "null}";
  const std::size_t max_bytes = records.max_bytes(), other = page_of(data).size();
  const bool is_asked_for = !choice.takes_all() || max_bytes != kMaxPageBytes;
  const auto no_place = [&] {
    return util::usage_error(
        {.what = "the page has no place for a record",
         .where = choice.takes_all() ? "--max-size" : choice.flags(),
         .expected = util::cat("--max-size of more than a record and the ",
                               util::with_thousands(static_cast<std::int64_t>(other)),
                               " bytes that the page has without records"),
         .found = util::cat(util::with_thousands(static_cast<std::int64_t>(max_bytes)), " bytes")});
  };
  if (other > max_bytes && is_asked_for) throw no_place();
  if (records.size() > 0) {
    std::string bounds = util::cat(",\"max_bytes\":", max_bytes);
    if (!choice.takes_all()) {
      const util::Json chosen = {{"flags", choice.flags()},
                                 {"positions", choice.num_positions()},
                                 {"windows", choice.num_windows()}};
      bounds += ",\"chosen\":" + safe_in_script(util::json_text(chosen));
    }
    const std::size_t rest = other + bounds.size();
    std::optional<std::string> packed = records.json(max_bytes - std::min(max_bytes, rest));
    if (!packed && is_asked_for) throw no_place();
    if (packed) {
      packed->insert(packed->size() - 1, bounds);
      data = opening + *packed + "}";
    } else {
      // Said on the page.
      data = opening +
             util::cat("null,\"records_beyond\":{\"max_bytes\":", max_bytes, ",\"bytes\":", other, "}}");
    }
  }
  return page_of(data);
}

std::string run_page(const fs::path& folder, RecordChoice choice, std::size_t max_bytes) {
  const PageRun run = read_run(folder);
  PageRecords records(run.lenses, run.num_rows, max_bytes, run.fields);
  const fs::path path = find_records(folder);
  // Without a lens nothing was decoded: such records, of patching, are of another form.
  if (!run.lenses.empty() && !path.empty()) {
    read_records(path, run, choice, records);
  } else if (!choice.takes_all()) {
    const bool of_pairs = run.lenses.empty();
    throw util::input_error(
        {.what = of_pairs ? "the page of a run without a lens has no records"
                          : "the run has no records to choose from",
         .where = util::in_quotes((path.empty() ? folder / kRecordFiles[0] : path).string()),
         .hint = of_pairs ? "" : "analyze writes them with --records jsonl"});
  }
  return run_page(run, records, choice);
}

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
    // Bytes that are no UTF-8 are told alike.
    const std::string told = util::valid_utf8(name.string());
    names.push_back(told);
    for (int number = 2; std::count(names.begin(), names.end(), names.back()) > 1; ++number)
      names.back() = util::cat(told, " (", number, ")");
  }
  return names;
}

std::string comparison_page(const std::vector<fs::path>& folders,
                            const std::vector<RunDifference>& differences) {
  const std::vector<std::string> names = distinct_names(folders);
  std::string data = "{\"runs\":[";
  for (std::size_t i = 0; i < folders.size(); ++i) {
    data += util::cat(i > 0 ? "," : "", "{\"name\":", safe_in_script(text_json(names[i])), ",",
                      read_run(folders[i]).json,
                      i > 0 ? ",\"difference\":" + difference_json(differences[i - 1]) : "", "}");
  }
  return page_of(data + "],\"records\":null}");
}

}  // namespace depthlens::report
