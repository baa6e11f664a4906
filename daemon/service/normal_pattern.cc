#include "daemon/service/normal_pattern.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "common/uri.h"

namespace weightd::service {
namespace {

absl::Status MatchesNothing(absl::string_view why, absl::string_view hint) {
  return Error(Reason::kInvalidArgument, absl::StrCat("can match no model: ", why), hint);
}

bool IsUnreserved(char c) { return absl::ascii_isalnum(c) || absl::StrContains("-._~", c); }

// Of paths, in normal form; `*` is a run.
bool StandsForItself(char c) { return IsUnreserved(c) || absl::StrContains("!$&'()*+,;=:@/", c); }

void AppendEscaped(std::string& out, char c) {
  absl::StrAppendFormat(&out, "%%%02X", static_cast<unsigned char>(c));
}

// The escape at the front of `text`, which is as long as an escape or what is left.
absl::Status AppendEscape(std::string& out, absl::string_view text) {
  const absl::string_view digits = text.substr(1, 2);
  const size_t known = std::min(digits.find('*'), digits.size());
  const bool hexadecimal =
      std::all_of(digits.begin(), digits.begin() + known, absl::ascii_isxdigit);
  if (!hexadecimal || (known < 2 && known == digits.size())) {
    return MatchesNothing("a \"%\" that begins no escape", "write %25 for the character itself");
  }
  if (known < 2) {
    absl::StrAppend(&out, "%", absl::AsciiStrToUpper(digits.substr(0, known)));
    return absl::OkStatus();
  }
  const std::string byte = absl::HexStringToBytes(digits);
  if (absl::ascii_iscntrl(byte[0]) || byte == "/" || byte == "\\") {
    return MatchesNothing("no URI has an escaped slash, backslash or control character",
                          "leave the escape out");
  }
  if (IsUnreserved(byte[0])) {
    out.append(byte);
  } else {
    AppendEscaped(out, byte[0]);
  }
  return absl::OkStatus();
}

// What is no host. `plain`: of a path as the operating system writes it.
absl::StatusOr<std::string> NormalCharacters(absl::string_view text, bool plain) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      return MatchesNothing("no URI has control characters", "leave them out");
    }
    if (c == '\\') {
      return MatchesNothing("no URI has a backslash", "write slashes");
    }
    if (!plain && (c == '?' || c == '#')) {
      return MatchesNothing("names are matched without query and fragment",
                            absl::StrCat("leave them out; of a path write ",
                                         c == '?' ? "%3F" : "%23", " for the character"));
    }
    if (!plain && c == '%') {
      RETURN_IF_ERROR(AppendEscape(out, text.substr(i, 3)));
      i += std::min(text.substr(i + 1, 2).find('*'), size_t{2});
    } else if (StandsForItself(c)) {
      out.push_back(c);
    } else {
      AppendEscaped(out, c);
    }
  }
  return out;
}

// Begins with a slash.
absl::StatusOr<std::string> NormalPath(absl::string_view text, bool plain) {
  ASSIGN_OR_RETURN(const std::string path, NormalCharacters(text, plain));
  std::vector<absl::string_view> segments;
  bool folder = true;
  for (absl::string_view segment : absl::StrSplit(path, '/')) {
    if (segment == "..") {
      return MatchesNothing("no URI has \"..\" in its path", "write the path without it");
    }
    folder = segment.empty() || segment == ".";
    if (!folder) {
      segments.push_back(segment);
    }
  }
  return absl::StrCat("/", absl::StrJoin(segments, "/"), folder && !segments.empty() ? "/" : "");
}

