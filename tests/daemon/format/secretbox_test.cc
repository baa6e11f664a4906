#include "daemon/format/secretbox.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "common/status.h"
#include "daemon/format/header.h"
#include "daemon/format/secret_key.h"
#include "daemon/format/tensorizer_record.h"
#include "tests/daemon/format/tensorizer_reading.h"
#include "tests/fakes/tensorizer_file.h"

namespace weightd::format {
namespace {

using fakes::MakeTensorizerFile;
using fakes::TensorizerEncryption;

std::string Counting(int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) {
    bytes += static_cast<char>(i);
  }
  return bytes;
}

// The only tensor of a file, and how it is sealed.
struct Sealed {
  TensorRecord record;
  std::string data;

  const SealedBoxes& boxes() const { return *record.boxes; }
  absl::Span<std::byte> Box(uint64_t i) {
    const absl::Span<std::byte> all(reinterpret_cast<std::byte*>(data.data()), data.size());
    return all.subspan(i * boxes().box_bytes, boxes().box_bytes);
  }
  uint64_t count() const { return BoxCount(boxes(), data.size()); }
  // Opens the boxes one after the other, the last one first; how many could be opened.
  uint64_t Open(const SecretKey& key) {
    uint64_t opened = 0;
    for (uint64_t i = count(); i-- > 0;) {
      opened += OpenBox(key, boxes(), i, Box(i)) ? 1 : 0;
    }
    return opened;
  }
};

Sealed OnlyTensor(const std::string& file) {
  const auto header = Read(file);
  EXPECT_TRUE(header.ok()) << header.status();
  const TensorEntry& tensor = header->tensors.at(0);
  const auto record = ReadRecord(file, *header, tensor);
  EXPECT_TRUE(record.ok()) << record.status();
  return {*record, file.substr(tensor.bytes.begin, tensor.bytes.size())};
}

Sealed Seal(const std::string& data, const TensorizerEncryption& encryption) {
  return OnlyTensor(
      MakeTensorizerFile({{"a", "|u1", {data.size()}, data}}, {.encryption = encryption}).bytes);
}

TEST(SecretBox, OpensTheReferencesFile) {
  Sealed sealed = OnlyTensor(Golden("v3"));
  EXPECT_EQ(sealed.count(), 2);
  EXPECT_EQ(sealed.Open(SecretKey(Counting(32))), 2);
  EXPECT_EQ(sealed.data, Counting(1025));
}

TEST(SecretBox, OpensOneBoxOfBothForms) {
  for (const bool as_one_box : {false, true}) {
    TensorizerEncryption encryption;
    encryption.as_one_box = as_one_box;
    Sealed sealed = Seal("hello", encryption);
    EXPECT_NE(sealed.data, "hello");
    EXPECT_EQ(sealed.Open(SecretKey(encryption.key)), 1);
    EXPECT_EQ(sealed.data, "hello");
  }
}

TEST(SecretBox, NoncesCarryAndWrap) {
  for (const std::string& nonce :
       {std::string("\xFF\xFF", 2) + std::string(22, '\0'), std::string(24, '\xFF')}) {
    TensorizerEncryption encryption;
    encryption.nonce = nonce;
    encryption.box_bytes = 1024;
    Sealed sealed = Seal(Counting(3000), encryption);
    EXPECT_EQ(sealed.Open(SecretKey(encryption.key)), 3);
    EXPECT_EQ(sealed.data, Counting(3000));
  }
}

TEST(SecretBox, ABoxThatIsNotWhatItWasStaysAsItIs) {
  TensorizerEncryption encryption;
  encryption.box_bytes = 1024;
  const SecretKey key(encryption.key);
  const Sealed sealed = Seal(Counting(3000), encryption);
  for (const SecretKey& wrong : {SecretKey(), SecretKey("short"), SecretKey(std::string(32, 'x')),
                                 SecretKey(std::string(33, 'k'))}) {
    Sealed copy = sealed;
    EXPECT_EQ(copy.Open(wrong), 0);
    EXPECT_EQ(copy.data, sealed.data);
  }
  Sealed damaged = sealed;
  damaged.data[1024] ^= 1;
  const std::string second = damaged.data.substr(1024, 1024);
  EXPECT_EQ(damaged.Open(key), 2);
  EXPECT_EQ(damaged.data.substr(1024, 1024), second);
  Sealed other_mac = sealed;
  other_mac.record.boxes->macs[47] ^= 1;
  EXPECT_EQ(other_mac.Open(key), 2);
  Sealed other_nonce = sealed;
  other_nonce.record.boxes->nonce[0] ^= 1;
  EXPECT_EQ(other_nonce.Open(key), 0);
  Sealed past = sealed;
  EXPECT_FALSE(OpenBox(key, past.boxes(), 3, past.Box(0)));
  EXPECT_FALSE(OpenBox(key, past.boxes(), UINT64_MAX, past.Box(0)));
}

TEST(SecretBox, CountsBoxes) {
  const SealedBoxes boxes{1024, "", ""};
  EXPECT_EQ(BoxCount(boxes, 0), 0);
  EXPECT_EQ(BoxCount(boxes, 1), 1);
  EXPECT_EQ(BoxCount(boxes, 2048), 2);
  EXPECT_EQ(BoxCount(boxes, UINT64_MAX), uint64_t{1} << 54);
  EXPECT_EQ(BoxCount({0, "", ""}, 0), 0);
}

TEST(SecretBox, APasswordsKeyIsArgon2ids) {
  // As the reference implementation of Argon2id 1.3 makes it, with these parameters.
  const auto key = KeyOfPassword("correct horse", {2, 64 << 10, "0123456789abcdef"});
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_EQ(absl::BytesToHexString(key->bytes()),
            "74fb6b1d311ac0bb4c891f7efd79680245d9f84b72ad8f9bbe61c86e2b9f864d");
  EXPECT_NE(KeyOfPassword("correct horse ", {2, 64 << 10, "0123456789abcdef"})->bytes(),
            key->bytes());
}

TEST(SecretBox, AFileDoesNotDecideWhatAPasswordCosts) {
  const std::string salt(16, 's');
  for (const PasswordHashing& hashing : {
           PasswordHashing{0, 8192, salt},
           PasswordHashing{kMostPasswordOperations + 1, 8192, salt},
           PasswordHashing{UINT64_MAX, 8192, salt},
           PasswordHashing{1, 8191, salt},
           PasswordHashing{1, kMostPasswordMemory + 1, salt},
           PasswordHashing{1, UINT64_MAX, salt},
           PasswordHashing{1, 8192, "short"},
       }) {
    EXPECT_EQ(ReasonOf(KeyOfPassword("p", hashing).status()), Reason::kMalformedModel);
  }
  EXPECT_TRUE(KeyOfPassword("p", {1, 8192, salt}).ok());
}

TEST(SecretKeyTest, CopiesShareTheBytes) {
  SecretKey copy;
  EXPECT_TRUE(copy.empty());
  {
    const SecretKey key("secret");
    copy = key;
    EXPECT_EQ(copy.bytes().data(), key.bytes().data());
  }
  EXPECT_EQ(copy.bytes(), "secret");
  EXPECT_FALSE(copy.empty());
}

// The kernel's flags of the mapping that `address` lies in.
std::string VmFlags(const void* address) {
  std::ifstream smaps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    const std::vector<std::string> range = absl::StrSplit(line.substr(0, line.find(' ')), '-');
    uint64_t begin = 0;
    uint64_t end = 0;
    if (range.size() == 2 && absl::SimpleHexAtoi(range[0], &begin) &&
        absl::SimpleHexAtoi(range[1], &end)) {
      const auto value = reinterpret_cast<uint64_t>(address);
      inside = begin <= value && value < end;
    } else if (inside && absl::StartsWith(line, "VmFlags:")) {
      return line + " ";
    }
  }
  return "";
}

TEST(SecretKeyTest, NoCoreDumpHoldsIt) {
  const SecretKey key("secret");
  const std::string flags = VmFlags(key.bytes().data());
  EXPECT_TRUE(absl::StrContains(flags, " dd ")) << flags;
  EXPECT_FALSE(absl::StrContains(flags, " wr ")) << flags;
}

}  // namespace
}  // namespace weightd::format
