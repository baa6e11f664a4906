// Files that are written, byte for byte and read back.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/dtype.h"
#include "common/status.h"
#include "daemon/format/header.h"
#include "daemon/format/safetensors_writer.h"
#include "daemon/format/secret_key.h"
#include "daemon/format/secretbox.h"
#include "daemon/format/tensorizer_writer.h"
#include "daemon/source/checksum.h"
#include "tests/daemon/format/tensorizer_reading.h"

namespace weightd::format {
namespace {

using source::ChecksumKind;
using source::HashOf;

struct Tensor {
  TensorEntry entry;
  std::string bytes;
  uint16_t module = 0;
};

Tensor MakeTensor(const std::string& name, DType dtype, std::vector<uint64_t> shape,
                  std::string bytes, TensorKind kind = TensorKind::kStateDict) {
  Tensor tensor;
  tensor.entry.name = name;
  tensor.entry.dtype = dtype;
  tensor.entry.shape = std::move(shape);
  tensor.entry.bytes = {0, bytes.size()};
  tensor.entry.nbytes = TensorBytes(dtype, tensor.entry.shape).value();
  tensor.entry.record = RecordPlace{{}, kind, false};
  tensor.bytes = std::move(bytes);
  return tensor;
}

absl::StatusOr<TensorizerPlan> Plan(const std::vector<Tensor>& tensors,
                                    const TensorizerWriting& writing) {
  std::vector<TensorEntry> entries;
  for (const Tensor& tensor : tensors) {
    entries.push_back(tensor.entry);
  }
  return TensorizerPlan::Make(std::move(entries), writing);
}

constexpr char kNonce[] =
    "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"
    "\x10\x11\x12\x13\x14\x15\x16\x17";

std::string Seal(std::string& bytes, uint64_t box_bytes) {
  std::string key;
  for (char i = 0; i < 32; ++i) {
    key += i;
  }
  std::string macs;
  for (uint64_t at = 0; at < bytes.size(); at += box_bytes) {
    const auto all = absl::MakeSpan(reinterpret_cast<std::byte*>(bytes.data()), bytes.size());
    macs += SealBox(SecretKey(key), {kNonce, 24}, at / box_bytes, all.subspan(at, box_bytes));
  }
  return macs;
}

// The whole file.
std::string Written(std::vector<Tensor> tensors, const TensorizerWriting& writing) {
  const absl::StatusOr<TensorizerPlan> plan = Plan(tensors, writing);
  EXPECT_TRUE(plan.ok()) << plan.status();
  std::string file = plan->head();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string hashed = plan->HashedHeader(i, tensors[i].module) + tensors[i].bytes;
    RecordFindings findings;
    findings.module = tensors[i].module;
    findings.crc32 = HashOf(ChecksumKind::kCrc32, hashed);
    findings.sha256 = HashOf(ChecksumKind::kSha256, hashed);
    if (plan->boxed(i)) {
      findings.nonce = std::string(kNonce, 24);
      findings.macs = Seal(tensors[i].bytes, writing.box_bytes);
      if (writing.password) {
        findings.password = {.operations = 1, .memory = 8192, .salt = std::string(16, 's')};
      }
    }
    const TensorEntry& placed = plan->tensors()[i];
    EXPECT_EQ(file.size(), placed.record->header.begin);
    file += plan->Header(i, findings);
    EXPECT_EQ(file.size(), placed.record->header.end);
    EXPECT_EQ(file.size(), placed.bytes.begin);
    file += tensors[i].bytes;
  }
  file.append(kTensorizerTerminatorBytes, '\0');
  EXPECT_EQ(file.size(), plan->file_bytes());
  return file;
}

std::string Floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

std::string Counting(size_t bytes) {
  std::string text;
  for (size_t i = 0; i < bytes; ++i) {
    text += static_cast<char>(i);
  }
  return text;
}

TEST(TensorizerWriterTest, GoldenFilesComeOutByteForByte) {
  Tensor one = MakeTensor("a.w", DType::kF32, {2}, Floats({1, 2}), TensorKind::kParameter);
  one.module = 3;
  EXPECT_EQ(Written({one}, {.metadata_bytes = 64}), Golden("v1"));
  EXPECT_EQ(Written({MakeTensor("\x1e[\"k\",0]", DType::kBf16, {1}, std::string("\x80\x3f", 2))},
                    {.metadata_bytes = 96}),
            Golden("v2"));
  EXPECT_EQ(Written({MakeTensor("e", DType::kU8, {1025}, Counting(1025), TensorKind::kParameter)},
                    {.encrypted = true, .box_bytes = 1024, .metadata_bytes = 64}),
            Golden("v3"));
  EXPECT_EQ(Written({MakeTensor("m", DType::kF32, {2, 2}, "", TensorKind::kParameter)},
                    {.metadata_bytes = 64}),
            Golden("v4_meta"));
}

TEST(TensorizerWriterTest, WhatIsWrittenIsReadBack) {
  std::vector<Tensor> tensors = {
      MakeTensor("scalar", DType::kI64, {}, std::string(8, 'x')),
      MakeTensor("empty", DType::kF16, {0, 3}, ""),
      MakeTensor("zeros", DType::kBf16, {2, 3}, ""),
      MakeTensor("wide", DType::kU8, {uint64_t{1} << 32, 0}, ""),
      MakeTensor("e4m3", DType::kF8E4m3, {5}, "abcde"),
      MakeTensor("complex", DType::kC32, {1}, "abcd"),
  };
  tensors.push_back(MakeTensor("bits", DType::kU16, {2}, "abcd"));
  tensors.back().entry.torch_type = "bits16";
  for (const bool encrypted : {false, true}) {
    const std::string file =
        Written(tensors, {.encrypted = encrypted, .password = encrypted, .box_bytes = 1024});
    const absl::StatusOr<FileHeader> header = Read(file);
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->tensorizer->version, 5u);
    EXPECT_EQ(header->tensorizer->encrypted, encrypted);
    ASSERT_EQ(header->tensors.size(), tensors.size());
    for (const Tensor& tensor : tensors) {
      const TensorEntry& read = Named(*header, tensor.entry.name);
      EXPECT_EQ(read.dtype, tensor.entry.dtype);
      EXPECT_EQ(read.torch_type, tensor.entry.torch_type);
      EXPECT_EQ(read.shape, tensor.entry.shape);
      EXPECT_EQ(read.nbytes, tensor.entry.nbytes);
      EXPECT_EQ(read.bytes.size(), tensor.bytes.size());
      const absl::StatusOr<TensorRecord> record = ReadRecord(file, *header, read);
      ASSERT_TRUE(record.ok()) << record.status();
      EXPECT_EQ(record->boxes.has_value(), encrypted && !tensor.bytes.empty());
      EXPECT_EQ(record->password.has_value(), record->boxes.has_value());
      const std::string hashed = record->hashed_header + tensor.bytes;
      EXPECT_EQ(record->hashes.back().value, HashOf(ChecksumKind::kSha256, hashed));
    }
  }
}

