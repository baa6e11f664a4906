#ifndef WEIGHTD_DAEMON_SERVICE_TLS_CONNECTION_H_
#define WEIGHTD_DAEMON_SERVICE_TLS_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <string>

#include "common/fd.h"
#include "daemon/service/tls_identity.h"

namespace weightd::service {

// The server's side of one TLS connection: first the handshake, then bytes both ways between the
// peer's socket and one inside, where they lie open. Never waits: whoever owns it calls it when one
// of its sockets has the events that it asks for. Holds at most 16 KiB each way. Not thread-safe.
class TlsConnection {
 public:
  TlsConnection(Fd socket, std::shared_ptr<const TlsIdentity> identity);
  TlsConnection(const TlsConnection&) = delete;

  enum class Handshake { kRuns, kDone, kFailed };
  Handshake ContinueHandshake();
  // Of a handshake that failed.
  std::string Refusal() const;
  // By which the peer was let in.
  std::string NameOfPeer() const { return identity_->NameOfPeer(ssl_.get()); }

  // Once the handshake is done: the socket that the bytes come from and go to.
  void Open(Fd inside) { inside_ = std::move(inside); }
  // Moves what can be moved. False once the connection is over.
  bool Move() { return MoveIn() && MoveOut(); }
  // The inside has ended, and the peer is yet to take the last of it.
  bool ending() const { return inside_ended_; }

  int socket() const { return socket_.get(); }
  int inside() const { return inside_.get(); }
  // Of epoll; none if there is nothing to wait for.
  uint32_t SocketEvents() const;
  uint32_t InsideEvents() const;

 private:
  // From the peer to the inside, and the other way. False if that ended the connection.
  bool MoveIn();
  bool MoveOut();
  // After an operation of OpenSSL: whether it goes on once the socket has the events it waits for.
  bool Waits(int result);

  const Fd socket_;
  const std::shared_ptr<const TlsIdentity> identity_;
  std::string refusal_;
  SslPtr ssl_;
  Fd inside_;
  std::string to_inside_;
  std::string to_peer_;
  bool inside_ended_ = false;
  // OpenSSL can't read on before it has written something of its own.
  bool must_write_ = false;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_TLS_CONNECTION_H_
