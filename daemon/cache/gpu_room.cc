// Room for a copy on a GPU: what its budget has left, else what evicting copies gives.

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "daemon/cache/node_cache.h"

namespace weightd::cache {
namespace {

constexpr absl::Duration kCancellationCheck = absl::Milliseconds(10);

bool WantsRoom(const absl::Status& status) {
  return ReasonOf(status) == Reason::kBudgetExceeded ||
         ReasonOf(status) == Reason::kDeviceMemoryShort;
}

// How many bytes must come free before a reservation can succeed, at the least.
uint64_t Shortfall(const device::Usage& usage, uint64_t bytes) {
  const uint64_t room = usage.budget - usage.used();
  return room < bytes ? bytes - room : 1;
}

}  // namespace

absl::StatusOr<device::Reservation> NodeCache::MakeRoomOn(const GpuId& gpu, uint64_t bytes,
                                                          bool for_private,
                                                          Cancellation& cancellation) {
  while (true) {
    RETURN_IF_ERROR(cancellation.status());
    uint64_t drops = 0;
    {
      absl::MutexLock lock(&mutex_);
      drops = copies_dropped_;
    }
    auto reserved = gpus_->Reserve(gpu, bytes);
    if (reserved.ok() || !WantsRoom(reserved.status())) {
      return reserved;
    }
    std::vector<SharedCopy> victims =
        TakeVictimsOn(gpu, Shortfall(gpus_->UsageOf(gpu), bytes), for_private);
    if (!victims.empty()) {
      const size_t count = victims.size();
      victims.clear();
      NoteDropped(count);
    } else if (!AwaitDrops(gpu, drops)) {
      return reserved;
    }
  }
}

std::vector<SharedCopy> NodeCache::TakeVictimsOn(const GpuId& gpu, uint64_t bytes,
                                                 bool spare_placed) {
  std::vector<SharedCopy> victims;
  absl::MutexLock lock(&mutex_);
  const auto spared = [&](const Entry& entry) {
    const std::vector<GpuId>& placed = PlacementOf(entry.uri).gpus;
    return spare_placed && std::find(placed.begin(), placed.end(), gpu) != placed.end();
  };
  for (const EntryId id : catalog_.PickVictimsOn(gpu, bytes, spared)) {
    victims.push_back(TakeCopyOut(id, gpu));
  }
  copies_dropping_ += victims.size();
  return victims;
}

void NodeCache::DropCopyLater(SharedCopy copy) {
  ++copies_dropping_;
  const GpuId gpu = copy->gpu();
  dropping_.On(gpu).Run([this, copy = std::move(copy)]() mutable {
    copy.reset();
    NoteDropped(1);
  });
}

void NodeCache::NoteDropped(size_t count) {
  if (shelf_ != nullptr) {
    shelf_->Settle();
  }
  absl::MutexLock lock(&mutex_);
  copies_dropping_ -= count;
  copies_dropped_ += count;
  copy_dropped_.SignalAll();
}

bool NodeCache::AwaitDrops(const GpuId& gpu, uint64_t drops) {
  absl::MutexLock lock(&mutex_);
  if (copies_dropped_ != drops) {
    return true;
  }
  // What is taken back can be evicted once that has ended.
  if (copies_dropping_ == 0 && promotions_.TakenBackOn(gpu).empty()) {
    return false;
  }
  copy_dropped_.WaitWithTimeout(&mutex_, kCancellationCheck);
  return true;
}

}  // namespace weightd::cache
