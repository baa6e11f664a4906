// Models converted from file to file, and verified.

#include "daemon/convert/convert.h"

#include <gmock/gmock.h>
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
#include "daemon/convert/conversion.h"
#include "daemon/convert/verify_model.h"
#include "daemon/format/header.h"
#include "daemon/format/secret_key.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/source/file/file_source.h"
#include "daemon/source/registry.h"
#include "tests/fakes/ctr_file.h"
#include "tests/fakes/safetensors_file.h"
#include "tests/fakes/tensorizer_file.h"

namespace weightd::convert {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr size_t kLarge = (5 << 20) + 17;  // several boxes, the last one short

std::string Noise(size_t bytes, unsigned seed) {
  std::string noise;
  for (size_t i = 0; i < bytes; ++i) {
    seed = seed * 1664525 + 1013904223;
    noise += static_cast<char>(seed >> 24);
  }
  return noise;
}

pipeline::ModelKey Key(char letter) {
  return {.secret = format::SecretKey(std::string(32, letter)), .password = false};
}

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

TEST_F(ConvertTest, ThereAndBackEveryTensorIsTheSame) {
  WriteModel("a.safetensors");
  ASSERT_EQ(ToTensorizer("a.safetensors", "b.tensors"), absl::OkStatus());
  EXPECT_EQ(Tensors("b.tensors"), Tensors("a.safetensors"));
  ASSERT_EQ(ToSafetensors("b.tensors", "c.safetensors"), absl::OkStatus());
  EXPECT_EQ(Tensors("c.safetensors"), Tensors("a.safetensors"));
}

TEST_F(ConvertTest, EncryptedAndDecrypted) {
  WriteModel("a.safetensors");
  ASSERT_EQ(ToTensorizer("a.safetensors", "e.tensors", Key('k')), absl::OkStatus());
  EXPECT_THAT(ReadAll(Path("e.tensors")), testing::Not(HasSubstr(Noise(100, 1))));
  ASSERT_EQ(ToSafetensors("e.tensors", "d.safetensors", Key('k')), absl::OkStatus());
  EXPECT_EQ(Tensors("d.safetensors"), Tensors("a.safetensors"));
}

TEST_F(ConvertTest, DecryptedFromAesCtr) {
  WriteModel("a.safetensors");
  const pipeline::ModelKey key = {.secret = format::SecretKey(std::string(16, 'k')),
                                  .ctr_iv = fakes::CtrFileOptions().iv};
  for (const bool header : {false, true}) {
    Write("e.safetensors", fakes::CtrFile(ReadAll(Path("a.safetensors")), {.header = header}));
    fs::remove(Path("d.safetensors"));
    ASSERT_EQ(ToSafetensors("e.safetensors", "d.safetensors", key), absl::OkStatus());
    EXPECT_EQ(Tensors("d.safetensors"), Tensors("a.safetensors"));
    const auto tensors = Verify("e.safetensors", key);
    ASSERT_TRUE(tensors.ok()) << tensors.status();
    EXPECT_EQ(tensors->size(), 4u);
    EXPECT_FALSE(tensors->at(0).found.any());
    ConvertRequest full;
    full.key = key;
    full.verify = pipeline::VerifyPolicy::kFull;
    EXPECT_EQ(ReasonOf(Run(full, "e.safetensors", "f.safetensors")), Reason::kVerificationFailed);
  }
  EXPECT_EQ(ReasonOf(ToSafetensors("e.safetensors", "f.safetensors")), Reason::kKeyMissing);
  EXPECT_EQ(ReasonOf(ToSafetensors("a.safetensors", "f.safetensors", key)), Reason::kKeyRefused);
  ASSERT_EQ(ToTensorizer("a.safetensors", "e.tensors", Key('k')), absl::OkStatus());
  EXPECT_EQ(ReasonOf(ToSafetensors("e.tensors", "f.safetensors", key)), Reason::kKeyRefused);
  EXPECT_FALSE(fs::exists(Path("f.safetensors")));
}

TEST_F(ConvertTest, AKeyThatIsMissingOrWrongLeavesNothing) {
  WriteModel("a.safetensors");
  ASSERT_EQ(ToTensorizer("a.safetensors", "e.tensors", Key('k')), absl::OkStatus());
  EXPECT_EQ(ReasonOf(ToSafetensors("e.tensors", "d.safetensors")), Reason::kKeyMissing);
  EXPECT_EQ(ReasonOf(ToSafetensors("e.tensors", "d.safetensors", Key('x'))), Reason::kKeyRefused);
  EXPECT_EQ(ReasonOf(ToSafetensors("a.safetensors", "d.safetensors", Key('k'))),
            Reason::kKeyRefused);
  ConvertRequest no_such_format;
  no_such_format.encrypt = Key('k');
  EXPECT_EQ(ReasonOf(Run(no_such_format, "a.safetensors", "d.safetensors")), Reason::kUnsupported);
  EXPECT_THAT(Others({"a.safetensors", "e.tensors"}), IsEmpty());
}

TEST_F(ConvertTest, SmallBoxesOfOthersAreOpened) {
  fakes::TensorizerEncryption encryption;
  encryption.box_bytes = 1024;
  Write("e.tensors",
        fakes::MakeTensorizerFile({{.name = "t", .shape = {5000}, .bytes = Noise(5000, 3)}},
                                  {.encryption = encryption})
            .bytes);
  ASSERT_EQ(ToSafetensors("e.tensors", "d.safetensors", Key('k')), absl::OkStatus());
  EXPECT_EQ(Tensors("d.safetensors").at("t"), absl::StrCat("U85000:", Noise(5000, 3)));
}

TEST_F(ConvertTest, DamageIsFoundAndLeavesNothing) {
  fakes::TensorizerFile file =
      fakes::MakeTensorizerFile({{.name = "good", .shape = {9}, .bytes = "123456789"},
                                 {.name = "bad", .shape = {9}, .bytes = "123456789"}});
  file.bytes[file.fields.at("1.data").begin] ^= 1;
  Write("m.tensors", file.bytes);
  const absl::Status status = ToSafetensors("m.tensors", "d.safetensors");
  EXPECT_EQ(ReasonOf(status), Reason::kVerificationFailed);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor bad"));
  EXPECT_THAT(Others({"m.tensors"}), IsEmpty());
  ConvertRequest trusting;
  trusting.verify = pipeline::VerifyPolicy::kNever;
  EXPECT_EQ(Run(trusting, "m.tensors", "d.safetensors"), absl::OkStatus());

  const auto tensors = Verify("m.tensors");
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 2u);
  EXPECT_EQ(tensors->at(0).status, absl::OkStatus());
  EXPECT_TRUE(tensors->at(0).found.crc32 && tensors->at(0).found.sha256);
  EXPECT_EQ(ReasonOf(tensors->at(1).status), Reason::kVerificationFailed);
}

