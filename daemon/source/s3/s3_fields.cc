#include "daemon/source/s3/s3_fields.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/utf8.h"
#include "daemon/source/percent_encoding.h"

namespace weightd::source {
namespace {

// "Creating object key names": 1,024 bytes; ETags have no documented bound.
constexpr size_t kMaxKey = 1024;
constexpr size_t kMaxEtag = 256;

}  // namespace

absl::Status Nonsense(absl::string_view what) {
  return Error(Reason::kSourceProtocol, absl::StrCat("an S3 server's answer with ", what),
               "check that the endpoint speaks S3");
}

absl::Status Fields::Begin(absl::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == absl::string_view::npos) {
    return path == root_ ? absl::OkStatus() : Nonsense("another root element");
  }
  if (At(path.substr(0, slash)) != nullptr) {
    return Nonsense("elements where text belongs");
  }
  BeginBelow(path);
  return absl::OkStatus();
}

absl::Status Fields::End(absl::string_view path, absl::string_view text) {
  Field* const field = At(path);
  if (field == nullptr) {
    return EndOther(path);
  }
  if (field->has_value()) {
    return Nonsense("a field twice");
  }
  *field = std::string(text);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> ParseSize(absl::string_view text) {
  uint64_t size = 0;
  if (text.empty() || !std::all_of(text.begin(), text.end(), absl::ascii_isdigit) ||
      !absl::SimpleAtoi(text, &size) || size > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return Nonsense("a malformed size");
  }
  return size;
}

absl::StatusOr<bool> ParseTruncated(const Field& text) {
  const bool truncated = text == "true";
  if (!truncated && text != "false") {
    return Nonsense("no word on whether it is truncated");
  }
  return truncated;
}

bool IsEtag(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxEtag &&
         std::all_of(text.begin(), text.end(), absl::ascii_isgraph);
}

absl::StatusOr<std::string> DecodeKey(absl::string_view text, bool encoded) {
  std::optional<std::string> key = encoded ? FormDecode(text) : std::string(text);
  if (!key.has_value()) {
    return Nonsense("a malformed escape in a key");
  }
  if (key->empty() || key->size() > kMaxKey || FirstInvalidUtf8(*key).has_value()) {
    return Nonsense("a key that is empty, too long or not UTF-8");
  }
  return *std::move(key);
}

}  // namespace weightd::source
