#ifndef WEIGHTD_TESTS_DAEMON_FORMAT_TENSORIZER_READING_H_
#define WEIGHTD_TESTS_DAEMON_FORMAT_TENSORIZER_READING_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "daemon/format/header.h"
#include "daemon/format/tensorizer_record.h"

// How the tests of tensorizer files read them.

namespace weightd::format {

// Files that the format's reference reader accepts, byte for byte: tests/daemon/format/golden.
inline std::string Golden(const std::string& name) {
  std::ifstream in("tests/daemon/format/golden/" + name + ".tensors", std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), {}};
  EXPECT_FALSE(bytes.empty()) << name;
  return bytes;
}

// Asks only for what lies in the file, one range behind the other.
inline absl::StatusOr<FileHeader> Read(absl::string_view file) {
  uint64_t end = 0;
  return ReadHeader("m.tensors", file.size(), [&](ByteRange range) -> absl::StatusOr<std::string> {
    EXPECT_EQ(range.begin, end);
    EXPECT_LT(range.begin, range.end);
    EXPECT_LE(range.end, file.size());
    end = range.end;
    return std::string(file.substr(range.begin, range.size()));
  });
}

inline const TensorEntry& Named(const FileHeader& header, absl::string_view name) {
  const auto found = std::find_if(header.tensors.begin(), header.tensors.end(),
                                  [&](const TensorEntry& tensor) { return tensor.name == name; });
  EXPECT_NE(found, header.tensors.end()) << name;
  return *found;
}

inline absl::StatusOr<TensorRecord> ReadRecord(absl::string_view file, const FileHeader& header,
                                               const TensorEntry& tensor) {
  const ByteRange range = tensor.record->header;
  return ParseTensorRecord("m.tensors", file.substr(range.begin, range.size()), tensor,
                           *header.tensorizer);
}

// The reader's word for a refusal, with where and why.
inline void ExpectMalformed(const absl::Status& status, uint64_t offset, absl::string_view rule) {
  EXPECT_EQ(ReasonOf(status), Reason::kMalformedModel) << rule << status;
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("m.tensors: byte " + std::to_string(offset) + ": "));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(std::string(rule)));
}

}  // namespace weightd::format

#endif  // WEIGHTD_TESTS_DAEMON_FORMAT_TENSORIZER_READING_H_
