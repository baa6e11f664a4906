// What is asked of a source while models are converted and verified.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/convert/conversion.h"
#include "daemon/convert/convert.h"
#include "daemon/convert/verify_model.h"
#include "daemon/pipeline/model_key.h"
#include "tests/daemon/convert/convert_fixture.h"
#include "tests/fakes/memory_source.h"
#include "tests/fakes/safetensors_file.h"
#include "tests/fakes/tensorizer_file.h"

namespace weightd::convert {
namespace {

constexpr uint64_t kMiB = 1 << 20;

class ReadingTest : public ConvertTest {
 protected:
  ReadingTest() { sources_.Add("http", far_); }

  // A file of the folder, as a server far away has it.
  std::string Far(const std::string& name) const {
    const std::string uri = absl::StrCat("http://far.example/", name);
    far_->Put(uri, ReadAll(Path(name)));
    return uri;
  }

  absl::Status FromFar(const std::string& name, const std::string& out, OutputFormat format,
                       std::optional<pipeline::ModelKey> key = std::nullopt) {
    ConvertRequest request;
    request.input = *Uri::Parse(Far(name));
    request.output = Path(out);
    request.options.format = format;
    request.key = std::move(key);
    return Convert(sources_, request, [](const Progress&) {}, cancellation_).status();
  }

  // Whether it is as it should be in every way.
  bool VerifyFar(const std::string& name, std::optional<pipeline::ModelKey> key = std::nullopt) {
    const VerifyRequest request = {.input = *Uri::Parse(Far(name)), .key = std::move(key)};
    const auto tensors = VerifyModel(sources_, request, [](const Progress&) {}, cancellation_);
    return tensors.ok() && std::all_of(tensors->begin(), tensors->end(), [](const auto& tensor) {
             return tensor.status.ok() && tensor.found.sha256;
           });
  }

  // What was asked for since the last call.
  size_t Requests() {
    const size_t all = far_->reads().size();
    return all - std::exchange(requests_, all);
  }

