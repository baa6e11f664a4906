// Loads of files that are encrypted with AES-CTR: decrypted where they lie, and proved by nothing.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/pins.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/format/secret_key.h"
#include "daemon/pipeline/digests.h"
#include "daemon/pipeline/loader.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/source/checksum.h"
#include "tests/daemon/pipeline/load_from_memory.h"
#include "tests/fakes/checksums.h"
#include "tests/fakes/ctr_file.h"
#include "tests/fakes/memory_source.h"
#include "tests/fakes/safetensors_file.h"
#include "tests/fakes/tensorizer_file.h"

namespace weightd::pipeline {
namespace {

using fakes::CtrFile;
using fakes::CtrFileOptions;
using fakes::TensorToWrite;
using testing::HasSubstr;

constexpr char kFolder[] = "http://host/m/";

// One of several pieces and chunks, and small ones around it.
std::vector<TensorToWrite> Tensors() {
  return {fakes::F32Tensor("a", 3, 1), fakes::F32Tensor("big", 5'000'003, 2),
          TensorToWrite{.name = "none", .shape = {0}, .bytes = ""}, fakes::F32Tensor("z", 77, 3)};
}

ModelKey KeyOf(const CtrFileOptions& options) {
  return {.secret = format::SecretKey(options.key), .ctr_iv = options.iv};
}

class CtrLoad : public LoadFromMemory {
 protected:
  CtrLoad()
      : LoadFromMemory([](const ModelIndex&) { return "index"; },
                       {.rules_of =
                            [](const Uri& uri) {
                              return LoadRules{.verify = uri.FileName() == "full.safetensors"
                                                             ? VerifyPolicy::kFull
                                                             : VerifyPolicy::kFast};
                            },
                        .key_of = [this](const Uri&) { return key_; }}) {}

  absl::StatusOr<ResidentModel> LoadFile(std::string bytes) {
    source_->Put(kModel, std::move(bytes));
    return ResolveAndLoad(kModel);
  }

  void ExpectTensors(const ResidentModel& model, const std::vector<TensorToWrite>& tensors) {
    std::map<std::string, std::string> expected;
    for (const TensorToWrite& tensor : tensors) {
      expected[tensor.name] = tensor.bytes;
    }
    ASSERT_EQ(model.index.pieces.size(), expected.size());
    for (const Piece& piece : model.index.pieces) {
      const auto bytes = model.weights->bytes().subspan(piece.offset, piece.nbytes);
      // Not EXPECT_EQ, which would print megabytes.
      EXPECT_TRUE(expected.at(piece.name) ==
                  absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()))
          << piece.name;
    }
    EXPECT_EQ(model.index.tensor_proof, (TensorProof{.unauthenticated = tensors.size()}));
  }

  void ExpectFailure(const absl::Status& status, Reason reason, const std::string& what) {
    EXPECT_EQ(ReasonOf(status), reason) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
    EXPECT_FALSE(HintOf(status).empty());
    ExpectNothingHeld();
  }

