#ifndef WEIGHTD_DAEMON_SOURCE_S3_S3_CLIENT_H_
#define WEIGHTD_DAEMON_SOURCE_S3_S3_CLIENT_H_

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/source/http/http_options.h"
#include "daemon/source/http/http_sender.h"
#include "daemon/source/http/retry_policy.h"
#include "daemon/source/s3/s3_dialect.h"

namespace weightd::source {

// A request that changes a store, or asks it about what is being changed.
struct S3Request {
  std::string method;
  // s3://bucket/key?query; the query percent-encoded, each of its names with a "=".
  Uri uri;
  // Signed.
  std::vector<Header> headers = {};
  HttpBody body = {};
  // Raw bytes of the body's SHA-256; empty without a body.
  std::string sha256 = {};
  absl::Duration stall_timeout = absl::Seconds(30);
  uint64_t most_answer_bytes = 8 << 20;
};

// Makes signed requests to one store over a kept-alive connection and tries again what may pass.
// For one thread at a time.
class S3Client {
 public:
  // `dialect` and `budget` are shared by the clients of one store, and outlive them.
  S3Client(S3Dialect* dialect, RetryBudget* budget, const HttpSourceOptions& options);

  // An answer with a status of 2xx. Its errors are those of S3Dialect::FailureOf and FailureOfCurl,
  // also for an error that comes after a status of 200; or the cancellation's reason within 100 ms.
  absl::StatusOr<HttpAnswer> Call(const S3Request& request, Cancellation& cancellation);

 private:
  std::variant<HttpAnswer, HttpFailure> Try(const S3Request& request, Cancellation& cancellation);

  S3Dialect* const dialect_;
  RetryBudget* const budget_;
  const int attempts_;
  HttpSender sender_;
  std::minstd_rand random_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_S3_CLIENT_H_
