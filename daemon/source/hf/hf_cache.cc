#include "daemon/source/hf/hf_cache.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/fd.h"
#include "common/printable_text.h"
#include "common/status.h"
#include "daemon/source/file/file_source.h"

namespace weightd::source {
namespace {

constexpr size_t kLongestLink = 4096;
// A commit and, perhaps, a line's end.
constexpr size_t kLongestRef = 64;

// Of git's hash, which only files have that the hub doesn't keep as large ones.
constexpr uint64_t kMostHashedAlways = 16 << 20;
constexpr uint64_t kHashedAtOnce = 4 << 20;

std::string KeyOf(const ObjectVersion& blob) {
  return absl::StrCat(blob.uri.path(), " ", blob.validator);
}

// Below `folder`, whatever links say.
Fd OpenBelow(const std::string& folder, const std::string& path, uint64_t flags) {
  const Fd root(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) {
    return Fd();
  }
  open_how how = {};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  return Fd(static_cast<int>(syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof(how))));
}

// Where a symbolic link leads; empty if `path` is none.
std::string LinkAt(const std::string& folder, const std::string& path) {
  const Fd link = OpenBelow(folder, path, O_PATH | O_NOFOLLOW);
  std::string target(kLongestLink, '\0');
  const ssize_t size =
      link.valid() ? readlinkat(link.get(), "", target.data(), target.size()) : ssize_t{-1};
  target.resize(size < 0 ? 0 : static_cast<size_t>(size));
  return target;
}

std::string FolderOf(const HfName& name) {
  return absl::StrCat("models--", name.organisation, "--", name.repository);
}

absl::Status Absent(const HfName& name, absl::string_view what) {
  return Error(Reason::kModelNotFound,
               absl::StrCat("the local cache has ", what, " of ", name.organisation, "/",
                            name.repository, "@", name.revision),
               "download it there with huggingface_hub, or let the daemon reach the hub");
}

absl::Status Damaged(const HfName& name) {
  return Error(Reason::kVerificationFailed,
               absl::StrCat(PrintableText(name.file), ": its copy in the local cache, of ",
                            name.organisation, "/", name.repository, "@", name.revision,
                            ", isn't what the hub's hash says"),
               "download it there again with huggingface_hub (force_download), or let the daemon "
               "reach the hub");
}

}  // namespace

HfCache::HfCache(std::string folder, OnDamaged on_damaged)
    : folder_(absl::StripSuffix(folder, "/")),
      on_damaged_(std::move(on_damaged)),
      blobs_(MakeFileSource({.roots = {folder_}, .traffic = nullptr})) {}

absl::StatusOr<std::string> HfCache::CommitOf(const HfName& name) const {
  if (IsCommit(name.revision)) {
    return name.revision;
  }
  const Fd ref = folder_.empty()
                     ? Fd()
                     : OpenBelow(folder_, absl::StrCat(FolderOf(name), "/refs/", name.revision),
                                 O_RDONLY | O_NONBLOCK);
  struct stat about{};
  std::string text(kLongestRef, '\0');
  ssize_t size = -1;
  if (ref.valid() && fstat(ref.get(), &about) == 0 && S_ISREG(about.st_mode)) {
    size = read(ref.get(), text.data(), text.size());
  }
  text.resize(size < 0 ? 0 : static_cast<size_t>(size));
  const absl::string_view commit = absl::StripAsciiWhitespace(text);
  if (!IsCommit(commit)) {
    return Absent(name, "no commit");
  }
  return std::string(commit);
}

