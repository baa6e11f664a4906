#ifndef WEIGHTD_DAEMON_SOURCE_S3_S3_DIALECT_H_
#define WEIGHTD_DAEMON_SOURCE_S3_S3_DIALECT_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/source/credentials/credential_provider.h"
#include "daemon/source/http/http_dialect.h"
#include "daemon/source/s3/s3_list.h"
#include "daemon/source/s3/s3_store.h"
#include "daemon/source/s3/sigv4.h"

namespace weightd::source {

// How an S3-compatible store is asked: requests are signed, and what the store says about where a
// bucket lies, what time it is and whose credentials have ended is used for the next try, and by
// all other requests. Those that were signed before, and are answered later, teach nothing: they
// are signed again. Redirects are never followed: a signature is for one host.
class S3Dialect final : public HttpDialect {
 public:
  struct Options {
    S3Location location;
    // Null: nothing is signed.
    std::shared_ptr<CredentialProvider> credentials;
    // Says that we pay for transfers (x-amz-request-payer).
    bool requester_pays = false;
  };
  explicit S3Dialect(Options options) : options_(std::move(options)) {}

  absl::StatusOr<Hop> FirstHop(const Uri& uri) override;
  absl::StatusOr<Proof> Headers(const Uri& uri, const Hop& hop, Question question,
                                Cancellation& cancellation) override;
  bool follows_redirects() const override { return false; }

  // What is signed of a request besides its place.
  struct Request {
    std::string method = "GET";
    std::vector<Header> headers;
    // See RequestToSign.
    std::string payload_hash = std::string(kEmptyPayload);
  };
  // The proof of any request, with the lines of its own headers.
  absl::StatusOr<Proof> Sign(const Hop& hop, Request request, Cancellation& cancellation);

  HttpFailure FailureOf(const Uri& uri, const Proof& proof, const Answer& answer,
                        absl::string_view body, absl::string_view name) override;

 private:
  S3Location LocationOf(const Uri& uri) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether the same request may succeed with what is known by now: another region, another time,
  // told by this answer or by one before it.
  bool Learn(const Uri& uri, const Proof& proof, const Answer& answer, const S3Error& error)
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool LearnRegion(const std::string& bucket, const Proof& proof, const std::string& region)
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool LearnTime(const Proof& proof, const Answer& answer) ABSL_LOCKS_EXCLUDED(mutex_);
  const std::string& RegionOf(const std::string& bucket) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What is signed next is signed with others, if there are any.
  void Drop(const Credentials& refused) ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  mutable absl::Mutex mutex_;
  // By bucket, where it is not the store's.
  absl::flat_hash_map<std::string, std::string> regions_ ABSL_GUARDED_BY(mutex_);
  // What the store's clock is ahead of ours.
  absl::Duration ahead_ ABSL_GUARDED_BY(mutex_) = absl::ZeroDuration();
  // What the store refused last.
  std::optional<Credentials> refused_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_S3_DIALECT_H_
