#include "daemon/format/aes_ctr.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::format {
namespace {

constexpr size_t kBlockBytes = 16;
// OpenSSL counts bytes with an int.
constexpr size_t kMostAtOnce = size_t{1} << 30;

using Block = std::array<unsigned char, kBlockBytes>;

// Freeing it wipes what was made of the key.
struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};

// Null for a key of another length.
const EVP_CIPHER* CipherFor(const SecretKey& key) {
  switch (key.bytes().size()) {
    case 16:
      return EVP_aes_128_ctr();
    case 32:
      return EVP_aes_256_ctr();
    default:
      return nullptr;
  }
}

// The counter of block number `block`.
Block CounterOf(absl::string_view iv, uint64_t block) {
  Block counter = {};
  uint64_t carry = block;
  for (size_t i = kBlockBytes; i-- > 0;) {
    const uint64_t sum = (carry & 0xFF) + static_cast<unsigned char>(iv[i]);
    counter[i] = static_cast<unsigned char>(sum);
    carry = (carry >> 8) + (sum >> 8);
  }
  return counter;
}

absl::Status OpenSslFailed() {
  ERR_clear_error();
  return Error(Reason::kInternal, "OpenSSL doesn't do AES-CTR here",
               "look whether its configuration (openssl.cnf) leaves out the default provider");
}

}  // namespace

absl::Status ApplyAesCtr(const SecretKey& key, absl::string_view iv, uint64_t offset,
                         absl::Span<std::byte> bytes) {
  const EVP_CIPHER* const cipher = CipherFor(key);
  if (cipher == nullptr || iv.size() != kCtrIvBytes) {
    return Error(Reason::kKeyRefused,
                 absl::StrCat("AES-CTR takes a key of 16 or 32 bytes and an IV of 16, not of ",
                              key.bytes().size(), " and ", iv.size()),
                 "give those that the file was encrypted with");
  }
  const std::unique_ptr<EVP_CIPHER_CTX, FreeContext> context(EVP_CIPHER_CTX_new());
  const Block counter = CounterOf(iv, offset / kBlockBytes);
  if (context == nullptr ||
      EVP_EncryptInit_ex(context.get(), cipher, nullptr,
                         reinterpret_cast<const unsigned char*>(key.bytes().data()),
                         counter.data()) != 1) {
    return OpenSslFailed();
  }
  int done = 0;
  // What the key makes of the first block before `offset` is of no use.
  Block before = {};
  const int skipped = EVP_EncryptUpdate(context.get(), before.data(), &done, before.data(),
                                        static_cast<int>(offset % kBlockBytes));
  OPENSSL_cleanse(before.data(), before.size());
  if (skipped != 1) {
    return OpenSslFailed();
  }
  while (!bytes.empty()) {
    const size_t size = std::min(bytes.size(), kMostAtOnce);
    auto* const at = reinterpret_cast<unsigned char*>(bytes.data());
    if (EVP_EncryptUpdate(context.get(), at, &done, at, static_cast<int>(size)) != 1) {
      return OpenSslFailed();
    }
    bytes.remove_prefix(size);
  }
  return absl::OkStatus();
}

std::optional<std::string> ParseIv(absl::string_view text) {
  const absl::string_view digits = absl::StripAsciiWhitespace(text);
  std::string iv;
  if (digits.size() == 2 * kCtrIvBytes &&
      std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit)) {
    return absl::HexStringToBytes(digits);
  }
  if (absl::Base64Unescape(digits, &iv) && iv.size() == kCtrIvBytes) {
    return iv;
  }
  return std::nullopt;
}

}  // namespace weightd::format