  std::optional<ModelKey> key_;
};

TEST_F(CtrLoad, EveryTensorIsWhatWasEncrypted) {
  for (const uint64_t misalignment : {0, 1, 4}) {
    const std::string plain =
        fakes::SafetensorsFile(Tensors(), {.misalignment = misalignment, .metadata = {}});
    for (const bool header : {false, true}) {
      for (const size_t key_bytes : {16, 32}) {
        const CtrFileOptions options = {.key = std::string(key_bytes, 'k'), .header = header};
        key_ = KeyOf(options);
        const auto model = LoadFile(CtrFile(plain, options));
        ASSERT_TRUE(model.ok()) << model.status();
        ExpectTensors(*model, Tensors());
      }
    }
  }
}

TEST_F(CtrLoad, TensorsThatDoNotLieAlignedAreDecryptedWhereTheyArePut) {
  std::vector<TensorToWrite> tensors = Tensors();
  tensors.insert(tensors.begin(), {.name = "odd", .shape = {3}, .bytes = "xyz"});
  key_ = KeyOf({});
  const auto model = LoadFile(CtrFile(fakes::SafetensorsFile(tensors), {.header = true}));
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectTensors(*model, tensors);
}

TEST_F(CtrLoad, EveryShardHasAnIvOfItsOwn) {
  std::map<std::string, std::string> weight_map;
  std::vector<TensorToWrite> all;
  for (int i = 0; i < 3; ++i) {
    const std::string name = absl::StrCat("model-", i, ".safetensors");
    all.push_back(fakes::F32Tensor(absl::StrCat("t", i), 400'000, static_cast<uint32_t>(i)));
    weight_map[all.back().name] = name;
    source_->Put(absl::StrCat(kFolder, name),
                 CtrFile(fakes::SafetensorsFile({all.back()}),
                         {.iv = std::string(16, static_cast<char>('0' + i)), .header = true}));
  }
  source_->Put(absl::StrCat(kFolder, "model.safetensors.index.json"),
               fakes::ShardIndexFile(weight_map));
  key_ = KeyOf({.iv = ""});
  const auto model = ResolveAndLoad(kFolder);
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectTensors(*model, all);
}

TEST_F(CtrLoad, AFilesChecksumIsThatOfItsStoredBytes) {
  for (const bool header : {false, true}) {
    const std::string file = CtrFile(fakes::SafetensorsFile(Tensors()), {.header = header});
    key_ = KeyOf({});
    source_->Put(kModel, file);
    source_->SetChecksums(kModel, {fakes::Whole(source::ChecksumKind::kCrc64Nvme, file)});
    const auto model = ResolveAndLoad(kModel);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->index.verified.size(), 1u);
    ExpectTensors(*model, Tensors());
    // What is resident isn't the file any more.
    const Pins pins = {{"", absl::BytesToHexString(HashOf(source::ChecksumKind::kSha256, file))}};
    EXPECT_EQ(ReasonOf(model->digests->Compute(model->index, *model->weights, pins, cancellation_)),
              Reason::kUnsupported);
  }
  source_->SetChecksums(kModel, {fakes::Whole(source::ChecksumKind::kCrc64Nvme, "other")});
  ExpectFailure(ResolveAndLoad(kModel).status(), Reason::kVerificationFailed, "crc64nvme");
}

TEST_F(CtrLoad, AFlippedBitIsFoundByNobody) {
  const std::string plain = fakes::SafetensorsFile({fakes::F32Tensor("t", 10, 1)});
  std::string file = CtrFile(plain);
  file.back() ^= 1;
  key_ = KeyOf({});
  const auto model = LoadFile(file);
  ASSERT_TRUE(model.ok()) << model.status();
  TensorToWrite changed = fakes::F32Tensor("t", 10, 1);
  changed.bytes.back() ^= 1;
  ExpectTensors(*model, {changed});
}

TEST_F(CtrLoad, EachFaultOfAKeyHasItsOwnError) {
  const std::string plain = fakes::SafetensorsFile(Tensors());
  ExpectFailure(LoadFile(CtrFile(plain, {.header = true})).status(), Reason::kKeyMissing,
                "no key of that cipher");
  ExpectFailure(LoadFile(CtrFile(plain)).status(), Reason::kMalformedModel, "model.safetensors");
  key_ = ModelKey{format::SecretKey(std::string(32, 'k'))};
  ExpectFailure(LoadFile(CtrFile(plain, {.header = true})).status(), Reason::kKeyMissing,
                "no key of that cipher");
  key_ = KeyOf({.key = std::string(16, 'x')});
  ExpectFailure(LoadFile(CtrFile(plain)).status(), Reason::kKeyRefused,
                "the key or IV isn't the file's");
  ExpectFailure(LoadFile(plain).status(), Reason::kKeyRefused, "none of its files is encrypted");
  key_ = KeyOf({.iv = ""});
  ExpectFailure(LoadFile(CtrFile(plain)).status(), Reason::kKeyMissing, "doesn't say the IV");
}

TEST_F(CtrLoad, TensorizersFilesWantAKeyOfTheirOwn) {
  constexpr char kTensors[] = "http://host/m/model.tensors";
  source_->Put(kTensors, fakes::MakeTensorizerFile({{.name = "t", .shape = {3}, .bytes = "abc"}},
                                                   {.encryption = fakes::TensorizerEncryption()})
                             .bytes);
  key_ = KeyOf({.key = std::string(32, 'k')});
  ExpectFailure(ResolveAndLoad(kTensors).status(), Reason::kKeyRefused, "one of AES-CTR");
}

TEST_F(CtrLoad, WhereEverythingIsToBeProvedItIsRefused) {
  constexpr char kFull[] = "http://host/full.safetensors";
  source_->Put(kFull, CtrFile(fakes::SafetensorsFile(Tensors())));
  key_ = KeyOf({});
  const uint64_t before = source_->bytes_read();
  ExpectFailure(ResolveAndLoad(kFull).status(), Reason::kVerificationFailed,
                "full.safetensors is encrypted with AES-CTR, which doesn't prove its bytes");
  EXPECT_LT(source_->bytes_read() - before, 1u << 20);  // no weights
}

TEST_F(CtrLoad, AStoppedLoadLeavesNothingBehind) {
  source_->Put(kModel, CtrFile(fakes::SafetensorsFile(Tensors())));
  source_->FailRead(kModel, 13'000'000, Error(Reason::kSourceUnavailable, "reset", "try again"));
  key_ = KeyOf({});
  ExpectFailure(ResolveAndLoad(kModel).status(), Reason::kSourceUnavailable, "reset");
}

// Headers in clear are a quarter of a megabyte each, and hardly any of it is parsed.
TEST_F(CtrLoad, ManyShardsHeadersTakeLittleOfTheBudget) {
  std::vector<TensorToWrite> all;
  for (int i = 0; i < 40; ++i) {
    all.push_back(fakes::F32Tensor(absl::StrCat("t", i), 10, static_cast<uint32_t>(i)));
    source_->Put(absl::StrCat(kFolder, "model-", i, ".safetensors"),
                 CtrFile(fakes::SafetensorsFile({all.back()}), {.header = true}));
  }
  SetBudget(64 << 20);
  key_ = KeyOf({});
  const auto model = ResolveAndLoad(kFolder);
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectTensors(*model, all);
}

}  // namespace
}  // namespace weightd::pipeline
