#ifndef WEIGHTD_DAEMON_SOURCE_S3_S3_MULTIPART_H_
#define WEIGHTD_DAEMON_SOURCE_S3_S3_MULTIPART_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "daemon/source/checksum.h"

// Multipart uploads ("Amazon S3 API Reference": CreateMultipartUpload, ListMultipartUploads,
// ListParts, CompleteMultipartUpload): how an object is cut, and what is said about the parts.
// Pure. Answers are read as those of s3_list.h are: kSourceProtocol for what makes no sense.

namespace weightd::source {

// "Amazon S3 multipart upload limits".
inline constexpr uint64_t kMostParts = 10'000;
inline constexpr uint64_t kLargestPart = uint64_t{5} << 30;
inline constexpr uint64_t kSmallestPart = 5 << 20;

// Parts of one size, but for the last: `wanted` bytes, or as many more as keep their number within
// the limit. The same object is always cut in the same way. An empty object is one empty part.
// kInvalidArgument if no store takes so large an object.
absl::StatusOr<std::vector<ByteRange>> CutParts(uint64_t object_bytes, uint64_t wanted);

// A part that a store has.
struct StoredPart {
  // From 1 on.
  uint32_t number = 0;
  uint64_t size = 0;
  // With its quotes.
  std::string etag = {};
  // Raw bytes; empty where the store keeps none.
  std::string sha256 = {};

  friend bool operator==(const StoredPart&, const StoredPart&) = default;
};

// An upload that was begun and neither completed nor aborted.
struct UnfinishedUpload {
  std::string key;
  // Visible ASCII.
  std::string id;
  // Of the parts, as it was asked for at the beginning: "SHA256", …; empty: none.
  std::string checksum_algorithm;

  friend bool operator==(const UnfinishedUpload&, const UnfinishedUpload&) = default;
};

// A part of a list of uploads.
struct UploadListing {
  std::vector<UnfinishedUpload> uploads;
  // Ask for the next part (key-marker, upload-id-marker); nothing in the last one.
  std::optional<std::pair<std::string, std::string>> next;

  friend bool operator==(const UploadListing&, const UploadListing&) = default;
};

// A part of a list of parts: in the order of their numbers.
struct PartListing {
  std::vector<StoredPart> parts;
  // Asks for the next part (part-number-marker); 0 in the last one.
  uint32_t next = 0;

  friend bool operator==(const PartListing&, const PartListing&) = default;
};

// The answer to CreateMultipartUpload: the upload's id.
absl::StatusOr<std::string> ParseCreatedUpload(absl::string_view document);
// Of a list that was asked for with plain keys.
absl::StatusOr<UploadListing> ParseUploadListing(absl::string_view document);
absl::StatusOr<PartListing> ParsePartListing(absl::string_view document);

// What a store says of the object that it made of parts.
struct Completion {
  // With quotes or without; some stores leave it empty.
  std::string etag = {};
  // Nothing if the store says none that can be understood.
  std::optional<S3Checksum> sha256 = {};
};

// The answer to CompleteMultipartUpload, which says that the object is there. A store may also send
// an error, after it promised success with its status.
absl::StatusOr<Completion> ParseCompletion(absl::string_view document);

// The body of CompleteMultipartUpload. Checksums are named only if `with_checksums`: a store that
// was asked for them wants them all, another refuses them.
std::string CompletionOf(absl::Span<const StoredPart> parts, bool with_checksums);

// The SHA-256 of an object made of these parts, as stores state it: of the parts' SHA-256.
std::string Sha256OfParts(absl::Span<const StoredPart> parts);

// The ETag of an object made of these parts, if it tells of the bytes: "md5-N" with quotes. Nothing
// if a part's doesn't (encryption by a key of the store's).
std::optional<std::string> EtagOf(absl::Span<const StoredPart> parts);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_S3_MULTIPART_H_
