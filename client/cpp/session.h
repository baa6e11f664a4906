#ifndef WEIGHTD_CLIENT_CPP_SESSION_H_
#define WEIGHTD_CLIENT_CPP_SESSION_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "common/ids.h"
#include "weightd/v1/handles.pb.h"

namespace weightd::client {

// What a claim was answered with: not believed yet, see MapSealed.
struct ClaimedHandles {
  // Of the kind that was wanted.
  Fd segment;
  uint64_t segment_bytes = 0;
  Fd index;
  uint64_t index_bytes = 0;
  // Not valid if the model has none.
  Fd small_files;
  uint64_t small_file_bytes = 0;
};

// One connection to the daemon's handle socket: what leases belong to. Thread-safe. Belongs to the
// process that opened it: fork() closes a child's copy, so that the session ends with the parent,
// and never with the child.
class Session {
 public:
  // Connects and waits for the daemon's greeting.
  static absl::StatusOr<std::unique_ptr<Session>> Open(const std::string& socket_dir,
                                                       absl::Time deadline);
  ~Session();
  Session(const Session&) = delete;

  // A secret: for the metadata of RPCs, never printed.
  const std::string& token() const { return token_; }
  const std::string& daemon_version() const { return daemon_version_; }
  // False in children of the process that opened it.
  bool IsOurs() const;
  // Whether the daemon still holds its end, as far as it has told.
  bool Lives() const;

  // Where the bytes of a lease are. kElsewhere: not behind a descriptor.
  enum class Segment { kHost, kDevice, kElsewhere };

  // Asks for the descriptors of a lease. Claims of several threads take turns.
  absl::StatusOr<ClaimedHandles> Claim(LeaseId lease, Segment segment, absl::Time deadline);

 private:
  Session(Fd socket, std::string path);

  absl::StatusOr<ClaimedHandles> ClaimInTurn(LeaseId lease, Segment segment, absl::Time deadline,
                                             bool& answer_owed);

  const Fd socket_;
  const std::string path_;
  const pid_t creator_;
  std::string token_;
  std::string daemon_version_;

  absl::Mutex mutex_;
  // Some thread's claim is on its way. It owns the socket until it is done; nobody holds the mutex
  // over a wait for the daemon.
  bool claiming_ ABSL_GUARDED_BY(mutex_) = false;
  // A claim gave up before its answer came: that answer is to be dropped first, since the daemon
  // wants at most one of them unread.
  bool answer_owed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_SESSION_H_
