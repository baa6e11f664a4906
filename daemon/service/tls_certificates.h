#ifndef WEIGHTD_DAEMON_SERVICE_TLS_CERTIFICATES_H_
#define WEIGHTD_DAEMON_SERVICE_TLS_CERTIFICATES_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/service/access.h"
#include "daemon/service/tls_identity.h"
#include "daemon/source/credentials/text_file.h"

namespace weightd::service {

// The identity that a server's files describe, whatever happens to them: read again when they
// change, also when a folder of them is swapped under its name; while they are no good, the one
// before goes on. So it does beside a certificate that is not valid at the time, if it is valid
// itself: the new one's turn comes with its first day. Not thread-safe.
class TlsCertificates {
 public:
  struct Observer {
    // Told of what became of files that changed: a new identity, or why the one before goes on.
    // What is wrong with them is told once.
    std::function<void(const absl::StatusOr<std::shared_ptr<const TlsIdentity>>&)> changed;
    // Told of each identity that is taken, and every day of the one that is in use.
    std::function<void(const TlsIdentity&)> in_use;
  };

  static absl::StatusOr<TlsCertificates> Open(TlsFiles files, std::vector<Pattern> allowed,
                                              Observer observer);

  // Looks at the files; a few system calls.
  const std::shared_ptr<const TlsIdentity>& Current();

 private:
  TlsCertificates(TlsFiles files, std::vector<Pattern> allowed, Observer observer);
  absl::StatusOr<std::shared_ptr<const TlsIdentity>> Read();
  void Take(std::shared_ptr<const TlsIdentity> identity, absl::Time now);
  void Refuse(const absl::Status& why);

  TlsFiles files_;
  std::vector<Pattern> allowed_;
  Observer observer_;
  // Of the files as they were read last.
  std::vector<source::FileStamp> stamps_;
  std::shared_ptr<const TlsIdentity> current_;
  // Of files that are good but for their certificate's time; null if those in use are the files'.
  std::shared_ptr<const TlsIdentity> waiting_;
  std::string last_error_;
  // When in_use was told last.
  absl::Time told_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_TLS_CERTIFICATES_H_
