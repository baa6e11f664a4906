#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_ANSWER_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_ANSWER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/byte_range.h"
#include "daemon/source/source.h"

// What a server says about a body before it sends it, and whether that is what was asked for. Pure.

namespace weightd::source {

// The status line and the header fields that matter here (RFC 9110).
struct Answer {
  int status = 0;
  std::string etag;
  std::string last_modified;
  std::string content_range;
  std::string content_encoding;
  std::string location;
  // By the server's clock; nothing if it gave none that can be read.
  std::optional<absl::Time> date;
  // Of S3: where the bucket lies.
  std::string bucket_region;
  // Of S3: what it says of the checksums of the object or a part: the fields "x-amz-checksum-..."
  // and "x-amz-mp-parts-count", names in lower case.
  std::map<std::string, std::string> checksum_fields;
  // Of a hub of models: "x-repo-commit", "x-linked-etag" and "x-error-code", names in lower case.
  std::map<std::string, std::string> hub_fields;
  std::optional<uint64_t> content_length;
  // Its fields contradict one another about the body's length, or give none that can be read.
  bool unclear_length = false;
  // The body comes in chunks of their own lengths.
  bool chunked = false;
  // The connection ends with this answer.
  bool closes = false;
  absl::Duration retry_after = absl::ZeroDuration();

  bool IsRedirect() const;
  // One of `checksum_fields`; empty if there is none.
  std::string ChecksumField(const std::string& name) const;
  // In the same manner, of `hub_fields`.
  std::string HubField(const std::string& name) const;

  // Takes one line of the head. A status line starts afresh: before it may come answers that only
  // inform (1xx).
  void AddLine(absl::string_view line);
};

// "bytes 0-99/1234"; nothing if it is malformed or doesn't tell the total.
struct ContentRange {
  ByteRange range;
  uint64_t total = 0;
};
std::optional<ContentRange> ParseContentRange(absl::string_view text);

// The version that a 200, or a 206 to `Range: bytes=0-0`, describes.
absl::StatusOr<ObjectVersion> VersionFrom(const Answer& answer, const Uri& uri);

// kSourceChanged unless an answer is of this version, by its ETag and time.
absl::Status CheckVersion(const Answer& answer, const ObjectVersion& version);

// For a 200 or 206: OK if its body is `range` of exactly this version. kSourceChanged if it is
// another version, kSourceProtocol if it is something else than what was asked for.
absl::Status CheckBody(const Answer& answer, const ObjectVersion& version, ByteRange range);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_ANSWER_H_
