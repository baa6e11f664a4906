#ifndef WEIGHTD_DAEMON_SOURCE_S3_S3_LIST_H_
#define WEIGHTD_DAEMON_SOURCE_S3_S3_LIST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// What an S3 server answers, as values ("Amazon S3 API Reference": ListObjectsV2, Error Responses).
// Pure. All of it comes from outside and is checked; fields that are not named here are passed
// over, but not what is nested wrongly, comes twice or makes no sense: that is kSourceProtocol. No
// error holds text of the answer.

namespace weightd::source {

// The largest answers that are read.
inline constexpr size_t kMaxListingBytes = 8 << 20;
inline constexpr size_t kMaxS3ErrorBytes = 64 << 10;

struct S3Object {
  // Decoded: 1 to 1024 bytes of UTF-8, otherwise as S3 allows it: with "..", empty segments or
  // control characters, too.
  std::string key;
  uint64_t size = 0;
  // With its quotes, as in the header field ETag.
  std::string etag;

  friend bool operator==(const S3Object&, const S3Object&) = default;
};

// A part of a listing.
struct S3Listing {
  std::vector<S3Object> objects;
  // What the keys that the delimiter cuts off have in common. Decoded, as keys.
  std::vector<std::string> common_prefixes;
  // Asks for the next part (continuation-token); empty in the last one.
  std::string continuation_token;

  bool IsTruncated() const { return !continuation_token.empty(); }
  friend bool operator==(const S3Listing&, const S3Listing&) = default;
};

// The answer to ListObjectsV2. Keys are decoded if the answer says that they are encoded.
absl::StatusOr<S3Listing> ParseS3Listing(absl::string_view document);

// Why a server refused. Its message is left out: it may hold anything.
struct S3Error {
  // "NoSuchKey"; letters, digits, "." and "-" only.
  std::string code;
  // The region to ask instead (AuthorizationHeaderMalformed, PermanentRedirect); may be empty.
  // Letters, digits and "-" only.
  std::string region;
  // The host to ask instead (PermanentRedirect, TemporaryRedirect); may be empty. Letters, digits,
  // "-", "." and ":" only.
  std::string endpoint;

  friend bool operator==(const S3Error&, const S3Error&) = default;
};

// The body of an answer with another status than 2xx.
absl::StatusOr<S3Error> ParseS3Error(absl::string_view document);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_S3_LIST_H_
