#ifndef WEIGHTD_DAEMON_SOURCE_S3_S3_STORE_H_
#define WEIGHTD_DAEMON_SOURCE_S3_S3_STORE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/uri.h"
#include "daemon/source/credentials/credential_source.h"
#include "daemon/source/http/http_hop.h"

// Which store a bucket lies in, and where an object of it is asked for. Pure.

namespace weightd::source {

// How a bucket's name gets into a URL (AWS: "Virtual hosting of general purpose buckets").
enum class S3Style {
  // Virtual for AWS, path for any other endpoint.
  kAuto,
  // https://host/bucket/key
  kPath,
  // https://bucket.host/key
  kVirtual,
};

struct S3Location {
  // "https://host[:port]"; empty: AWS.
  std::string endpoint;
  std::string region;
  S3Style style = S3Style::kAuto;
};

// Where AWS' tools would look for a bucket: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, AWS_REGION or
// AWS_DEFAULT_REGION (us-east-1).
S3Location LocationOfEnvironment(const Environment& environment);

// The host of AWS' S3 in a region (AWS: "Amazon S3 endpoints and quotas").
std::string AwsS3Host(absl::string_view region);

// kInvalidArgument unless it is "http[s]://host[:port]". The error says nothing of the text: people
// write passwords there.
absl::StatusOr<Uri> ParseEndpoint(absl::string_view text);

// Where the object of an s3: URI is asked for. The query goes along. kInvalidUri if the URI names
// no bucket or one that can't stand in a URL; kInvalidArgument for an endpoint that is none.
absl::StatusOr<Hop> LocateObject(const S3Location& location, const Uri& uri);

// Of the lists of each store, the index of the one that names `uri` most closely: "bucket",
// "bucket/prefix/" or "*" (any bucket). -1 if none does. A prefix matches whole path segments.
int ChooseStore(absl::Span<const std::vector<std::string>> lists, const Uri& uri);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_S3_STORE_H_
