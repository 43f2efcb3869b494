// The runs below a folder.
#include "run_listing.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "comparison.hpp"
#include "depthlens/report/record_file.hpp"
#include "depthlens/report/run_folder.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/text.hpp"
#include "describe.hpp"

namespace depthlens::tool {
namespace {

namespace fs = std::filesystem;
using util::OrderedJson;

constexpr int kDeepest = 8;
constexpr std::size_t kMaxEntries = 200'000;

/// What a run folder holds before run.json is there, or where it was lost.
constexpr const char* kOfUnfinished[] = {"parts", report::kRecordFiles[0], report::kRecordFiles[1]};

ListedRun read_run(const fs::path& folder, const std::string& path) {
  const auto damaged = [&](std::string why) {
    return ListedRun{.path = path, .status = "damaged", .problem = std::move(why)};
  };
  try {
    OrderedJson run = report::read_run_json(folder);
    if (!run.is_object() || !run.contains("status") || !run.at("status").is_string())
      return damaged("run.json does not describe a run");
    if (!util::exists(folder / report::kSummaryFile)) return damaged("summary.json is missing");
    report::check_run(folder);
    const std::string status = run.at("status");
    return {.path = path, .status = status, .run = std::move(run)};
  } catch (const util::Error& error) {
    return damaged(error.what());
  }
}

class RunFinder {
 public:
  explicit RunFinder(fs::path root) : root_(std::move(root)) {}

  std::vector<ListedRun> find() && {
    visit(root_, 0);
    if (entries_ > kMaxEntries) {
      util::log_warning(util::cat("more than ", util::with_thousands(kMaxEntries), " files below ",
                                  root_.string(), ": not all were looked at"));
    }
    std::sort(runs_.begin(), runs_.end(),
              [](const ListedRun& a, const ListedRun& b) { return a.path < b.path; });
    return std::move(runs_);
  }

 private:
  void visit(const fs::path& folder, int depth) {
    const bool finished = util::exists(folder / report::kRunFile);
    const bool begun = std::any_of(std::begin(kOfUnfinished), std::end(kOfUnfinished),
                                   [&](const char* name) { return util::exists(folder / name); });
    if (finished || begun) {
      const std::string path = folder == root_ ? "." : folder.lexically_relative(root_).string();
      runs_.push_back(finished ? read_run(folder, path)
                               : ListedRun{.path = path, .status = "unfinished", .problem = "no run.json"});
    }
    if (depth == kDeepest) return;
    std::error_code error;
    for (fs::directory_iterator item(folder, error), end; !error && item != end; item.increment(error)) {
      if (++entries_ > kMaxEntries) return;
      std::error_code ignored;
      const std::string name = item->path().filename().string();
      if (!item->is_directory(ignored) || item->is_symlink(ignored) || name.front() == '.') continue;
      visit(item->path(), depth + 1);
    }
  }

  fs::path root_;
  std::vector<ListedRun> runs_;
  std::size_t entries_ = 0;
};

/// What the table shows of something with contents: its path, or name, and the digest that tells it apart
/// from another under the same one.
struct Named {
  std::string shown;
  std::string digest;
};

std::string text_of(const OrderedJson& value) {
  if (value.is_null()) return "-";
  if (!value.is_array()) return short_value(value);
  std::vector<std::string> parts;
  for (const OrderedJson& part : value) parts.push_back(short_value(part));
  return parts.empty() ? "-" : util::join(parts, ",");
}

std::string string_or_empty(const OrderedJson& value) {
  return value.is_string() ? value.get<std::string>() : std::string();
}

/// Model, lenses and inputs of a run.
std::vector<std::pair<std::string, std::vector<Named>>> contents_of(const OrderedJson& run) {
  std::vector<Named> lenses, inputs;
  for (const OrderedJson& lens : get(run, "lenses")) {
    const std::string path = string_or_empty(get(lens, "path")), name = string_or_empty(get(lens, "name"));
    lenses.push_back({path.empty() ? name : name + "=" + path, string_or_empty(get(lens, "digest"))});
  }
  for (const OrderedJson& input : get(run, "inputs"))
    inputs.push_back({string_or_empty(get(input, "path")), string_or_empty(get(input, "sha256"))});
  const OrderedJson& model = get(run, "model");
  std::vector<Named> counts;
  if (const OrderedJson& file = get(run, "token_counts"); file.is_object())
    counts.push_back({string_or_empty(get(file, "path")), string_or_empty(get(file, "sha256"))});
  return {{"model", {{string_or_empty(get(model, "path")), string_or_empty(get(model, "digest"))}}},
          {"lenses", lenses},
          {"inputs", inputs},
          {"token_counts", counts}};
}

struct Listing {
  std::vector<std::string> columns;             // that tell runs apart
  std::vector<std::vector<std::string>> cells;  // [run][column], whole
};

/// The columns in which the runs that have a run.json differ.
Listing listing_of(const std::vector<ListedRun>& runs) {
  std::vector<std::string> names;
  std::vector<std::map<std::string, std::string>> values(runs.size());
  const auto set = [&](std::size_t run, const std::string& name, std::string value) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    values[run][name] = std::move(value);
  };
  // Under one path several contents: then the digest is shown too.
  std::map<std::string, std::set<std::string>> digests;
  for (const ListedRun& listed : runs) {
    for (const auto& [name, things] : contents_of(listed.run)) {
      for (const Named& thing : things) digests[name + thing.shown].insert(thing.digest);
    }
  }
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const OrderedJson& run = runs[i].run;
    if (run.is_null()) continue;
    for (const auto& [name, things] : contents_of(run)) {
      std::vector<std::string> parts;
      for (const Named& thing : things) {
        const bool ambiguous = digests[name + thing.shown].size() > 1;
        parts.push_back(util::printable(thing.shown) + (ambiguous ? "#" + thing.digest.substr(0, 8) : ""));
      }
      set(i, name, parts.empty() ? "-" : util::join(parts, " "));
    }
    if (get(run, "settings").is_object()) {
      for (const auto& item : run.at("settings").items()) {
        const bool is_shown = item.key() == "token_counts" && get(run, "token_counts").is_object();
        if (!is_shown) set(i, util::printable(item.key()), text_of(item.value()));
      }
    }
    set(i, "version", text_of(get(get(run, "depthlens"), "version")));
  }
  Listing listing;
  for (const std::string& name : names) {
    std::set<std::string> distinct;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      if (!runs[i].run.is_null()) distinct.insert(values[i].count(name) > 0 ? values[i][name] : "-");
    }
    if (distinct.size() > 1) listing.columns.push_back(name);
  }
  for (std::size_t i = 0; i < runs.size(); ++i) {
    std::vector<std::string>& row = listing.cells.emplace_back();
    for (const std::string& name : listing.columns)
      row.push_back(values[i].count(name) > 0 ? values[i][name] : "-");
  }
  return listing;
}

