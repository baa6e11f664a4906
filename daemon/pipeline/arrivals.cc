#include "daemon/pipeline/arrivals.h"

#include <algorithm>
#include <tuple>

namespace weightd::pipeline {

void Arrivals::OnChunk(size_t index) {
  there_[index].store(true, std::memory_order_release);
  news_.fetch_add(1, std::memory_order_release);
  news_.notify_all();
}

void Arrivals::Stop() {
  stopped_.store(true, std::memory_order_release);
  news_.fetch_add(1, std::memory_order_release);
  news_.notify_all();
}

const Extent* Arrivals::Await(uint32_t file, uint64_t offset) {
  const size_t index = ChunkOf(file, offset);
  while (!stopped()) {
    const uint32_t news = news_.load(std::memory_order_acquire);
    if (there_[index].load(std::memory_order_acquire)) {
      return &chunks_[index];
    }
    if (!stopped()) {
      news_.wait(news, std::memory_order_acquire);
    }
  }
  return nullptr;
}

bool Arrivals::AwaitAll(uint32_t file, ByteRange bytes) {
  while (!bytes.empty()) {
    const Extent* const chunk = Await(file, bytes.begin);
    if (chunk == nullptr) {
      return false;
    }
    bytes.begin = std::min(chunk->bytes.end, bytes.end);
  }
  return true;
}

size_t Arrivals::ChunkOf(uint32_t file, uint64_t offset) const {
  const auto after = std::partition_point(chunks_.begin(), chunks_.end(), [&](const Extent& chunk) {
    return std::tie(chunk.file, chunk.bytes.begin) <= std::tie(file, offset);
  });
  return static_cast<size_t>(after - chunks_.begin()) - 1;
}

}  // namespace weightd::pipeline
