#include "daemon/service/card_codec.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/service/tensor_index_codec.h"
#include "gtest/gtest.h"
#include "weightd/v1/model_card.pb.h"
#include "weightd/v1/tensor_index.pb.h"

namespace weightd::service {
namespace {

pipeline::ModelFile File(const std::string& name, uint64_t size) {
  pipeline::ModelFile file;
  file.name = name;
  file.version.uri = Uri::Parse("https://user:secret@store/m/" + name + "?token=1").value();
  file.version.size = size;
  file.version.validator = "\"\xff\"";
  file.version.strong = true;
  file.version.last_modified = "yesterday";
  file.version.ranges = false;
  file.version.trail = std::make_shared<source::Trail>();
  file.version.trail->Add("https://elsewhere/" + name);
  return file;
}

cache::CardFacts Facts() {
  cache::CardFacts facts;
  facts.index.uri = Uri::Parse("https://user:secret@store/m/?token=1").value();
  facts.index.revision = RevisionId(std::string(64, 'a'));
  facts.index.files = {File("a", 100), File("b\xff", 200)};
  facts.index.files[1].version.trail->Add(std::nullopt);
  facts.index.index_file = File("index.json", 30);
  facts.index.small_files = {{.file = File("config.json", 5), .offset = 2},
                             {.file = File("vocab.txt", 9), .left_out = "too large"}};
  facts.index.extents = {{.file = 0, .bytes = {0, 100}, .offset = 0},
                         {.file = 1, .bytes = {8, 200}, .offset = 4096}};
  facts.index.verified = {{.file = 1,
                           .kind = source::ChecksumKind::kSha256,
                           .value = std::string(32, 'd'),
                           .parts = 3,
                           .by = pipeline::Authority::kPin}};
  facts.index.tensor_proof = {
      .crc32 = 1, .sha256 = 2, .poly1305 = 3, .unverified = 4, .unauthenticated = 5};
  facts.index.pinned_to_version = true;
  facts.headers = {{.sha256 = "state", .bytes = 40}, {.sha256 = "", .bytes = 8}};
  facts.policy = {.any_path = true, .any_address = false, .unpinned = true};
  facts.loaded_at = absl::FromUnixMicros(1'700'000'000'123'456);
  facts.weights = {{.id = {.device = 1, .inode = 2}, .bytes = 8192}};
  facts.encoded_index = {.id = {.device = 1, .inode = 3}, .bytes = 50};
  facts.small_files = {{.id = {.device = 1, .inode = 4}, .bytes = 7}};
  facts.encoded_index_sha256 = std::string(32, 'i');
  return facts;
}

void ExpectSame(const pipeline::ModelFile& a, const pipeline::ModelFile& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.version.uri, b.version.uri);
  EXPECT_EQ(a.version.size, b.version.size);
  EXPECT_EQ(a.version.validator, b.version.validator);
  EXPECT_EQ(a.version.strong, b.version.strong);
  EXPECT_EQ(a.version.last_modified, b.version.last_modified);
  EXPECT_EQ(a.version.ranges, b.version.ranges);
  ASSERT_NE(b.version.trail, nullptr);
  EXPECT_EQ(a.version.trail->Places(), b.version.trail->Places());
}

TEST(CardCodec, TellsAllThatTheIndexDoesNot) {
  const cache::CardFacts facts = Facts();
  const auto decoded = DecodeCard(EncodeCard(facts));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  const pipeline::ModelIndex& index = decoded->index;
  EXPECT_EQ(index.uri, facts.index.uri);
  EXPECT_EQ(index.revision, facts.index.revision);
  ASSERT_EQ(index.files.size(), 2u);
  ExpectSame(facts.index.files[0], index.files[0]);
  ExpectSame(facts.index.files[1], index.files[1]);
  EXPECT_FALSE(index.files[1].version.trail->Places().has_value());
  ASSERT_TRUE(index.index_file.has_value());
  ExpectSame(*facts.index.index_file, *index.index_file);
  ASSERT_EQ(index.small_files.size(), 2u);
  ExpectSame(facts.index.small_files[0].file, index.small_files[0].file);
  EXPECT_EQ(index.small_files[0].offset, 2u);
  EXPECT_EQ(index.small_files[1].left_out, "too large");
  ASSERT_EQ(index.extents.size(), 2u);
  EXPECT_EQ(index.extents[1].file, 1u);
  EXPECT_EQ(index.extents[1].bytes, (ByteRange{8, 200}));
  EXPECT_EQ(index.extents[1].offset, 4096u);
  EXPECT_EQ(index.verified, facts.index.verified);
  EXPECT_EQ(index.tensor_proof, facts.index.tensor_proof);
  EXPECT_TRUE(index.pinned_to_version);
  ASSERT_EQ(decoded->headers.size(), 2u);
  EXPECT_EQ(decoded->headers[0].sha256, "state");
  EXPECT_EQ(decoded->headers[0].bytes, 40u);
  EXPECT_TRUE(decoded->policy.any_path);
  EXPECT_FALSE(decoded->policy.any_address);
  EXPECT_TRUE(decoded->policy.unpinned);
  EXPECT_EQ(decoded->loaded_at, facts.loaded_at);
  EXPECT_EQ(decoded->weights, facts.weights);
  EXPECT_EQ(decoded->encoded_index, facts.encoded_index);
  EXPECT_EQ(decoded->small_files, facts.small_files);
  EXPECT_EQ(decoded->encoded_index_sha256, facts.encoded_index_sha256);
}

TEST(CardCodec, AModelOnlyOnGpusHasNoWeights) {
  cache::CardFacts facts = Facts();
  facts.weights.reset();
  const auto decoded = DecodeCard(EncodeCard(facts));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_FALSE(decoded->weights.has_value());
  EXPECT_EQ(decoded->index.extents.size(), 2u);
}

TEST(CardCodec, EveryCutAndEveryBitIsSurvived) {
  const std::string body = EncodeCard(Facts());
  for (size_t length = 0; length < body.size(); ++length) {
    DecodeCard(body.substr(0, length)).IgnoreError();
  }
  for (size_t bit = 0; bit < 8 * body.size(); ++bit) {
    std::string flipped = body;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    DecodeCard(flipped).IgnoreError();
  }
}

void ExpectRefused(const std::function<void(v1::ModelCard&)>& change) {
  v1::ModelCard card;
  ASSERT_TRUE(card.ParseFromString(EncodeCard(Facts())));
  change(card);
  const auto decoded = DecodeCard(card.SerializeAsString());
  EXPECT_EQ(ReasonOf(decoded.status()), Reason::kVerificationFailed) << decoded.status();
}

TEST(CardCodec, RefusesWhatNoDaemonWrites) {
  ExpectRefused([](v1::ModelCard& card) { card.Clear(); });
  ExpectRefused([](v1::ModelCard& card) { card.set_uri("https://store/a/../m"); });
  ExpectRefused([](v1::ModelCard& card) { card.set_uri("HTTPS://store/m"); });
  ExpectRefused([](v1::ModelCard& card) { card.set_revision(std::string(63, 'a')); });
  ExpectRefused([](v1::ModelCard& card) { card.set_revision(std::string(64, 'A')); });
  ExpectRefused([](v1::ModelCard& card) { card.clear_files(); });
  ExpectRefused([](v1::ModelCard& card) { card.mutable_files(0)->set_uri("gopher://x"); });
  ExpectRefused([](v1::ModelCard& card) {
    for (size_t i = 0; i < source::Trail::kMostPlaces; ++i) {
      card.mutable_files(0)->mutable_trail()->add_places("x");
    }
  });
  ExpectRefused([](v1::ModelCard& card) { card.mutable_small_files(0)->set_offset(3); });
  ExpectRefused([](v1::ModelCard& card) { card.mutable_small_files(0)->set_offset(UINT64_MAX); });
  ExpectRefused([](v1::ModelCard& card) { card.clear_small_file_memory(); });
  ExpectRefused([](v1::ModelCard& card) { card.mutable_extents()->RemoveLast(); });
  ExpectRefused([](v1::ModelCard& card) { card.set_extents(0, 2); });
  ExpectRefused([](v1::ModelCard& card) { card.set_extents(0, uint64_t{1} << 32); });
  ExpectRefused([](v1::ModelCard& card) { card.set_extents(1, 101); });
  ExpectRefused([](v1::ModelCard& card) { card.set_extents(2, 101); });
  ExpectRefused([](v1::ModelCard& card) { card.set_extents(3, 8192 - 99); });
  ExpectRefused([](v1::ModelCard& card) { card.set_extents(3, UINT64_MAX); });
  ExpectRefused([](v1::ModelCard& card) { card.mutable_verified(0)->set_file(2); });
  ExpectRefused([](v1::ModelCard& card) { card.mutable_verified(0)->set_kind(4); });
  ExpectRefused([](v1::ModelCard& card) { card.mutable_verified(0)->set_value("short"); });
  ExpectRefused(
      [](v1::ModelCard& card) { card.mutable_verified(0)->set_by(v1::FileCheck::Authority(7)); });
}

TEST(CardCodec, MessagesAreCountedBeforeTheyTakeMemory) {
  // Empty files: two bytes each here, hundreds in memory.
  std::string body = EncodeCard(Facts());
  for (int i = 0; i < 1'000'000; ++i) {
    body.append("\x1a\x00", 2);
  }
  EXPECT_FALSE(DecodeCard(body).ok());
  // The same in a file's trail.
  v1::ModelCard card;
  ASSERT_TRUE(card.ParseFromString(EncodeCard(Facts())));
  for (int i = 0; i < 1'000'000; ++i) {
    card.mutable_files(0)->mutable_trail()->add_places();
  }
  EXPECT_TRUE(
      absl::StrContains(DecodeCard(card.SerializeAsString()).status().message(), "no ModelCard"));
}

pipeline::ModelIndex Index() {
  pipeline::ModelIndex index;
  index.uri = Uri::Parse("https://store/m").value();
  index.revision = RevisionId(std::string(64, 'a'));
  index.files = {File("a", 100)};
  index.pieces = {{.name = "one", .dtype = DType::kF32, .shape = {2, 3}, .offset = 8, .nbytes = 24},
                  {.name = "two",
                   .dtype = DType::kI16,
                   .torch_type = "bits16",
                   .shape = {},
                   .offset = 4094,
                   .device_offset = 256,
                   .nbytes = 2}};
  index.metadata = {{"format", "pt"}};
  index.segment_bytes = 4096;
  index.device_bytes = 512;
  return index;
}

TEST(TensorIndexCodec, DecodesWhatItEncodes) {
  const pipeline::ModelIndex index = Index();
  const auto decoded = DecodeTensorIndex(EncodeTensorIndex(index));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->revision, index.revision);
  EXPECT_EQ(decoded->metadata, index.metadata);
  EXPECT_EQ(decoded->segment_bytes, 4096u);
  EXPECT_EQ(decoded->device_bytes, 512u);
  ASSERT_EQ(decoded->pieces.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(decoded->pieces[i].name, index.pieces[i].name);
    EXPECT_EQ(decoded->pieces[i].dtype, index.pieces[i].dtype);
    EXPECT_EQ(decoded->pieces[i].torch_type, index.pieces[i].torch_type);
    EXPECT_EQ(decoded->pieces[i].shape, index.pieces[i].shape);
    EXPECT_EQ(decoded->pieces[i].offset, index.pieces[i].offset);
    EXPECT_EQ(decoded->pieces[i].device_offset, index.pieces[i].device_offset);
    EXPECT_EQ(decoded->pieces[i].nbytes, index.pieces[i].nbytes);
  }
}

TEST(TensorIndexCodec, MessagesAreCountedBeforeTheyTakeMemory) {
  const auto refused = [](const std::function<void(v1::TensorIndex&)>& add) {
    v1::TensorIndex index;
    EXPECT_TRUE(index.ParseFromString(EncodeTensorIndex(Index())));
    for (int i = 0; i < 100'000; ++i) {
      add(index);
    }
    const absl::Status status = DecodeTensorIndex(index.SerializeAsString()).status();
    return absl::StrContains(status.message(), "no TensorIndex");
  };
  EXPECT_TRUE(refused([](v1::TensorIndex& index) { index.mutable_layout()->add_pieces(); }));
  EXPECT_TRUE(refused([](v1::TensorIndex& index) { index.add_files(); }));
  EXPECT_TRUE(refused([](v1::TensorIndex& index) { index.add_small_files(); }));
  EXPECT_TRUE(
      refused([](v1::TensorIndex& index) { index.mutable_verification()->add_checks(""); }));
  EXPECT_TRUE(refused([](v1::TensorIndex& index) { index.mutable_verification()->add_files(); }));
  EXPECT_TRUE(refused([](v1::TensorIndex& index) {
    index.mutable_layout()->mutable_pieces(0)->add_derived_from("");
  }));
}

TEST(TensorIndexCodec, TheSmallestTensorsThereAreAreManyEnough) {
  pipeline::ModelIndex index = Index();
  index.pieces.clear();
  for (int i = 0; i < 50'000; ++i) {
    index.pieces.push_back({.name = absl::StrFormat("%05d", i), .dtype = DType::kU8, .shape = {0}});
  }
  const auto decoded = DecodeTensorIndex(EncodeTensorIndex(index));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->pieces.size(), 50'000u);
}

TEST(TensorIndexCodec, RefusesWhatNoDaemonWrites) {
  const auto refused = [](const std::function<void(v1::TensorIndex&)>& change) {
    v1::TensorIndex index;
    EXPECT_TRUE(index.ParseFromString(EncodeTensorIndex(Index())));
    change(index);
    return ReasonOf(DecodeTensorIndex(index.SerializeAsString()).status()) ==
           Reason::kVerificationFailed;
  };
  const auto piece = [](v1::TensorIndex& index) {
    return index.mutable_layout()->mutable_pieces(1);
  };
  EXPECT_FALSE(refused([](v1::TensorIndex&) {}));
  EXPECT_TRUE(refused([](v1::TensorIndex& index) { index.set_version(2); }));
  EXPECT_TRUE(refused([](v1::TensorIndex& index) { index.mutable_layout()->set_name("fused"); }));
  EXPECT_TRUE(refused([&](v1::TensorIndex& index) { piece(index)->set_offset(4095); }));
  EXPECT_TRUE(refused([&](v1::TensorIndex& index) { piece(index)->set_offset(UINT64_MAX); }));
  EXPECT_TRUE(refused([&](v1::TensorIndex& index) { piece(index)->set_device_offset(511); }));
  EXPECT_TRUE(refused([&](v1::TensorIndex& index) { piece(index)->set_nbytes(1); }));
  EXPECT_TRUE(refused([&](v1::TensorIndex& index) { piece(index)->add_shape(UINT64_MAX); }));
  EXPECT_TRUE(refused([&](v1::TensorIndex& index) { piece(index)->set_dtype(v1::DType(0)); }));
  EXPECT_TRUE(refused([&](v1::TensorIndex& index) { piece(index)->set_dtype(v1::DType(99)); }));
  EXPECT_TRUE(refused([&](v1::TensorIndex& index) { piece(index)->set_file(1); }));
  EXPECT_TRUE(refused([&](v1::TensorIndex& index) { piece(index)->set_name("one"); }));
  EXPECT_EQ(ReasonOf(DecodeTensorIndex("\xff").status()), Reason::kVerificationFailed);
}

}  // namespace
}  // namespace weightd::service
