#ifndef WEIGHTD_TESTS_DAEMON_CACHE_READOPTION_FIXTURE_H_
#define WEIGHTD_TESTS_DAEMON_CACHE_READOPTION_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/cache/card_facts.h"
#include "daemon/pipeline/model.h"
#include "tests/daemon/cache/cache_fixture.h"
#include "tests/fakes/fake_fd_store.h"

namespace weightd::cache {

// Daemons one after the other on one store of descriptors, which is all that outlives one: the end
// of a process is played by the end of its cache.
class ReadoptionTest : public CacheTest {
 protected:
  static constexpr uint64_t kBudget = 100;

  void SetUp() override { Next(); }
  // The cache uses the store until its end.
  void TearDown() override { Stop(); }

  // The next daemon; the one before is gone.
  void Next(uint64_t budget = kBudget, CacheOptions options = {});

  // Models of different sizes have different revisions: by that their index is known.
  void Put(const std::string& name, uint64_t pages, int revision = 1);

  std::vector<ClaimedHandle> Claim(LeaseId lease) { return cache_->Claim(kAlice, lease).value(); }
  // Until the store has so many descriptors, and so many pages drain.
  void AwaitStored(size_t count);
  void AwaitDraining(uint64_t pages);
  // The only error said so far.
  std::string Complaint();
  // Of the only descriptor of that part.
  std::string NameOf(const std::string& part);
  // The only model's card, with other facts.
  void Rewrite(const std::function<void(CardFacts&)>& change);

  fakes::FakeFdStore fds_;

 private:
  // Of the fake store's index, a page full of its revision's number.
  absl::StatusOr<pipeline::ModelIndex> Decode(absl::string_view encoded) const;

  std::map<int, uint64_t> pages_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_TESTS_DAEMON_CACHE_READOPTION_FIXTURE_H_
