#ifndef WEIGHTD_DAEMON_SERVICE_CALL_RECORD_H_
#define WEIGHTD_DAEMON_SERVICE_CALL_RECORD_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weightd::service {

// The listeners of operators' calls: on admin.sock, and on TCP. No client listener has these names.
inline constexpr char kAdminListener[] = "admin";
inline constexpr char kAdminTcpListener[] = "admin-tcp";

// Who called.
struct Caller {
  std::string listener;
  // As the kernel saw the peer of a UNIX socket when it connected (SO_PEERCRED).
  std::optional<uint32_t> uid = {};
  std::optional<uint32_t> gid = {};
  // On TCP: the name in the certificate by which the caller was let in, and where it calls from.
  std::string certificate = {};
  std::string address = {};
};

// A call that is over, for those who count and those who write down.
struct CallRecord {
  // Unique while the daemon runs, the same in every log line of the call: 16 hexadecimal digits.
  std::string request_id;
  Caller caller;
  // "Acquire", "Evict", …; "Claim" on the handle channel, and "Connect" for a connection that was
  // refused.
  absl::string_view method;
  // As it was named, credentials and query redacted; empty if the call is of no model.
  std::string model;
  // What else was asked, for people: "gpu=0 force"; may be empty.
  std::string details;
  absl::Status outcome;
  absl::Duration took;
};

// Told of each call as it ends, on the thread that ends it: returns at once. Thread-safe.
class CallObserver {
 public:
  virtual ~CallObserver() = default;
  virtual void Ended(const CallRecord& call) = 0;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_CALL_RECORD_H_
