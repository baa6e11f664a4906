// Loads of tensorizer files: each tensor to its place, verified and decrypted on the way.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/pipeline/digests.h"
#include "daemon/pipeline/layout.h"
#include "daemon/pipeline/loader.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/source/checksum.h"
#include "tests/daemon/pipeline/load_from_memory.h"
#include "tests/fakes/checksums.h"
#include "tests/fakes/memory_source.h"
#include "tests/fakes/tensorizer_file.h"

namespace weightd::pipeline {
namespace {

using fakes::MakeTensorizerFile;
using fakes::TensorizerEncryption;
using fakes::TensorizerFile;
using fakes::TensorizerOptions;
using fakes::TensorizerTensor;
using testing::HasSubstr;

constexpr char kFile[] = "http://host/m/model.tensors";

std::string RandomText(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string text(size, '\0');
  for (char& c : text) {
    c = static_cast<char>(random());
  }
  return text;
}

// Small ones that leave what follows misaligned, and one of several chunks and boxes.
std::vector<TensorizerTensor> Tensors() {
  return {{.name = "a", .dtype = "|u1", .shape = {3}, .bytes = "xyz"},
          {.name = "big", .dtype = "<f4", .shape = {1'300'001}, .bytes = RandomText(5'200'004, 1)},
          {.name = "none", .dtype = "<f8", .shape = {0, 4}, .bytes = ""},
          {.name = "scalar", .dtype = "<f8", .shape = {}, .bytes = RandomText(8, 2)},
          {.name = "z", .dtype = "<i2", .shape = {77}, .bytes = RandomText(154, 3)}};
}

class TensorizerLoad : public LoadFromMemory {
 protected:
  TensorizerLoad()
      : LoadFromMemory([](const ModelIndex&) { return "index"; },
                       {.key_of = [this](const Uri&) { return key_; }}) {}

  absl::StatusOr<ResidentModel> LoadFile(std::string bytes) {
    source_->Put(kFile, std::move(bytes));
    return ResolveAndLoad(kFile);
  }

  void ExpectTensors(const ResidentModel& model, const std::vector<TensorizerTensor>& tensors) {
    ASSERT_EQ(model.index.pieces.size(), tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      const Piece& piece = model.index.pieces[i];
      EXPECT_EQ(piece.name, tensors[i].name);
      EXPECT_EQ(piece.offset % kTensorAlignment, 0u);
      const auto bytes = model.weights->bytes().subspan(piece.offset, piece.nbytes);
      EXPECT_EQ(absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
                tensors[i].bytes)
          << piece.name;
    }
  }

  void ExpectFailure(const absl::Status& status, Reason reason, absl::string_view what) {
    EXPECT_EQ(ReasonOf(status), reason) << status;
    EXPECT_THAT(status.message(), HasSubstr(std::string(what)));
    EXPECT_FALSE(HintOf(status).empty());
    ExpectNothingHeld();
  }

  std::optional<ModelKey> key_;
};

TensorizerOptions Encrypted(std::string salt = "") {
  TensorizerEncryption encryption;
  encryption.box_bytes = 1 << 20;
  encryption.salt = std::move(salt);
  return {.encryption = std::move(encryption)};
}

std::string Flipped(TensorizerFile file, const std::string& field) {
  file.bytes[file.fields.at(field).begin] ^= 16;
  return std::move(file.bytes);
}

TEST_F(TensorizerLoad, EveryTensorLiesAlignedAndIsWhatWasWritten) {
  const auto model = LoadFile(MakeTensorizerFile(Tensors()).bytes);
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectTensors(*model, Tensors());
  EXPECT_EQ(model->index.tensor_proof, (TensorProof{.crc32 = 5}));
}

TEST_F(TensorizerLoad, TensorsThatAreNotStoredAreZeros) {
  auto tensors = Tensors();
  tensors[4].bytes.clear();
  const auto model = LoadFile(MakeTensorizerFile(tensors, {.version = 4}).bytes);
  ASSERT_TRUE(model.ok()) << model.status();
  tensors[4].bytes = std::string(154, '\0');
  ExpectTensors(*model, tensors);
}

TEST_F(TensorizerLoad, AFlippedBitIsFoundAndNamesTheTensor) {
  const TensorizerFile file = MakeTensorizerFile(Tensors());
  for (const char* const field : {"0.data", "1.data", "4.data", "3.record.module"}) {
    if (file.fields.contains(field)) {
      ExpectFailure(LoadFile(Flipped(file, field)).status(), Reason::kVerificationFailed,
                    "its crc32 is ");
    }
  }
  ExpectFailure(LoadFile(Flipped(file, "1.data")).status(), Reason::kVerificationFailed,
                "tensor big at byte ");
}

TEST_F(TensorizerLoad, ATensorWithoutChecksumIsSaidToBeUnverified) {
  const auto model = LoadFile(MakeTensorizerFile(Tensors(), {.hashes = false}).bytes);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->index.tensor_proof, (TensorProof{.unverified = 5}));
}

TEST_F(TensorizerLoad, BothChecksOfAFileAndOfItsTensorsHold) {
  const std::string file = MakeTensorizerFile(Tensors()).bytes;
  source_->Put(kFile, file);
  source_->SetChecksums(kFile, {fakes::Whole(source::ChecksumKind::kCrc64Nvme, file)});
  const auto model = ResolveAndLoad(kFile);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->index.verified.size(), 1u);
  ExpectTensors(*model, Tensors());
}

