#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_OPTIONS_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_OPTIONS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "daemon/source/http/bandwidth.h"
#include "daemon/source/traffic.h"

namespace weightd::source {

struct HttpSourceOptions {
  // Connections that all reads have together, at the most; each uses as many as bring something.
  int connections = 32;
  // Bytes of one range request, at the most.
  uint64_t chunk_bytes = 32 << 20;
  // A request that brings less than 1 KiB/s over so long a time counts as stalled and is
  // tried again.
  absl::Duration stall_timeout = absl::Seconds(30);
  // Tries of one request, the first included.
  int attempts = 5;
  // Limits that all reads keep: this store's own, and those that it shares.
  std::vector<std::shared_ptr<Bandwidth>> limits;
  // Told of all requests. Outlives the source; null: nobody.
  Traffic* traffic = nullptr;
  // Certificate authorities to trust; empty: the system's.
  std::string ca_file;
  // Networks (CIDR) that a read without ReadPolicy::any_address may reach though it could not
  // otherwise.
  std::vector<std::string> allowed_networks;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_OPTIONS_H_
