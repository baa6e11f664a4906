#include "daemon/service/sessions.h"

#include <sys/random.h>

#include <cerrno>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/status.h"

namespace weightd::service {
namespace {

constexpr size_t kTokenBytes = 16;

absl::StatusOr<std::string> NewToken() {
  char random[kTokenBytes];
  // Up to 256 bytes come whole or not at all (getrandom(2)).
  if (getrandom(random, sizeof(random), 0) != static_cast<ssize_t>(sizeof(random))) {
    return ErrnoError(errno, "get random bytes");
  }
  return absl::BytesToHexString(absl::string_view(random, sizeof(random)));
}

}  // namespace

absl::StatusOr<Sessions::Opened> Sessions::Open(absl::string_view listener, uint32_t uid) {
  ASSIGN_OR_RETURN(std::string token, NewToken());
  absl::MutexLock lock(&mutex_);
  const SessionId id(++last_id_);
  by_token_.emplace(token, id);
  sessions_.emplace(id, Session{token, std::string(listener), uid, 0});
  return Opened{id, std::move(token)};
}

void Sessions::Close(SessionId id) {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(id);
  if (found != sessions_.end()) {
    by_token_.erase(found->second.token);
    sessions_.erase(found);
  }
}

bool Sessions::IsOpen(SessionId id) const {
  absl::MutexLock lock(&mutex_);
  return sessions_.contains(id);
}

absl::StatusOr<SessionId> Sessions::Find(absl::string_view token, absl::string_view listener,
                                         uint32_t uid) const {
  absl::MutexLock lock(&mutex_);
  const auto id = by_token_.find(token);
  if (id != by_token_.end()) {
    const Session& session = sessions_.at(id->second);
    if (session.listener == listener && session.uid == uid) {
      return id->second;
    }
  }
  return Error(Reason::kSessionInvalid, "no valid session token",
               "connect handles.sock in the same folder and send the token it gives");
}

absl::Status Sessions::BeginCall(SessionId id) {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) {
    return Error(Reason::kSessionInvalid, "the session has ended");
  }
  if (found->second.calls >= kMaxCalls) {
    return Error(Reason::kTooManyRequests, "too many calls of this session wait",
                 "wait for some of them");
  }
  ++found->second.calls;
  return absl::OkStatus();
}

void Sessions::EndCall(SessionId id) {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(id);
  if (found != sessions_.end()) {
    --found->second.calls;
  }
}

}  // namespace weightd::service
