#ifndef WEIGHTD_DAEMON_SERVICE_SESSIONS_H_
#define WEIGHTD_DAEMON_SERVICE_SESSIONS_H_

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/ids.h"

namespace weightd::service {

// The open sessions of all listeners, and the tokens that prove them. A token is 128 random bits in
// hexadecimal, valid only on the listener that issued it and for the user it was issued to; it is
// never logged. Thread-safe.
class Sessions {
 public:
  struct Opened {
    SessionId id;
    std::string token;
  };

  // Calls of one session that may wait at once.
  static constexpr int kMaxCalls = 1024;

  absl::StatusOr<Opened> Open(absl::string_view listener, uint32_t uid);

  // From here on the session proves nothing. The caller ends its leases afterwards, so that a lease
  // granted meanwhile is seen either by its granter, who asks IsOpen(), or by whoever ends the
  // session's leases.
  void Close(SessionId id);
  bool IsOpen(SessionId id) const;

  // kSessionInvalid, in the same words whatever is wrong.
  absl::StatusOr<SessionId> Find(absl::string_view token, absl::string_view listener,
                                 uint32_t uid) const;

  // Counts a waiting call of the session; kTooManyRequests beyond kMaxCalls. Each success is
  // followed by one EndCall.
  absl::Status BeginCall(SessionId id);
  void EndCall(SessionId id);

 private:
  struct Session {
    std::string token;
    std::string listener;
    uint32_t uid = 0;
    int calls = 0;
  };

  mutable absl::Mutex mutex_;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<SessionId, Session> sessions_ ABSL_GUARDED_BY(mutex_);
  // Looked up by hash: the time it takes says nothing about how much of a guess was right.
  absl::flat_hash_map<std::string, SessionId> by_token_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_SESSIONS_H_
