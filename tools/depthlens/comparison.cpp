// In what two descriptions differ.
#include "comparison.hpp"

#include <algorithm>
#include <utility>

#include "depthlens/report/difference.hpp"
#include "depthlens/util/json_text.hpp"
#include "depthlens/util/text.hpp"
#include "describe.hpp"

namespace depthlens::tool {
namespace {

using util::cat;
using util::OrderedJson;

bool is_list_of_objects(const OrderedJson& value) {
  return value.is_array() && !value.empty() &&
         std::all_of(value.begin(), value.end(), [](const OrderedJson& one) { return one.is_object(); });
}

bool is_list_or_none(const OrderedJson& value) {
  return value.is_null() || (value.is_array() && value.empty()) || is_list_of_objects(value);
}

/// The elements of a list by the end of their key: ".NAME" where all have names, else "[0]", "[1]" ….
std::vector<std::pair<std::string, OrderedJson>> elements_of(const OrderedJson& list) {
  std::vector<std::pair<std::string, OrderedJson>> elements;
  for (const OrderedJson& element : list) {
    const OrderedJson& name = get(element, "name");
    elements.emplace_back(name.is_string() ? "." + name.get<std::string>() : cat("[", elements.size(), "]"),
                          element);
  }
  return elements;
}

/// The members of an object, or of a list of objects, by the end of their key.
std::vector<std::pair<std::string, OrderedJson>> members_of(const OrderedJson& value) {
  if (value.is_array()) return elements_of(value);
  std::vector<std::pair<std::string, OrderedJson>> members;
  if (!value.is_object()) return members;
  for (const auto& item : value.items()) members.emplace_back("." + item.key(), item.value());
  return members;
}

bool has_same_contents(const OrderedJson& a, const OrderedJson& b) {
  for (const char* key : {"digest", "sha256"}) {
    if (get(a, key).is_string() && get(a, key) == get(b, key)) return true;
  }
  return false;
}

class Comparer {
 public:
  Comparer(const OrderedJson& a, const OrderedJson& b) : a_(a), b_(b) {}

  Comparison result() && {
    std::vector<std::string> parts;
    for (const OrderedJson* side : {&a_, &b_}) {
      for (const auto& item : side->items()) {
        if (std::find(parts.begin(), parts.end(), item.key()) == parts.end()) parts.push_back(item.key());
      }
    }
    for (const std::string& part : parts) {
      if (part == "volatile" || part == "self_check" || part == "path" || part == "kind") continue;
      const std::size_t before = found_.different.size();
      if (part == "warnings") {
        compare_lists(part);
      } else {
        compare(part, get(a_, part), get(b_, part));
      }
      const bool tells = part != "schema_version" && part != "status";
      if (found_.different.size() == before && tells) found_.same.push_back(part);
    }
    if (get(a_, "kind") == "run") {
      const util::Json a(a_), b(b_);
      found_.unpaired = report::reasons_not_paired({a, get(a_, "path")}, {b, get(b_, "path")});
    }
    return std::move(found_);
  }

 private:
  void compare(const std::string& key, const OrderedJson& a, const OrderedJson& b) {
    if (a == b) return;
    const bool nested = (a.is_object() && b.is_object()) || (is_list_of_objects(a) && is_list_or_none(b)) ||
                        (is_list_of_objects(b) && is_list_or_none(a));
    if (!nested) {
      found_.different.push_back({key, a, b});
      return;
    }
    const bool same_contents = has_same_contents(a, b);
    const auto of_a = members_of(a), of_b = members_of(b);
    const auto member = [](const auto& members, const std::string& name) {
      const auto found =
          std::find_if(members.begin(), members.end(), [&](const auto& one) { return one.first == name; });
      return found == members.end() ? OrderedJson() : found->second;
    };
    const auto compare_member = [&](const std::string& name, const OrderedJson& x, const OrderedJson& y) {
      if (x == y) return;
      const bool is_place = name == ".path" || name == ".revision";
      const bool names_counts = key == "settings" && name == ".token_counts" &&
                                has_same_contents(get(a_, "token_counts"), get(b_, "token_counts"));
      if ((is_place && same_contents) || names_counts) {
        found_.other_path.push_back({key + name, x, y});
      } else {
        compare(key + name, x, y);
      }
    };
    for (const auto& [name, value] : of_a) compare_member(name, value, member(of_b, name));
    for (const auto& [name, value] : of_b) {
      const bool only_here =
          std::none_of(of_a.begin(), of_a.end(), [&](const auto& one) { return one.first == name; });
      if (only_here) compare_member(name, OrderedJson(), value);
    }
  }

