#ifndef WEIGHTD_DAEMON_SOURCE_S3_S3_OBJECTS_H_
#define WEIGHTD_DAEMON_SOURCE_S3_S3_OBJECTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/source/checksum.h"
#include "daemon/source/s3/s3_client.h"
#include "daemon/source/s3/s3_multipart.h"

// The requests of uploads ("Amazon S3 API Reference"). `object` is an s3: URI without a query.
// Errors are those of S3Client::Call; what can't be read is kSourceProtocol. What is sent has its
// SHA-256 with it; kVerificationFailed if the answer has another one.

namespace weightd::source {

// Whether a question was refused, or answered in a way that nobody understands: who may only write
// is told nothing.
bool SaysNothing(const absl::Status& status);

// What a store says of an object.
struct ObjectFacts {
  uint64_t size = 0;
  // With its quotes; may be empty.
  std::string etag;
  std::optional<S3Checksum> sha256;
};

// Nothing if it is not there.
absl::StatusOr<std::optional<ObjectFacts>> HeadObject(S3Client& client, const Uri& object,
                                                      Cancellation& cancellation);

// Its bytes; nothing if it is not there.
absl::StatusOr<std::optional<std::string>> GetObject(S3Client& client, const Uri& object,
                                                     uint64_t most_bytes,
                                                     Cancellation& cancellation);

// `sha256` is the body's, raw: the store refuses other bytes, and keeps it if it keeps checksums.
// The result is the object's ETag; may be empty.
absl::StatusOr<std::string> PutObject(S3Client& client, const Uri& object, const HttpBody& body,
                                      const std::string& sha256, Cancellation& cancellation);

// Begins an upload whose parts have SHA-256 checksums.
absl::StatusOr<UnfinishedUpload> CreateUpload(S3Client& client, const Uri& object,
                                              Cancellation& cancellation);

// Of exactly this object.
absl::StatusOr<std::vector<UnfinishedUpload>> FindUploads(S3Client& client, const Uri& object,
                                                          Cancellation& cancellation);

absl::StatusOr<std::vector<StoredPart>> ListParts(S3Client& client, const Uri& object,
                                                  const UnfinishedUpload& upload,
                                                  Cancellation& cancellation);

absl::StatusOr<StoredPart> PutPart(S3Client& client, const Uri& object,
                                   const UnfinishedUpload& upload, uint32_t number,
                                   const HttpBody& body, const std::string& sha256,
                                   Cancellation& cancellation);

// Makes the object of all parts. Safe to repeat; a completion whose answer was lost is recognised
// by the checksum or the ETag of the object that is there. The result is its ETag, with quotes or
// without; may be empty.
absl::StatusOr<std::string> CompleteUpload(S3Client& client, const Uri& object,
                                           const UnfinishedUpload& upload,
                                           absl::Span<const StoredPart> parts,
                                           Cancellation& cancellation);

// OK also if there is none.
absl::Status AbortUpload(S3Client& client, const Uri& object, const UnfinishedUpload& upload,
                         Cancellation& cancellation);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_S3_OBJECTS_H_
