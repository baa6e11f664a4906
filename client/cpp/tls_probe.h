#ifndef WEIGHTD_CLIENT_CPP_TLS_PROBE_H_
#define WEIGHTD_CLIENT_CPP_TLS_PROBE_H_

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cpp/remote_address.h"
#include "common/fd.h"

namespace weightd::client {

// Finds out why a connection with certificates on both sides can't be made, by making one.
class TlsProbe {
 public:
  // kInvalidArgument if the address or one of the files is of no use.
  static absl::StatusOr<TlsProbe> Make(const RemoteAddress& remote);

  // What stands in the way; OK if nothing does. A moment past the deadline it ends at the latest.
  absl::Status Connect(absl::Time deadline) const;

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(SSL* connection) const { SSL_free(connection); }
  };

  TlsProbe(RemoteAddress remote, std::string host, std::string port,
           std::unique_ptr<SSL_CTX, Free> context);

  absl::StatusOr<Fd> OpenSocket(absl::Time deadline) const;
  absl::Status Silent() const;
  absl::Status Handshake(SSL* connection) const;
  // What the daemon made of our certificate: with TLS 1.3 it says so only now.
  absl::Status AwaitFirstByte(SSL* connection) const;

  RemoteAddress remote_;
  std::string host_;
  std::string port_;
  std::unique_ptr<SSL_CTX, Free> context_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_TLS_PROBE_H_
