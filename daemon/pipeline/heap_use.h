#ifndef WEIGHTD_DAEMON_PIPELINE_HEAP_USE_H_
#define WEIGHTD_DAEMON_PIPELINE_HEAP_USE_H_

#include <cstdint>

#include "daemon/pipeline/model.h"

// What a model takes of the daemon's heap, in whole pages, as it counts against the budget: 0 for
// what is small. Pure.

namespace weightd::pipeline {

// While this much of headers and shard index is parsed.
uint64_t ParsingBytes(uint64_t text_bytes);

// For its index, while the model is resident.
uint64_t HeapBytes(const ModelIndex& index);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_HEAP_USE_H_
