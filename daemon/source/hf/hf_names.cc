#include "daemon/source/hf/hf_names.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace weightd::source {
namespace {

constexpr size_t kCommitDigits = 40;
constexpr size_t kSha256Digits = 64;
constexpr size_t kLongestEtag = 128;

bool IsLowerHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f'); });
}

// Where the path below the repository begins: behind "/name@revision/".
size_t BeginOfFile(absl::string_view path) { return path.find('/', 1) + 1; }

}  // namespace

HfName ParseHfName(const Uri& uri) {
  const absl::string_view path = uri.path();
  const absl::string_view first = path.substr(1, BeginOfFile(path) - 2);
  const size_t at = first.find('@');
  const std::string encoded_revision(first.substr(at + 1));
  const std::string revision = absl::StrReplaceAll(encoded_revision, {{"%2F", "/"}});
  const size_t begin = BeginOfFile(path) - (encoded_revision.size() - revision.size());
  return {.organisation = uri.authority(),
          .repository = std::string(first.substr(0, at)),
          .revision = revision,
          .encoded_revision = encoded_revision,
          .file = uri.DecodedPath().substr(begin),
          .encoded_file = std::string(path.substr(BeginOfFile(path)))};
}

bool IsCommit(absl::string_view text) { return text.size() == kCommitDigits && IsLowerHex(text); }

absl::StatusOr<Uri> PinnedTo(const Uri& uri, absl::string_view commit) {
  const HfName name = ParseHfName(uri);
  return Uri::Parse(absl::StrCat("hf://", name.organisation, "/", name.repository, "@", commit, "/",
                                 name.encoded_file));
}

std::optional<std::string> HfVersion::Sha256() const {
  if (etag.size() != kSha256Digits || !IsLowerHex(etag)) {
    return std::nullopt;
  }
  return absl::HexStringToBytes(etag);
}

std::string ToValidator(const HfVersion& version) {
  return absl::StrCat("\"", version.commit, ":", version.etag, "\"");
}

std::optional<HfVersion> ParseValidator(absl::string_view validator) {
  const size_t colon = validator.find(':');
  if (!absl::ConsumePrefix(&validator, "\"") || !absl::ConsumeSuffix(&validator, "\"") ||
      colon == absl::string_view::npos) {
    return std::nullopt;
  }
  HfVersion version{.commit = std::string(validator.substr(0, colon - 1)),
                    .etag = std::string(validator.substr(colon))};
  if (!IsCommit(version.commit) || version.etag.empty()) {
    return std::nullopt;
  }
  return version;
}

std::string BareEtag(absl::string_view etag) {
  absl::ConsumePrefix(&etag, "W/");
  absl::ConsumePrefix(&etag, "\"");
  absl::ConsumeSuffix(&etag, "\"");
  const bool plain =
      etag.size() <= kLongestEtag && std::all_of(etag.begin(), etag.end(), [](char c) {
        return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
      });
  return plain ? std::string(etag) : "";
}

}  // namespace weightd::source
