#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "tests/daemon/cache/cache_fixture.h"

// Many random steps: first one at a time, against an oracle that says what must be resident after
// each; then from many threads at once, against what must hold at every moment.

namespace weightd::cache {
namespace {

constexpr uint64_t kBudget = 40;
constexpr int kModels = 8;
constexpr int kSessions = 3;

std::string Name(int model) { return "m" + std::to_string(model); }
uint64_t Pages(int model) { return 3 + 3 * static_cast<uint64_t>(model); }
SessionId Session(int session) { return SessionId(static_cast<uint64_t>(session) + 1); }

// What the cache should hold, by its rules said once more in the simplest way.
class Oracle {
 public:
  struct Model {
    int leases = 0;
    bool pinned = false;
  };

  bool Resident(int model) const { return models_.contains(model); }
  const Model& At(int model) const { return models_.at(model); }
  uint64_t Used() const {
    uint64_t used = 0;
    for (const auto& [model, state] : models_) {
      used += Cost(model);
    }
    return used;
  }

  // Whether the model is resident afterwards.
  bool Load(int model) {
    if (!Resident(model)) {
      if (!MakeRoom(Cost(model))) {
        return false;
      }
      models_[model] = {};
      evictable_.push_back(model);
    }
    Use(model, [](Model&) {});
    return true;
  }

  template <typename Change>
  void Use(int model, Change change) {
    Model& state = models_.at(model);
    const bool was_evictable = Evictable(state);
    change(state);
    if (Evictable(state)) {
      evictable_.remove(model);
      evictable_.push_back(model);
    } else if (was_evictable) {
      evictable_.remove(model);
    }
  }

  void Evict(int model) {
    models_.erase(model);
    evictable_.remove(model);
  }

 private:
  static uint64_t Cost(int model) { return Pages(model) + 1; }
  static bool Evictable(const Model& state) { return state.leases == 0 && !state.pinned; }

  bool MakeRoom(uint64_t pages) {
    const uint64_t free = kBudget - Used();
    uint64_t gained = 0;
    std::vector<int> victims;
    for (const int model : evictable_) {
      if (free + gained < pages) {
        victims.push_back(model);
        gained += Cost(model);
      }
    }
    if (free + gained < pages) {
      return false;
    }
    for (auto victim = victims.rbegin(); victim != victims.rend(); ++victim) {
      if (free + gained - Cost(*victim) >= pages) {
        gained -= Cost(*victim);
      } else {
        Evict(*victim);
      }
    }
    return true;
  }

  std::map<int, Model> models_;
  std::list<int> evictable_;
};

class RandomWalkTest : public CacheTest {
 protected:
  RandomWalkTest() {
    for (int model = 0; model < kModels; ++model) {
      Put(Name(model), Pages(model));
    }
  }

  static CacheOptions Settled() {
    CacheOptions options;
    options.revalidate = absl::InfiniteDuration();
    return options;
  }
};

class Walk {
 public:
  struct Held {
    LeaseId lease;
    SessionId session;
    int model;
    bool revoked = false;
  };

  Oracle oracle;
  std::vector<Held> leases;

