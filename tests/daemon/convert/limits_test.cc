// Conversions that would take more of a machine than it has.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/convert/conversion.h"
#include "daemon/convert/convert.h"
#include "tests/daemon/convert/convert_fixture.h"
#include "tests/fakes/safetensors_file.h"
#include "tests/fakes/tensorizer_file.h"

namespace weightd::convert {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// Lowers how many files this process may have open, until it goes.
class FewDescriptors {
 public:
  explicit FewDescriptors(rlim_t most) {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit few = {most, before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
  }
  ~FewDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }
  FewDescriptors(const FewDescriptors&) = delete;

 private:
  rlimit before_ = {};
};

TEST_F(ConvertTest, ZerosThatNoDiskHasRoomForAreRefusedAtOnce) {
  const std::vector<uint64_t> shape = {1 << 20, 1 << 27};
  Write("m.tensors",
        fakes::MakeTensorizerFile({{.name = "z", .dtype = "<f4", .shape = shape, .bytes = ""}})
            .bytes);
  const absl::Status refused = ToSafetensors("m.tensors", "a.safetensors");
  EXPECT_EQ(ReasonOf(refused), Reason::kOutputNotWritten);
  EXPECT_THAT(std::string(refused.message()),
              testing::AllOf(HasSubstr(Path("a.safetensors")), HasSubstr("562949953421312 bytes"),
                             HasSubstr("has room for ")));
  EXPECT_THAT(Others({"m.tensors"}), IsEmpty());
  EXPECT_EQ(ToTensorizer("m.tensors", "b.tensors"), absl::OkStatus());
}

TEST_F(ConvertTest, FewOfManyShardsAreOpenAtOnce) {
  std::vector<fakes::TensorToWrite> tensors;
  tensors.reserve(300);
  for (unsigned i = 0; i < 300; ++i) {
    tensors.push_back(
        {.name = absl::StrCat("t", i), .shape = {64 << 10}, .bytes = Noise(64 << 10, i)});
  }
  Write("a.safetensors", fakes::SafetensorsFile(tensors));
  for (const OutputFormat format : {OutputFormat::kSafetensors, OutputFormat::kTensorizer}) {
    ConvertRequest request;
    request.options.format = format;
    request.options.shard_bytes = 1;
    {
      const FewDescriptors few(128);
      ASSERT_EQ(Run(request, "a.safetensors", "shards"), absl::OkStatus());
    }
    ASSERT_EQ(ToSafetensors("shards/", "b.safetensors"), absl::OkStatus());
    EXPECT_EQ(Tensors("b.safetensors"), Tensors("a.safetensors"));
    fs::remove_all(Path("shards"));
    fs::remove(Path("b.safetensors"));
  }
}

TEST_F(ConvertTest, AModelWithoutTensorsIsAFileToo) {
  Write("a.safetensors", fakes::SafetensorsFile({}));
  ASSERT_EQ(ToSafetensors("a.safetensors", "b.safetensors"), absl::OkStatus());
  EXPECT_THAT(Tensors("b.safetensors"), IsEmpty());
}

}  // namespace
}  // namespace weightd::convert
