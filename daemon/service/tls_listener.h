#ifndef WEIGHTD_DAEMON_SERVICE_TLS_LISTENER_H_
#define WEIGHTD_DAEMON_SERVICE_TLS_LISTENER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "daemon/service/accept.h"
#include "daemon/service/connection_acceptor.h"
#include "daemon/service/tls_certificates.h"
#include "daemon/service/tls_connection.h"

namespace weightd::service {

// Accepts TCP connections, lets in those that prove who they are, and passes on a socket with what
// they say inside TLS. (gRPC's own TLS takes older versions, has no limit of connections, and keeps
// to itself whom it refused and why.) One thread, which waits for no peer.
class TlsListener {
 public:
  struct Limits {
    // Let in; one more is refused.
    size_t connections = 64;
    // Not let in yet; of more, the oldest loses its place, so that nobody who is silent keeps
    // others out.
    size_t handshakes = 64;
    absl::Duration handshake = absl::Seconds(10);
  };
  // Takes the connection over; called on the listener's thread.
  using Serve = std::function<void(Fd connection)>;

  static absl::StatusOr<std::unique_ptr<TlsListener>> Start(Fd listening,
                                                            TlsCertificates certificates,
                                                            Limits limits, Reception reception,
                                                            Serve serve);
  // Ends all connections.
  ~TlsListener();
  TlsListener(const TlsListener&) = delete;

  // Where it listens.
  const std::string& address() const { return address_; }

  // Returns once nothing more is passed on. Connections that were live on.
  void StopAccepting();

 private:
  struct Peer {
    Peer(Fd socket, std::shared_ptr<const TlsIdentity> identity, absl::Time handshake_until);

    // Refused: the peer may still read why, and what it sends is thrown away.
    enum class State { kHandshake, kOpen, kRefused };

    TlsConnection tls;
    const std::string address;
    State state = State::kHandshake;
    // Of the handshake, or of the time in which the peer takes the last bytes.
    absl::Time deadline;
    // What epoll watches for.
    uint32_t socket_events = 0;
    uint32_t inside_events = 0;
  };

  TlsListener(Fd listening, Wakeup wakeup, TlsCertificates certificates, Limits limits,
              Reception reception, Serve serve);
  void Run();
  // False if this thread is to end.
  bool Obey();
  void Accept(Fd connection);
  // Of one for which no descriptor is left.
  void ReportUnserved(int connection);
  void Continue(uint64_t id);
  // What a peer's events are for; false if it is to be forgotten.
  bool Advance(Peer& peer);
  bool ContinueHandshake(Peer& peer);
  bool LetIn(Peer& peer);
  // Watches for what the connection waits for. False if the kernel can't.
  bool Watch(uint64_t id, Peer& peer);
  void Refuse(Peer& peer, absl::Status why);
  void DropOldestHandshake();
  void EndLate();
  int MillisecondsToWait() const;
  size_t CountOpen() const;

  Fd listening_;
  const std::string address_;
  const Wakeup wakeup_;
  TlsCertificates certificates_;
  const Limits limits_;
  const Reception reception_;
  const Serve serve_;
  SpareDescriptor spare_;
  std::atomic<bool> ending_ = false;
  absl::Notification closed_;
  // Only the thread touches these. The oldest come first.
  uint64_t last_id_ = 0;
  std::map<uint64_t, std::unique_ptr<Peer>> peers_;
  std::thread thread_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_TLS_LISTENER_H_