TEST_F(TensorizerLoad, APinOfAResidentFileIsComparedWithItsBytes) {
  const std::string file = MakeTensorizerFile(Tensors()).bytes;
  const auto model = LoadFile(file);
  ASSERT_TRUE(model.ok()) << model.status();
  const Pins pins = {{"", absl::BytesToHexString(HashOf(source::ChecksumKind::kSha256, file))}};
  EXPECT_EQ(model->digests->Compute(model->index, *model->weights, pins, cancellation_),
            absl::OkStatus());
  EXPECT_EQ(model->digests->Hold(model->index.files, pins).value(), true);
}

TEST_F(TensorizerLoad, AKeyOpensWhatItSealed) {
  key_ = ModelKey{format::SecretKey(std::string(32, 'k'))};
  for (const bool with_file_checksum : {false, true}) {
    const std::string file = MakeTensorizerFile(Tensors(), Encrypted()).bytes;
    source_->Put(kFile, file);
    if (with_file_checksum) {
      source_->SetChecksums(kFile, {fakes::Whole(source::ChecksumKind::kCrc32c, file)});
    }
    const auto model = ResolveAndLoad(kFile);
    ASSERT_TRUE(model.ok()) << model.status();
    ExpectTensors(*model, Tensors());
    EXPECT_EQ(model->index.tensor_proof.poly1305, 4u);
    EXPECT_EQ(model->index.tensor_proof.unverified, 0u);
    const Pins pins = {{"", std::string(64, '0')}};
    EXPECT_EQ(ReasonOf(model->digests->Compute(model->index, *model->weights, pins, cancellation_)),
              Reason::kUnsupported);
  }
}

TEST_F(TensorizerLoad, EachFaultOfAKeyHasItsOwnError) {
  const TensorizerFile sealed = MakeTensorizerFile(Tensors(), Encrypted());
  ExpectFailure(LoadFile(sealed.bytes).status(), Reason::kKeyMissing, "is encrypted");
  key_ = ModelKey{format::SecretKey(std::string(32, 'x'))};
  ExpectFailure(LoadFile(sealed.bytes).status(), Reason::kKeyRefused, "with this key");
  key_ = ModelKey{format::SecretKey("secret"), /*password=*/true};
  ExpectFailure(LoadFile(sealed.bytes).status(), Reason::kKeyRefused, "not with a password");
  ExpectFailure(
      LoadFile(MakeTensorizerFile(Tensors(), Encrypted(std::string(16, 's'))).bytes).status(),
      Reason::kKeyRefused, "with this password");
  key_ = ModelKey{format::SecretKey(std::string(32, 'k'))};
  ExpectFailure(LoadFile(Flipped(sealed, "1.data")).status(), Reason::kVerificationFailed,
                "piece 0 of its encrypted bytes was changed");
  ExpectFailure(LoadFile(MakeTensorizerFile(Tensors()).bytes).status(), Reason::kKeyRefused,
                "none of its files is encrypted");
}

TEST_F(TensorizerLoad, AKeyThatIsGivenGoesBeforeTheConfigs) {
  source_->Put(kFile, MakeTensorizerFile(Tensors(), Encrypted()).bytes);
  key_ = ModelKey{format::SecretKey(std::string(32, 'x'))};
  given_key_ = ModelKey{format::SecretKey(std::string(32, 'k'))};
  const auto model = ResolveAndLoad(kFile);
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectTensors(*model, Tensors());
  std::swap(key_, given_key_);
  EXPECT_EQ(ReasonOf(ResolveAndLoad(kFile).status()), Reason::kKeyRefused);
}

TEST_F(TensorizerLoad, AStoppedLoadLeavesNothingBehind) {
  source_->Put(kFile, MakeTensorizerFile(Tensors()).bytes);
  source_->FailRead(kFile, 3'000'000, Error(Reason::kSourceUnavailable, "reset", "try again"));
  ExpectFailure(ResolveAndLoad(kFile).status(), Reason::kSourceUnavailable, "reset");
}

TEST_F(TensorizerLoad, ARecordThatContradictsTheFileIsRefused) {
  TensorizerFile file = MakeTensorizerFile(Tensors());
  file.Put("4.record.name", 'y');
  ExpectFailure(LoadFile(file.bytes).status(), Reason::kMalformedModel, "model.tensors");
}

}  // namespace
}  // namespace weightd::pipeline
