// Which records of a run a page is to hold.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "depthlens/util/json.hpp"

namespace depthlens::report {

class RecordChoice {
 public:
  /// Everything.
  RecordChoice() = default;

  /// Each of `documents` is an index, a range A-B, both also in a list with commas, or else the id of an
  /// item; `id:7` is the id 7. `windows` are indices or ranges in each document. Empty: all. Throws usage
  /// errors.
  RecordChoice(const std::vector<std::string>& documents, const std::vector<std::string>& windows);

  bool takes_all() const { return documents_.empty() && windows_.empty(); }
  /// Whether a record is wanted, from the part of it before "lenses". Remembers what there is.
  bool takes(const util::JsonView& record);
  /// Throws a usage error where something that was asked for has no record. `num_documents` of the input, for
  /// the message; negative: not known.
  void check_found(std::int64_t num_documents) const;

  /// As flags: "--document 7 --window 0-3"; "" for everything.
  std::string flags() const;
  /// Of the records that were taken.
  std::int64_t num_positions() const { return num_positions_; }
  std::int64_t num_windows() const { return num_windows_; }

 private:
  struct Request {
    std::string text;  ///< as it was given
    std::string id;    ///< of an item; "": a range
    std::int64_t first = 0;
    std::int64_t last = 0;  ///< included
    bool found = false;
  };
  struct Extent {
    std::int64_t first = INT64_MAX;
    std::int64_t last = -1;
    void add(std::int64_t number);
    std::string text() const;
  };
  static std::vector<Request> parsed(const std::vector<std::string>& values, const std::string& flag,
                                     bool ids);

  std::vector<Request> documents_, windows_;
  Extent seen_documents_, seen_windows_;  ///< windows: of the chosen documents
  std::string last_window_;
  std::int64_t num_positions_ = 0;
  std::int64_t num_windows_ = 0;
};

}  // namespace depthlens::report
