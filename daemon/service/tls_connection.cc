#include "daemon/service/tls_connection.h"

#include <openssl/err.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

namespace weightd::service {
namespace {

// A record of TLS (RFC 8446, section 5.1): with room for all of one, none of it stays in OpenSSL,
// where epoll would not see it.
constexpr size_t kRecordBytes = 16384;

}  // namespace

TlsConnection::TlsConnection(Fd socket, std::shared_ptr<const TlsIdentity> identity)
    : socket_(std::move(socket)),
      identity_(std::move(identity)),
      ssl_(identity_->Accept(socket_.get(), &refusal_)) {}

bool TlsConnection::Waits(int result) {
  const int error = SSL_get_error(ssl_.get(), result);
  must_write_ = error == SSL_ERROR_WANT_WRITE;
  return must_write_ || error == SSL_ERROR_WANT_READ;
}

TlsConnection::Handshake TlsConnection::ContinueHandshake() {
  if (ssl_ == nullptr) {
    refusal_ = "OpenSSL is short of memory";
    return Handshake::kFailed;
  }
  ERR_clear_error();
  const int result = SSL_accept(ssl_.get());
  if (result == 1) {
    must_write_ = false;
    return Handshake::kDone;
  }
  if (Waits(result)) {
    return Handshake::kRuns;
  }
  if (refusal_.empty()) {
    const char* const reason = ERR_reason_error_string(ERR_peek_error());
    refusal_ = reason == nullptr ? "it left during the handshake" : reason;
  }
  return Handshake::kFailed;
}

std::string TlsConnection::Refusal() const { return refusal_; }

bool TlsConnection::MoveIn() {
  if (to_inside_.empty()) {
    std::array<char, kRecordBytes> bytes;
    ERR_clear_error();
    const int count = SSL_read(ssl_.get(), bytes.data(), bytes.size());
    if (count <= 0) {
      return Waits(count);
    }
    must_write_ = false;
    to_inside_.assign(bytes.data(), static_cast<size_t>(count));
  }
  const ssize_t sent =
      send(inside_.get(), to_inside_.data(), to_inside_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) {
    return errno == EAGAIN || errno == EINTR || inside_ended_;
  }
  to_inside_.erase(0, static_cast<size_t>(sent));
  return true;
}

bool TlsConnection::MoveOut() {
  if (to_peer_.empty() && !inside_ended_) {
    std::array<char, kRecordBytes> bytes;
    const ssize_t count = recv(inside_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count < 0 && errno != EAGAIN && errno != EINTR) {
      return false;
    }
    inside_ended_ = count == 0;
    to_peer_.assign(bytes.data(), count > 0 ? static_cast<size_t>(count) : 0);
  }
  if (!to_peer_.empty()) {
    ERR_clear_error();
    const int count = SSL_write(ssl_.get(), to_peer_.data(), static_cast<int>(to_peer_.size()));
    if (count <= 0) {
      return Waits(count);
    }
    to_peer_.erase(0, static_cast<size_t>(count));
  }
  if (inside_ended_ && to_peer_.empty()) {
    SSL_shutdown(ssl_.get());
    return false;
  }
  return true;
}

uint32_t TlsConnection::SocketEvents() const {
  if (!inside_.valid()) {
    return must_write_ ? EPOLLOUT : EPOLLIN;
  }
  uint32_t events = 0;
  if (to_inside_.empty() && !must_write_) {
    events |= EPOLLIN;
  }
  if (!to_peer_.empty() || must_write_) {
    events |= EPOLLOUT;
  }
  return events;
}

uint32_t TlsConnection::InsideEvents() const {
  uint32_t events = 0;
  if (to_peer_.empty() && !inside_ended_) {
    events |= EPOLLIN;
  }
  if (!to_inside_.empty() && !inside_ended_) {
    events |= EPOLLOUT;
  }
  return events;
}

}  // namespace weightd::service
