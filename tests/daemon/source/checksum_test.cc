#include "daemon/source/checksum.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "daemon/source/crc64_nvme.h"
#include "daemon/source/sha256.h"

namespace weightd::source {
namespace {

absl::Span<const std::byte> BytesOf(absl::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string Hex(ChecksumKind kind, absl::string_view text) {
  return absl::BytesToHexString(HashOf(kind, text));
}

std::string RandomText(size_t size) {
  std::mt19937 random(7);
  std::string text(size, '\0');
  for (char& c : text) {
    c = static_cast<char>(random());
  }
  return text;
}

// The check values of the CRC catalogue (reveng.sourceforge.io/crc-catalogue), FIPS 180-4's and
// those of RFC 1321.
TEST(Checksum, MatchesTheStandards) {
  EXPECT_EQ(Hex(ChecksumKind::kCrc32, "123456789"), "cbf43926");
  EXPECT_EQ(Hex(ChecksumKind::kCrc32c, "123456789"), "e3069283");
  EXPECT_EQ(Hex(ChecksumKind::kCrc64Nvme, "123456789"), "ae8b14860a799888");
  EXPECT_EQ(Hex(ChecksumKind::kSha256, "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(absl::BytesToHexString(Md5Of("abc")), "900150983cd24fb0d6963f7d28e17f72");
}

// NVM Command Set Specification 1.0, figure 121.
TEST(Checksum, MatchesTheBlocksOfTheNvmeSpecification) {
  EXPECT_EQ(Hex(ChecksumKind::kCrc64Nvme, std::string(4096, '\0')), "6482d367eb22b64e");
  EXPECT_EQ(Hex(ChecksumKind::kCrc64Nvme, std::string(4096, '\xff')), "c0ddba7302eca3ac");
}

TEST(Checksum, IsTheSameHoweverTheBytesAreCut) {
  const std::string text = RandomText(3000);
  for (const ChecksumKind kind : kChecksumKinds) {
    const std::string whole = HashOf(kind, text);
    EXPECT_EQ(whole.size(), SizeOf(kind));
    for (size_t step : {1, 7, 64, 129, 1000}) {
      const std::unique_ptr<Hasher> hasher = MakeHasher(kind);
      for (size_t i = 0; i < text.size(); i += step) {
        hasher->Update(BytesOf(absl::string_view(text).substr(i, step)));
      }
      EXPECT_EQ(hasher->Finish(), whole) << NameOf(kind) << " in steps of " << step;
    }
  }
}

TEST(Sha256, GoesOnWhereItWasLeftOff) {
  const std::string text(300, 't');
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    const auto first = MakeHasher(ChecksumKind::kSha256);
    first->Update({reinterpret_cast<const std::byte*>(text.data()), cut});
    const std::string saved = first->Save();
    const auto second = ResumeSha256(saved);
    ASSERT_NE(second, nullptr);
    EXPECT_EQ(second->Save(), saved);
    second->Update({reinterpret_cast<const std::byte*>(text.data()) + cut, text.size() - cut});
    EXPECT_EQ(second->Finish(), HashOf(ChecksumKind::kSha256, text));
  }
}

TEST(Sha256, IsNotResumedFromWhatNobodySaved) {
  std::string saved = MakeHasher(ChecksumKind::kSha256)->Save();
  EXPECT_EQ(ResumeSha256(""), nullptr);
  EXPECT_EQ(ResumeSha256(saved.substr(1)), nullptr);
  EXPECT_EQ(ResumeSha256(saved + "x"), nullptr);
  saved[32] = 1;  // a byte was taken, and is not there
  EXPECT_EQ(ResumeSha256(saved), nullptr);
  EXPECT_NE(ResumeSha256(saved + "x"), nullptr);
  EXPECT_EQ(MakeHasher(ChecksumKind::kCrc32)->Save(), "");
}

TEST(Crc64Nvme, FoldingAgreesWithTablesAtEveryLengthAndAlignment) {
  const std::string text = RandomText(1100);
  for (size_t begin = 0; begin < 17; ++begin) {
    for (size_t size = 0; size + begin <= text.size(); ++size) {
      const auto bytes = BytesOf(text).subspan(begin, size);
      ASSERT_EQ(Crc64Nvme(begin, bytes), Crc64NvmeByTables(begin, bytes)) << begin << "+" << size;
    }
  }
}

TEST(S3Checksum, IsBase64WithItsNumberOfParts) {
  Checksum checksum{ChecksumKind::kCrc32, std::string("\xcb\xf4\x39\x26"), {}};
  EXPECT_EQ(ToS3(checksum), "y/Q5Jg==");
  checksum.part_sizes = {8, 8, 3};
  EXPECT_EQ(ToS3(checksum), "y/Q5Jg==-3");

  const auto whole = ParseS3Checksum(ChecksumKind::kCrc32, "y/Q5Jg==");
  ASSERT_TRUE(whole.has_value());
  EXPECT_EQ(whole->value, checksum.value);
  EXPECT_EQ(whole->parts, 0);
  const auto composite = ParseS3Checksum(ChecksumKind::kCrc32, "y/Q5Jg==-3");
  ASSERT_TRUE(composite.has_value());
  EXPECT_EQ(composite->value, checksum.value);
  EXPECT_EQ(composite->parts, 3);
}

TEST(S3Checksum, RefusesWhatIsNone) {
  for (const absl::string_view text :
       {"", "-", "-3", "y/Q5Jg==-", "y/Q5Jg==-0", "y/Q5Jg==--1", "y/Q5Jg==-+1", "y/Q5Jg==-10001",
        "y/Q5Jg==-99999999999", "y/Q5Jg==-3-3", "not base64!", "y/Q5", "rosUhgp5mIg="}) {
    EXPECT_FALSE(ParseS3Checksum(ChecksumKind::kCrc32, text).has_value()) << text;
  }
}

}  // namespace
}  // namespace weightd::source
