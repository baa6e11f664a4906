#ifndef WEIGHTD_DAEMON_SOURCE_HF_HF_NAMES_H_
#define WEIGHTD_DAEMON_SOURCE_HF_HF_NAMES_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/uri.h"

// What names of a hub's files and versions are made of. Pure.

namespace weightd::source {

// An hf: URI taken apart. Uri has checked the names' characters.
struct HfName {
  std::string organisation;
  std::string repository;
  // Decoded, and as it is in a URI ("refs/pr/1", "refs%2Fpr%2F1").
  std::string revision;
  std::string encoded_revision;
  // Below the repository, decoded; empty, or ends with "/", for a folder.
  std::string file;
  // The same, percent-encoded.
  std::string encoded_file;

  bool IsFolder() const { return file.empty() || file.back() == '/'; }
};

HfName ParseHfName(const Uri& uri);

// 40 hexadecimal digits in lower case: a commit, which always means the same files.
bool IsCommit(absl::string_view text);

// The same file or folder of this commit.
absl::StatusOr<Uri> PinnedTo(const Uri& uri, absl::string_view commit);

// What a version's validator says: which commit, and the file's ETag there: its SHA-256 if the hub
// keeps it as a large file (LFS, xet), else git's hash of it. Equal for the hub and its local
// cache.
struct HfVersion {
  std::string commit;
  std::string etag;

  // Raw bytes; nothing if the ETag is none.
  std::optional<std::string> Sha256() const;
};

// A strong ETag that holds both.
std::string ToValidator(const HfVersion& version);
// Nothing if `validator` is of another form.
std::optional<HfVersion> ParseValidator(absl::string_view validator);

// `etag` without its quotes and "W/"; empty if it holds what no hub puts into one.
std::string BareEtag(absl::string_view etag);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HF_HF_NAMES_H_
