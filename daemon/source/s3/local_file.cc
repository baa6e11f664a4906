#include "daemon/source/s3/local_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/source/checksum.h"

namespace weightd::source {
namespace {

// Stays in the processor's cache between its reading and its hashing.
constexpr size_t kBlockBytes = 256 << 10;

absl::Status Changed(const std::string& path) {
  return Error(Reason::kSourceChanged, absl::StrCat(path, " changed while it was uploaded"),
               "push it again when nobody writes to it");
}

}  // namespace

absl::StatusOr<LocalFile> LocalFile::At(std::string path) {
  struct stat about{};
  if (stat(path.c_str(), &about) != 0) {
    return ErrnoError(errno, path);
  }
  if (!S_ISREG(about.st_mode)) {
    return Error(Reason::kInvalidArgument, absl::StrCat(path, " is not a regular file"),
                 "name a file, or a folder of them");
  }
  FileStamp stamp(path, about);
  return LocalFile(std::move(path), static_cast<uint64_t>(about.st_size), std::move(stamp));
}

absl::StatusOr<Fd> LocalFile::Open() const {
  // Non-blocking: it may have become a pipe.
  Fd file(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) {
    return ErrnoError(errno, path_);
  }
  RETURN_IF_ERROR(CheckUnchanged());
  return file;
}

absl::Status LocalFile::CheckUnchanged() const {
  return stamp_.Changed() ? Changed(path_) : absl::OkStatus();
}

absl::Status LocalFile::Read(const Fd& file, uint64_t offset, absl::Span<char> space) const {
  while (!space.empty()) {
    const ssize_t count = pread(file.get(), space.data(), space.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return ErrnoError(errno, absl::StrCat("read ", path_));
    }
    if (count == 0) {
      return Changed(path_);
    }
    offset += static_cast<uint64_t>(count);
    space.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::StatusOr<RangeDigest> DigestOf(const LocalFile& file, ByteRange range, bool with_md5,
                                     Cancellation& cancellation) {
  ASSIGN_OR_RETURN(const Fd descriptor, file.Open());
  const std::unique_ptr<Hasher> sha256 = MakeHasher(ChecksumKind::kSha256);
  const std::unique_ptr<Hasher> md5 = MakeMd5Hasher();
  std::vector<char> block(std::min<uint64_t>(kBlockBytes, range.size()));
  while (!range.empty()) {
    RETURN_IF_ERROR(cancellation.status());
    const absl::Span<char> bytes =
        absl::MakeSpan(block).first(std::min<uint64_t>(block.size(), range.size()));
    RETURN_IF_ERROR(file.Read(descriptor, range.begin, bytes));
    const auto read =
        absl::MakeConstSpan(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size());
    sha256->Update(read);
    if (with_md5) {
      md5->Update(read);
    }
    range.begin += bytes.size();
  }
  RETURN_IF_ERROR(file.CheckUnchanged());
  return RangeDigest{sha256->Finish(), with_md5 ? md5->Finish() : ""};
}

}  // namespace weightd::source
