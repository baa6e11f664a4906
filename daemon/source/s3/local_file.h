#ifndef WEIGHTD_DAEMON_SOURCE_S3_LOCAL_FILE_H_
#define WEIGHTD_DAEMON_SOURCE_S3_LOCAL_FILE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "common/fd.h"
#include "daemon/source/credentials/text_file.h"

namespace weightd::source {

// One version of a file on disk: whoever looks at it later sees this version, or kSourceChanged.
// Holds no descriptor. Thread-safe.
class LocalFile {
 public:
  // kInvalidArgument if it is no regular file.
  static absl::StatusOr<LocalFile> At(std::string path);

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }

  absl::StatusOr<Fd> Open() const;
  absl::Status CheckUnchanged() const;

  // Fills `space` from `offset` on. `file` is what Open() gave.
  absl::Status Read(const Fd& file, uint64_t offset, absl::Span<char> space) const;

 private:
  LocalFile(std::string path, uint64_t size, FileStamp stamp)
      : path_(std::move(path)), size_(size), stamp_(std::move(stamp)) {}

  std::string path_;
  uint64_t size_;
  FileStamp stamp_;
};

// Raw bytes of a range's digests.
struct RangeDigest {
  std::string sha256;
  // Only if it was asked for.
  std::string md5;
};

// Reads the range once. kSourceChanged if the file did meanwhile.
absl::StatusOr<RangeDigest> DigestOf(const LocalFile& file, ByteRange range, bool with_md5,
                                     Cancellation& cancellation);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_LOCAL_FILE_H_