// "host", "host:port" with runs that are within it.
absl::StatusOr<std::string> NormalAuthority(absl::string_view text, absl::string_view scheme) {
  if (absl::StrContains(text, '@')) {
    return MatchesNothing("names are matched without user names and passwords", "leave them out");
  }
  const bool known = !absl::StrContains(scheme, '*');
  if (scheme == "file") {
    if (text.empty() || text[0] == '*' || absl::AsciiStrToLower(text) == "localhost") {
      return std::string(text.empty() || text[0] != '*' ? "" : text);
    }
    return MatchesNothing("file: URIs have no host", "write file:///folder/…");
  }
  // Runs are written as what a host may have.
  std::string host = absl::AsciiStrToLower(text);
  std::replace(host.begin(), host.end(), '*', '0');
  const size_t colon = text.rfind(':');
  const bool has_port =
      colon != absl::string_view::npos && !absl::StrContains(text.substr(colon), ']');
  const absl::string_view port = has_port ? text.substr(colon + 1) : absl::string_view();
  const bool port_runs = absl::StrContains(port, '*');
  const absl::string_view before_port = has_port ? text.substr(0, colon) : text;
  const absl::StatusOr<Uri> parsed = Uri::Parse(absl::StrCat(
      known ? scheme : "https", "://", absl::string_view(host).substr(0, before_port.size()), "/"));
  if (!parsed.ok()) {
    return MatchesNothing(parsed.status().message(), "write a host, with :port if it has one");
  }
  std::string out = absl::AsciiStrToLower(before_port.substr(0, parsed->authority().size()));
  if (port_runs || !known) {
    absl::StrAppend(&out, has_port ? ":" : "", port);
  } else if (has_port) {
    const absl::StatusOr<Uri> with_port = Uri::Parse(absl::StrCat(scheme, "://h:", port, "/"));
    if (!with_port.ok()) {
      return MatchesNothing(with_port.status().message(), "write a port from 1 to 65535");
    }
    absl::StrAppend(&out, with_port->authority().substr(1));
  }
  return out;
}

// A repository with its revision, in which alone URIs have escaped slashes.
absl::StatusOr<std::string> NormalRevision(absl::string_view text) {
  std::vector<std::string> parts;
  for (absl::string_view part :
       absl::StrSplit(absl::StrReplaceAll(text, {{"%2f", "%2F"}}), "%2F")) {
    ASSIGN_OR_RETURN(parts.emplace_back(), NormalCharacters(part, false));
  }
  return absl::StrJoin(parts, "%2F");
}

// Behind "hf://": the names of a hub keep their case, and those of models have a revision.
absl::StatusOr<std::string> NormalRepository(absl::string_view rest) {
  constexpr absl::string_view kHint =
      "write hf://organisation/name@revision/**, with * for any revision";
  const size_t slash = std::min(rest.find('/'), rest.size());
  const absl::string_view organisation = rest.substr(0, slash);
  if (organisation.empty() || slash == rest.size()) {
    return MatchesNothing("no organisation and name", kHint);
  }
  absl::string_view path = rest.substr(slash);
  while (absl::ConsumePrefix(&path, "/") || absl::ConsumePrefix(&path, "./")) {
  }
  const size_t end = std::min(path.find('/'), path.size());
  ASSIGN_OR_RETURN(const std::string name, NormalRevision(path.substr(0, end)));
  std::string file;
  if (end < path.size()) {
    ASSIGN_OR_RETURN(file, NormalPath(path.substr(end), false));
  }
  if (!absl::StrContains(name, '@') && !absl::StrContains(name, '*')) {
    return MatchesNothing("names of hf: have a revision", kHint);
  }
  // With a name in place of each run, it has to be one.
  std::string example = absl::StrCat("hf://", organisation, "/", name, "/");
  std::replace(example.begin(), example.end(), '*', '0');
  if (const absl::StatusOr<Uri> parsed = Uri::Parse(example); !parsed.ok()) {
    return MatchesNothing(parsed.status().message(), kHint);
  }
  // As Uri writes a repository.
  const bool whole = file.empty() && !absl::StrContains(name, "**");
  return absl::StrCat(organisation, "/", name, file, whole ? "/" : "");
}

// Whether `pattern`, of a scheme, with runs, matches "hf".
bool MayBeHub(absl::string_view pattern) {
  const std::vector<absl::string_view> parts = absl::StrSplit(pattern, '*');
  absl::string_view rest = "hf";
  if (parts.size() == 1) {
    return pattern == rest;
  }
  if (!absl::ConsumePrefix(&rest, parts.front()) || !absl::ConsumeSuffix(&rest, parts.back())) {
    return false;
  }
  for (size_t i = 1; i + 1 < parts.size(); ++i) {
    const size_t at = rest.find(parts[i]);
    if (at == absl::string_view::npos) {
      return false;
    }
    rest.remove_prefix(at + parts[i].size());
  }
  return true;
}

