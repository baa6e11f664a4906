#include "daemon/source/s3/s3_dialect.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "daemon/source/traffic.h"

namespace weightd::source {
namespace {

// What a URL says after its scheme.
struct Target {
  std::string host;
  std::string path;
  std::string query;
};

Target TargetOf(const Hop& hop) {
  const size_t begin = hop.url.find("://") + 3;
  const size_t path = std::min(hop.url.find('/', begin), hop.url.size());
  const size_t question = std::min(hop.url.find('?', path), hop.url.size());
  return {.host = hop.url.substr(begin, path - begin),
          .path = hop.url.substr(path, question - path),
          .query = hop.url.substr(std::min(question + 1, hop.url.size()))};
}

// "the store refuses credentials from the environment". Without what follows in brackets: which
// file it was is no client's business.
std::string WhoIsRefused(const Proof& proof) {
  if (!proof.credentials.has_value()) {
    return "the store refuses unsigned requests";
  }
  const absl::string_view kind = proof.credentials->kind;
  return absl::StrCat("the store refuses credentials from ", kind.substr(0, kind.find(" (")));
}

// Codes of "Amazon S3 API Reference", Error Responses.
bool MeansOtherCredentials(absl::string_view code) {
  return code == "ExpiredToken" || code == "TokenRefreshRequired" || code == "InvalidToken" ||
         code == "InvalidAccessKeyId" || code == "SignatureDoesNotMatch";
}

// What arrived is not what was sent.
bool MeansDamage(absl::string_view code) {
  return code == "BadDigest" || code == "XAmzContentSHA256Mismatch" || code == "IncompleteBody";
}

// Letters, digits and "-": it becomes part of a host's name.
bool IsRegion(absl::string_view text) {
  constexpr size_t kLongestRegion = 64;
  return !text.empty() && text.size() <= kLongestRegion &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-';
         });
}

// Closer than this, the clock is not what a store minds.
bool AreAlike(absl::Duration ahead, absl::Duration other) {
  return absl::AbsDuration(ahead - other) < absl::Minutes(1);
}

// "403 AccessDenied"; some stores, and what stands before them, send no code.
std::string Said(const Answer& answer, const S3Error& error) {
  return absl::StrCat(answer.status, error.code.empty() ? "" : " ", error.code);
}

HttpFailure Denied(absl::string_view name, absl::string_view what, absl::string_view hint) {
  return {.status = Error(Reason::kSourceDenied, absl::StrCat(name, ": ", what), hint)};
}

}  // namespace

absl::StatusOr<Hop> S3Dialect::FirstHop(const Uri& uri) {
  return LocateObject(LocationOf(uri), uri);
}

absl::StatusOr<Proof> S3Dialect::Headers(const Uri& /*uri*/, const Hop& hop, Question question,
                                         Cancellation& cancellation) {
  Request request;
  if (question == Question::kChecksums) {
    request.method = "HEAD";
    request.headers.push_back({"x-amz-checksum-mode", "ENABLED"});
  }
  return Sign(hop, std::move(request), cancellation);
}

absl::StatusOr<Proof> S3Dialect::Sign(const Hop& hop, Request asked, Cancellation& cancellation) {
  RequestToSign request;
  request.method = std::move(asked.method);
  request.headers = std::move(asked.headers);
  request.payload_hash = std::move(asked.payload_hash);
  if (options_.requester_pays) {
    request.headers.push_back({"x-amz-request-payer", "requester"});
  }
  Proof proof;
  for (const Header& header : request.headers) {
    proof.lines.push_back(absl::StrCat(header.name, ": ", header.value));
  }
  if (options_.credentials != nullptr) {
    ASSIGN_OR_RETURN(proof.credentials, options_.credentials->Get(cancellation));
  }
  proof.region = hop.region;
  {
    absl::MutexLock lock(&mutex_);
    proof.refused_before = proof.credentials.has_value() && refused_.has_value() &&
                           SameKeys(*proof.credentials, *refused_);
    proof.ahead = ahead_;
  }
  if (!proof.credentials.has_value()) {
    return proof;
  }
  Target target = TargetOf(hop);
  request.host = std::move(target.host);
  request.path = std::move(target.path);
  request.query = std::move(target.query);
  request.scope.region = proof.region;
  request.scope.service = "s3";
  request.scope.time = absl::Now() + proof.ahead;
  for (const Header& header : SignInHeaders(request, *proof.credentials)) {
    proof.lines.push_back(absl::StrCat(header.name, ": ", header.value));
  }
  return proof;
}