TEST_F(ConvertTest, AFolderOfShardsHasItsIndex) {
  WriteModel("a.safetensors");
  ConvertRequest request;
  request.options.shard_bytes = 100;
  ASSERT_EQ(Run(request, "a.safetensors", "shards"), absl::OkStatus());
  EXPECT_TRUE(fs::exists(Path("shards/model-00001-of-00002.safetensors")));
  EXPECT_THAT(ReadAll(Path("shards/model.safetensors.index.json")),
              HasSubstr("\"large\":\"model-0000"));
  ASSERT_EQ(ToSafetensors("shards/", "b.safetensors"), absl::OkStatus());
  EXPECT_EQ(Tensors("b.safetensors"), Tensors("a.safetensors"));
}

TEST_F(ConvertTest, OnlyFloatingPointTensorsAreCast) {
  const std::vector<float> values = {1.0F, -2.5F};
  const std::string bytes(reinterpret_cast<const char*>(values.data()), 8);
  Write("a.safetensors",
        fakes::SafetensorsFile({{.name = "f", .dtype = "F32", .shape = {2}, .bytes = bytes},
                                {.name = "i", .dtype = "I32", .shape = {2}, .bytes = bytes}}));
  for (const std::string out : {"b.safetensors", "b.tensors"}) {
    ConvertRequest request;
    request.options.format =
        out == "b.tensors" ? OutputFormat::kTensorizer : OutputFormat::kSafetensors;
    request.options.cast = DType::kBf16;
    ASSERT_EQ(Run(request, "a.safetensors", out), absl::OkStatus());
    EXPECT_EQ(Tensors(out).at("f"), std::string("BF162:\x80\x3f\x20\xc0"));
    EXPECT_EQ(Tensors(out).at("i"), absl::StrCat("I322:", bytes));
  }
}

TEST_F(ConvertTest, ZerosThatAreNotStoredStayZeros) {
  Write(
      "m.tensors",
      fakes::MakeTensorizerFile({{.name = "z", .dtype = "<f4", .shape = {3}, .bytes = ""}}).bytes);
  ASSERT_EQ(ToSafetensors("m.tensors", "a.safetensors"), absl::OkStatus());
  EXPECT_EQ(Tensors("a.safetensors").at("z"), absl::StrCat("F323:", std::string(12, '\0')));
  ASSERT_EQ(ToTensorizer("m.tensors", "b.tensors"), absl::OkStatus());
  EXPECT_EQ(Tensors("b.tensors").at("z"), "F323:");
}

