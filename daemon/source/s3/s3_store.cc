#include "daemon/source/s3/s3_store.h"

#include <algorithm>
#include <initializer_list>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/source/percent_encoding.h"

namespace weightd::source {
namespace {

constexpr size_t kShortestBucket = 3;
constexpr size_t kLongestBucket = 255;

bool IsBucketCharacter(char c) { return absl::ascii_isalnum(c) || c == '-' || c == '.'; }

// How closely `entry` names "bucket/key"; 0: not at all.
size_t Closeness(absl::string_view entry, absl::string_view place) {
  if (entry == "*") {
    return 1;
  }
  entry = absl::StripSuffix(entry, "/");
  if (!absl::ConsumePrefix(&place, entry) || !(place.empty() || place[0] == '/')) {
    return 0;
  }
  return 1 + entry.size();
}

// A wildcard certificate covers one label: with https a bucket with dots has to go into the path.
bool InPath(const S3Location& location, absl::string_view bucket, bool encrypted) {
  switch (location.style) {
    case S3Style::kPath:
      return true;
    case S3Style::kVirtual:
      return false;
    case S3Style::kAuto:
      break;
  }
  return !location.endpoint.empty() || (encrypted && absl::StrContains(bucket, '.'));
}

std::string FirstSet(const Environment& environment,
                     std::initializer_list<absl::string_view> names) {
  for (const absl::string_view name : names) {
    if (std::string value = environment.variable(name); !value.empty()) {
      return value;
    }
  }
  return "";
}

}  // namespace

S3Location LocationOfEnvironment(const Environment& environment) {
  S3Location location;
  location.endpoint = FirstSet(environment, {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"});
  location.region = FirstSet(environment, {"AWS_REGION", "AWS_DEFAULT_REGION"});
  if (location.region.empty()) {
    location.region = "us-east-1";
  }
  return location;
}

std::string AwsS3Host(absl::string_view region) {
  return absl::StrCat("s3.", region, ".amazonaws.com",
                      absl::StartsWith(region, "cn-") ? ".cn" : "");
}

absl::StatusOr<Uri> ParseEndpoint(absl::string_view text) {
  absl::StatusOr<Uri> uri = Uri::Parse(text);
  if (!uri.ok() || !absl::StartsWith(uri->scheme(), "http") || uri->path() != "/" ||
      !uri->query().empty() || !uri->user_info().empty()) {
    return Error(Reason::kInvalidArgument, "not an endpoint of a store",
                 "write https://host or http://host:port, without user name and path");
  }
  return uri;
}

absl::StatusOr<Hop> LocateObject(const S3Location& location, const Uri& uri) {
  const std::string& bucket = uri.authority();
  if (bucket.size() < kShortestBucket || bucket.size() > kLongestBucket ||
      !std::all_of(bucket.begin(), bucket.end(), IsBucketCharacter)) {
    return Error(Reason::kInvalidUri, absl::StrCat(uri.Redacted(), ": not the name of a bucket"),
                 "write s3://bucket/key; endpoints belong into the configuration");
  }
  ASSIGN_OR_RETURN(
      const Uri endpoint,
      ParseEndpoint(location.endpoint.empty() ? absl::StrCat("https://", AwsS3Host(location.region))
                                              : location.endpoint));
  const bool in_path = InPath(location, bucket, endpoint.scheme() == "https");
  const std::string text = absl::StrCat(
      endpoint.scheme(), "://", in_path ? "" : bucket, in_path ? "" : ".", endpoint.authority(),
      in_path ? "/" : "", in_path ? bucket : "", PathOfKey(uri.DecodedPath().substr(1)),
      uri.query().empty() ? "" : "?", uri.query());
  ASSIGN_OR_RETURN(const Uri url, Uri::Parse(text));
  ASSIGN_OR_RETURN(Hop hop, FirstHop(url));
  hop.region = location.region;
  return hop;
}

int ChooseStore(absl::Span<const std::vector<std::string>> lists, const Uri& uri) {
  const std::string place = absl::StrCat(uri.authority(), uri.path());
  int best = -1;
  size_t closest = 0;
  for (size_t i = 0; i < lists.size(); ++i) {
    for (const std::string& entry : lists[i]) {
      const size_t closeness = Closeness(entry, place);
      if (closeness > closest) {
        closest = closeness;
        best = static_cast<int>(i);
      }
    }
  }
  return best;
}

}  // namespace weightd::source