HttpFailure S3Dialect::FailureOf(const Uri& uri, const Proof& proof, const Answer& answer,
                                 absl::string_view body, absl::string_view name) {
  const S3Error error = ParseS3Error(body).value_or(S3Error());
  if (Learn(uri, proof, answer, error)) {
    HttpFailure failure = {
        .status =
            Error(Reason::kSourceUnavailable,
                  absl::StrCat(name, ": the store answers ", Said(answer, error)), "try again"),
        .passing = true,
        .retry = RetryReason::kCorrected};
    return failure;
  }
  if (MeansDamage(error.code)) {
    return {.status = Error(Reason::kSourceUnavailable,
                            absl::StrCat(name, ": the bytes were damaged on their way (",
                                         Said(answer, error), ")"),
                            "try again; if it stays, look at proxies on the way and at this node"),
            .passing = true};
  }
  if (error.code == "RequestTimeout") {
    return FailureOfStatus(/*status=*/408, answer.retry_after, name);
  }
  if (error.code == "InvalidObjectState") {
    return Denied(name, "the object is archived", "restore it in the store, then try again");
  }
  if (error.code == "NoSuchBucket") {
    return {.status = Error(Reason::kModelNotFound, absl::StrCat(name, ": there is no such bucket"),
                            "check the bucket's name and the store's endpoint")};
  }
  if (answer.IsRedirect()) {
    return {.status = Error(Reason::kSourceProtocol,
                            absl::StrCat(name, ": the store sends us elsewhere (", answer.status,
                                         "); signed requests don't follow"),
                            "check the endpoint and the region of the store in the "
                            "configuration")};
  }
  if (answer.status == 401 || answer.status == 403 ||
      (answer.status == 400 && MeansOtherCredentials(error.code))) {
    HttpFailure failure =
        Denied(name, absl::StrCat(WhoIsRefused(proof), " (", Said(answer, error), ")"),
               "check these credentials and what they may do there");
    if (MeansOtherCredentials(error.code) && proof.credentials.has_value() &&
        !proof.refused_before) {
      Drop(*proof.credentials);
      failure.passing = true;
      failure.retry = RetryReason::kCorrected;
    }
    return failure;
  }
  HttpFailure failure = FailureOfStatus(answer.status, answer.retry_after, name);
  if (ReasonOf(failure.status) == Reason::kSourceProtocol && !error.code.empty()) {
    failure.status = Error(Reason::kSourceProtocol,
                           absl::StrCat(failure.status.message(), " (", error.code, ")"),
                           HintOf(failure.status));
  }
  return failure;
}

S3Location S3Dialect::LocationOf(const Uri& uri) const {
  S3Location location = options_.location;
  absl::MutexLock lock(&mutex_);
  location.region = RegionOf(uri.authority());
  return location;
}

const std::string& S3Dialect::RegionOf(const std::string& bucket) const {
  const auto region = regions_.find(bucket);
  return region == regions_.end() ? options_.location.region : region->second;
}

bool S3Dialect::Learn(const Uri& uri, const Proof& proof, const Answer& answer,
                      const S3Error& error) {
  // As the answer to a HEAD: of what the store minds its header may tell.
  const bool unexplained = error.code.empty() && (answer.status == 400 || answer.status == 403);
  const bool elsewhere = answer.status == 301 || answer.status == 307 ||
                         error.code == "AuthorizationHeaderMalformed" ||
                         error.code == "IllegalLocationConstraintException";
  const bool other_time = error.code == "RequestTimeTooSkewed";
  if ((elsewhere || unexplained) &&
      LearnRegion(uri.authority(), proof,
                  error.region.empty() ? answer.bucket_region : error.region)) {
    return true;
  }
  return (other_time || unexplained) && proof.credentials.has_value() && LearnTime(proof, answer);
}

bool S3Dialect::LearnRegion(const std::string& bucket, const Proof& proof,
                            const std::string& region) {
  constexpr size_t kMostBuckets = 10'000;
  absl::MutexLock lock(&mutex_);
  if (RegionOf(bucket) != proof.region) {
    return true;
  }
  if (!IsRegion(region) || region == proof.region) {
    return false;
  }
  if (regions_.size() >= kMostBuckets) {
    regions_.clear();
  }
  regions_[bucket] = region;
  return true;
}

bool S3Dialect::LearnTime(const Proof& proof, const Answer& answer) {
  absl::MutexLock lock(&mutex_);
  if (!AreAlike(ahead_, proof.ahead)) {
    return true;
  }
  if (!answer.date.has_value() || AreAlike(*answer.date - absl::Now(), proof.ahead)) {
    return false;
  }
  ahead_ = *answer.date - absl::Now();
  return true;
}

void S3Dialect::Drop(const Credentials& refused) {
  {
    absl::MutexLock lock(&mutex_);
    refused_ = refused;
  }
  options_.credentials->Invalidate(refused);
}

}  // namespace weightd::source
