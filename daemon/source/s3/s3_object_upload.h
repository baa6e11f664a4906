#ifndef WEIGHTD_DAEMON_SOURCE_S3_S3_OBJECT_UPLOAD_H_
#define WEIGHTD_DAEMON_SOURCE_S3_S3_OBJECT_UPLOAD_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/source/s3/local_file.h"
#include "daemon/source/s3/s3_client.h"
#include "daemon/source/s3/s3_multipart.h"
#include "daemon/source/s3/s3_objects.h"

namespace weightd::source {

// The way of one file into a store, in steps that others call in this order:
//
//   Survey           what the store has under this key
//   ComparePart      for each part, if MayBeThere(): whether that is the file already
//   Begin            unless IsThere(): goes on with an unfinished upload, or starts one
//   SendPart         for each part: unless the store has it. A file of one part goes with Finish.
//   Finish           makes the object
//   CheckStored      after all: whether the store still has the file, not what another one put
//   there Abort            at any time instead: nothing of an upload stays behind
//
// ComparePart and SendPart may be called by several threads at once, for different parts; all other
// steps by one thread at a time.
class ObjectUpload {
 public:
  // Parts have `part_bytes`, or more: see CutParts.
  static absl::StatusOr<std::unique_ptr<ObjectUpload>> Make(LocalFile file, Uri object,
                                                            uint64_t part_bytes);

  absl::Status Survey(S3Client& client, Cancellation& cancellation);
  absl::Status ComparePart(size_t index, Cancellation& cancellation);
  absl::Status Begin(S3Client& client, Cancellation& cancellation);
  // `sent` counts bytes of this part as they go out.
  absl::Status SendPart(size_t index, S3Client& client, std::atomic<uint64_t>& sent,
                        Cancellation& cancellation);
  absl::Status Finish(S3Client& client, Cancellation& cancellation);
  // kSourceChanged if it hasn't. OK if the store doesn't tell.
  absl::Status CheckStored(S3Client& client, Cancellation& cancellation);
  absl::Status Abort(S3Client& client, Cancellation& cancellation);

  const LocalFile& file() const { return file_; }
  const Uri& object() const { return object_; }
  size_t parts() const { return parts_.size(); }
  uint64_t PartBytes(size_t index) const { return parts_[index].range.size(); }

  // After Survey: whether there is no such object; a store that doesn't tell may have one.
  bool IsAbsent() const { return survey_ == Found::kNothing; }
  bool MayBeThere() const { return survey_ == Found::kComparable; }
  // After ComparePart: whether the object is the file.
  bool IsThere() const;

  // Whether parts of it lie in the store.
  bool HasBegun() const { return upload_.has_value(); }

  // Bytes that went out.
  uint64_t bytes_sent() const { return bytes_sent_; }

 private:
  enum class Found { kNothing, kOther, kComparable, kUnknown };
  struct Part {
    ByteRange range;
    RangeDigest digest = {};
    // What the store has; of an unfinished upload first only by its word.
    std::optional<StoredPart> stored = {};
  };

  ObjectUpload(LocalFile file, Uri object, std::vector<Part> parts)
      : file_(std::move(file)), object_(std::move(object)), parts_(std::move(parts)) {}

  bool IsComparable(const ObjectFacts& facts) const;
  bool HasSha256(const ObjectFacts& facts) const;
  std::string Sha256() const;
  bool IsOurs(const ObjectFacts& facts) const;
  absl::Status Resume(S3Client& client, Cancellation& cancellation);
  bool Fits(const std::vector<StoredPart>& stored) const;
  absl::StatusOr<bool> IsStored(Part& part, Cancellation& cancellation);
  absl::Status Digest(Part& part, bool with_md5, Cancellation& cancellation);
  absl::StatusOr<HttpBody> BodyOf(const Part& part, std::atomic<uint64_t>& sent) const;

  const LocalFile file_;
  const Uri object_;
  std::vector<Part> parts_;
  Found survey_ = Found::kUnknown;
  ObjectFacts facts_;
  std::optional<UnfinishedUpload> upload_;
  // Of the object that Finish made; may be empty.
  std::string etag_;
  std::atomic<uint64_t> bytes_sent_ = 0;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_S3_OBJECT_UPLOAD_H_
