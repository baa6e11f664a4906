#ifndef WEIGHTD_DAEMON_SERVICE_TLS_CERTIFICATES_H_
#define WEIGHTD_DAEMON_SERVICE_TLS_CERTIFICATES_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/service/access.h"
#include "daemon/service/tls_identity.h"
#include "daemon/source/credentials/small_file.h"

namespace weightd::service {

// The identity that a server's files describe, whatever happens to them: read again when they
// change, also when a folder of them is swapped under its name; while they are no good, the one
// before goes on. Not thread-safe.
class TlsCertificates {
 public:
  // Told of what became of files that changed: a new identity, or why there is none. What is wrong
  // with them is told once.
  using Observer = std::function<void(const absl::StatusOr<std::shared_ptr<const TlsIdentity>>&)>;

  static absl::StatusOr<TlsCertificates> Open(TlsFiles files, std::vector<Pattern> allowed,
                                              Observer observer);

  // Looks at the files; a few system calls.
  const std::shared_ptr<const TlsIdentity>& Current();

 private:
  TlsCertificates(TlsFiles files, std::vector<Pattern> allowed, Observer observer);
  absl::StatusOr<std::shared_ptr<const TlsIdentity>> Read();

  TlsFiles files_;
  std::vector<Pattern> allowed_;
  Observer observer_;
  // Of the files as they were read last.
  std::vector<source::FileStamp> stamps_;
  std::shared_ptr<const TlsIdentity> current_;
  std::string last_error_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_TLS_CERTIFICATES_H_
