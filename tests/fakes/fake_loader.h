#ifndef WEIGHTD_TESTS_FAKES_FAKE_LOADER_H_
#define WEIGHTD_TESTS_FAKES_FAKE_LOADER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/ids.h"
#include "common/uri.h"
#include "daemon/device/gpus.h"
#include "daemon/pipeline/destinations.h"
#include "daemon/pipeline/loader.h"
#include "daemon/pipeline/model_key.h"

namespace weightd::fakes {

// 64 digits that begin with those of `number`, in decimal, padded to 8.
RevisionId MakeRevision(int number);

// A store of models that never touches a disk or a network: Resolve() names the revision that was
// put last, Load() makes real sealed segments of the room that it is given, each byte the
// revision's number, and the same on GPUs. Both can be held at a gate, told to fail, or find the
// object changed. Thread-safe.
class FakeLoader final : public pipeline::ModelLoader {
 public:
  // Where loads put their copies; outlives them.
  void UseGpus(device::Gpus* gpus);
  // `bytes` of weights; whole pages, all of them one tensor's. The index takes one page more, and
  // is all that takes host memory of a load whose destinations are GPUs only.
  void Put(const Uri& uri, int revision, uint64_t bytes);
  // From now on the model has these beside its weights, a page of them together, which Load()
  // keeps.
  void PutSmallFiles(const Uri& uri, std::vector<std::string> names);
  // What Resolve() says of a model that isn't there is NOT_FOUND.
  void Remove(const Uri& uri);
  // From now on a model that was put is loaded with this key only; the loader itself knows none.
  void Encrypt(const Uri& uri, const std::string& key);

  // Every Resolve() fails with this; OK: they work again.
  void FailResolves(absl::Status error);
  // Every Load() fails with this after the gate.
  void FailLoads(absl::Status error);
  // From now on only resolves with ReadPolicy::any_path are allowed; others get kNotAllowed.
  void RefuseNarrowPolicies();
  // The next `times` loads find that the revision has become the next number.
  void ChangeDuringLoads(const Uri& uri, int times);

  // Loads that have got their room stop at the gate until it is open, or they are cancelled.
  void CloseGate();
  void OpenGate();
  // Loads at the gate don't notice that they are cancelled until it opens.
  void IgnoreCancellation();
  // Pins of resident models aren't compared until the gate is open again.
  void CloseHashing();
  void OpenHashing();
  // Until somebody stands at that gate.
  void AwaitHashing();
  // Until that many loads altogether came to the gate, or that many resolves were asked for.
  void AwaitLoads(int count);
  void AwaitResolves(int count);
  // Until no load runs.
  void AwaitIdle();

  int resolves() const;
  // That came to the gate.
  int loads() const;
  int most_at_once() const;
  // What the last Resolve() was told.
  pipeline::KnownSmallFiles last_known() const;
  // Whether a client waits for the load that began last and is at the gate.
  bool awaited() const;
  // What the load that came to the gate last was given; empty: no key.
  std::string last_key() const;

  absl::StatusOr<pipeline::ResolvedModel> Resolve(const Uri& uri, const source::ReadPolicy& policy,
                                                  const pipeline::KnownSmallFiles& known,
                                                  Cancellation& cancellation) override;
  absl::StatusOr<pipeline::ResidentModel> Load(const pipeline::ResolvedModel& resolved,
                                               const source::ReadPolicy& policy,
                                               const std::optional<pipeline::ModelKey>& key,
                                               const pipeline::MakeRoom& make_room,
                                               const pipeline::Destinations& destinations,
                                               pipeline::Progress& progress,
                                               Cancellation& cancellation) override;

 private:
  class GatedHasher;

  struct Stored {
    int revision = 0;
    uint64_t bytes = 0;
    int changes_to_come = 0;
    // Empty: not encrypted.
    std::string key = {};
    std::vector<std::string> small_files = {};
  };

  absl::StatusOr<pipeline::ResidentModel> Fill(const pipeline::ResolvedModel& resolved, bool host,
                                               host::Reservation room);
  // Copies and copy_failures; an error if the model is nowhere then.
  absl::Status CopyToGpus(const pipeline::Destinations& destinations, Cancellation& cancellation,
                          pipeline::ResidentModel& model);
  absl::Status PassGate(const std::string& key, Cancellation& cancellation);
  // The error that was ordered, if any; kSourceChanged if `resolved` is not what is stored; those
  // of a key.
  absl::Status Check(const pipeline::ResolvedModel& resolved, const std::string& key);

  mutable absl::Mutex mutex_;
  device::Gpus* gpus_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::map<std::string, Stored> models_ ABSL_GUARDED_BY(mutex_);
  absl::Status resolve_error_ ABSL_GUARDED_BY(mutex_);
  absl::Status load_error_ ABSL_GUARDED_BY(mutex_);
  bool refuse_narrow_ ABSL_GUARDED_BY(mutex_) = false;
  bool ignore_cancellation_ ABSL_GUARDED_BY(mutex_) = false;
  bool open_ ABSL_GUARDED_BY(mutex_) = true;
  int resolves_ ABSL_GUARDED_BY(mutex_) = 0;
  int loads_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string last_key_ ABSL_GUARDED_BY(mutex_);
  pipeline::KnownSmallFiles last_known_ ABSL_GUARDED_BY(mutex_);
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  int most_at_once_ ABSL_GUARDED_BY(mutex_) = 0;
  const pipeline::Progress* last_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool hashing_open_ ABSL_GUARDED_BY(mutex_) = true;
  bool hashing_waits_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_FAKE_LOADER_H_
