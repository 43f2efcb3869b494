// Dealing out work to threads that take longer or shorter for it.
#pragma once

#include <ATen/Parallel.h>

#include <atomic>
#include <cstdint>

namespace depthlens::compute {

struct NothingMore {
  void operator()() const {}
};

/// Calls use(i, workspace) for 0 ≤ i < count, on all threads, each taking the next i as it becomes free. A
/// thread makes a workspace first, and calls `done` last. Nothing may depend on which thread takes what.
template <typename MakeWorkspace, typename Use, typename Done = NothingMore>
void parallel_for_dynamic(std::int64_t count, const MakeWorkspace& make_workspace, const Use& use,
                          const Done& done = {}) {
  std::atomic<std::int64_t> next = 0;
  at::parallel_for(0, at::get_num_threads(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t thread = begin; thread < end; ++thread) {
      if (next >= count) continue;
      auto workspace = make_workspace();
      for (std::int64_t i = next++; i < count; i = next++) use(i, workspace);
      done();
    }
  });
}

}  // namespace depthlens::compute
