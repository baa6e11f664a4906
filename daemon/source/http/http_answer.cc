#include "daemon/source/http/http_answer.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/status.h"

namespace weightd::source {
namespace {

// SimpleAtoi would take signs and blanks.
bool ParseNumber(absl::string_view text, uint64_t* number) {
  return !text.empty() && absl::ascii_isdigit(text.front()) && absl::ascii_isdigit(text.back()) &&
         absl::SimpleAtoi(text, number);
}

// The one form that servers may send (RFC 9110, section 5.6.7).
std::optional<absl::Time> ParseDate(const std::string& text) {
  absl::Time time;
  return absl::ParseTime("%a, %d %b %Y %H:%M:%S GMT", text, &time, nullptr)
             ? std::optional<absl::Time>(time)
             : std::nullopt;
}

absl::Status Protocol(const Uri& uri, absl::string_view what) {
  return Error(Reason::kSourceProtocol, absl::StrCat(uri.Redacted(), ": ", what),
               "look at the server, or at a proxy on the way to it");
}

absl::Status Changed(const Uri& uri, absl::string_view what) {
  return Error(Reason::kSourceChanged,
               absl::StrCat(uri.Redacted(), ": ", what, " changed since it was found"),
               "try again when nobody writes to it");
}

absl::Status CheckEncoding(const Answer& answer, const Uri& uri) {
  if (!answer.content_encoding.empty() &&
      !absl::EqualsIgnoreCase(answer.content_encoding, "identity")) {
    return Protocol(uri, "the server encoded the bytes, though identity was asked for");
  }
  return absl::OkStatus();
}

absl::Status CheckLength(const Answer& answer, const Uri& uri) {
  return answer.unclear_length ? Protocol(uri, "an answer whose Content-Length can't be read")
                               : absl::OkStatus();
}

bool IsStrong(absl::string_view etag) { return absl::StartsWith(etag, "\""); }

}  // namespace

bool Answer::IsRedirect() const {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

std::string Answer::ChecksumField(const std::string& name) const {
  const auto found = checksum_fields.find(name);
  return found == checksum_fields.end() ? "" : found->second;
}

std::string Answer::HubField(const std::string& name) const {
  const auto found = hub_fields.find(name);
  return found == hub_fields.end() ? "" : found->second;
}

void Answer::AddLine(absl::string_view line) {
  line = absl::StripAsciiWhitespace(line);
  if (absl::StartsWith(line, "HTTP/")) {
    *this = Answer();
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    if (!absl::SimpleAtoi(parts.second.substr(0, 3), &status)) {
      status = 0;
    }
    closes = parts.first != "HTTP/1.1";
    return;
  }
  const size_t colon = line.find(':');
  if (colon == absl::string_view::npos) {
    return;
  }
  const std::string name = absl::AsciiStrToLower(line.substr(0, colon));
  const std::string value(absl::StripAsciiWhitespace(line.substr(colon + 1)));
  uint64_t number = 0;
  if (name == "etag") {
    etag = value;
  } else if (name == "last-modified") {
    last_modified = value;
  } else if (name == "content-range") {
    content_range = value;
  } else if (name == "content-encoding") {
    content_encoding = value;
  } else if (name == "x-amz-bucket-region") {
    bucket_region = value;
  } else if (absl::StartsWith(name, "x-amz-checksum-") || name == "x-amz-mp-parts-count") {
    checksum_fields[name] = value;
  } else if (name == "x-repo-commit" || name == "x-linked-etag" || name == "x-error-code") {
    hub_fields[name] = value;
  } else if (name == "date") {
    date = ParseDate(value);
  } else if (name == "transfer-encoding") {
    chunked = true;
  } else if (name == "connection") {
    closes = closes || absl::StrContains(absl::AsciiStrToLower(value), "close");
  } else if (name == "location") {
    location = value;
  } else if (name == "content-length") {
    const bool readable = ParseNumber(value, &number);
    unclear_length = unclear_length || !readable || content_length.value_or(number) != number;
    if (readable) {
      content_length = number;
    }
  } else if (name == "retry-after" && ParseNumber(value, &number)) {
    // The other form, a date, is rare, and our own wait does as well.
    retry_after = absl::Seconds(number);
  }
}

std::optional<ContentRange> ParseContentRange(absl::string_view text) {
  ContentRange result;
  uint64_t last = 0;
  const size_t dash = text.find('-');
  const size_t slash = text.find('/');
  if (!absl::ConsumePrefix(&text, "bytes ") || dash == absl::string_view::npos ||
      slash == absl::string_view::npos || dash > slash) {
    return std::nullopt;
  }
  const size_t prefix = 6;
  if (!ParseNumber(text.substr(0, dash - prefix), &result.range.begin) ||
      !ParseNumber(text.substr(dash + 1 - prefix, slash - dash - 1), &last) ||
      !ParseNumber(text.substr(slash + 1 - prefix), &result.total) || last < result.range.begin ||
      last >= result.total) {
    return std::nullopt;
  }
  result.range.end = last + 1;
  return result;
}

absl::StatusOr<ObjectVersion> VersionFrom(const Answer& answer, const Uri& uri) {
  RETURN_IF_ERROR(CheckEncoding(answer, uri));
  RETURN_IF_ERROR(CheckLength(answer, uri));
  ObjectVersion version;
  version.uri = uri;
  version.last_modified = answer.last_modified;
  version.strong = IsStrong(answer.etag);
  version.validator = answer.etag.empty() ? answer.last_modified : answer.etag;
  version.ranges = answer.status == 206;
  if (version.ranges) {
    const std::optional<ContentRange> range = ParseContentRange(answer.content_range);
    if (!range.has_value() || range->range != ByteRange{0, 1}) {
      return Protocol(uri, "the server answers a range with no or another Content-Range");
    }
    version.size = range->total;
  } else if (answer.content_length.has_value()) {
    version.size = *answer.content_length;
  } else {
    return Protocol(uri, "the server doesn't tell the size");
  }
  return version;
}

absl::Status CheckVersion(const Answer& answer, const ObjectVersion& version) {
  const bool had_etag = version.strong || version.validator != version.last_modified;
  if (answer.etag != (had_etag ? version.validator : "")) {
    return Changed(version.uri, "its ETag");
  }
  if (answer.last_modified != version.last_modified) {
    return Changed(version.uri, "its time of modification");
  }
  return absl::OkStatus();
}

absl::Status CheckBody(const Answer& answer, const ObjectVersion& version, ByteRange range) {
  const Uri& uri = version.uri;
  RETURN_IF_ERROR(CheckEncoding(answer, uri));
  RETURN_IF_ERROR(CheckLength(answer, uri));
  RETURN_IF_ERROR(CheckVersion(answer, version));
  if (answer.status == 206) {
    const std::optional<ContentRange> given = ParseContentRange(answer.content_range);
    if (!given.has_value()) {
      return Protocol(uri, "a part without a usable Content-Range");
    }
    if (given->total != version.size) {
      return Changed(uri, "its size");
    }
    if (given->range != range) {
      return Protocol(uri, "the server sent another range than was asked for");
    }
  } else if (range != ByteRange{0, version.size}) {
    return Protocol(uri, "the server sent the whole object for a part of it");
  } else if (answer.content_length.value_or(version.size) != version.size) {
    return Changed(uri, "its size");
  }
  if (answer.content_length.value_or(range.size()) != range.size()) {
    return Protocol(uri, "Content-Length contradicts Content-Range");
  }
  return absl::OkStatus();
}

}  // namespace weightd::source
