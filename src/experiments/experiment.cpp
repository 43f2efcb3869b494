// Which experiments there are.
#include "depthlens/experiments/experiment.hpp"

#include <algorithm>

#include "depthlens/util/error.hpp"
#include "depthlens/util/text.hpp"
#include "kinds.hpp"

namespace depthlens::experiments {

using data::InputKind;

namespace {

struct Kind {
  std::string name;
  std::unique_ptr<Experiment> (*make)(const Context&);  ///< nullptr: no listener, and alone in its run
  std::vector<InputKind> inputs;
  bool uses_buckets = false;
};

// To add an experiment: write its file, declare its maker in kinds.hpp, add one line here.
const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"trajectory", make_trajectory, {InputKind::kCorpus}},
      {"frequency", make_frequency, {InputKind::kCorpus}, true},
      {"flips", make_flips, {InputKind::kCorpus}, true},
      {"settling", make_settling, {InputKind::kCorpus}},
      {"calibration", make_calibration, {InputKind::kCorpus}, true},
      {"pos", make_pos, {InputKind::kWords}, true},
      {"facts", make_facts, {InputKind::kFacts}},
      {"choices", make_choices, {InputKind::kQuestions}},
      {"exit", make_exit, {InputKind::kWords, InputKind::kFacts, InputKind::kQuestions}},
      {"patching", nullptr, {InputKind::kPairs}},
  };
  return all;
}

}  // namespace

std::vector<std::string> experiment_names() {
  std::vector<std::string> names;
  for (const Kind& kind : kinds()) names.push_back(kind.name);
  return names;
}

std::vector<std::string> parse_experiment_names(const std::string& names) {
  std::vector<std::string> wanted;
  const std::vector<std::string> known = experiment_names();
  for (const std::string& part : util::split(names, ',')) {
    const std::string name(util::trimmed(part));
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw util::usage_error({.what = "unknown experiment " + util::in_quotes(name),
                               .where = "--experiment",
                               .expected = "one or several of " + util::join(known, ", "),
                               .hint = util::did_you_mean(name, known)});
    }
    if (std::find(wanted.begin(), wanted.end(), name) == wanted.end()) wanted.push_back(name);
  }
  return wanted;
}

bool any_uses_buckets(const std::string& names) {
  const std::vector<std::string> wanted = parse_experiment_names(names);
  return std::any_of(kinds().begin(), kinds().end(), [&](const Kind& kind) {
    return kind.uses_buckets && std::find(wanted.begin(), wanted.end(), kind.name) != wanted.end();
  });
}

std::vector<InputKind> possible_inputs(const std::string& names) {
  std::vector<InputKind> possible = {InputKind::kCorpus, InputKind::kWords, InputKind::kFacts,
                                     InputKind::kQuestions, InputKind::kPairs};
  for (const std::string& name : parse_experiment_names(names)) {
    const auto kind =
        std::find_if(kinds().begin(), kinds().end(), [&](const Kind& k) { return k.name == name; });
    const auto cannot = [&](InputKind input) {
      return std::find(kind->inputs.begin(), kind->inputs.end(), input) == kind->inputs.end();
    };
    possible.erase(std::remove_if(possible.begin(), possible.end(), cannot), possible.end());
    if (!possible.empty()) continue;
    throw util::usage_error(
        {.what = "experiments that need different inputs",
         .where = "--experiment " + names,
         .expected = "experiments on a corpus (trajectory, frequency, flips, settling, "
                     "calibration), or on one kind of task (pos, facts or choices, with exit), or "
                     "patching alone",
         .hint = "run them one after the other, each into a folder of its own"});
  }
  return possible;
}

std::vector<std::unique_ptr<Experiment>> make_experiments(const std::string& names, const Context& context) {
  const std::vector<std::string> wanted = parse_experiment_names(names);
  std::vector<std::unique_ptr<Experiment>> made;
  for (const Kind& kind : kinds()) {
    const bool always = kind.name == "trajectory";
    if (kind.make == nullptr) continue;
    if (always || std::find(wanted.begin(), wanted.end(), kind.name) != wanted.end())
      made.push_back(kind.make(context));
  }
  if (context.watch != nullptr && !context.watch->empty()) made.push_back(make_watch(context));
  return made;
}

}  // namespace depthlens::experiments
