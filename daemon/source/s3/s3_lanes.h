#ifndef WEIGHTD_DAEMON_SOURCE_S3_S3_LANES_H_
#define WEIGHTD_DAEMON_SOURCE_S3_S3_LANES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "common/cancellation.h"
#include "daemon/source/http/http_options.h"
#include "daemon/source/http/retry_policy.h"
#include "daemon/source/s3/s3_client.h"
#include "daemon/source/s3/s3_dialect.h"

namespace weightd::source {

// A connection, and what it has sent of the part in progress.
struct S3Lane {
  S3Lane(S3Dialect* dialect, RetryBudget* budget, const HttpSourceOptions& options)
      : client(dialect, budget, options) {}

  S3Client client;
  std::atomic<uint64_t> sent = 0;
};

// Connections to one store, each with a thread while there is work.
class S3Lanes {
 public:
  S3Lanes(S3Dialect::Options store, const HttpSourceOptions& options);
  S3Lanes(const S3Lanes&) = delete;

  using Task = std::function<absl::Status(size_t index, S3Lane& lane)>;
  // Runs `task` for each index below `count`. The first error cancels `stop`, and with it the rest;
  // the result is the status of `stop`. This thread calls `tick` some times a second, and at the
  // end.
  absl::Status ForEach(size_t count, const Task& task, absl::FunctionRef<void()> tick,
                       Cancellation& stop);

  // While no tasks run.
  S3Lane& front() { return *lanes_.front(); }
  uint64_t bytes_in_flight() const;

 private:
  S3Dialect dialect_;
  RetryBudget budget_;
  std::vector<std::unique_ptr<S3Lane>> lanes_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_S3_LANES_H_
