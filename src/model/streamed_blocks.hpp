// The blocks of a pass that reads them from disk.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "depthlens/compute/backend.hpp"
#include "depthlens/compute/transfer.hpp"
#include "depthlens/model/arch_spec.hpp"
#include "depthlens/util/worker.hpp"
#include "weights.hpp"

namespace depthlens::model {

class StreamedBlocks {
 public:
  /// For a pass of so many tokens; `backends` is what multiplies for each block. All must outlive this.
  StreamedBlocks(const WeightFiles& files, const ArchSpec& spec,
                 const std::vector<const compute::Backend*>& backends, std::int64_t num_tokens);
  /// What is being read is left where it is.
  ~StreamedBlocks() { given_up_ = true; }
  StreamedBlocks(const StreamedBlocks&) = delete;
  StreamedBlocks& operator=(const StreamedBlocks&) = delete;

  /// Block `i` on its device, until the next call; blocks are asked for in order. The one after it is begun
  /// to be read. An error of reading comes out when it is that block's turn.
  const Weights& next(std::int64_t i);

 private:
  const compute::Backend& backend_of(std::int64_t i) const { return *backends_[static_cast<std::size_t>(i)]; }
  void begin_to_read(std::int64_t i);

  const WeightFiles& files_;
  const std::vector<const compute::Backend*>& backends_;
  bool with_experts_;
  std::int64_t ahead_ = -1;      // the block that is being read, or has been
  Weights read_;                 // by the reader
  Weights of_host_, on_device_;  // the present block
  compute::WorkMark copied_;     // behind the copy from one to the other
  std::atomic<bool> given_up_ = false;
  util::Worker reader_;  // last: ends before what it writes to
};

}  // namespace depthlens::model
