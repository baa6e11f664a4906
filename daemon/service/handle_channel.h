#ifndef WEIGHTD_DAEMON_SERVICE_HANDLE_CHANNEL_H_
#define WEIGHTD_DAEMON_SERVICE_HANDLE_CHANNEL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/fd.h"
#include "common/ids.h"
#include "daemon/cache/cache.h"
#include "daemon/service/accept.h"
#include "daemon/service/call_record.h"
#include "daemon/service/sessions.h"
#include "daemon/service/user_shares.h"

namespace weightd::service {

struct HandleChannelOptions {
  std::string listener;
  int max_sessions = 256;
  UserShares::Users users = UserShares::Users::kOne;
};

// One listener's handles.sock: greets each connection with a session token, answers claims with
// descriptors, and ends the session's leases when the connection ends. One thread serves all
// connections and never waits for any of them: an answer goes out only when the peer has read the
// one before, and until then the peer's next request stays in its socket. So someone who sends
// garbage, floods or doesn't read gets nothing, and costs the others nothing.
class HandleChannel {
 public:
  // All outlive the channel.
  struct Daemon {
    Sessions* sessions;
    cache::Cache* cache;
    UserShares* in_flight;
    CallObserver* observer;
  };

  // `listening` is a non-blocking SOCK_SEQPACKET socket.
  static absl::StatusOr<std::unique_ptr<HandleChannel>> Start(Fd listening,
                                                              HandleChannelOptions options,
                                                              Daemon daemon);
  // Ends all sessions and their leases.
  ~HandleChannel();
  HandleChannel(const HandleChannel&) = delete;

  uint32_t sessions() const { return session_count_; }

 private:
  struct Peer {
    Fd socket;
    PeerUser user;
    // Whether the last answer may be unread, and descriptors that went with it.
    bool answered = false;
    uint32_t descriptors = 0;
  };

  HandleChannel(Fd listening, Fd epoll, Fd stop, HandleChannelOptions options, Daemon daemon);

  void Run();
  void AcceptAll();
  void Welcome(Fd socket);
  Caller CallerOf(const PeerUser& user) const;
  // One request, or the news that the last answer was read. False if the session is over.
  bool Serve(SessionId id, Peer& peer);
  bool AnswerNext(SessionId id, Peer& peer);
  bool AnswerClaim(SessionId id, LeaseId lease, Peer& peer);
  // Sends the lease's descriptors.
  absl::Status Claim(SessionId id, LeaseId lease, Peer& peer);
  // Waits for the peer to read (`answered`) or for its next request.
  bool Await(SessionId id, Peer& peer, bool answered);
  void End(SessionId id);

  const HandleChannelOptions options_;
  const Daemon daemon_;
  const Fd listening_;
  const Fd epoll_;
  const Fd stop_;
  SpareDescriptor spare_;
  UserShares shares_;
  // Only the thread touches them; after its end, the destructor.
  absl::flat_hash_map<SessionId, Peer> peers_;
  std::atomic<uint32_t> session_count_ = 0;
  std::thread thread_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_HANDLE_CHANNEL_H_
