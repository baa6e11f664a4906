#include "daemon/format/aes_ctr.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/status.h"
#include "daemon/format/secret_key.h"

namespace weightd::format {
namespace {

std::string Hex(absl::string_view digits) { return absl::HexStringToBytes(digits); }

absl::Span<std::byte> BytesOf(std::string& text) {
  return {reinterpret_cast<std::byte*>(text.data()), text.size()};
}

// `text` from byte `offset` of the plain file on, decrypted.
std::string Applied(const SecretKey& key, absl::string_view iv, uint64_t offset, std::string text) {
  EXPECT_EQ(ApplyAesCtr(key, iv, offset, BytesOf(text)), absl::OkStatus());
  return text;
}

// NIST SP 800-38A, F.5.
constexpr char kPlain[] =
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
constexpr char kCounter[] = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

TEST(AesCtr, IsWhatTheStandardSays) {
  // F.5.1
  EXPECT_EQ(
      Applied(SecretKey(Hex("2b7e151628aed2a6abf7158809cf4f3c")), Hex(kCounter), 0, Hex(kPlain)),
      Hex("874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
          "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"));
  // F.5.5
  EXPECT_EQ(
      Applied(SecretKey(Hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")),
              Hex(kCounter), 0, Hex(kPlain)),
      Hex("601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
          "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"));
}

TEST(AesCtr, BeginsAnywhere) {
  std::mt19937_64 random(7);
  std::string plain(100'000, '\0');
  for (char& c : plain) {
    c = static_cast<char>(random());
  }
  for (const size_t key_bytes : {16, 32}) {
    const SecretKey key(std::string(key_bytes, 'k'));
    const std::string iv = "fedcba9876543210";
    const std::string sealed = Applied(key, iv, 0, plain);
    EXPECT_NE(sealed, plain);
    for (int i = 0; i < 300; ++i) {
      const uint64_t begin = random() % plain.size();
      const uint64_t size = random() % (i % 2 == 0 ? 40 : plain.size() - begin);
      EXPECT_EQ(Applied(key, iv, begin, sealed.substr(begin, size)), plain.substr(begin, size))
          << begin << " " << size;
    }
  }
}

TEST(AesCtr, TheCounterCarriesAndWraps) {
  const SecretKey key(std::string(16, 'k'));
  const std::string zeros(64, '\0');
  for (const char* const iv :
       {"ffffffffffffffffffffffffffffffff", "00000000fffffffffffffffffffffffe",
        "0000000000000000ffffffffffffffff", "000000000000000000000000ffffffff"}) {
    const std::string stream = Applied(key, Hex(iv), 0, zeros);
    for (uint64_t block = 0; block < 4; ++block) {
      EXPECT_EQ(Applied(key, Hex(iv), 16 * block, std::string(16, '\0')),
                stream.substr(16 * block, 16))
          << iv << " " << block;
    }
  }
  // The block behind the last counter is that of 0.
  EXPECT_EQ(Applied(key, Hex("ffffffffffffffffffffffffffffffff"), 16, zeros),
            Applied(key, std::string(16, '\0'), 0, zeros));
  // 2^60 - 1 blocks on.
  EXPECT_EQ(Applied(key, std::string(16, '\0'), UINT64_MAX - 15, zeros.substr(0, 16)),
            Applied(key, Hex("00000000000000000fffffffffffffff"), 0, zeros.substr(0, 16)));
}

TEST(AesCtr, OtherLengthsOfKeyAndIvAreRefused) {
  for (const auto& [key, iv] : {std::pair(0, 16), std::pair(24, 16), std::pair(33, 16),
                                std::pair(16, 0), std::pair(32, 12)}) {
    std::string text = "text";
    const absl::Status status =
        ApplyAesCtr(SecretKey(std::string(static_cast<size_t>(key), 'k')),
                    std::string(static_cast<size_t>(iv), 'i'), 0, BytesOf(text));
    EXPECT_EQ(ReasonOf(status), Reason::kKeyRefused) << status;
    EXPECT_EQ(text, "text");
  }
}

TEST(AesCtr, AnIvIsWrittenInDigits) {
  const std::string iv = Hex(kCounter);
  EXPECT_EQ(ParseIv(kCounter), iv);
  EXPECT_EQ(ParseIv("F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF\n"), iv);
  EXPECT_EQ(ParseIv(absl::Base64Escape(iv)), iv);
  for (const char* const wrong : {"", "f0f1", "0123456789abcdef",
                                  "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeXX", "MDEyMzQ1Njc4OWFiY2Q="}) {
    EXPECT_EQ(ParseIv(wrong), std::nullopt) << wrong;
  }
}

}  // namespace
}  // namespace weightd::format
