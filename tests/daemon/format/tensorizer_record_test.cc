#include "daemon/format/tensorizer_record.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "daemon/format/header.h"
#include "daemon/source/checksum.h"
#include "tests/daemon/format/tensorizer_reading.h"
#include "tests/fakes/tensorizer_file.h"

namespace weightd::format {
namespace {

using fakes::MakeTensorizerFile;
using fakes::TensorizerEncryption;
using fakes::TensorizerFile;

std::string HashOf(RecordHash::Kind kind, const std::string& bytes) {
  if (kind == RecordHash::Kind::kSha256) {
    return source::HashOf(source::ChecksumKind::kSha256, bytes);
  }
  std::string value = source::HashOf(source::ChecksumKind::kCrc32, bytes);
  std::reverse(value.begin(), value.end());
  return value;
}

// The record of the file's only tensor.
absl::StatusOr<TensorRecord> ReadOnlyRecord(const std::string& file) {
  const auto header = Read(file);
  EXPECT_TRUE(header.ok()) << header.status();
  return ReadRecord(file, *header, header->tensors.at(0));
}

void ExpectHashesHold(const TensorRecord& record, const std::string& data) {
  EXPECT_FALSE(record.hashes.empty());
  for (const RecordHash& hash : record.hashes) {
    EXPECT_EQ(absl::BytesToHexString(hash.value),
              absl::BytesToHexString(HashOf(hash.kind, record.hashed_header + data)));
  }
}

TEST(TensorizerRecord, TheReferencesHashesHold) {
  struct Case {
    std::string file;
    std::string data;
    std::string crc32;
  };
  for (const Case& golden : std::vector<Case>{
           {"v1", Golden("v1").substr(213, 8), "87092b00"},
           {"v2", "\x80\x3f", "b8b448eb"},
           {"v4_meta", "", "0f96790a"},
       }) {
    const auto record = ReadOnlyRecord(Golden(golden.file));
    ASSERT_TRUE(record.ok()) << record.status();
    ASSERT_EQ(record->hashes.size(), 2);
    EXPECT_EQ(record->hashes[0].kind, RecordHash::Kind::kCrc32);
    EXPECT_EQ(absl::BytesToHexString(record->hashes[0].value), golden.crc32);
    EXPECT_EQ(record->hashes[1].kind, RecordHash::Kind::kSha256);
    EXPECT_FALSE(record->boxes.has_value());
    ExpectHashesHold(*record, golden.data);
  }
}

TEST(TensorizerRecord, TheReferencesEncryptedHashCoversThePlainBytes) {
  const auto record = ReadOnlyRecord(Golden("v3"));
  ASSERT_TRUE(record.ok()) << record.status();
  ASSERT_EQ(record->hashes.size(), 1);
  EXPECT_EQ(absl::BytesToHexString(record->hashes[0].value),
            "40e82a56170bb42e82f8ff3267669bd5d0918d56c1a6b2a7cc0a4ed3bd8f6110");
  std::string data;
  for (int i = 0; i < 1025; ++i) {
    data += static_cast<char>(i);
  }
  ExpectHashesHold(*record, data);
  EXPECT_FALSE(record->password.has_value());
  ASSERT_TRUE(record->boxes.has_value());
  EXPECT_EQ(record->boxes->box_bytes, 1024);
  EXPECT_EQ(record->boxes->nonce, data.substr(0, 24));
  EXPECT_EQ(absl::BytesToHexString(record->boxes->macs),
            "4bcee7ae01b0377b9a57436315ae763ac07e25e7de016aa250ace2ce059da672");
}

TEST(TensorizerRecord, OneMacIsOneBoxWhateverItsSize) {
  for (const bool as_one_box : {false, true}) {
    TensorizerEncryption encryption;
    encryption.as_one_box = as_one_box;
    encryption.salt = "0123456789abcdef";
    TensorizerFile file =
        MakeTensorizerFile({{"a", "|u1", {5}, "hello"}}, {.encryption = encryption});
    if (!as_one_box) {
      file.Put("0.record.boxes.size", 3);
    }
    const auto record = ReadOnlyRecord(file.bytes);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(record->boxes->box_bytes, 5);
    EXPECT_EQ(record->boxes->nonce, encryption.nonce);
    EXPECT_EQ(record->boxes->macs.size(), 16);
    EXPECT_EQ(record->password, (PasswordHashing{1, 8192, "0123456789abcdef"}));
    ExpectHashesHold(*record, "hello");
  }
}

TEST(TensorizerRecord, TensorsWithoutBytesNeedNoKey) {
  const TensorizerFile file = MakeTensorizerFile({{"z", "<f4", {2}, ""}, {"e", "<f4", {0}, ""}},
                                                 {.encryption = TensorizerEncryption()});
  const auto header = Read(file.bytes);
  ASSERT_TRUE(header.ok()) << header.status();
  for (const TensorEntry& tensor : header->tensors) {
    const auto record = ReadRecord(file.bytes, *header, tensor);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_FALSE(record->boxes.has_value());
    ExpectHashesHold(*record, "");
  }
}

TEST(TensorizerRecord, AWriterMayGiveNoHashes) {
  const auto record = ReadOnlyRecord(
      MakeTensorizerFile({{"a", "|u1", {1}, "x"}}, {.encryption = {}, .hashes = false}).bytes);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_TRUE(record->hashes.empty());
}

struct Lie {
  std::string field;
  uint64_t value;
  // Whose place the error names, or how far behind its beginning.
  std::string place;
  std::string rule;
  uint64_t behind = 0;
};

// Each of `lies` about "0.record." of a file that is else what it says.
void ExpectRefused(const TensorizerFile& honest, const std::vector<Lie>& lies) {
  ASSERT_TRUE(ReadOnlyRecord(honest.bytes).ok()) << ReadOnlyRecord(honest.bytes).status();
  for (const Lie& lie : lies) {
    SCOPED_TRACE(absl::StrCat(lie.field, " = ", lie.value));
    TensorizerFile file = honest;
    file.Put("0.record." + lie.field, lie.value);
    const auto record = ReadOnlyRecord(file.bytes);
    ASSERT_FALSE(record.ok());
    ExpectMalformed(record.status(), file.fields.at("0.record." + lie.place).begin + lie.behind,
                    lie.rule);
    EXPECT_THAT(std::string(record.status().message()), testing::HasSubstr("tensor \"name\": "));
  }
}

TEST(TensorizerRecord, RefusesWhatTheMetadataDoesNotSay) {
  const std::string type("<V2\0torch.bits16", 16);
  const TensorizerFile file = MakeTensorizerFile({{"name", type, {1, 2}, "abcd"}});
  const uint64_t size = file.Get("0.record.size");
  const uint64_t largest = ~uint64_t{0};
  ExpectRefused(
      file,
      {
          {"size", 0, "size", "header has 0 bytes"},
          {"size", size - 1, "size", absl::StrCat("the metadata says ", size)},
          {"size", largest, "size", "18446744073709551615 bytes"},
          {"kind", 1, "kind", "the tensor's kind in the record is not that in the metadata"},
          {"kind", 3, "kind", "unknown kind of tensor"},
          {"name", 0x656D616E + 1, "name_length", "the name in the record is not"},
          {"name_length", 3, "name_length", "the name in the record is not"},
          {"name_length", 0xFFFF, "name", "a name takes 65535 bytes"},
          {"dtype", 0x31567C, "dtype_length", "unknown dtype"},
          {"dtype", 0x726F740034563C, "dtype_length", "unknown dtype"},
          {"dtype_length", 255, "dtype", "a dtype takes 255 bytes"},
          {"rank", 1, "dtype_length", "the shape in the record is not"},
          {"shape", 2 | uint64_t{1} << 32, "dtype_length", "the shape in the record is not"},
          {"hashes_length", 42, "data_length", "the hashes are shorter than their section"},
          {"hashes_length", 0, "hash_count", "the number of hashes takes 1 bytes"},
          {"hashes_length", 40, "sha256", "a hash takes 32 bytes"},
          {"hashes_length", 0xFFFF, "hash_count", "the hashes takes 65535 bytes"},
          {"hash_count", 0, "crc32.kind", "the hashes are shorter than their section"},
          {"hash_count", 1, "sha256.kind", "the hashes are shorter than their section"},
          {"hash_count", 3, "data_length", "a hash's kind takes 1 bytes"},
          {"crc32.kind", 1, "crc32.kind", "a hash of 4 bytes; its kind has 32"},
          {"crc32.kind", 2, "crc32.kind", "unknown kind of hash 2"},
          {"crc32.length", 0, "crc32.kind", "a hash of 0 bytes; its kind has 4"},
          {"sha256.length", 255, "sha256.kind", "a hash of 255 bytes; its kind has 32"},
          {"data_length", 3, "data_length", "the record has 3 bytes of data, the metadata says 4"},
          {"data_length", 0, "data_length", "the record has 0 bytes"},
          {"data_length", largest, "data_length", "the record has 18446744073709551615 bytes"},
      });
}

TEST(TensorizerRecord, RefusesEncryptionThatOpensNothing) {
  TensorizerEncryption encryption;
  encryption.box_bytes = 1024;
  encryption.salt = std::string(16, 's');
  const TensorizerFile file = MakeTensorizerFile({{"name", "|u1", {2100}, std::string(2100, 'x')}},
                                                 {.encryption = encryption});
  const uint64_t largest = ~uint64_t{0};
  ExpectRefused(
      file,
      {
          {"encryption_length", 0, "entries", "the number of entries takes 2 bytes, there are 0"},
          {"encryption_length", largest, "entries",
           "the encryption takes 18446744073709551615 bytes"},
          {"encryption_length", file.Get("0.record.encryption_length") + 8, "data_length",
           "too long"},
          {"entries", 0, "password.length", "what is said of the encryption is too long"},
          {"entries", 1, "boxes.length", "what is said of the encryption is too long"},
          {"entries", 3, "data_length", "an entry's length takes 8 bytes"},
          {"password.length", largest, "password.kind",
           "an entry takes 18446744073709551615 bytes"},
          {"password.length", 1, "password.kind", "the kind of an entry takes 2 bytes"},
          {"password.length", 41, "password.salt", "a salt takes 16 bytes"},
          {"password.length", 43, "boxes.length", "an entry of the encryption is too long"},
          {"password.kind", 0, "password.kind", "unknown kind of encryption 0"},
          {"password.kind", 4, "password.kind", "unknown kind of encryption 4"},
          {"password.method", 2, "password.method", "unknown method of key derivation 2"},
          {"password.algorithm", 1, "password.algorithm", "unknown password hash 1"},
          {"password.algorithm", 0xFFFFFFFF, "password.algorithm",
           "unknown password hash 4294967295"},
          {"password.salt_length", 15, "password.salt_length", "a salt of 15 bytes"},
          {"boxes.kind", 1, "boxes.kind", "two ways to make a key"},
          {"boxes.kind", 3, "boxes.macs", "an entry of the encryption is too long"},
          {"boxes.size", 0, "boxes.size", "boxes of 0 bytes"},
          {"boxes.size", 960, "boxes.size", "boxes of 960 bytes"},
          {"boxes.size", 1056, "boxes.size", "boxes of 1056 bytes"},
          {"boxes.size", 2112, "boxes.size", "3 MACs for 1 boxes"},
          {"boxes.size", largest, "boxes.size", "boxes of 18446744073709551615 bytes"},
          {"boxes.count", 0, "boxes.size", "0 MACs for 3 boxes"},
          {"boxes.count", 1, "boxes.macs", "an entry of the encryption is too long", 16},
          {"boxes.count", 2, "boxes.size", "2 MACs for 3 boxes"},
          {"boxes.count", largest, "boxes.size", "18446744073709551615 MACs for 3 boxes"},
      });
}

TEST(TensorizerRecord, RefusesATensorLeftPlainInAnEncryptedFile) {
  // Its zeros were to be left out of the file, but a writer stored one byte.
  TensorizerFile file =
      MakeTensorizerFile({{"name", "|u1", {0}, ""}}, {.encryption = TensorizerEncryption()});
  file.Put("0.shape", 1);
  file.Put("0.record.shape", 1);
  file.Put("0.data_length", 1);
  file.Put("0.record.data_length", 1);
  ExpectMalformed(ReadOnlyRecord(file.bytes).status(), file.fields.at("0.record.entries").begin,
                  "the file is encrypted, the tensor is not");
}

TEST(TensorizerRecord, RefusesHeadersThatAreCut) {
  TensorizerEncryption encryption;
  encryption.salt = std::string(16, 's');
  for (const bool encrypted : {false, true}) {
    const TensorizerFile file =
        MakeTensorizerFile({{"name", "|u1", {5}, "hello"}},
                           {.encryption = encrypted ? std::optional(encryption) : std::nullopt});
    const auto header = Read(file.bytes);
    ASSERT_TRUE(header.ok()) << header.status();
    const ByteRange whole = header->tensors[0].record->header;
    for (uint64_t size = 0; size < whole.size(); ++size) {
      // With the size that the metadata then says, so that only the fields can tell.
      TensorizerFile cut = file;
      cut.Put("0.record.size", size);
      TensorEntry tensor = header->tensors[0];
      tensor.record->header.end = whole.begin + size;
      EXPECT_EQ(ReasonOf(ParseTensorRecord("m", cut.bytes.substr(whole.begin, size), tensor,
                                           *header->tensorizer)
                             .status()),
                Reason::kMalformedModel)
          << size;
    }
  }
}

}  // namespace
}  // namespace weightd::format