absl::StatusOr<HfCache::Found> HfCache::Find(const HfName& name, const std::string& commit,
                                             Cancellation& cancellation) const {
  if (folder_.empty()) {
    return Absent(name, "no file");
  }
  const std::string target =
      LinkAt(folder_, absl::StrCat(FolderOf(name), "/snapshots/", commit, "/", name.file));
  const std::string etag = BareEtag(target.substr(target.rfind('/') + 1));
  if (etag.empty() || etag == "." || etag == ".." || !absl::StrContains(target, "/blobs/")) {
    return Absent(name, "no such file");
  }
  ASSIGN_OR_RETURN(const Uri place,
                   Uri::Parse(absl::StrCat(folder_, "/", FolderOf(name), "/blobs/", etag)));
  absl::StatusOr<ObjectVersion> blob = blobs_->Stat(place, {}, cancellation);
  RETURN_IF_ERROR(cancellation.status());
  if (!blob.ok()) {
    return Absent(name, "no whole copy of the file");
  }
  Found found{.version = {.commit = commit, .etag = etag}, .blob = *std::move(blob)};
  const bool small = !found.version.Sha256().has_value() && found.blob.size <= kMostHashedAlways;
  if (IsMarked(found) || (small && !IsWhole(name, found, cancellation))) {
    return Damaged(name);
  }
  RETURN_IF_ERROR(cancellation.status());
  return found;
}

bool HfCache::IsWhole(const HfName& name, const Found& found, Cancellation& cancellation) const {
  const std::string& etag = found.version.etag;
  const bool git = IsCommit(etag);
  if (!git && !found.version.Sha256().has_value()) {
    return true;
  }
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> hash(EVP_MD_CTX_new(),
                                                                     &EVP_MD_CTX_free);
  EVP_DigestInit_ex(hash.get(), git ? EVP_sha1() : EVP_sha256(), nullptr);
  if (git) {
    // How git names a file's bytes, its closing zero included.
    const std::string head = absl::StrCat("blob ", found.blob.size);
    EVP_DigestUpdate(hash.get(), head.c_str(), head.size() + 1);
  }
  std::vector<std::byte> bytes(std::min(found.blob.size, kHashedAtOnce));
  for (uint64_t begin = 0; begin < found.blob.size; begin += bytes.size()) {
    const uint64_t end = std::min(begin + bytes.size(), found.blob.size);
    const ReadRequest request = {&found.blob, {begin, end}, bytes.data()};
    if (!blobs_->Read({&request, 1}, {}, {}, cancellation).ok()) {
      return true;
    }
    EVP_DigestUpdate(hash.get(), bytes.data(), end - begin);
  }
  std::string value(static_cast<size_t>(EVP_MD_CTX_get_size(hash.get())), '\0');
  EVP_DigestFinal_ex(hash.get(), reinterpret_cast<unsigned char*>(value.data()), nullptr);
  if (absl::BytesToHexString(value) == etag) {
    return true;
  }
  MarkDamaged(name, found);
  return false;
}

void HfCache::MarkDamaged(const HfName& name, const Found& found) const {
  {
    const absl::MutexLock lock(&mutex_);
    if (!damaged_.insert(KeyOf(found.blob)).second) {
      return;
    }
  }
  if (on_damaged_ != nullptr) {
    on_damaged_(name);
  }
}

bool HfCache::IsMarked(const Found& found) const {
  const absl::MutexLock lock(&mutex_);
  return damaged_.contains(KeyOf(found.blob));
}

absl::StatusOr<std::vector<std::string>> HfCache::List(const HfName& name,
                                                       const std::string& commit,
                                                       Cancellation& cancellation) const {
  if (folder_.empty()) {
    return Absent(name, "no folder");
  }
  ASSIGN_OR_RETURN(const Uri folder,
                   Uri::Parse(absl::StrCat(folder_, "/", FolderOf(name), "/snapshots/", commit, "/",
                                           name.file)));
  absl::StatusOr<std::vector<std::string>> names = blobs_->List(folder, {}, cancellation);
  RETURN_IF_ERROR(cancellation.status());
  // Where the cache lies is no client's business.
  return names.ok() ? std::move(names) : Absent(name, "no folder");
}

absl::Status HfCache::Read(absl::Span<const ReadRequest> requests, const ReadObserver& observer,
                           Cancellation& cancellation) const {
  return blobs_->Read(requests, {}, observer, cancellation);
}

}  // namespace weightd::source
