#ifndef WEIGHTD_DAEMON_CACHE_FLIGHT_H_
#define WEIGHTD_DAEMON_CACHE_FLIGHT_H_

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "common/cancellation.h"
#include "common/ids.h"
#include "common/pins.h"
#include "common/uri.h"
#include "daemon/cache/holder.h"
#include "daemon/cache/snapshots.h"
#include "daemon/cache/waiter.h"
#include "daemon/device/gpus.h"
#include "daemon/pipeline/loader.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/source/source.h"

namespace weightd::cache {

// What a load's thread works on. Shared with it; all of it thread-safe or never changed.
struct Load {
  Load(Uri uri, source::ReadPolicy policy, std::string request_id, std::optional<Holder> client)
      : uri(std::move(uri)),
        policy(std::move(policy)),
        request_id(std::move(request_id)),
        client(std::move(client)) {}

  const Uri uri;
  const source::ReadPolicy policy;
  // Of the call that set it off.
  const std::string request_id;
  // Whose call that was, if a client's.
  const std::optional<Holder> client;
  pipeline::Progress progress;
  Cancellation cancellation;
};

inline bool SamePolicy(const source::ReadPolicy& a, const source::ReadPolicy& b) {
  return std::tie(a.any_path, a.any_address, a.unpinned, a.denied) ==
         std::tie(b.any_path, b.any_address, b.unpinned, b.denied);
}

// Somebody who wants a flight to arrive.
struct Interest {
  std::shared_ptr<Waiter> waiter;
  source::ReadPolicy policy;
  // Who gets a lease; nobody: no lease is granted.
  std::optional<Holder> holder;
  // First digits of the only revision that will do; empty: any.
  std::string revision;
  // What files have to be.
  Pins pins;
  // Opens the model, should it have to be loaded; none: as the loader was told.
  std::optional<pipeline::ModelKey> key;
  // May load the model, should it be gone by the time its pins are verified.
  bool may_load = true;
  // The load goes on though nobody waits: operators' preloads, and news of a resident model.
  bool persistent = false;
  // Asked for by an operator or the config: the load doesn't queue behind those that clients
  // started.
  bool urgent = false;
  // Of the call, for the log; empty: the daemon itself is interested.
  std::string request_id = {};
  // Who pins it once it is settled, if anybody does.
  std::optional<Pinner> pin = {};
  // What a client gets instead of the bytes in host memory.
  std::optional<DeviceRequest> device = {};
  // Where copies are to be made before it is settled; each leaves when it is there, or has failed.
  std::vector<GpuId> gpus = {};
  // Of those, the ones that must not fail.
  std::vector<GpuId> required_gpus = {};
  // The private copy that was made for it.
  std::shared_ptr<device::Segment> private_copy = {};
  // The uptime when it was asked for, and whether it was where it was wanted then.
  absl::Duration asked = {};
  bool was_resident = false;
};

// What somebody is to be told, once no lock is held.
struct Outcome {
  Interest interest;
  absl::StatusOr<Grant> result;
};
using Outcomes = std::vector<Outcome>;

// Takes out those for whom `leaves` holds.
inline std::vector<Interest> Split(std::vector<Interest>& interests,
                                   absl::FunctionRef<bool(const Interest&)> leaves) {
  std::vector<Interest> staying;
  std::vector<Interest> leaving;
  for (Interest& interest : interests) {
    (leaves(interest) ? leaving : staying).push_back(std::move(interest));
  }
  interests = std::move(staying);
  return leaving;
}

// The one load of a URI, and who wants it. Those whose own policy and key are the load's ride on it
// and share its outcome. Others only wait for it to end: what is resident then is theirs to attach
// to as well, but a failure tells them nothing about what their own policy or key could do, and
// sets off a load of theirs.
struct Flight {
  std::shared_ptr<Load> load;
  // Not the load's own, which those who queue for a turn may hold for long after the flight.
  std::optional<pipeline::ModelKey> key;
  // Empty until resolved.
  RevisionId revision;
  uint32_t file_count = 0;
  // Of host memory, that it will take; 0 until that is known.
  uint64_t host_bytes = 0;
  std::vector<Interest> interests;

  bool Carries(const Interest& interest) const {
    return SamePolicy(interest.policy, load->policy) && interest.key == key;
  }
  // Takes out those for whom `leaves` holds.
  std::vector<Interest> Split(absl::FunctionRef<bool(const Interest&)> leaves) {
    return cache::Split(interests, leaves);
  }
  // Whether a client waits; tells the load.
  void TellIfAwaited() const {
    load->progress.awaited =
        std::any_of(interests.begin(), interests.end(),
                    [](const Interest& interest) { return interest.holder.has_value(); });
  }
  // Whether anybody is left who rides.
  bool Wanted() const {
    return std::any_of(interests.begin(), interests.end(),
                       [this](const Interest& interest) { return Carries(interest); });
  }
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_FLIGHT_H_
