// Models converted from file to file, and verified.

#include "daemon/convert/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/status.h"
#include "daemon/convert/conversion.h"
#include "daemon/convert/output_file.h"
#include "daemon/convert/verify_model.h"
#include "daemon/format/secret_key.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/model_key.h"
#include "tests/daemon/convert/convert_fixture.h"
#include "tests/fakes/ctr_file.h"
#include "tests/fakes/safetensors_file.h"
#include "tests/fakes/tensorizer_file.h"

namespace weightd::convert {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

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

TEST_F(ConvertTest, AKeyOfOneCipherOpensNoFileOfAnother) {
  fs::create_directory(Path("mixed"));
  const auto tensor = [](const std::string& name) {
    return fakes::TensorToWrite{.name = name, .shape = {2}, .bytes = Noise(2, 1)};
  };
  Write("mixed/1.safetensors", fakes::CtrFile(fakes::SafetensorsFile({tensor("a")})));
  Write("b.safetensors", fakes::SafetensorsFile({tensor("b")}));
  ASSERT_EQ(ToTensorizer("b.safetensors", "mixed/2.tensors", Key('k')), absl::OkStatus());
  Write("mixed/model.safetensors.index.json",
        R"({"weight_map": {"a": "1.safetensors", "b": "2.tensors"}})");
  const pipeline::ModelKey key = {.secret = format::SecretKey(std::string(16, 'k')),
                                  .ctr_iv = fakes::CtrFileOptions().iv};
  const absl::Status refused = ToSafetensors("mixed/", "d.safetensors", key);
  EXPECT_EQ(ReasonOf(refused), Reason::kKeyRefused);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("2.tensors is encrypted as tensorizer"));
  EXPECT_EQ(ReasonOf(Verify("mixed/", key).status()), Reason::kKeyRefused);
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
  EXPECT_EQ(ReasonOf(status), Reason::kOutputNotCreated);
  EXPECT_EQ(ReadAll(Path("b.tensors")), "mine");
  EXPECT_EQ(ReasonOf(ToSafetensors("none.safetensors", "c.safetensors")), Reason::kModelNotFound);
  EXPECT_EQ(ReasonOf(ToTensorizer("a.safetensors", "no/such/folder.tensors")),
            Reason::kOutputNotCreated);
}

TEST(OutputFileTest, ErrorsTellWhatCantBeMadeFromWhatCantBeWritten) {
  for (const int error : {EACCES, EPERM, EROFS, ENOENT, ENAMETOOLONG}) {
    EXPECT_EQ(ReasonOf(CantWrite(error, "out")), Reason::kOutputNotCreated) << error;
  }
  for (const int error : {ENOSPC, EDQUOT, EFBIG, EIO}) {
    const absl::Status status = CantWrite(error, "out");
    EXPECT_EQ(ReasonOf(status), Reason::kOutputNotWritten) << error;
    EXPECT_THAT(std::string(status.message()), HasSubstr("write out: "));
    EXPECT_FALSE(HintOf(status).empty());
  }
  EXPECT_EQ(ReasonOf(CantWrite(EMFILE, "out")), Reason::kTooManyRequests);
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
  for (const std::string damaged : {"0", "1"}) {
    fakes::TensorizerFile file =
        fakes::MakeTensorizerFile({{.name = "t0", .shape = {9}, .bytes = "123456789"},
                                   {.name = "t1", .shape = {9}, .bytes = "123456789"}},
                                  {.encryption = fakes::TensorizerEncryption()});
    file.bytes[file.fields.at(damaged + ".data").begin] ^= 1;
    Write("e.tensors", file.bytes);
    const absl::Status converted = ToSafetensors("e.tensors", "d.safetensors", Key('k'));
    EXPECT_EQ(ReasonOf(converted), Reason::kVerificationFailed);
    EXPECT_THAT(std::string(converted.message()), HasSubstr("tensor t" + damaged));
    const auto tensors = Verify("e.tensors", Key('k'));
    ASSERT_TRUE(tensors.ok()) << tensors.status();
    for (const VerifiedTensor& tensor : *tensors) {
      EXPECT_EQ(ReasonOf(tensor.status), tensor.entry.name == "t" + damaged
                                             ? Reason::kVerificationFailed
                                             : Reason::kUnspecified);
    }
    EXPECT_EQ(ReasonOf(Verify("e.tensors", Key('x')).status()), Reason::kKeyRefused);
  }
}

// Pieces that others made smaller: the first one tells of the key, whatever became of the second.
TEST_F(ConvertTest, AKeyThatOpensTheFirstPieceIsNotBlamed) {
  fakes::TensorizerEncryption encryption;
  encryption.box_bytes = 1024;
  fakes::TensorizerFile file = fakes::MakeTensorizerFile(
      {{.name = "t", .shape = {5000}, .bytes = Noise(5000, 3)}}, {.encryption = encryption});
  file.bytes[file.fields.at("0.data").begin + 1024] ^= 1;
  Write("e.tensors", file.bytes);
  const absl::Status converted = ToSafetensors("e.tensors", "d.safetensors", Key('k'));
  EXPECT_EQ(ReasonOf(converted), Reason::kVerificationFailed);
  EXPECT_THAT(std::string(converted.message()), HasSubstr("piece 1 of its encrypted bytes"));
  file.bytes[file.fields.at("0.data").begin] ^= 1;
  Write("e.tensors", file.bytes);
  EXPECT_EQ(ReasonOf(ToSafetensors("e.tensors", "d.safetensors", Key('k'))), Reason::kKeyRefused);
}

TEST_F(ConvertTest, AnOutputThatAppearsMeanwhileIsNotReplaced) {
  WriteModel("a.safetensors");
  appears_ = Path("b.safetensors");
  EXPECT_EQ(ReasonOf(ToSafetensors("a.safetensors", "b.safetensors")), Reason::kOutputNotCreated);
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
