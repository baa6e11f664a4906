#ifndef WEIGHTD_DAEMON_SERVICE_TLS_IDENTITY_H_
#define WEIGHTD_DAEMON_SERVICE_TLS_IDENTITY_H_

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/service/access.h"

namespace weightd::service {

struct SslDeleter {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using SslPtr = std::unique_ptr<SSL, SslDeleter>;

// PEM files.
struct TlsFiles {
  // Ours, and what leads from it to its authority.
  std::string certificate;
  std::string key;
  // Those whose certificates we believe.
  std::string client_authorities;
};

// The contents of TlsFiles.
struct TlsTexts {
  std::string certificate;
  std::string key;
  std::string client_authorities;
};

// What a server of TLS 1.3 shows its peers, and which of them it lets in: those with a certificate
// of its authorities that has a name that is allowed. Thread-safe.
class TlsIdentity {
 public:
  // `allowed` are patterns of names; without any, all are. Errors are kInvalidArgument, name the
  // file and hold nothing of it.
  static absl::StatusOr<std::shared_ptr<const TlsIdentity>> Make(const TlsFiles& files,
                                                                 const TlsTexts& texts,
                                                                 std::vector<Pattern> allowed);

  // A handshake to be made on that socket; null if memory is short. If the certificate of the peer
  // is refused, `refusal` says why; it outlives what is returned, as the identity does.
  SslPtr Accept(int socket, std::string* refusal) const;

  // By which the peer of a finished handshake was let in.
  std::string NameOfPeer(const SSL* ssl) const;

  // Of our own certificate: its subject, and when it expires.
  const std::string& subject() const { return subject_; }
  absl::Time expires() const { return expires_; }
  // kInvalidArgument if peers don't believe it at that time: not yet, or not any more.
  absl::Status ValidAt(absl::Time now) const;

 private:
  TlsIdentity() = default;
  static int Verify(int verified, X509_STORE_CTX* chain);
  // Nothing if it has no name that is allowed.
  std::string AllowedNameOf(X509* certificate) const;

  std::vector<Pattern> allowed_;
  std::unique_ptr<SSL_CTX, SslDeleter> context_;
  std::string file_;
  std::string subject_;
  absl::Time begins_;
  absl::Time expires_;
};

// The names that a certificate goes by: the DNS names and URIs of its subject alternative names, or
// its common name if it has none of them.
std::vector<std::string> NamesOf(X509* certificate);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_TLS_IDENTITY_H_
