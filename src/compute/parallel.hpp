// Dealing out work to threads that take longer or shorter for it.
#pragma once

#include <ATen/Parallel.h>

#include <atomic>
#include <cstdint>
#include <functional>

#include "depthlens/util/error.hpp"

namespace depthlens::compute {

/// Whether to give up; an empty one never says so.
using ShouldStop = std::function<bool()>;

inline void throw_if_stopped(const ShouldStop& should_stop) {
  if (should_stop && should_stop()) throw util::interrupted_error();
}

/// Calls use(i, workspace) for 0 ≤ i < count, on all threads, each taking the next i as it becomes free. A
/// thread makes a workspace first. Nothing may depend on which thread takes what. Throws
/// util::interrupted_error() where it was given up.
template <typename MakeWorkspace, typename Use>
void parallel_for_dynamic(std::int64_t count, const ShouldStop& should_stop,
                          const MakeWorkspace& make_workspace, const Use& use) {
  std::atomic<std::int64_t> next = 0;
  at::parallel_for(0, at::get_num_threads(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t thread = begin; thread < end; ++thread) {
      if (next >= count) continue;
      auto workspace = make_workspace();
      for (std::int64_t i = next++; i < count && !(should_stop && should_stop()); i = next++)
        use(i, workspace);
    }
  });
  throw_if_stopped(should_stop);
}

}  // namespace depthlens::compute