// Hosts are in lower case, the names of a hub as they are: of a pattern for both neither would be
// safe to assume.
absl::Status CheckCase(absl::string_view authority, absl::string_view scheme) {
  const bool both = scheme != "hf" && MayBeHub(scheme);
  if (both && std::any_of(authority.begin(), authority.end(), absl::ascii_isupper)) {
    return MatchesNothing("hosts are in lower case, and names of a hub (hf:) have upper case, too",
                          "write one pattern for hf:// and one for each other scheme");
  }
  return absl::OkStatus();
}

// Behind "scheme://".
absl::StatusOr<std::string> NormalRest(absl::string_view rest, absl::string_view scheme) {
  const size_t slash = std::min(rest.find('/'), rest.size());
  const size_t any = rest.substr(0, slash).find("**");
  RETURN_IF_ERROR(CheckCase(rest.substr(0, std::min(slash, any)), scheme));
  if (any != absl::string_view::npos) {
    // Where the host ends is anybody's guess.
    ASSIGN_OR_RETURN(const std::string tail, NormalCharacters(rest.substr(any), false));
    const absl::string_view host = rest.substr(0, any);
    return absl::StrCat(scheme == "hf" ? std::string(host) : absl::AsciiStrToLower(host), tail);
  }
  if (scheme == "hf") {
    return NormalRepository(rest);
  }
  if (slash == 0 && scheme != "file" && !absl::StrContains(scheme, '*')) {
    return MatchesNothing("no host", "write a host behind the scheme");
  }
  const absl::string_view authority = rest.substr(0, slash);
  std::string out(authority);
  if (!(authority.empty() && absl::StrContains(scheme, '*'))) {
    ASSIGN_OR_RETURN(out, NormalAuthority(authority, scheme));
  }
  if (slash == rest.size()) {
    return out;
  }
  ASSIGN_OR_RETURN(const std::string path, NormalPath(rest.substr(slash), false));
  return absl::StrCat(out, path);
}

bool IsScheme(absl::string_view text) {
  return text == "file" || text == "http" || text == "https" || text == "s3" || text == "hf";
}

}  // namespace

absl::StatusOr<std::string> NormalPattern(absl::string_view pattern) {
  if (absl::StartsWith(pattern, "/")) {
    ASSIGN_OR_RETURN(const std::string path, NormalPath(pattern, true));
    return absl::StrCat("file://", path);
  }
  const size_t separator = pattern.find("://");
  if (separator != absl::string_view::npos) {
    const std::string scheme = absl::AsciiStrToLower(pattern.substr(0, separator));
    if (!absl::StrContains(scheme, '*') && !IsScheme(scheme)) {
      return MatchesNothing("its scheme is none of file, http, https, s3, hf",
                            "write one of them, or a model's alias");
    }
    ASSIGN_OR_RETURN(const std::string rest, NormalRest(pattern.substr(separator + 3), scheme));
    return absl::StrCat(scheme, "://", rest);
  }
  const size_t colon = pattern.find(':');
  if (colon < pattern.find('*') && colon != absl::string_view::npos) {
    const std::string scheme = absl::AsciiStrToLower(pattern.substr(0, colon));
    const absl::string_view rest = pattern.substr(colon + 1);
    if (scheme == "file" && absl::StartsWith(rest, "/")) {
      ASSIGN_OR_RETURN(const std::string path, NormalPath(rest, false));
      return absl::StrCat("file://", path);
    }
    if (!IsScheme(scheme) || !(absl::StartsWith(rest, "**") || absl::StartsWith(rest, "/*"))) {
      return MatchesNothing("neither a URI nor an alias",
                            "write scheme://…, an absolute path, or a model's alias");
    }
    ASSIGN_OR_RETURN(const std::string tail, NormalCharacters(rest, false));
    return absl::StrCat(scheme, ":", tail);
  }
  return NormalCharacters(pattern, false);
}

}  // namespace weightd::service
