#include "tests/daemon/cache/cache_fixture.h"

#include <algorithm>
#include <limits>
#include <thread>
#include <utility>

namespace weightd::cache {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

}  // namespace

AcquireCallbacks Call::ForAcquire() {
  return {.progress = [this](const ProgressSnapshot& progress) { Progress(progress); },
          .done = [this](absl::StatusOr<Grant> outcome) { Done(std::move(outcome)); }};
}

PreloadCallbacks Call::ForPreload() {
  return {.progress = [this](const ProgressSnapshot& progress) { Progress(progress); },
          .done =
              [this](absl::StatusOr<ModelSnapshot> outcome) {
                if (outcome.ok()) {
                  Done(Grant{.lease = LeaseId(), .model = *std::move(outcome)});
                } else {
                  Done(outcome.status());
                }
              }};
}

void Call::Progress(const ProgressSnapshot& progress) {
  absl::MutexLock lock(&mutex_);
  EXPECT_FALSE(outcome_.has_value()) << "progress after done";
  progress_.push_back(progress);
}

void Call::Done(absl::StatusOr<Grant> outcome) {
  absl::MutexLock lock(&mutex_);
  EXPECT_FALSE(outcome_.has_value()) << "done twice";
  outcome_ = std::move(outcome);
}

absl::StatusOr<Grant> Call::Await() {
  absl::MutexLock lock(&mutex_);
  const auto done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return outcome_.has_value(); };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&done), kPatience)) {
    ADD_FAILURE() << "a call hangs";
    return Error(Reason::kDeadline, "hangs");
  }
  return *outcome_;
}

bool Call::done() const {
  absl::MutexLock lock(&mutex_);
  return outcome_.has_value();
}

void Call::AwaitPhase(pipeline::Phase phase) {
  absl::MutexLock lock(&mutex_);
  const auto told = [this, phase]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return std::any_of(progress_.begin(), progress_.end(),
                       [phase](const ProgressSnapshot& told) { return told.phase == phase; });
  };
  EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&told), kPatience));
}

EventTrail::EventTrail(EventLog& log)
    : subscription_(log.Subscribe([this](const Event& event) {
        absl::MutexLock lock(&mutex_);
        events_.push_back(event);
      })) {}

int EventTrail::Count(EventKind kind) const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(std::count_if(events_.begin(), events_.end(),
                                        [kind](const Event& event) { return event.kind == kind; }));
}

Event EventTrail::Await(EventKind kind, int count) {
  absl::MutexLock lock(&mutex_);
  std::vector<Event> seen;
  const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    seen.clear();
    std::copy_if(events_.begin(), events_.end(), std::back_inserter(seen),
                 [kind](const Event& event) { return event.kind == kind; });
    return static_cast<int>(seen.size()) >= count;
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&enough), kPatience)) {
    ADD_FAILURE() << "no event " << static_cast<int>(kind);
    return {};
  }
  return seen[static_cast<size_t>(count) - 1];
}

void CacheTest::Start(uint64_t budget_pages, CacheOptions options) {
  host::HostTierOptions tier;
  tier.budget = budget_pages * kPageBytes;
  tier.huge_pages = false;
  tier.available_memory = [] { return uint64_t{1} << 40; };
  tier_ = std::make_shared<host::HostTier>(tier);
  cache_ = Cache::Create(std::move(options), tier_, &store_, gpus_on_node_);
  trail_ = std::make_unique<EventTrail>(cache_->events());
}

void CacheTest::Stop() {
  trail_.reset();
  cache_.reset();
}

Uri CacheTest::Named(const std::string& name) { return *Uri::Parse("http://store/" + name); }

void CacheTest::Put(const std::string& name, uint64_t pages, int revision) {
  store_.Put(Named(name), revision, pages * kPageBytes);
}

std::unique_ptr<Call> CacheTest::Acquire(const std::string& name, SessionId session, bool may_load,
                                         const std::string& revision, source::ReadPolicy policy) {
  auto call = std::make_unique<Call>();
  AcquireRequest request;
  request.uri = Named(name);
  request.policy = policy;
  request.may_load = may_load;
  request.revision = revision;
  request.holder = {.session = session, .listener = "test", .uid = 7};
  call->Keep(cache_->Acquire(std::move(request), call->ForAcquire()));
  return call;
}

std::unique_ptr<Call> CacheTest::Preload(const std::string& name, bool pin,
                                         source::ReadPolicy policy) {
  auto call = std::make_unique<Call>();
  call->Keep(
      cache_->Preload({.uri = Named(name), .policy = policy, .pin = pin}, call->ForPreload()));
  return call;
}

LeaseId CacheTest::Lease(const std::string& name, SessionId session) {
  const absl::StatusOr<Grant> grant = Acquire(name, session)->Await();
  EXPECT_TRUE(grant.ok()) << grant.status();
  return grant.ok() ? grant->lease : LeaseId();
}

void CacheTest::Load(const std::string& name) {
  const absl::StatusOr<Grant> model = Preload(name)->Await();
  EXPECT_TRUE(model.ok()) << model.status();
}

void CacheTest::Release(LeaseId lease, SessionId session) {
  EXPECT_TRUE(cache_->Release(session, lease).ok());
}

bool CacheTest::IsResident(const std::string& name) { return cache_->Resident(Named(name)).ok(); }

void CacheTest::AwaitResidentPages(uint64_t pages) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (cache_->Usage().resident != pages * kPageBytes) {
    ASSERT_LT(absl::Now(), deadline);
    std::this_thread::yield();
  }
}

uint64_t CacheTest::UsedPages() {
  const host::HostUsage usage = cache_->Usage();
  return (usage.resident + usage.loading + usage.draining) / kPageBytes;
}

}  // namespace weightd::cache
