#ifndef WEIGHTD_DAEMON_PIPELINE_POPULATE_AHEAD_H_
#define WEIGHTD_DAEMON_PIPELINE_POPULATE_AHEAD_H_

#include <cstdint>
#include <thread>

#include "absl/status/status.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "daemon/host/host_segment.h"

namespace weightd::pipeline {

// How far ahead of a cancellation the populating thread may be, and how often memory that has come
// with the bytes is counted.
inline constexpr uint64_t kPopulateStepBytes = 32 << 20;

// Makes a segment's pages present on a thread of its own, ahead of the bytes. A failure stops
// `transfer`.
class PopulateAhead {
 public:
  PopulateAhead(host::WritableSegment& segment, Cancellation& transfer)
      : thread_([&segment, &transfer] {
          const uint64_t size = segment.bytes().size();
          for (uint64_t begin = 0; begin < size && !transfer.cancelled();
               begin += kPopulateStepBytes) {
            const absl::Status status = segment.Populate({begin, begin + kPopulateStepBytes});
            if (!status.ok()) {
              transfer.Cancel(status);
            }
          }
        }) {}
  ~PopulateAhead() { thread_.join(); }
  PopulateAhead(const PopulateAhead&) = delete;

 private:
  std::thread thread_;
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_POPULATE_AHEAD_H_
