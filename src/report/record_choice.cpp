// Parses choices of documents and windows and holds records against them.
#include "depthlens/report/record_choice.hpp"

#include <algorithm>

#include "depthlens/util/error.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/ranges.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::report {
namespace {

constexpr std::string_view kIdPrefix = "id:";

/// An item's id as text; "" where there is none.
std::string id_of(const util::JsonView& record) {
  if (!record.has("item")) return "";
  const util::JsonView item = record.at("item");
  return item.is_string() ? item.as_string() : util::json_text(item.raw());
}

}  // namespace

void RecordChoice::Extent::add(std::int64_t number) {
  first = std::min(first, number);
  last = std::max(last, number);
}

std::string RecordChoice::Extent::text() const {
  return first == last ? std::to_string(first) : util::cat(first, " to ", last);
}

std::vector<RecordChoice::Request> RecordChoice::parsed(const std::vector<std::string>& values,
                                                        const std::string& flag, bool ids) {
  std::vector<Request> requests;
  for (const std::string& value : values) {
    std::vector<Request> ranges;
    for (const std::string& part : util::split(value, ',')) {
      const auto range = util::parse_range(part);
      if (!range) {
        ranges.clear();
        break;
      }
      if (range->first > range->last) {
        throw util::usage_error(
            {.what = "a range that ends before it begins",
             .where = flag + " " + util::in_quotes(value),
             .hint = ids ? util::cat("an id of this form: ", flag, " ", kIdPrefix, value) : ""});
      }
      ranges.push_back({.text = part, .id = {}, .first = range->first, .last = range->last});
    }
    if (ranges.empty()) {
      const std::string id = value.starts_with(kIdPrefix) ? value.substr(kIdPrefix.size()) : value;
      if (!ids || id.empty()) {
        throw util::usage_error({.what = ids ? "no document" : "not a window",
                                 .where = flag + " " + util::in_quotes(value),
                                 .expected = ids ? "an index, a range such as 3-9, or the id of an item"
                                                 : "an index or a range such as 0-3"});
      }
      ranges.push_back({.text = value, .id = id});
    }
    requests.insert(requests.end(), ranges.begin(), ranges.end());
  }
  return requests;
}

RecordChoice::RecordChoice(const std::vector<std::string>& documents, const std::vector<std::string>& windows)
    : documents_(parsed(documents, "--document", true)), windows_(parsed(windows, "--window", false)) {}

bool RecordChoice::takes(const util::JsonView& record) {
  const std::int64_t document = record.at("document").as_integer(0, INT64_MAX),
                     window = record.at("window").as_integer(0, INT64_MAX);
  const std::string id = id_of(record);
  seen_documents_.add(document);
  // Every request is looked at: each is told apart whether it was found.
  const auto any = [](std::vector<Request>& requests, std::int64_t number, const std::string& name) {
    bool fits = requests.empty();
    for (Request& request : requests) {
      const bool this_one =
          request.id.empty() ? number >= request.first && number <= request.last : request.id == name;
      request.found = request.found || this_one;
      fits = fits || this_one;
    }
    return fits;
  };
  if (!any(documents_, document, id)) return false;
  seen_windows_.add(window);
  if (!any(windows_, window, "")) return false;
  ++num_positions_;
  const std::string place = util::cat(document, " ", window, " ", id);
  if (num_windows_ == 0 || place != last_window_) ++num_windows_;
  last_window_ = place;
  return true;
}

void RecordChoice::check_found(std::int64_t num_documents) const {
  for (const Request& request : documents_) {
    if (request.found) continue;
    const bool beyond = request.id.empty() && num_documents >= 0 && request.first >= num_documents;
    throw util::usage_error(
        {.what = request.id.empty() ? beyond ? "there is no such document" : "the document has no record"
                                    : "no record has this id",
         .where = "--document " + util::in_quotes(request.text),
         .expected = seen_documents_.last < 0 ? "records, of which the run has none"
                     : request.id.empty()     ? "one of the documents with records, " + seen_documents_.text()
                                              : "the item of a record, or the index of a document",
         .found = num_documents >= 0
                      ? util::cat("a run of ", num_documents, num_documents == 1 ? " document" : " documents")
                      : "",
         .hint = beyond || !request.id.empty()
                     ? ""
                     : "--max-records bounds the records, and of tasks only what counts has one"});
  }
  for (const Request& request : windows_) {
    if (request.found) continue;
    throw util::usage_error(
        {.what = "there is no such window",
         .where = "--window " + util::in_quotes(request.text),
         .expected = util::cat("windows ", seen_windows_.text(), " of the chosen documents")});
  }
}

std::string RecordChoice::flags() const {
  std::vector<std::string> words;
  for (const Request& request : documents_) words.push_back("--document " + request.text);
  for (const Request& request : windows_) words.push_back("--window " + request.text);
  return util::join(words, " ");
}

}  // namespace depthlens::report
