// Files that veTurboIO encrypted, with and without its header.

#include "daemon/format/veturboio.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "daemon/format/aes_ctr.h"
#include "daemon/format/header.h"
#include "daemon/format/secret_key.h"
#include "tests/fakes/ctr_file.h"
#include "tests/fakes/safetensors_file.h"

namespace weightd::format {
namespace {

using fakes::CtrFile;
using fakes::CtrFileOptions;
using fakes::CtrHeader;
using testing::HasSubstr;

std::string Plain() {
  return fakes::SafetensorsFile({{.name = "a", .shape = {3}, .bytes = "xyz"},
                                 {.name = "none", .shape = {0, 4}, .bytes = ""},
                                 fakes::F32Tensor("b", 70, 1)},
                                {.metadata = {{"note", "n"}}});
}

std::optional<CtrKey> KeyOf(const CtrFileOptions& options) {
  return CtrKey{.key = SecretKey(options.key), .iv = options.iv};
}

// Reads as ReadHeader promises to: from the first byte on, without gaps.
absl::StatusOr<FileHeader> Read(const std::string& file,
                                const std::optional<CtrKey>& key = std::nullopt) {
  uint64_t asked = 0;
  const auto header = ReadHeader(
      "m.safetensors", file.size(),
      [&](ByteRange range) -> absl::StatusOr<std::string> {
        EXPECT_EQ(range.begin, asked);
        EXPECT_LE(range.end, file.size());
        asked = range.end;
        return file.substr(range.begin, range.size());
      },
      key);
  if (header.ok()) {
    EXPECT_EQ(header->header_bytes, asked);
  }
  return header;
}

void ExpectRefused(const absl::Status& status, Reason reason, const std::string& what) {
  EXPECT_EQ(ReasonOf(status), reason) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("m.safetensors"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  EXPECT_FALSE(HintOf(status).empty());
}

TEST(Veturboio, OffsetsAreThoseOfTheStoredFile) {
  const auto plain = Read(Plain());
  ASSERT_TRUE(plain.ok()) << plain.status();
  for (const bool with_header : {false, true}) {
    for (const size_t key_bytes : {16, 32}) {
      const CtrFileOptions options = {.key = std::string(key_bytes, 'k'), .header = with_header};
      const auto header = Read(CtrFile(Plain(), options), KeyOf(options));
      ASSERT_TRUE(header.ok()) << header.status();
      const uint64_t begin = with_header ? 262144 : 0;
      EXPECT_EQ(header->ctr, (CtrTraits{begin, options.iv}));
      EXPECT_TRUE(header->encrypted());
      EXPECT_EQ(header->header_bytes, plain->header_bytes + begin);
      EXPECT_EQ(header->metadata, plain->metadata);
      ASSERT_EQ(header->tensors.size(), plain->tensors.size());
      for (size_t i = 0; i < plain->tensors.size(); ++i) {
        const TensorEntry& found = header->tensors[i];
        const ByteRange bytes = plain->tensors[i].bytes;
        EXPECT_EQ(found.name, plain->tensors[i].name);
        EXPECT_EQ(found.nbytes, plain->tensors[i].nbytes);
        EXPECT_EQ(found.bytes, (ByteRange{bytes.begin + begin, bytes.end + begin}));
      }
    }
  }
}

TEST(Veturboio, TheIvOfTheHeaderCounts) {
  const CtrFileOptions options = {.header = true};
  for (const char* const other : {"", "another IV......"}) {
    const auto header =
        Read(CtrFile(Plain(), options), CtrKey{.key = SecretKey(options.key), .iv = other});
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->ctr->iv, options.iv);
  }
  // One without any takes the one that is given.
  std::string file = CtrHeader(R"({"mode":"CTR-128"})") + CtrFile(Plain());
  EXPECT_TRUE(Read(file, KeyOf({})).ok());
}

TEST(Veturboio, AWrongKeyOrIvIsSaidToBeOne) {
  const std::string text = "the key or IV isn't the file's, or it is damaged";
  for (const bool with_header : {false, true}) {
    const std::string file = CtrFile(Plain(), {.header = with_header});
    ExpectRefused(Read(file, KeyOf({.key = std::string(16, 'x')})).status(), Reason::kKeyRefused,
                  text);
  }
  ExpectRefused(Read(CtrFile(Plain()), KeyOf({.iv = "another IV......"})).status(),
                Reason::kKeyRefused, text);
  ExpectRefused(Read(CtrFile(Plain()), KeyOf({.key = std::string(32, 'k')})).status(),
                Reason::kKeyRefused, text);
  ExpectRefused(
      Read(CtrFile(Plain(), {.header = true}), KeyOf({.key = std::string(32, 'k')})).status(),
      Reason::kKeyRefused,
      "CTR-128, which takes a key of 16 bytes, but the key for it "
      "has 32");
}

TEST(Veturboio, WhatIsMissingIsSaid) {
  const std::string file = CtrFile(Plain(), {.header = true});
  ExpectRefused(Read(file).status(), Reason::kKeyMissing, "no key of that cipher");
  ExpectRefused(Read(CtrFile(Plain()), KeyOf({.iv = ""})).status(), Reason::kKeyMissing,
                "doesn't say the IV");
  // Nothing tells a file without a header from one that is damaged.
  ExpectRefused(Read(CtrFile(Plain())).status(), Reason::kMalformedModel, "byte 0: a header of ");
}

TEST(Veturboio, APlainFileIsReadAsOne) {
  const auto header = Read(Plain(), KeyOf({}));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_FALSE(header->encrypted());
  EXPECT_EQ(header->tensors.size(), 3u);
}

// One encrypted file in 256 has a brace where a plain one has it.
TEST(Veturboio, ABraceDoesNotMakeAnEncryptedFilePlain) {
  CtrFileOptions options;
  std::string file = CtrFile(Plain(), options);
  for (int i = 0; file[8] != '{'; ++i) {
    options.iv = absl::StrCat(1'000'000'000'000'000 + i);
    file = CtrFile(Plain(), options);
  }
  const auto header = Read(file, KeyOf(options));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_TRUE(header->encrypted());
}

TEST(Veturboio, AMalformedHeaderIsNamedWithItsOffset) {
  const std::string cipher = CtrFile(Plain());
  const std::string iv = R"("iv":"MDEyMzQ1Njc4OWFiY2RlZg==")";
  const struct {
    std::string json;
    const char* message;
  } cases[] = {
      {"", "byte 16: expected an object"},
      {"[]", "byte 16: expected an object"},
      {"{", "byte 17: expected a string"},
      {"{" + iv + "}", "byte 16: veTurboIO's header has no mode"},
      {R"({"mode":128})", "byte 24: expected a string"},
      {R"({"mode":"CTR-192"})", "byte 17: mode \"CTR-192\" is neither"},
      {R"({"mode":"CTR-128","mode":"CTR-128"})", "byte 34: a field of veTurboIO's header stands"},
      {R"({"mode":"CTR-128",)" + iv + "," + iv + "}", "a field of veTurboIO's header stands"},
      {R"({"mode":"CTR-128","iv":"MDEyMzQ1Njc4OWFiY2Q="})", "byte 34: iv is not 16 bytes"},
      {R"({"mode":"CTR-128","iv":"MDEyMzQ1Njc4OWFiY2RlZg"})", "byte 34: iv is not 16 bytes"},
      {R"({"mode":"CTR-128","iv":""})", "byte 34: iv is not 16 bytes"},
      {R"({"mode":"CTR-128","iv":"MDEyMzQ1Njc4OWFiY2Rl!!=="})", "byte 34: iv is not 16 bytes"},
      {R"({"mode":"CTR-128"} x)", "byte 35: expected the end"},
      {"{\"mode\":\"CTR-128\xFF\"}", "byte 32: the JSON must be UTF-8"},
      {absl::StrCat(R"({"mode":"CTR-128"})", std::string(262144, ' ')), "no zero byte ends"},
  };
  for (const auto& [json, message] : cases) {
    ExpectRefused(Read(CtrHeader(json) + cipher, KeyOf({})).status(), Reason::kMalformedModel,
                  message);
  }
}

TEST(Veturboio, ATruncatedFileIsMalformed) {
  const CtrFileOptions options = {.header = true};
  const std::string file = CtrFile(Plain(), options);
  for (const size_t size : {16, 17, 100'000, 262143}) {
    ExpectRefused(Read(file.substr(0, size), KeyOf(options)).status(), Reason::kMalformedModel,
                  absl::StrCat("byte ", size, ": the file ends within veTurboIO's header"));
  }
  ExpectRefused(Read(file.substr(0, 262144), KeyOf(options)).status(), Reason::kMalformedModel,
                "too short");
  ExpectRefused(Read(file.substr(0, 262151), KeyOf(options)).status(), Reason::kMalformedModel,
                "too short");
  // In the tensors: the header is whole, and says more than there is.
  ExpectRefused(Read(file.substr(0, file.size() - 1), KeyOf(options)).status(),
                Reason::kMalformedModel, "decrypted: byte ");
  const std::string bare = CtrFile(Plain());
  for (const size_t size : {0, 7, 8}) {
    EXPECT_FALSE(Read(bare.substr(0, size), KeyOf({})).ok()) << size;
  }
}

TEST(Veturboio, HalfTheMagicIsNone) {
  std::string file = CtrFile(Plain(), {.header = true});
  file[15] = 'L';
  ExpectRefused(Read(file, KeyOf({})).status(), Reason::kMalformedModel, "byte 0: a header of ");
}

}  // namespace
}  // namespace weightd::format
