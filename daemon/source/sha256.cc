// EVP, which OpenSSL prefers, can't say what state it is in.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "daemon/source/sha256.h"

#include <openssl/sha.h>

#include <cstdint>
#include <cstring>
#include <string>

namespace weightd::source {
namespace {

// A saved state: the eight words, the number of bytes taken, and those of them that don't fill a
// block. Of this machine's byte order.
constexpr size_t kWords = sizeof(SHA256_CTX::h);
constexpr size_t kFixed = kWords + sizeof(uint64_t);

class Sha256 final : public Hasher {
 public:
  Sha256() { SHA256_Init(&context_); }
  explicit Sha256(const SHA256_CTX& context) : context_(context) {}

  void Update(absl::Span<const std::byte> bytes) override {
    SHA256_Update(&context_, bytes.data(), bytes.size());
  }
  std::string Finish() override {
    std::string value(SHA256_DIGEST_LENGTH, '\0');
    SHA256_Final(reinterpret_cast<unsigned char*>(value.data()), &context_);
    return value;
  }
  std::unique_ptr<Hasher> Clone() const override { return std::make_unique<Sha256>(context_); }

  std::string Save() const override {
    const uint64_t taken = ((uint64_t{context_.Nh} << 32) | context_.Nl) / 8;
    std::string saved(kFixed + context_.num, '\0');
    memcpy(saved.data(), context_.h, kWords);
    memcpy(saved.data() + kWords, &taken, sizeof(taken));
    memcpy(saved.data() + kFixed, context_.data, context_.num);
    return saved;
  }

 private:
  SHA256_CTX context_;
};

}  // namespace

std::unique_ptr<Hasher> MakeSha256() { return std::make_unique<Sha256>(); }

std::unique_ptr<Hasher> ResumeSha256(absl::string_view saved) {
  uint64_t taken = 0;
  if (saved.size() < kFixed) {
    return nullptr;
  }
  memcpy(&taken, saved.data() + kWords, sizeof(taken));
  if (saved.size() != kFixed + taken % SHA256_CBLOCK || taken > UINT64_MAX / 8) {
    return nullptr;
  }
  SHA256_CTX context;
  SHA256_Init(&context);
  memcpy(context.h, saved.data(), kWords);
  context.Nl = static_cast<SHA_LONG>(taken * 8);
  context.Nh = static_cast<SHA_LONG>((taken * 8) >> 32);
  context.num = static_cast<unsigned int>(taken % SHA256_CBLOCK);
  memcpy(context.data, saved.data() + kFixed, context.num);
  return std::make_unique<Sha256>(context);
}

}  // namespace weightd::source
