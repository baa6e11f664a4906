#ifndef WEIGHTD_TESTS_DAEMON_CACHE_GPU_READOPTION_FIXTURE_H_
#define WEIGHTD_TESTS_DAEMON_CACHE_GPU_READOPTION_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/gpu_id.h"
#include "daemon/cache/cache.h"
#include "daemon/device/budget.h"
#include "tests/daemon/cache/readoption_fixture.h"
#include "tests/fakes/fake_gpus.h"

namespace weightd::cache {

// Daemons one after the other on a node with two GPUs. The memory of the GPUs is what the store's
// descriptors hold.
class GpuReadoptionTest : public ReadoptionTest {
 protected:
  static constexpr uint64_t kGranule = device::Budget::kGranularity;
  static inline const GpuId kGpu = fakes::MakeGpuId(1);
  static inline const GpuId kOtherGpu = fakes::MakeGpuId(2);

  void SetUp() override { NextOnGpus(); }
  ~GpuReadoptionTest() override { Stop(); }

  static CacheOptions OnlyOn(const std::vector<GpuId>& gpus) {
    CacheOptions options;
    options.placements[Named("m").ToString()] = {.host = false, .gpus = gpus};
    return options;
  }

  // GPUs of that many granules; none: the node has none.
  void NextOnGpus(uint64_t granules = 4, CacheOptions options = {}) {
    PrepareGpus(granules);
    Next(kBudget, std::move(options));
  }
  void PrepareGpus(uint64_t granules = 4) {
    Stop();
    tier_.reset();
    gpus_ = std::make_unique<fakes::FakeGpus>(std::vector<std::pair<GpuId, uint64_t>>{
        {kGpu, granules * kGranule}, {kOtherGpu, granules * kGranule}});
    gpus_on_node_ = granules == 0 ? nullptr : gpus_.get();
    store_.UseGpus(gpus_.get());
  }

  std::unique_ptr<Call> AcquireOn(const GpuId& gpu, const std::string& name, bool may_load = true,
                                  bool is_private = false) {
    auto call = std::make_unique<Call>();
    AcquireRequest request;
    request.uri = Named(name);
    request.may_load = may_load;
    request.device = {.gpu = gpu, .is_private = is_private};
    request.holder = {.session = kAlice, .listener = "test", .uid = 7};
    call->Keep(cache_->Acquire(std::move(request), call->ForAcquire()));
    return call;
  }
  Grant GrantOn(const GpuId& gpu, const std::string& name, bool may_load = true) {
    const absl::StatusOr<Grant> grant = AcquireOn(gpu, name, may_load)->Await();
    EXPECT_TRUE(grant.ok()) << grant.status();
    return grant.ok() ? *grant : Grant();
  }
  // Granted once to a client that is gone.
  void CopyTo(const GpuId& gpu, const std::string& name) { Release(GrantOn(gpu, name).lease); }

  // "a", "b" and "c": there is no room for a fourth, and "a" is the one to leave for it.
  void LoadThreeWithACopyOfTheFirst() {
    Put("a", 29, 1);
    Put("b", 30, 2);
    Put("c", 31, 3);
    for (const char* const name : {"a", "b", "c"}) {
      Load(name);
    }
    CopyTo(kGpu, "a");
    Release(Lease("b"));
    Release(Lease("c"));
  }

  std::vector<GpuId> Where(const std::string& name) {
    std::vector<GpuId> gpus;
    const ModelSnapshot model = cache_->Model(Named(name)).value_or(ModelSnapshot());
    for (const GpuCopySnapshot& copy : model.copies) {
      gpus.push_back(copy.gpu);
    }
    return gpus;
  }
  uint64_t UsedGranules(const GpuId& gpu) { return gpus_->UsageOf(gpu).used() / kGranule; }
  std::vector<std::string> Copies() { return fds_.NamesOf(kGpu.ToText()); }
  // Of a model, then of its copy there.
  void AwaitReadopted(int events) { trail_->Await(EventKind::kReadopted, events); }
  void ExpectRefused(const GpuId& gpu, absl::string_view why) {
    const Event refused = trail_->Await(EventKind::kNotReadopted);
    EXPECT_EQ(refused.gpu, gpu);
    EXPECT_EQ(refused.uri, Named("m"));
    EXPECT_TRUE(absl::StrContains(refused.error.message(), why)) << refused.error;
    EXPECT_TRUE(Copies().empty());
    AwaitUsedGranules(gpu, 0);
  }

  // The next daemon, on a node where copies there fail so to be taken back.
  void NextFailing(const GpuId& gpu, absl::Status error, CacheOptions options = {}) {
    PrepareGpus();
    gpus_->FailImports(gpu, std::move(error));
    Next(kBudget, std::move(options));
  }
  void AwaitUsedGranules(const GpuId& gpu, uint64_t granules) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (UsedGranules(gpu) != granules) {
      ASSERT_LT(absl::Now(), deadline) << UsedGranules(gpu);
      std::this_thread::yield();
    }
  }

  HandedOver HandOver() { return cache_->HandOver(absl::Now() + absl::Seconds(10)); }

  std::unique_ptr<fakes::FakeGpus> gpus_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_TESTS_DAEMON_CACHE_GPU_READOPTION_FIXTURE_H_
