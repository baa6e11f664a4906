#ifndef WEIGHTD_DAEMON_SOURCE_FILE_FILE_SOURCE_H_
#define WEIGHTD_DAEMON_SOURCE_FILE_FILE_SOURCE_H_

#include <memory>
#include <string>
#include <vector>

#include "daemon/source/source.h"
#include "daemon/source/traffic.h"

namespace weightd::source {

struct FileSourceOptions {
  // Absolute folders below which a read without ReadPolicy::any_path may look.
  std::vector<std::string> roots;
  // Read around the page cache (O_DIRECT) where the file system allows it.
  bool direct_io = true;
  // For tests: false reads as if the kernel refused io_uring.
  bool io_uring = true;
  // Told of all requests. Outlives the source; null: nobody.
  Traffic* traffic = nullptr;
};

// file: URIs. Reads with io_uring, or with plain reads on threads where the kernel refuses
// io_uring. Only regular files; below a root no path component may lead out of it (openat2(2),
// RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS).
std::unique_ptr<Source> MakeFileSource(FileSourceOptions options);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_FILE_FILE_SOURCE_H_