  const std::shared_ptr<fakes::MemorySource> far_ = std::make_shared<fakes::MemorySource>();
  size_t requests_ = 0;
};

TEST_F(ReadingTest, SmallNeighboursComeInOneRequest) {
  std::vector<fakes::TensorToWrite> tensors;
  tensors.reserve(1200);
  for (unsigned i = 0; i < 1200; ++i) {
    tensors.push_back({.name = absl::StrCat("t", i), .shape = {9000}, .bytes = Noise(9000, i)});
  }
  Write("a.safetensors", fakes::SafetensorsFile(tensors));
  // 10.3 MiB are three requests; the header takes one or two, the key's trial one.
  ASSERT_EQ(FromFar("a.safetensors", "b.tensors", OutputFormat::kTensorizer), absl::OkStatus());
  EXPECT_LE(Requests(), 5u);
  ASSERT_TRUE(VerifyFar("b.tensors"));
  EXPECT_LE(Requests(), 5u);
  ASSERT_EQ(FromFar("b.tensors", "c.safetensors", OutputFormat::kSafetensors), absl::OkStatus());
  EXPECT_LE(Requests(), 5u);
  EXPECT_EQ(Tensors("c.safetensors"), Tensors("a.safetensors"));

  ASSERT_EQ(ToTensorizer("a.safetensors", "e.tensors", Key('k')), absl::OkStatus());
  ASSERT_TRUE(VerifyFar("e.tensors", Key('k')));
  EXPECT_LE(Requests(), 6u);
}

TEST_F(ReadingTest, LargeTensorsBetweenSmallOnesComeInSteps) {
  std::vector<fakes::TensorToWrite> tensors;
  for (const uint64_t bytes : {uint64_t{10}, 20 * kMiB + 7, uint64_t{0}, uint64_t{1}, 9 * kMiB,
                               4 * kMiB, 3 * kMiB, kMiB + 1}) {
    tensors.push_back({.name = absl::StrCat("t", tensors.size()),
                       .shape = {bytes},
                       .bytes = Noise(bytes, static_cast<unsigned>(bytes))});
  }
  Write("a.safetensors", fakes::SafetensorsFile(tensors));
  const uint64_t file_bytes = fs::file_size(Path("a.safetensors"));
  ASSERT_EQ(FromFar("a.safetensors", "b.tensors", OutputFormat::kTensorizer), absl::OkStatus());
  EXPECT_LE(Requests(), 12u);
  EXPECT_LE(far_->bytes_read(), file_bytes + kMiB);
  ASSERT_EQ(ToTensorizer("a.safetensors", "e.tensors", Key('k')), absl::OkStatus());
  for (const std::string name : {"b.tensors", "e.tensors"}) {
    const auto key = name == "e.tensors" ? std::optional(Key('k')) : std::nullopt;
    const uint64_t before = far_->bytes_read();
    ASSERT_EQ(FromFar(name, "c.safetensors", OutputFormat::kSafetensors, key), absl::OkStatus());
    // The key's trial reads a piece of 2 MiB.
    EXPECT_LE(far_->bytes_read() - before, file_bytes + 3 * kMiB);
    EXPECT_EQ(Tensors("c.safetensors"), Tensors("a.safetensors"));
    fs::remove(Path("c.safetensors"));
  }
}

TEST_F(ReadingTest, PiecesLargerThanAStepAreOpened) {
  fakes::TensorizerEncryption encryption;
  encryption.as_one_box = true;
  const std::string large = Noise(10 * kMiB, 1);
  std::vector<fakes::TensorizerTensor> tensors;
  for (const std::string name : {"a", "b", "c"}) {
    tensors.push_back({.name = name, .shape = {large.size()}, .bytes = large});
    tensors.push_back({.name = name + "_", .shape = {3}, .bytes = "abc"});
  }
  Write("e.tensors", fakes::MakeTensorizerFile(tensors, {.encryption = encryption}).bytes);
  ASSERT_EQ(FromFar("e.tensors", "d.safetensors", OutputFormat::kSafetensors, Key('k')),
            absl::OkStatus());
  const auto found = Tensors("d.safetensors");
  EXPECT_EQ(found.size(), 6u);
  EXPECT_EQ(found.at("c"), absl::StrCat("U8", large.size(), ":", large));
  EXPECT_EQ(found.at("c_"), "U83:abc");
}

// The same bytes, which what is made of the first copy must not change for the second.
TEST_F(ReadingTest, ATensorOfTwoNamesIsReadTwice) {
  Write("a.safetensors",
        fakes::SafetensorsFile({{.name = "a", .shape = {3}, .bytes = "abc"},
                                {.name = "c", .shape = {3}, .bytes = "xyz"}},
                               {.metadata = {{"b", "a"}, {"d", "a"}, {"format", "pt"}}}));
  ASSERT_EQ(ToTensorizer("a.safetensors", "e.tensors", Key('k')), absl::OkStatus());
  ASSERT_EQ(ToSafetensors("e.tensors", "d.safetensors", Key('k')), absl::OkStatus());
  const auto found = Tensors("d.safetensors");
  EXPECT_EQ(found.size(), 4u);
  for (const std::string name : {"a", "b", "d"}) {
    EXPECT_EQ(found.at(name), "U83:abc");
  }
}

TEST_F(ReadingTest, AReadThatFailsLeavesNothing) {
  WriteModel("a.safetensors");
  far_->FailRead(Far("a.safetensors"), 3 * kMiB, Error(Reason::kSourceUnavailable, "gone"));
  EXPECT_EQ(ReasonOf(FromFar("a.safetensors", "b.tensors", OutputFormat::kTensorizer)),
            Reason::kSourceUnavailable);
  EXPECT_TRUE(Others({"a.safetensors"}).empty());
}

}  // namespace
}  // namespace weightd::convert