  /// Lists of lines, whatever their order: what only one side has.
  void compare_lists(const std::string& key) {
    const auto missing = [&](const OrderedJson& from, const OrderedJson& in) {
      OrderedJson rest = OrderedJson::array();
      for (const OrderedJson& line : from) {
        if (std::find(in.begin(), in.end(), line) == in.end()) rest.push_back(line);
      }
      return rest;
    };
    const OrderedJson &a = get(a_, key), &b = get(b_, key);
    const OrderedJson only_a = missing(a, b), only_b = missing(b, a);
    if (!only_a.empty() || !only_b.empty()) found_.different.push_back({key, only_a, only_b});
  }

  const OrderedJson& a_;
  const OrderedJson& b_;
  Comparison found_;
};

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

OrderedJson differences_json(const std::vector<Difference>& differences) {
  OrderedJson list = OrderedJson::array();
  for (const Difference& one : differences)
    list.push_back({{"key", one.key}, {"values", OrderedJson::array({one.a, one.b})}});
  return list;
}

}  // namespace

Comparison compare_described(const OrderedJson& a, const OrderedJson& b) {
  return Comparer(a, b).result();
}

std::string short_value(const OrderedJson& value) {
  if (value.is_null()) return "absent";
  for (const char* key : {"digest", "sha256"}) {
    if (!get(value, key).is_string()) continue;
    const OrderedJson& path = get(value, "path");
    return (path.is_string() ? short_value(path) + ", " : "") + short_value(value.at(key));
  }
  if (!value.is_string()) {
    return util::printable(util::json_text(value));
  }
  const auto text = value.get<std::string>();
  constexpr std::size_t kShown = 12;
  return is_sha256(text) ? text.substr(0, kShown) + "…" : util::printable(text);
}

OrderedJson comparison_json(const OrderedJson& a, const OrderedJson& b) {
  const Comparison found = compare_described(a, b);
  OrderedJson json = {{"kind", "comparison"},
                      {"of", a.at("kind")},
                      {"paths", OrderedJson::array({a.at("path"), b.at("path")})},
                      {"different", differences_json(found.different)},
                      {"other_path", differences_json(found.other_path)},
                      {"same", found.same}};
  if (a.at("kind") == "run") json["paired"] = {{"possible", found.unpaired.empty()}, {"why", found.unpaired}};
  return json;
}

std::string comparison_text(const OrderedJson& a, const OrderedJson& b) {
  const Comparison found = compare_described(a, b);
  std::string text = "A: " + short_value(a.at("path")) + "\nB: " + short_value(b.at("path")) + "\n\n";
  for (const Difference& one : found.different) {
    if (one.key != "warnings") {
      text += util::printable(one.key) + ": " + short_value(one.a) + " | " + short_value(one.b) + "\n";
      continue;
    }
    for (const OrderedJson& line : one.a) text += "warning of A only: " + short_value(line) + "\n";
    for (const OrderedJson& line : one.b) text += "warning of B only: " + short_value(line) + "\n";
  }
  if (found.different.empty()) text += "no difference\n";
  for (const Difference& one : found.other_path) {
    text += "same contents, other path: " + util::printable(one.key) + ": " + short_value(one.a) + " | " +
            short_value(one.b) + "\n";
  }
  std::vector<std::string> same;
  for (const std::string& part : found.same) {
    const bool by_path_only = part == "model" && get(get(a, part), "digest").is_null();
    same.push_back(util::printable(part) + (by_path_only ? " (by its path: no digest is known)" : ""));
  }
  if (!same.empty()) text += "same: " + util::join(same, ", ") + "\n";
  if (a.at("kind") != "run") return text;
  text += found.unpaired.empty()
              ? "comparable document by document: same inputs, positions and seed\n"
              : "not comparable document by document, for these differ: " + util::join(found.unpaired, ", ") +
                    "\n";
  return text;
}

}  // namespace depthlens::tool
