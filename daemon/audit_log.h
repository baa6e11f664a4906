#ifndef WEIGHTD_DAEMON_AUDIT_LOG_H_
#define WEIGHTD_DAEMON_AUDIT_LOG_H_

#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/line_meter.h"
#include "daemon/logging.h"
#include "daemon/service/call_record.h"

namespace weightd {

// What the audit says of a call.
struct AuditLine {
  enum class Kind {
    kAdmin,    // an operator's action that changes something: written whatever the log's level
    kAttach,   // a client's Acquire that was granted
    kRefused,  // what a client wasn't given: an Acquire, a claim, a connection, a call without
               // right
    kOther     // reads, releases: only at debug
  };

  Kind kind;
  // "audit.admin", "audit.attach", "audit.refused" or "audit.call". An Acquire is always
  // audit.attach.
  absl::string_view event;
  std::vector<LogField> fields;
};
AuditLine AuditLineOf(const service::CallRecord& call);

// Writes who did what, and what came of it, to the log. Operators' actions are all written; of what
// clients do to us, each user and each listener may cause only so many lines, so that none fills
// the disk, and the number of those left out is written as "audit.left_out". Thread-safe.
class AuditLog final : public service::CallObserver {
 public:
  AuditLog();

  void Ended(const service::CallRecord& call) override ABSL_LOCKS_EXCLUDED(mutex_);
  // How many lines were left out so far; after the last call.
  void WriteLeftOut() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void WriteLeftOutBy(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  ClientLineMeter attaches_ ABSL_GUARDED_BY(mutex_);
  ClientLineMeter refusals_ ABSL_GUARDED_BY(mutex_);
  LeftOutClock clock_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_AUDIT_LOG_H_
