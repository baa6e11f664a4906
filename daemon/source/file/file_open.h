#ifndef WEIGHTD_DAEMON_SOURCE_FILE_FILE_OPEN_H_
#define WEIGHTD_DAEMON_SOURCE_FILE_FILE_OPEN_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/fd.h"
#include "common/uri.h"
#include "daemon/source/file/read_steps.h"
#include "daemon/source/source.h"

// Paths to descriptors, under a ReadPolicy. A path is resolved once, to a descriptor that can't be
// read (O_PATH); all else goes through that, so what was checked is what is read.

namespace weightd::source {

// kAddressRefused, whatever lies there, if `policy` doesn't let the path be reached. `roots` are
// absolute, without a trailing slash.
absl::StatusOr<Fd> Locate(const Uri& uri, absl::Span<const std::string> roots,
                          const ReadPolicy& policy);

// The file's current version. kModelNotFound if it is no regular file.
absl::StatusOr<ObjectVersion> VersionOf(const Fd& located, const Uri& uri);

// Opens it for reading, around the page cache if `direct_io` and its file system can.
absl::StatusOr<OpenedFile> OpenLocated(const Fd& located, const Uri& uri, bool direct_io);

// kSourceChanged unless the file is still `version`.
absl::Status CheckUnchanged(const Fd& file, const ObjectVersion& version);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_FILE_FILE_OPEN_H_
