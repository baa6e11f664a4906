#include "daemon/cache/node_cache.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::cache {
namespace {

// A source that hangs must not keep the checks of all others waiting.
constexpr int kCheckThreads = 16;
constexpr int kNewsThreads = 2;
// More would take the node's cores from the models that are served.
constexpr int kHashingThreads = 2;
// Of each GPU. They wait for its worker, and those that promote for room, which what is taken back
// may hold.
constexpr int kPromotingThreads = 4;
constexpr int kTakingBackThreads = 2;
constexpr int kDroppingThreads = 1;
constexpr int kLockingThreads = 1;

}  // namespace

absl::Status Drained(const GpuId& gpu) {
  return Error(Reason::kDeviceUnavailable, absl::StrCat(gpu.ToText(), " is drained"),
               "ask for another GPU, or wait until it is resumed");
}

absl::Status WorkerEnded(const GpuId& gpu) {
  return Error(Reason::kDeviceUnavailable, absl::StrCat("the worker of ", gpu.ToText(), " ended"),
               "try again");
}

absl::Status ShuttingDown() {
  return Error(Reason::kShuttingDown, "the daemon is shutting down", "try again in a moment");
}

std::unique_ptr<Cache> Cache::Create(CacheOptions options, std::shared_ptr<host::HostTier> tier,
                                     pipeline::ModelLoader* loader, device::Gpus* gpus) {
  return std::make_unique<NodeCache>(std::move(options), std::move(tier), loader, gpus);
}

NodeCache::NodeCache(CacheOptions options, std::shared_ptr<host::HostTier> tier,
                     pipeline::ModelLoader* loader, device::Gpus* gpus)
    : options_(std::move(options)),
      tier_(std::move(tier)),
      loader_(loader),
      gpus_(gpus),
      shelf_(options_.fd_store == nullptr
                 ? nullptr
                 : std::make_unique<Shelf>(options_.fd_store, tier_, options_.encode_card,
                                           options_.store_mark)),
      departures_(tier_.get(), &events_, shelf_.get()),
      placements_(std::make_shared<const Placements>(options_.placements)),
      loads_("weightd-load", std::max(1, options_.max_loads)),
      urgent_loads_("weightd-urgent", std::max(1, options_.max_loads)),
      news_loads_("weightd-news", kNewsThreads),
      checks_("weightd-check", kCheckThreads),
      hashing_("weightd-hash", kHashingThreads),
      locking_thread_("weightd-lock", shelf_ == nullptr ? 0 : kLockingThreads),
      promoting_("weightd-promote", gpus_, kPromotingThreads),
      taking_back_("weightd-retake", gpus_, shelf_ == nullptr ? 0 : kTakingBackThreads),
      dropping_("weightd-unmap", gpus_, kDroppingThreads),
      ticker_([this] { Tick(); }) {
  if (gpus_ != nullptr) {
    gpus_->OnLost([this](const GpuId& gpu, const absl::Status& why) { GpuLost(gpu, why); });
  }
}

NodeCache::~NodeCache() {
  if (gpus_ != nullptr) {
    gpus_->OnLost({});
  }
  // First: what ends from here on is the next daemon's.
  if (shelf_ != nullptr) {
    options_.fd_store->OnLate(nullptr);
    shelf_->Close();
  }
  const absl::Status reason = ShuttingDown();
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    tick_now_.Signal();
    while (!flights_.empty()) {
      Abort(Uri(flights_.begin()->second.load->uri), reason, outcomes);
    }
    StopPromotions([](const Promotion&) { return true; }, reason, outcomes);
    pin_checks_.Stop([](const PinCheck&) { return true; }, reason, outcomes);
  }
  shutdown_.Cancel(reason);
  Tell(std::move(outcomes));
  ticker_.join();
  promoting_.Stop();
  taking_back_.Stop();
  dropping_.Stop();
  checks_.Stop();
  hashing_.Stop();
  locking_thread_.Stop();
  loads_.Stop();
  urgent_loads_.Stop();
  news_loads_.Stop();
  departures_.Stop();
}

void NodeCache::Publish(EventKind kind, const Uri& uri, const RevisionId& revision, uint64_t bytes,
                        const absl::Status& error) {
  events_.Publish({.time = absl::Now(),
                   .kind = kind,
                   .uri = uri,
                   .revision = revision,
                   .lease = {},
                   .bytes = bytes,
                   .error = error});
}

void NodeCache::PublishLoad(EventKind kind, const Load& load, const RevisionId& revision,
                            uint64_t bytes, const absl::Status& error) {
  Event event = {.time = absl::Now(),
                 .kind = kind,
                 .uri = load.uri,
                 .revision = revision,
                 .lease = {},
                 .bytes = bytes,
                 .error = error,
                 .request_id = load.request_id,
                 .client = load.client};
  if (kind == EventKind::kLoadStarted) {
    events_.Publish(event);
    return;
  }
  event.took = absl::ZeroDuration();
  event.phases.reserve(pipeline::kTimedPhases.size());
  for (const pipeline::Phase phase : pipeline::kTimedPhases) {
    event.phases.emplace_back(phase, load.progress.phase.In(phase));
    *event.took += event.phases.back().second;
  }
  events_.Publish(event);
}

void NodeCache::PublishLeaseEnd(const Entry& entry, const LeaseTable::Ended& lease) {
  events_.Publish({.time = absl::Now(),
                   .kind = EventKind::kLeaseEnded,
                   .uri = entry.uri,
                   .revision = entry.revision(),
                   .lease = lease.lease,
                   .bytes = entry.model->charged_bytes(),
                   .error = {},
                   .listener = lease.listener});
}

void NodeCache::PublishOn(const GpuId& gpu, EventKind kind, const Uri& uri,
                          const RevisionId& revision, uint64_t bytes, const absl::Status& error) {
  events_.Publish({.time = absl::Now(),
                   .kind = kind,
                   .uri = uri,
                   .revision = revision,
                   .lease = {},
                   .bytes = bytes,
                   .error = error,
                   .gpu = gpu});
}

}  // namespace weightd::cache