  void EndWhere(auto ends) {
    for (const Held& held : leases) {
      if (ends(held) && !held.revoked) {
        oracle.Use(held.model, [](Oracle::Model& state) { --state.leases; });
      }
    }
    std::erase_if(leases, ends);
  }
  void Revoke(int model) {
    for (Held& held : leases) {
      held.revoked = held.revoked || held.model == model;
    }
    oracle.Evict(model);
  }
  size_t Live() const {
    return static_cast<size_t>(std::count_if(leases.begin(), leases.end(),
                                             [](const Held& held) { return !held.revoked; }));
  }
};

TEST_F(RandomWalkTest, StepByStepTheCacheIsWhatTheOracleSays) {
  Start(kBudget, Settled());
  std::mt19937 random(20240607);
  const auto pick = [&random](int below) {
    return static_cast<int>(random() % static_cast<unsigned>(below));
  };
  Walk walk;
  for (int step = 0; step < 3000; ++step) {
    const int model = pick(kModels);
    const SessionId session = Session(pick(kSessions));
    const int action = pick(20);
    const bool resident = walk.oracle.Resident(model);
    if (action < 8) {
      const bool may_load = pick(4) != 0;
      const auto grant = Acquire(Name(model), session, may_load)->Await();
      const bool expected = resident || (may_load && walk.oracle.Load(model));
      ASSERT_EQ(grant.ok(), expected) << "step " << step << ": " << grant.status();
      if (grant.ok()) {
        walk.oracle.Use(model, [](Oracle::Model& state) { ++state.leases; });
        walk.leases.push_back({.lease = grant->lease, .session = session, .model = model});
      }
    } else if (action < 14 && !walk.leases.empty()) {
      const auto held =
          walk.leases[static_cast<size_t>(pick(static_cast<int>(walk.leases.size())))];
      ASSERT_TRUE(cache_->Release(held.session, held.lease).ok());
      walk.EndWhere([&held](const Walk::Held& other) { return other.lease == held.lease; });
    } else if (action == 14) {
      const auto preloaded = Preload(Name(model))->Await();
      ASSERT_EQ(preloaded.ok(), walk.oracle.Load(model)) << "step " << step;
    } else if (action == 15) {
      ASSERT_EQ(cache_->Pin(Named(Name(model)), true).ok(), resident);
      if (resident) {
        walk.oracle.Use(model, [](Oracle::Model& state) { state.pinned = true; });
      }
    } else if (action == 16) {
      const bool was_pinned = resident && walk.oracle.At(model).pinned;
      ASSERT_EQ(cache_->Pin(Named(Name(model)), false).ok(), resident);
      if (was_pinned) {
        walk.oracle.Use(model, [](Oracle::Model& state) { state.pinned = false; });
      }
    } else if (action == 17) {
      const bool force = pick(2) == 0;
      const bool free =
          resident && walk.oracle.At(model).leases == 0 && !walk.oracle.At(model).pinned;
      ASSERT_EQ(cache_->Evict(Named(Name(model)), force).ok(), resident && (force || free));
      if (resident && (force || free)) {
        walk.Revoke(model);
      }
    } else if (action == 18) {
      cache_->EndSession(session);
      // In the order in which the cache ends them: of their numbers.
      walk.EndWhere([session](const Walk::Held& held) { return held.session == session; });
    }
    for (int other = 0; other < kModels; ++other) {
      ASSERT_EQ(IsResident(Name(other)), walk.oracle.Resident(other))
          << "step " << step << " model " << other;
      if (walk.oracle.Resident(other)) {
        const auto snapshot = cache_->Model(Named(Name(other)));
        ASSERT_EQ(static_cast<int>(snapshot->leases), walk.oracle.At(other).leases);
        ASSERT_EQ(snapshot->pinned, walk.oracle.At(other).pinned);
      }
    }
    ASSERT_NO_FATAL_FAILURE(AwaitResidentPages(walk.oracle.Used()));
    ASSERT_EQ(UsedPages(), walk.oracle.Used()) << "step " << step;
    ASSERT_EQ(cache_->Leases().size(), walk.Live()) << "step " << step;
  }
  // The walk was under pressure.
  EXPECT_GT(trail_->Count(EventKind::kEvicted), 200);
}

TEST_F(RandomWalkTest, ManyAtOnceNeverExceedTheBudget) {
  CacheOptions options;
  options.revalidate = absl::ZeroDuration();
  options.max_loads = 3;
  Start(kBudget, options);
  constexpr int kThreads = 6;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      const SessionId session = Session(t);
      for (int step = 0; step < 300; ++step) {
        const int model = static_cast<int>(random() % kModels);
        const Uri uri = Named(Name(model));
        switch (random() % 10) {
          case 0:
            cache_->EndSession(session);
            break;
          case 1:
            cache_->Evict(uri, random() % 2 == 0).IgnoreError();
            break;
          case 2:
            Put(Name(model), Pages(model), static_cast<int>(random() % 5) + 1);
            break;
          case 3:
            cache_->Pin(uri, random() % 4 == 0).IgnoreError();
            break;
          case 4:
            // Gives up at once, at whatever point the load is.
            Acquire(Name(model), session)->Leave();
            break;
          default: {
            const auto grant = Acquire(Name(model), session)->Await();
            if (grant.ok()) {
              cache_->Claim(session, grant->lease).IgnoreError();
              cache_->Release(session, grant->lease).IgnoreError();
            }
          }
        }
        const host::HostUsage usage = cache_->Usage();
        EXPECT_LE(usage.resident + usage.loading + usage.draining, usage.budget);
      }
      cache_->EndSession(session);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  store_.AwaitIdle();
  EXPECT_EQ(cache_->Leases().size(), 0u);
  for (int model = 0; model < kModels; ++model) {
    cache_->Evict(Named(Name(model)), /*force=*/true).IgnoreError();
  }
  // A check may just have found news and begun a load: the end of the cache ends it.
  Stop();
  const host::HostUsage usage = tier_->usage();
  EXPECT_EQ(usage.resident + usage.loading + usage.draining, 0u);
}

}  // namespace
}  // namespace weightd::cache