TEST(TensorizerWriterTest, ManyEntriesGetRoom) {
  std::vector<Tensor> tensors;
  for (int i = 0; i < 9000; ++i) {
    tensors.push_back(MakeTensor(absl::StrCat("t", i), DType::kU8, {1}, "x"));
  }
  const absl::StatusOr<FileHeader> header = Read(Written(tensors, {}));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensors.size(), 9000u);
}

TEST(TensorizerWriterTest, WhatTheFormatCantSayIsRefusedByName) {
  const std::vector<std::vector<Tensor>> refused = {
      {},
      {MakeTensor("", DType::kU8, {1}, "x")},
      {MakeTensor("\x1e[", DType::kU8, {1}, "x")},
      {MakeTensor(std::string(70'000, 'n'), DType::kU8, {1}, "x")},
      {MakeTensor("f6", DType::kF6E2m3, {4}, "abc")},
      {MakeTensor("deep", DType::kU8, std::vector<uint64_t>(300, 1), "x")},
  };
  for (const std::vector<Tensor>& tensors : refused) {
    EXPECT_EQ(ReasonOf(Plan(tensors, {}).status()), Reason::kUnsupported);
  }
  EXPECT_FALSE(
      Plan({MakeTensor("twice", DType::kU8, {1}, "x"), MakeTensor("twice", DType::kU8, {1}, "x")},
           {})
          .ok());
}

TEST(SafetensorsWriterTest, WhatIsWrittenIsReadBack) {
  std::vector<TensorEntry> tensors;
  for (const Tensor& tensor :
       {MakeTensor("b", DType::kU8, {3}, "abc"),
        MakeTensor("\"quoted\\\n\x1e", DType::kF32, {1}, "abcd"),
        MakeTensor("a", DType::kI64, {}, "abcdefgh"), MakeTensor("f4", DType::kF4, {2, 2}, "ab"),
        MakeTensor("none", DType::kF16, {0}, "")}) {
    tensors.push_back(tensor.entry);
  }
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"a\"", "\t"}};
  const absl::StatusOr<SafetensorsPlan> plan = PlanSafetensors(tensors, metadata);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->head.size() % 8, 0u);
  std::string file = plan->head;
  file.resize(plan->file_bytes);
  const absl::StatusOr<FileHeader> header = Read(file);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->metadata, metadata);
  ASSERT_EQ(header->tensors.size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorEntry& read = Named(*header, tensors[i].name);
    EXPECT_EQ(read.dtype, tensors[i].dtype);
    EXPECT_EQ(read.shape, tensors[i].shape);
    EXPECT_EQ(read.bytes, plan->places[i]);
    EXPECT_EQ(read.bytes.begin % DTypeAlignment(read.dtype), 0u);
  }
}

TEST(SafetensorsWriterTest, WhatTheFormatCantSayIsRefusedByName) {
  std::vector<TensorEntry> refused = {MakeTensor("c", DType::kC128, {0}, "").entry,
                                      MakeTensor("__metadata__", DType::kU8, {0}, "").entry,
                                      MakeTensor("bits", DType::kU8, {0}, "").entry};
  refused.back().torch_type = "bits8";
  for (const TensorEntry& tensor : refused) {
    const absl::Status status = PlanSafetensors({tensor}, {}).status();
    EXPECT_EQ(ReasonOf(status), Reason::kUnsupported);
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(tensor.name));
  }
}

}  // namespace
}  // namespace weightd::format
