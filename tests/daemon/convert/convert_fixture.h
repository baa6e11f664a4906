#ifndef WEIGHTD_TESTS_DAEMON_CONVERT_CONVERT_FIXTURE_H_
#define WEIGHTD_TESTS_DAEMON_CONVERT_CONVERT_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "common/dtype.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/convert/convert.h"
#include "daemon/convert/verify_model.h"
#include "daemon/format/header.h"
#include "daemon/format/secret_key.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/source/file/file_source.h"
#include "daemon/source/registry.h"
#include "tests/fakes/safetensors_file.h"

namespace weightd::convert {

namespace fs = std::filesystem;

inline constexpr size_t kLarge = (5 << 20) + 17;  // several boxes, the last one short

inline std::string Noise(size_t bytes, unsigned seed) {
  std::string noise;
  for (size_t i = 0; i < bytes; ++i) {
    seed = seed * 1664525 + 1013904223;
    noise += static_cast<char>(seed >> 24);
  }
  return noise;
}

inline pipeline::ModelKey Key(char letter) {
  return {.secret = format::SecretKey(std::string(32, letter)), .password = false};
}

// A folder of the test's own, and models in it that are converted and verified.
class ConvertTest : public testing::Test {
 protected:
  ConvertTest() {
    sources_.Add("file", source::MakeFileSource({}));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }

  std::string Path(const std::string& name) const { return absl::StrCat(folder_, "/", name); }

  void Write(const std::string& name, const std::string& bytes) const {
    std::ofstream(Path(name), std::ios::binary) << bytes;
  }

  std::string ReadAll(const std::string& path) const {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  // What a file says and holds: for each tensor its type, shape and bytes.
  std::map<std::string, std::string> Tensors(const std::string& name) const {
    const std::string bytes = ReadAll(Path(name));
    const auto header =
        format::ReadHeader(name, bytes.size(), [&](ByteRange range) -> absl::StatusOr<std::string> {
          return bytes.substr(range.begin, range.size());
        });
    EXPECT_TRUE(header.ok()) << header.status();
    std::map<std::string, std::string> tensors;
    for (const format::TensorEntry& tensor : header->tensors) {
      tensors[tensor.name] =
          absl::StrCat(DTypeName(tensor.dtype), absl::StrJoin(tensor.shape, ","), ":",
                       bytes.substr(tensor.bytes.begin, tensor.bytes.size()));
    }
    return tensors;
  }

  absl::Status Run(ConvertRequest request, const std::string& in, const std::string& out) {
    request.input = *Uri::Parse(Path(in));
    request.output = Path(out);
    const auto report = [this](const Progress&) {
      if (!appears_.empty()) {
        std::ofstream(appears_) << "another's";
      }
      if (stop_) {
        cancellation_.Cancel(Error(Reason::kCancelled, "by the test"));
      }
    };
    return Convert(sources_, request, report, cancellation_).status();
  }

  absl::Status ToTensorizer(const std::string& in, const std::string& out,
                            std::optional<pipeline::ModelKey> encrypt = std::nullopt) {
    ConvertRequest request;
    request.options.format = OutputFormat::kTensorizer;
    request.encrypt = std::move(encrypt);
    return Run(request, in, out);
  }

  absl::Status ToSafetensors(const std::string& in, const std::string& out,
                             std::optional<pipeline::ModelKey> key = std::nullopt) {
    ConvertRequest request;
    request.key = std::move(key);
    return Run(request, in, out);
  }

  absl::StatusOr<std::vector<VerifiedTensor>> Verify(
      const std::string& name, std::optional<pipeline::ModelKey> key = std::nullopt) {
    const VerifyRequest request = {.input = *Uri::Parse(Path(name)), .key = std::move(key)};
    return VerifyModel(sources_, request, [](const Progress&) {}, cancellation_);
  }

  // Names in the folder that are not of `known`.
  std::vector<std::string> Others(const std::vector<std::string>& known) const {
    std::vector<std::string> others;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      if (std::find(known.begin(), known.end(), entry.path().filename()) == known.end()) {
        others.push_back(entry.path().filename());
      }
    }
    return others;
  }

  void WriteModel(const std::string& name) const {
    Write(name,
          fakes::SafetensorsFile({{.name = "large", .shape = {kLarge}, .bytes = Noise(kLarge, 1)},
                                  {.name = "layer.weight", .shape = {3, 2}, .bytes = Noise(6, 2)},
                                  {.name = "empty", .shape = {0}, .bytes = ""},
                                  {.name = "scalar", .shape = {}, .bytes = "x"}}));
  }

  const std::string folder_ =
      absl::StrCat(testing::TempDir(), "/convert_",
                   testing::UnitTest::GetInstance()->current_test_info()->name());
  source::Registry sources_;
  Cancellation cancellation_;
  // A file that another makes meanwhile.
  std::string appears_;
  // Whether the first progress ends it.
  bool stop_ = false;
};

}  // namespace weightd::convert

#endif  // WEIGHTD_TESTS_DAEMON_CONVERT_CONVERT_FIXTURE_H_
