#include "daemon/source/file/read_steps.h"

#include <algorithm>

namespace weightd::source {

void PlanSteps(uint32_t file, uint32_t request, ByteRange range, std::byte* destination,
               uint32_t alignment, std::vector<ReadStep>& steps) {
  const auto address = reinterpret_cast<uintptr_t>(destination);
  const bool congruent = (address - range.begin) % alignment == 0;
  for (uint64_t at = range.begin; at < range.end;) {
    const uint64_t step_end = AlignDown(at, kStepBytes) + kStepBytes;
    const uint64_t aligned_end = AlignDown(range.end, alignment);
    ReadStep step;
    step.file = file;
    step.request = request;
    step.destination = destination + (at - range.begin);
    if (congruent && at % alignment == 0 && at < aligned_end) {
      step.wanted = {at, std::min(step_end, aligned_end)};
      step.read = step.wanted;
    } else {
      const uint64_t block_end = AlignDown(at, alignment) + alignment;
      step.wanted = {at, std::min(range.end, congruent ? block_end : step_end)};
      step.read = {AlignDown(at, alignment), AlignUp(step.wanted.end, alignment)};
      step.bounced = true;
    }
    at = step.wanted.end;
    steps.push_back(step);
  }
}

}  // namespace weightd::source
