#ifndef WEIGHTD_DAEMON_SOURCE_S3_S3_FIELDS_H_
#define WEIGHTD_DAEMON_SOURCE_S3_S3_FIELDS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/source/xml_reader.h"

// What the answers of an S3 server have in common. Pure.

namespace weightd::source {

// kSourceProtocol: "an S3 server's answer with <what>".
absl::Status Nonsense(absl::string_view what);

// An element that may come once.
using Field = std::optional<std::string>;

// Reads documents whose root is `root` and whose fields derived classes name. `root` outlives it.
class Fields : public XmlElements {
 public:
  explicit Fields(absl::string_view root) : root_(root) {}

  absl::Status Begin(absl::string_view path) override;
  absl::Status End(absl::string_view path, absl::string_view text) override;

 private:
  // The field that the text of this element belongs to, or null.
  virtual Field* At(absl::string_view path) = 0;
  virtual void BeginBelow(absl::string_view /*path*/) {}
  virtual absl::Status EndOther(absl::string_view /*path*/) { return absl::OkStatus(); }

  const absl::string_view root_;
};

// At most 2^63-1.
absl::StatusOr<uint64_t> ParseSize(absl::string_view text);

// "true" or "false".
absl::StatusOr<bool> ParseTruncated(const Field& text);

// Whether `text` is an ETag that can go back to the server in a header field: nothing but visible
// ASCII.
bool IsEtag(absl::string_view text);

// The key that `text` writes, `encoded` if it was asked for with encoding-type=url: 1 to 1024 bytes
// of UTF-8.
absl::StatusOr<std::string> DecodeKey(absl::string_view text, bool encoded);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_S3_FIELDS_H_