TEST_F(ConvertTest, NamesOfModulesLoseTheirDot) {
  Write("m.tensors",
        fakes::MakeTensorizerFile({{.name = ".weight", .shape = {1}, .bytes = "x"}}).bytes);
  ASSERT_EQ(ToSafetensors("m.tensors", "a.safetensors"), absl::OkStatus());
  EXPECT_EQ(Tensors("a.safetensors").count("weight"), 1u);
}

TEST_F(ConvertTest, WhatIsThereIsNotReplaced) {
  WriteModel("a.safetensors");
  Write("b.tensors", "mine");
  const absl::Status status = ToTensorizer("a.safetensors", "b.tensors");
  EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument);
  EXPECT_EQ(ReadAll(Path("b.tensors")), "mine");
  EXPECT_EQ(ReasonOf(ToSafetensors("none.safetensors", "c.safetensors")), Reason::kModelNotFound);
  EXPECT_EQ(ReasonOf(ToTensorizer("a.safetensors", "no/such/folder.tensors")),
            Reason::kInvalidArgument);
}

TEST_F(ConvertTest, FullVerificationWantsAChecksumOfEveryTensor) {
  Write("m.tensors",
        fakes::MakeTensorizerFile({{.name = "t", .shape = {3}, .bytes = "abc"}}, {.hashes = false})
            .bytes);
  ConvertRequest full;
  full.verify = pipeline::VerifyPolicy::kFull;
  EXPECT_EQ(ReasonOf(Run(full, "m.tensors", "a.safetensors")), Reason::kVerificationFailed);
  EXPECT_THAT(Others({"m.tensors"}), IsEmpty());
  EXPECT_EQ(ToSafetensors("m.tensors", "a.safetensors"), absl::OkStatus());
}

TEST_F(ConvertTest, TensorsThatWereStoredOnceAreStoredAgain) {
  Write("a.safetensors",
        fakes::SafetensorsFile({{.name = "a", .shape = {3}, .bytes = "abc"}},
                               {.metadata = {{"b", "a"}, {"format", "pt"}, {"author", "me"}}}));
  ASSERT_EQ(ToTensorizer("a.safetensors", "b.tensors"), absl::OkStatus());
  EXPECT_THAT(Tensors("b.tensors"),
              testing::ElementsAre(testing::Pair("a", "U83:abc"), testing::Pair("b", "U83:abc")));
}

TEST_F(ConvertTest, AKeyThatOpensOthersIsNotBlamed) {
  fakes::TensorizerFile file =
      fakes::MakeTensorizerFile({{.name = "good", .shape = {9}, .bytes = "123456789"},
                                 {.name = "bad", .shape = {9}, .bytes = "123456789"}},
                                {.encryption = fakes::TensorizerEncryption()});
  file.bytes[file.fields.at("1.data").begin] ^= 1;
  Write("e.tensors", file.bytes);
  const auto tensors = Verify("e.tensors", Key('k'));
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_EQ(tensors->at(0).status, absl::OkStatus());
  EXPECT_EQ(ReasonOf(tensors->at(1).status), Reason::kVerificationFailed);
  const auto others = Verify("e.tensors", Key('x'));
  ASSERT_TRUE(others.ok()) << others.status();
  EXPECT_EQ(ReasonOf(others->at(0).status), Reason::kKeyRefused);
}

TEST_F(ConvertTest, AnOutputThatAppearsMeanwhileIsNotReplaced) {
  WriteModel("a.safetensors");
  appears_ = Path("b.safetensors");
  EXPECT_EQ(ReasonOf(ToSafetensors("a.safetensors", "b.safetensors")), Reason::kInvalidArgument);
  EXPECT_EQ(ReadAll(Path("b.safetensors")), "another's");
  EXPECT_THAT(Others({"a.safetensors", "b.safetensors"}), IsEmpty());
}

TEST_F(ConvertTest, AStopLeavesNothing) {
  WriteModel("a.safetensors");
  stop_ = true;
  EXPECT_EQ(ReasonOf(ToSafetensors("a.safetensors", "b.safetensors")), Reason::kCancelled);
  EXPECT_THAT(Others({"a.safetensors"}), IsEmpty());
}

TEST_F(ConvertTest, SafetensorsHaveNothingToVerifyWith) {
  WriteModel("a.safetensors");
  const auto tensors = Verify("a.safetensors");
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  for (const VerifiedTensor& tensor : *tensors) {
    EXPECT_EQ(tensor.status, absl::OkStatus());
    EXPECT_FALSE(tensor.found.any());
  }
}

}  // namespace
}  // namespace weightd::convert
