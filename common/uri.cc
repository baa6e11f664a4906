#include "common/uri.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/status.h"

namespace weightd {
namespace {

// Above what servers and proxies take; what everything that is kept of a URI is bounded by.
constexpr size_t kMaxBytes = 8192;

constexpr absl::string_view kHint =
    "name a model as file:///folder/model.safetensors, https://host/path, s3://bucket/key, "
    "hf://organisation/name@revision/, or by an alias of the config";

constexpr absl::string_view kHubHint =
    "write hf://organisation/name@revision/ or hf://organisation/name@revision/file, and %2F for a "
    "slash in the revision";
// huggingface_hub's validate_repo_id; a revision's bound is that of a file's name.
constexpr size_t kMaxHubName = 96;
constexpr size_t kMaxHubRevision = 255;

absl::Status Invalid(absl::string_view why) {
  return Error(Reason::kInvalidUri, absl::StrCat("not a usable URI: ", why), kHint);
}

// RFC 3986, section 2.3.
bool IsUnreserved(char c) { return absl::ascii_isalnum(c) || absl::StrContains("-._~", c); }

// What a path segment may hold unescaped: RFC 3986, section 3.3.
bool IsPathCharacter(char c) { return IsUnreserved(c) || absl::StrContains("!$&'()*+,;=:@", c); }

bool IsControl(char c) { return absl::ascii_iscntrl(c); }

void AppendEscaped(std::string& out, char c) {
  absl::StrAppendFormat(&out, "%%%02X", static_cast<unsigned char>(c));
}

// The byte that the escape at the front of `text` stands for; -1 if it is none.
int EscapedByte(absl::string_view text) {
  if (text.size() < 3 || !absl::ascii_isxdigit(text[1]) || !absl::ascii_isxdigit(text[2])) {
    return -1;
  }
  uint32_t value = 0;
  return absl::SimpleHexAtoi(text.substr(1, 2), &value) ? static_cast<int>(value) : -1;
}

std::string Decode(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const int escaped = text[i] == '%' ? EscapedByte(text.substr(i)) : -1;
    if (escaped >= 0) {
      out.push_back(static_cast<char>(escaped));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::string EncodeSegment(absl::string_view decoded) {
  std::string out;
  for (char c : decoded) {
    if (IsPathCharacter(c)) {
      out.push_back(c);
    } else {
      AppendEscaped(out, c);
    }
  }
  return out;
}

// Whether a segment may hold an escaped slash: no place does, but a hub's revision.
enum class Slash : char { kRefused, kAllowed };

absl::Status CheckDecodedSegment(absl::string_view decoded, Slash slash = Slash::kRefused) {
  if (decoded == "..") {
    return Invalid("\"..\" in the path");
  }
  for (char c : decoded) {
    if (IsControl(c)) {
      return Invalid("a control character in the path");
    }
    if ((c == '/' && slash == Slash::kRefused) || c == '\\') {
      return Invalid("an encoded slash or a backslash in the path");
    }
  }
  return absl::OkStatus();
}

// One segment of a URI's path in normal form.
absl::StatusOr<std::string> NormaliseSegment(absl::string_view segment, Slash slash) {
  std::string out;
  for (size_t i = 0; i < segment.size(); ++i) {
    const char c = segment[i];
    if (c == '%') {
      const int escaped = EscapedByte(segment.substr(i));
      if (escaped < 0) {
        return Invalid("a \"%\" that begins no escape");
      }
      if (IsUnreserved(static_cast<char>(escaped))) {
        out.push_back(static_cast<char>(escaped));
      } else {
        AppendEscaped(out, static_cast<char>(escaped));
      }
      i += 2;
    } else if (IsPathCharacter(c)) {
      out.push_back(c);
    } else {
      AppendEscaped(out, c);
    }
  }
  RETURN_IF_ERROR(CheckDecodedSegment(Decode(out), slash));
  return out;
}

absl::StatusOr<std::string> NormalisePath(absl::string_view path,
                                          Slash in_first = Slash::kRefused) {
  std::string out;
  bool ends_as_folder = true;
  for (absl::string_view segment : absl::StrSplit(path, '/')) {
    ASSIGN_OR_RETURN(std::string normal,
                     NormaliseSegment(segment, out.empty() ? in_first : Slash::kRefused));
    ends_as_folder = normal.empty() || normal == ".";
    if (!ends_as_folder) {
      absl::StrAppend(&out, "/", normal);
    }
  }
  if (ends_as_folder) {
    out.push_back('/');
  }
  return out;
}

absl::Status CheckHost(absl::string_view host) {
  if (host.empty()) {
    return Invalid("no host");
  }
  if (absl::ConsumePrefix(&host, "[") && absl::ConsumeSuffix(&host, "]") && !host.empty()) {
    for (char c : host) {
      if (!absl::ascii_isxdigit(c) && c != ':' && c != '.') {
        return Invalid("a malformed IPv6 address");
      }
    }
    return absl::OkStatus();
  }
  for (char c : host) {
    if (!absl::ascii_isalnum(c) && !absl::StrContains("-._", c)) {
      return Invalid("a malformed host");
    }
  }
  return absl::OkStatus();
}

// "host" or "host:port" in normal form.
absl::StatusOr<std::string> NormaliseAuthority(absl::string_view text, absl::string_view scheme) {
  const size_t colon = text.rfind(':');
  const bool has_port =
      colon != absl::string_view::npos && !absl::StrContains(text.substr(colon), ']');
  const absl::string_view host = has_port ? text.substr(0, colon) : text;
  const absl::string_view port = has_port ? text.substr(colon + 1) : absl::string_view();
  RETURN_IF_ERROR(CheckHost(host));
  // A name with its root's dot is the same host.
  std::string out = absl::AsciiStrToLower(absl::StripSuffix(host, "."));
  if (out.empty() || absl::EndsWith(out, ".")) {
    return Invalid("a malformed host");
  }
  if (port.empty()) {
    return out;
  }
  uint32_t number = 0;
  if (!absl::ascii_isdigit(port[0]) || !absl::SimpleAtoi(port, &number) || number == 0 ||
      number > 65535) {
    return Invalid("a malformed port");
  }
  if (number != (scheme == "https" ? 443U : 80U)) {
    absl::StrAppend(&out, ":", number);
  }
  return out;
}

// Letters, digits, "-", "_" and ".". No "--", which separates names in the hub's local cache.
bool IsHubName(absl::string_view text) {
  const auto edge = [](char c) { return c == '-' || c == '.'; };
  return !text.empty() && text.size() <= kMaxHubName && !edge(text.front()) && !edge(text.back()) &&
         !absl::StrContains(text, "--") && !absl::StrContains(text, "..") &&
         !absl::EndsWith(text, ".git") && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(c) || absl::StrContains("-_.", c);
         });
}

// Decoded, by git's rules for names of refs.
bool IsHubRevision(absl::string_view text) {
  if (text.empty() || text.size() > kMaxHubRevision || text == "refs" || text.front() == '-' ||
      text.back() == '.' || absl::StrContains(text, "..")) {
    return false;
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '/');
  return std::all_of(parts.begin(), parts.end(), [](absl::string_view part) {
    return !part.empty() && part.front() != '.' && !absl::EndsWith(part, ".lock") &&
           std::all_of(part.begin(), part.end(), [](char c) {
             return absl::ascii_isalnum(c) || absl::StrContains("-_.", c);
           });
  });
}

absl::Status InvalidHub(absl::string_view why) {
  return Error(Reason::kInvalidUri, absl::StrCat("not a usable URI: ", why), kHubHint);
}

}  // namespace

absl::StatusOr<Uri> Uri::Parse(absl::string_view text) {
  if (text.size() > kMaxBytes) {
    return Error(
        Reason::kInvalidUri,
        absl::StrCat("a URI of ", text.size(), " bytes: at most ", kMaxBytes, " are taken"),
        "shorten the path or the query, or give the model a shorter address");
  }
  for (char c : text) {
    if (IsControl(c)) {
      return Invalid("a control character");
    }
  }
  if (!absl::StartsWith(text, "/")) {
    return ParseWithScheme(text);
  }
  Uri uri;
  uri.scheme_ = "file";
  std::vector<std::string> segments;
  for (absl::string_view segment : absl::StrSplit(text, '/')) {
    segments.push_back(EncodeSegment(segment));
  }
  ASSIGN_OR_RETURN(uri.path_, NormalisePath(absl::StrJoin(segments, "/")));
  return uri;
}

absl::StatusOr<Uri> Uri::ParseWithScheme(absl::string_view text) {
  Uri uri;
  const size_t colon = text.find(':');
  uri.scheme_ = absl::AsciiStrToLower(text.substr(0, colon));
  if (colon == absl::string_view::npos ||
      (uri.scheme_ != "file" && uri.scheme_ != "http" && uri.scheme_ != "https" &&
       uri.scheme_ != "s3" && uri.scheme_ != "hf")) {
    return Invalid("its scheme is none of file, http, https, s3, hf");
  }
  absl::string_view rest = text.substr(colon + 1);
  if (absl::StrContains(rest, '#')) {
    return Invalid("a fragment");
  }
  const size_t question = rest.find('?');
  if (question != absl::string_view::npos) {
    uri.query_ = std::string(rest.substr(question + 1));
    rest = rest.substr(0, question);
  }
  absl::string_view authority;
  if (absl::ConsumePrefix(&rest, "//")) {
    const size_t slash = std::min(rest.find('/'), rest.size());
    authority = rest.substr(0, slash);
    rest = rest.substr(slash);
  }
  if (uri.scheme_ == "file" &&
      (question != absl::string_view::npos || !absl::StartsWith(rest, "/"))) {
    return Invalid("a file: URI needs an absolute path and no query");
  }
  if (uri.scheme_ == "hf" && question != absl::string_view::npos) {
    return InvalidHub("an hf: URI with a query");
  }
  RETURN_IF_ERROR(uri.ParseAuthority(authority));
  const bool hub = uri.scheme_ == "hf";
  ASSIGN_OR_RETURN(uri.path_, NormalisePath(rest, hub ? Slash::kAllowed : Slash::kRefused));
  if (hub) {
    RETURN_IF_ERROR(uri.NormaliseRepository());
  }
  return uri;
}

absl::Status Uri::NormaliseRepository() {
  const size_t end = std::min(path_.find('/', 1), path_.size());
  const absl::string_view segment = absl::string_view(path_).substr(1, end - 1);
  const size_t at = segment.find('@');
  const absl::string_view name = segment.substr(0, at);
  const absl::string_view revision =
      at == absl::string_view::npos ? kDefaultHubRevision : segment.substr(at + 1);
  if (!IsHubName(name)) {
    return InvalidHub("no or a malformed name of a repository");
  }
  if (!IsHubRevision(Decode(revision))) {
    return InvalidHub("a malformed revision");
  }
  path_ = absl::StrCat("/", name, "@", revision, end == path_.size() ? "/" : path_.substr(end));
  return absl::OkStatus();
}

absl::Status Uri::ParseAuthority(absl::string_view authority) {
  if (scheme_ == "file") {
    return authority.empty() || absl::AsciiStrToLower(authority) == "localhost"
               ? absl::OkStatus()
               : Invalid("a file: URI with a host");
  }
  if (scheme_ == "hf") {
    // The hub's names have upper and lower case.
    authority_ = std::string(authority);
    return IsHubName(authority) ? absl::OkStatus()
                                : InvalidHub("no or a malformed name of an organisation");
  }
  const size_t at = authority.rfind('@');
  if (at != absl::string_view::npos && scheme_ == "s3") {
    return Error(Reason::kInvalidUri, "a user name or password has no place in an s3: URI",
                 "write s3://bucket/key; credentials belong into the environment or the "
                 "configuration");
  }
  if (at != absl::string_view::npos) {
    user_info_ = std::string(authority.substr(0, at));
    authority = authority.substr(at + 1);
  }
  ASSIGN_OR_RETURN(authority_, NormaliseAuthority(authority, scheme_));
  return absl::OkStatus();
}

std::string Uri::DecodedPath() const { return Decode(path_); }

std::string Uri::FileName() const { return Decode(path_.substr(path_.rfind('/') + 1)); }

std::string Uri::ToString() const {
  return absl::StrCat(scheme_, "://", user_info_, user_info_.empty() ? "" : "@", authority_, path_,
                      query_.empty() ? "" : "?", query_);
}

std::string Uri::Redacted() const { return absl::StrCat(scheme_, "://", authority_, path_); }

absl::StatusOr<Uri> Uri::Child(absl::string_view name) const {
  Uri child = *this;
  if (!IsFolder()) {
    child.path_.push_back('/');
  }
  absl::string_view separator;
  for (absl::string_view segment : absl::StrSplit(name, '/')) {
    if (segment.empty() || segment == ".") {
      return Invalid("a file name that is absolute or has empty parts");
    }
    RETURN_IF_ERROR(CheckDecodedSegment(segment));
    absl::StrAppend(&child.path_, separator, EncodeSegment(segment));
    separator = "/";
  }
  return child;
}

}  // namespace weightd
