#include "daemon/heap_trimmer.h"

#include <malloc.h>

#include "absl/time/time.h"

namespace weightd {
namespace {

constexpr absl::Duration kInterval = absl::Seconds(10);

}  // namespace

HeapTrimmer::HeapTrimmer()
    : thread_([this] {
        while (!over_.WaitForNotificationWithTimeout(kInterval)) {
          malloc_trim(0);
        }
      }) {}

HeapTrimmer::~HeapTrimmer() {
  over_.Notify();
  thread_.join();
}

}  // namespace weightd
