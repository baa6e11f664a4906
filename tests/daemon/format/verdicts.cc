// Reads files from standard input, each a u32 little-endian length and that many bytes, and writes
// one line for each: "reject", a tab and the error; or "accept", a tab and the tensors, each as the
// hexadecimal name, dtype, extents and the range of its bytes in the file.

#include <cstdint>
#include <iostream>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/byte_range.h"
#include "common/dtype.h"
#include "common/status.h"
#include "daemon/format/header.h"

namespace {

std::string Verdict(const std::string& file) {
  const auto header = weightd::format::ReadHeader(
      "mutant", file.size(), [&](weightd::ByteRange range) -> absl::StatusOr<std::string> {
        if (!weightd::ByteRange{0, file.size()}.Contains(range)) {
          return weightd::Error(weightd::Reason::kInternal, "read outside the file");
        }
        return file.substr(range.begin, range.size());
      });
  if (!header.ok()) {
    return absl::StrCat("reject\t", absl::CHexEscape(header.status().ToString()));
  }
  std::string line = "accept";
  for (const weightd::format::TensorEntry& tensor : header->tensors) {
    absl::StrAppend(&line, "\t", absl::BytesToHexString(tensor.name), ":",
                    weightd::DTypeName(tensor.dtype), ":", absl::StrJoin(tensor.shape, ","), ":",
                    tensor.bytes.begin, ":", tensor.bytes.end);
  }
  return line;
}

}  // namespace

int main() {
  std::ios::sync_with_stdio(false);
  std::string file;
  unsigned char prefix[4];
  while (std::cin.read(reinterpret_cast<char*>(prefix), sizeof(prefix))) {
    const uint32_t length =
        prefix[0] | prefix[1] << 8 | prefix[2] << 16 | uint32_t{prefix[3]} << 24;
    file.resize(length);
    if (!std::cin.read(file.data(), length)) {
      return 1;
    }
    std::cout << Verdict(file) << '\n';
  }
  return std::cin.eof() ? 0 : 1;
}
