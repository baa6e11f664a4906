#include "daemon/source/s3/s3_client.h"

#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "daemon/source/s3/s3_list.h"

namespace weightd::source {
namespace {

// What an error that came after a status of 200 would have had for a status. AWS' documentation
// names InternalError ("CompleteMultipartUpload").
int StatusOfLateError(const S3Error& error) {
  return error.code == "InternalError" || error.code == "SlowDown" ||
                 error.code == "ServiceUnavailable"
             ? 503
             : 400;
}

}  // namespace

S3Client::S3Client(S3Dialect* dialect, RetryBudget* budget, const HttpSourceOptions& options)
    : dialect_(dialect),
      budget_(budget),
      attempts_(options.attempts),
      sender_(options.ca_file, ProxyChoice::FromEnvironment()),
      random_(static_cast<uint32_t>(absl::GetCurrentTimeNanos())) {}

absl::StatusOr<HttpAnswer> S3Client::Call(const S3Request& request, Cancellation& cancellation) {
  FailedTries failed;
  while (true) {
    std::variant<HttpAnswer, HttpFailure> result = Try(request, cancellation);
    if (HttpAnswer* const answer = std::get_if<HttpAnswer>(&result)) {
      budget_->Succeeded();
      return std::move(*answer);
    }
    const HttpFailure& failure = std::get<HttpFailure>(result);
    RETURN_IF_ERROR(cancellation.status());
    if (!failure.passing) {
      return failure.status;
    }
    failed.Add(/*progressed=*/false, /*served_others=*/false);
    const std::optional<absl::Duration> wait = NextTry(
        failed, attempts_, failure.wait, std::uniform_real_distribution<double>(0, 1)(random_));
    if (!wait.has_value() || !budget_->Take()) {
      return Annotate(failure.status, absl::StrCat("gave up after ", failed.in_a_row, " tries"));
    }
    cancellation.WaitFor(*wait);
  }
}

std::variant<HttpAnswer, HttpFailure> S3Client::Try(const S3Request& request,
                                                    Cancellation& cancellation) {
  const std::string name = request.uri.Redacted();
  HttpRequest http;
  http.method = request.method;
  http.body = request.body;
  http.stall_timeout = request.stall_timeout;
  http.most_answer_bytes = request.most_answer_bytes;
  absl::StatusOr<Hop> hop = dialect_->FirstHop(request.uri);
  if (!hop.ok()) {
    return HttpFailure{.status = hop.status()};
  }
  http.hop = *std::move(hop);
  S3Dialect::Request signature = {.method = request.method, .headers = request.headers};
  if (!request.sha256.empty()) {
    signature.payload_hash = absl::BytesToHexString(request.sha256);
  }
  const absl::StatusOr<Proof> proof = dialect_->Sign(http.hop, std::move(signature), cancellation);
  if (!proof.ok()) {
    return HttpFailure{.status = proof.status()};
  }
  http.headers = proof->lines;
  std::variant<HttpAnswer, HttpFailure> result = sender_.Send(http, name, cancellation);
  HttpAnswer* const answer = std::get_if<HttpAnswer>(&result);
  if (answer == nullptr) {
    return result;
  }
  if (answer->head.status >= 200 && answer->head.status < 300) {
    // What keeps a connection alive may come first.
    answer->body.erase(0, answer->body.find_first_not_of(" \r\n\t"));
    const absl::StatusOr<S3Error> late = ParseS3Error(answer->body);
    if (!late.ok()) {
      return result;
    }
    answer->head.status = StatusOfLateError(*late);
  }
  return dialect_->FailureOf(request.uri, *proof, answer->head, answer->body, name);
}

}  // namespace weightd::source
