// A small model, places beside it, and runs of it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checks.hpp"
#include "support/finished_run.hpp"
#include "support/small_model.hpp"

namespace depthlens::test {

struct Desk {
  SmallModel model;

  std::string file(const std::string& name, std::string_view bytes) const {
    write_bytes(model.beside(name), bytes);
    return model.beside(name).string();
  }
  std::vector<std::string> command(const std::string& name, const std::vector<std::string>& inputs,
                                   const std::string& out, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = {name, "--model", model.path(), "--out", model.beside(out).string()};
    for (const std::string& input : inputs) all = all + std::vector<std::string>{"--input", input};
    return all + more;
  }
  FinishedRun analyzed(const std::vector<std::string>& inputs, const std::string& out,
                       const std::vector<std::string>& more = {}) const {
    check_done(command("analyze", inputs, out, more));
    return FinishedRun::read(model.beside(out));
  }
};

}  // namespace depthlens::test
