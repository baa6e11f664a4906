// Files that lie about themselves: each is refused, with the place and the rule, before anything is
// allocated on its word.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/format/header.h"
#include "daemon/format/tensorizer.h"
#include "tests/daemon/format/tensorizer_reading.h"
#include "tests/fakes/tensorizer_file.h"

namespace {

// Of all allocations since it was set to 0.
std::atomic<size_t> largest_allocation = 0;

}  // namespace

void* operator new(size_t size) {
  size_t largest = largest_allocation;
  while (size > largest && !largest_allocation.compare_exchange_weak(largest, size)) {
  }
  void* const memory = std::malloc(size);
  if (memory == nullptr) {
    std::abort();
  }
  return memory;
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace weightd::format {
namespace {

using fakes::MakeTensorizerFile;
using fakes::TensorizerFile;
using fakes::TensorizerTensor;

constexpr uint64_t kLargest = ~uint64_t{0};

// A parameter, one without elements, a scalar.
std::vector<TensorizerTensor> Tensors() {
  return {{"w", "<f4", {2, 3}, std::string(24, 'w')},
          {"none", "<f4", {0, 4}, ""},
          {"scalar", "|u1", {}, "x"}};
}

// How files can look: plain, encrypted, with a tensor of zeros, with wide extents.
std::vector<TensorizerFile> Files() {
  std::vector<TensorizerTensor> zeros = Tensors();
  zeros.push_back({"zeros", "<f4", {5}, ""});
  std::vector<TensorizerTensor> wide = zeros;
  wide.push_back({"wide", "<f4", {uint64_t{1} << 32, 0}, ""});
  fakes::TensorizerEncryption encryption;
  encryption.salt = std::string(16, 's');
  return {MakeTensorizerFile(Tensors()), MakeTensorizerFile(Tensors(), {.encryption = encryption}),
          MakeTensorizerFile(zeros), MakeTensorizerFile(wide),
          MakeTensorizerFile(wide, {.encryption = encryption})};
}

TEST(TensorizerMalformed, CutAnywhere) {
  for (const TensorizerFile& file : Files()) {
    ASSERT_TRUE(Read(file.bytes).ok()) << Read(file.bytes).status();
    const uint64_t terminator = file.fields.at("terminator").begin;
    for (uint64_t size = 0; size < file.bytes.size(); ++size) {
      const auto header = Read(absl::string_view(file.bytes).substr(0, size));
      // All is there without the terminator, which only sequential readers need.
      EXPECT_EQ(header.ok(), size >= terminator) << size;
      EXPECT_TRUE(header.ok() || ReasonOf(header.status()) == Reason::kMalformedModel) << size;
    }
  }
}

struct Lie {
  std::string field;
  uint64_t value;
  // Whose place the error names: the field's own, or the beginning of the entry.
  std::string place;
  std::string rule;
};

void ExpectRefused(const TensorizerFile& honest, const std::vector<Lie>& lies) {
  for (const Lie& lie : lies) {
    SCOPED_TRACE(absl::StrCat(lie.field, " = ", lie.value));
    TensorizerFile file = honest;
    file.Put(lie.field, lie.value);
    largest_allocation = 0;
    const auto header = Read(file.bytes);
    // What errors are made of takes a few hundred bytes.
    EXPECT_LT(largest_allocation, file.bytes.size() + 512);
    ASSERT_FALSE(header.ok());
    ExpectMalformed(header.status(), file.fields.at(lie.place).begin, lie.rule);
  }
}

TEST(TensorizerMalformed, ThePreambleLies) {
  const TensorizerFile file = MakeTensorizerFile(Tensors());
  ExpectRefused(file, {
                          {"version", 0, "version", "data version 0 of tensorizer"},
                          {"version", 6, "version", "data version 6 of tensorizer"},
                          {"version", 0xFFFFFFFF, "version", "data version 4294967295"},
                          {"flags", 2, "flags", "feature 1 of tensorizer"},
                          {"flags", 4, "flags", "feature 2 of tensorizer"},
                          {"more_flags", uint64_t{1} << 63, "flags", "feature 127 of tensorizer"},
                          {"count", 0, "count", "no tensors"},
                          {"count", 9, "count", "9 tensors in metadata of 256 bytes"},
                          {"count", kLargest, "count", "18446744073709551615 tensors"},

                          {"metadata_length", 0, "count", "3 tensors in metadata of 0 bytes"},
                          {"metadata_length", file.bytes.size() - 72, "metadata_length",
                           absl::StrCat("in a file of ", file.bytes.size())},
                          {"metadata_length", kLargest, "metadata_length", "bytes in a file of"},
                          {"metadata_length", 100, "2.header_offset", "takes 8 bytes, there are 1"},
                      });
}

TEST(TensorizerMalformed, MoreTensorsThanEntries) {
  TensorizerFile file = MakeTensorizerFile(Tensors());
  file.Put("count", 4);
  // What follows the entries is zeros: a name of no bytes.
  ExpectMalformed(Read(file.bytes).status(), file.fields.at("2.data_length").end + 2,
                  "a tensor's name is empty");
}

TEST(TensorizerMalformed, TheMagicNumberMakesTheFormat) {
  TensorizerFile file = MakeTensorizerFile(Tensors());
  file.bytes[4] = 'x';
  EXPECT_TRUE(absl::StrContains(Read(file.bytes).status().message(), "a header of "));
}

TEST(TensorizerMalformed, AnEntryLies) {
  const TensorizerFile file = MakeTensorizerFile(Tensors());
  const std::string entry = "1.name_length";
  const uint64_t size = file.bytes.size();
  ExpectRefused(
      file,
      {
          {"1.name_length", 0, "1.name", "unknown kind of tensor 110"},
          {"1.name_length", 0xFFFF, "1.name", "a name takes 65535 bytes"},
          {"1.name", 0xFF, "1.name", "must be UTF-8"},
          {"1.kind", 3, "1.kind", "unknown kind of tensor 3"},
          {"1.dtype_length", 0, "1.dtype_length", "unknown dtype \"\""},
          {"1.dtype_length", 255, "1.dtype", "a dtype takes 255 bytes"},
          {"1.dtype", 0x34663E, "1.dtype_length", "unknown dtype \">f4\""},
          {"1.dtype", 0x31663C, "1.dtype_length", "unknown dtype \"<f1\""},
          {"1.rank", 255, "1.shape", "a shape takes 1020 bytes"},
          {"1.header_offset", 0, entry, "begins at 0, before the end of the metadata, 329"},
          {"1.header_offset", 328, entry, "begins at 328, before the end of the metadata"},
          {"1.header_offset", size, entry, "no record's header of"},
          {"1.header_offset", kLargest, entry, "no record's header of"},
          {"1.header_offset", file.Get("1.data_offset"), entry, "no record's header of 41 bytes"},
          {"1.header_offset", file.Get("1.data_offset") - 40, entry,
           "no record's header of 41 bytes"},
          {"1.header_offset", file.Get("0.data_offset") + 23, entry,
           "before that of tensor \"w\" ends"},
          {"2.header_offset", file.Get("1.header_offset"), "2.name_length",
           "before that of tensor"},
          {"1.data_offset", size + 1, entry, "in a file of"},
          {"1.data_offset", kLargest, entry, "in a file of"},
          {"1.data_offset", 0, entry, "no record's header of"},
          {"1.data_offset", file.Get("2.data_offset"), "2.name_length",
           "before that of tensor \"none\""},
          {"1.data_length", 1, entry, "dtype and shape need 0 bytes, it has 1"},
          {"1.data_length", size, entry, "in a file of"},
          {"1.data_length", kLargest, entry, "in a file of"},
          {"0.data_length", 0, "0.name_length", "dtype and shape need 24 bytes, it has 0"},
          {"0.data_length", 25, "0.name_length", "dtype and shape need 24 bytes, it has 25"},
          {"0.shape", 2 | uint64_t{4} << 32, "0.name_length", "dtype and shape need 32 bytes"},
          {"0.shape", kLargest, "0.name_length", "no number of bytes below 2^64"},
      });
}

TEST(TensorizerMalformed, TwoNamesOfOneRecord) {
  TensorizerFile file = MakeTensorizerFile({{"a", "|u1", {1}, "x"}, {"b", "|u1", {1}, "x"}});
  for (const char* field : {"header_offset", "data_offset"}) {
    file.Put(absl::StrCat("1.", field), file.Get(absl::StrCat("0.", field)));
  }
  EXPECT_TRUE(absl::StrContains(Read(file.bytes).status().message(), "before that of tensor"));
}

TEST(TensorizerMalformed, ARecordsHeaderIsNoLargerThanItsContentsCanBe) {
  TensorizerFile file = MakeTensorizerFile({{"a", "|u1", {1025}, std::string(1025, 'x')},
                                            {"b", "|u1", {300 << 10}, std::string(300 << 10, 'x')},
                                            {"c", "|u1", {1}, "x"}});
  const uint64_t most = (200 << 10) + 16;
  // The third takes the second's place, with a gap of the second's data as its header.
  file.Put("2.header_offset", file.Get("2.data_offset") - most);
  file.Put("count", 3);
  TensorizerFile two = file;
  two.Put("1.data_length", 0);
  two.Put("1.shape", 0);
  EXPECT_TRUE(Read(two.bytes).ok()) << Read(two.bytes).status();
  two.Put("2.header_offset", two.Get("2.data_offset") - most - 1);
  ExpectMalformed(Read(two.bytes).status(), two.fields.at("2.name_length").begin,
                  "at most 204816 are allowed");
}

TEST(TensorizerMalformed, ZerosThatAreNotStored) {
  const uint64_t most = kMaxUnstoredBytes;
  EXPECT_TRUE(Read(MakeTensorizerFile({{"z", "|u1", {most}, ""}}).bytes).ok());
  EXPECT_TRUE(
      Read(MakeTensorizerFile({{"y", "|u1", {most / 2}, ""}, {"z", "|u1", {most / 2}, ""}}).bytes)
          .ok());
  const TensorizerFile sum =
      MakeTensorizerFile({{"y", "|u1", {most / 2}, ""}, {"z", "|u1", {most / 2 + 1}, ""}});
  ExpectMalformed(Read(sum.bytes).status(), sum.fields.at("1.tag").begin,
                  "zeros that are not stored");
  // Before version 4 nothing was left out.
  TensorizerFile old = MakeTensorizerFile({{"z", "<f4", {2}, ""}});
  EXPECT_TRUE(Read(old.bytes).ok());
  old.Put("version", 3);
  EXPECT_FALSE(Read(old.bytes).ok());
  old.Put("version", 2);
  ExpectMalformed(Read(old.bytes).status(), 73, "need 8 bytes, it has 0");
}

TEST(TensorizerMalformed, TagsAndVersion5) {
  const TensorizerFile file =
      MakeTensorizerFile({{"a", "|u1", {1}, "x"}, {"l", "|u1", {1UL << 32, 0}, ""}});
  ExpectRefused(file,
                {
                    {"0.tag", 0, "0.tag", "unknown tag 0 of an entry"},
                    {"1.tag", 2, "1.tag", "unknown tag 2 of an entry"},
                    {"version", 4, "flags", "feature 1 of tensorizer"},
                    {"flags", 6, "flags", "feature 2 of tensorizer is not known in data version 5"},
                });
  // Without tags this may be the layout that tensorizer never released under this number.
  TensorizerFile untagged = MakeTensorizerFile({{"a", "|u1", {1}, "x"}});
  untagged.Put("version", 5);
  EXPECT_TRUE(Read(untagged.bytes).ok()) << Read(untagged.bytes).status();
  untagged.Put("0.header_offset", 0);
  const absl::Status status = Read(untagged.bytes).status();
  ExpectMalformed(status, 73, "before the end of the metadata");
  EXPECT_TRUE(absl::StrContains(status.message(), "unreleased 3.0"));
}

TEST(TensorizerMalformed, OpaqueTypes) {
  for (const std::string& type :
       std::vector<std::string>{std::string("<V2\0", 4),
                                std::string("<V2\0bfloat16", 12),
                                std::string("<V2\0torch.", 10),
                                std::string("<V2\0torch.bfloat16\0", 19),
                                std::string("<V2\0torch.b-16", 14),
                                std::string("<V4\0torch.bfloat16", 18),
                                std::string("<V0\0torch.nothing", 17),
                                std::string("<V\0torch.bits8", 14),
                                std::string("<V-1\0torch.bits8", 16),
                                std::string("<V+1\0torch.bits8", 16),
                                std::string("<V 1\0torch.bits8", 16),
                                std::string("<V1234567890\0torch.bits8", 24),
                                std::string("<u2\0torch.bits16", 16),
                                std::string(">V2\0torch.bits16", 16),
                                std::string("<V2"),
                                std::string("|O"),
                                std::string("<f16"),
                                std::string("<<f4"),
                                std::string("<U4"),
                                std::string("<f4 ")}) {
    const TensorizerFile file = MakeTensorizerFile({{"a", type, {0}, ""}});
    ExpectMalformed(Read(file.bytes).status(), file.fields.at("0.dtype_length").begin,
                    "unknown dtype");
  }
}

}  // namespace
}  // namespace weightd::format
