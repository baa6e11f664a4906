#ifndef WEIGHTD_CLIENT_CPP_FILE_CHECK_H_
#define WEIGHTD_CLIENT_CPP_FILE_CHECK_H_

#include <string>

namespace weightd::client {

// All bytes of a file were found to have this checksum.
struct FileCheck {
  // Relative to the model's folder; the last path segment for a single file.
  std::string file;
  // "crc32", "crc32c", "crc64nvme" or "sha256".
  std::string kind;
  // Hexadecimal digits; "-N" after them: the checksum of the checksums of N parts.
  std::string value;
  // Whether a pin of the config or of a request said so, not the store.
  bool pinned = false;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_FILE_CHECK_H_