/// Characters, each taken for one column.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

/// The first or the last `count` characters of valid UTF-8.
std::string characters(const std::string& text, std::size_t first, std::size_t count) {
  std::string part;
  std::size_t at = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i > 0 && (text[i] & 0xc0) != 0x80) ++at;
    if (at >= first && at < first + count) part += text[i];
  }
  return part;
}

/// `text` in `width` columns, its middle left out where it is longer: names end in what tells them apart.
std::string fitted(const std::string& text, std::size_t width) {
  const std::size_t length = width_of(text);
  if (length <= width) return text + std::string(width - length, ' ');
  const std::size_t head = (width - 1) / 3, tail = width - 1 - head;
  return characters(text, 0, head) + "…" + characters(text, length - tail, tail);
}

}  // namespace

std::vector<ListedRun> find_runs(const fs::path& folder) {
  return RunFinder(folder).find();
}

OrderedJson listing_json(const std::vector<ListedRun>& runs) {
  const Listing listing = listing_of(runs);
  OrderedJson list = OrderedJson::array();
  for (std::size_t i = 0; i < runs.size(); ++i) {
    OrderedJson& one = list.emplace_back(OrderedJson::object());
    one["path"] = runs[i].path;
    one["status"] = runs[i].status;
    if (!runs[i].problem.empty()) one["problem"] = runs[i].problem;
    if (runs[i].run.is_null()) continue;
    for (const char* key :
         {"model", "tokenizer", "lenses", "inputs", "token_counts", "settings", "depthlens"})
      one[key] = get(runs[i].run, key);
    one["apart"] = OrderedJson::object();
    for (std::size_t c = 0; c < listing.columns.size(); ++c)
      one["apart"][listing.columns[c]] = listing.cells[i][c];
  }
  return list;
}

std::string listing_text(const std::vector<ListedRun>& runs, std::int64_t width) {
  const Listing listing = listing_of(runs);
  std::vector<std::vector<std::string>> rows = {{"run", "status"}};
  rows.front().insert(rows.front().end(), listing.columns.begin(), listing.columns.end());
  for (std::size_t i = 0; i < runs.size(); ++i) {
    rows.push_back({util::printable(runs[i].path), util::printable(runs[i].status)});
    if (runs[i].run.is_null()) continue;
    rows.back().insert(rows.back().end(), listing.cells[i].begin(), listing.cells[i].end());
  }
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width_of(row[c]));
  }
  constexpr std::size_t kGap = 2, kNarrowest = 8;
  const auto total = [&] {
    std::size_t sum = kGap * (widths.size() - 1);
    for (const std::size_t one : widths) sum += one;
    return sum;
  };
  while (width > 0 && total() > static_cast<std::size_t>(width)) {
    const auto widest = std::max_element(widths.begin(), widths.end());
    if (*widest <= kNarrowest) break;
    --*widest;
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c)
      line += (c > 0 ? std::string(kGap, ' ') : "") + fitted(row[c], widths[c]);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  for (const ListedRun& run : runs) {
    if (!run.problem.empty())
      text += util::printable(run.path) + ": " + run.status + ": " + util::printable(run.problem) + "\n";
  }
  return text;
}

}  // namespace depthlens::tool
