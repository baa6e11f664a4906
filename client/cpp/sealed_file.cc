#include "client/cpp/sealed_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace weightd::client {
namespace {

absl::Status Refused(absl::string_view what, absl::string_view why) {
  return Error(Reason::kMalformedModel, absl::StrCat(what, " from the daemon ", why),
               "the daemon is broken or is not weightd; report it");
}

absl::Status CheckSeals(int fd, absl::string_view what) {
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) {
    return Refused(what, "is not a file that can be sealed");
  }
  constexpr int kFixedSize = F_SEAL_SHRINK | F_SEAL_GROW;
  if ((seals & kFixedSize) != kFixedSize || (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) == 0) {
    return Refused(what, absl::StrCat("is not sealed (seals are ", seals, ")"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SealedMapping> MapSealed(int fd, uint64_t nbytes, Access access,
                                        absl::string_view what) {
  RETURN_IF_ERROR(CheckSeals(fd, what));
  // After the seals: from here on the size stays.
  struct stat info{};
  if (fstat(fd, &info) != 0) {
    return ErrnoError(errno, absl::StrCat("stat ", what));
  }
  if (static_cast<uint64_t>(info.st_size) < nbytes) {
    return Refused(what, absl::StrCat("has ", info.st_size, " bytes, not the announced ", nbytes));
  }
  if (access == Access::kPrivateWritable) {
    auto writable = Mapping::Map(fd, nbytes, Mapping::Access::kPrivateWritable);
    if (writable.ok()) {
      return SealedMapping{*std::move(writable), Access::kPrivateWritable};
    }
  }
  ASSIGN_OR_RETURN(Mapping mapping, Mapping::Map(fd, nbytes, Mapping::Access::kSharedReadOnly));
  return SealedMapping{std::move(mapping), Access::kSharedReadOnly};
}

}  // namespace weightd::client
