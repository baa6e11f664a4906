#include "daemon/source/checksum.h"

#include <isa-l/crc.h>
#include <openssl/evp.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/source/crc64_nvme.h"
#include "daemon/source/sha256.h"

namespace weightd::source {
namespace {

constexpr uint32_t kMostParts = 10'000;

template <typename T>
std::string BigEndian(T number) {
  std::string bytes(sizeof(T), '\0');
  for (size_t i = 0; i < sizeof(T); ++i) {
    bytes[sizeof(T) - 1 - i] = static_cast<char>(number >> (8 * i));
  }
  return bytes;
}

class Crc32 final : public Hasher {
 public:
  void Update(absl::Span<const std::byte> bytes) override {
    crc_ =
        crc32_gzip_refl(crc_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  }
  std::string Finish() override { return BigEndian(crc_); }

  std::unique_ptr<Hasher> Clone() const override { return std::make_unique<Crc32>(*this); }

 private:
  uint32_t crc_ = 0;
};

class Crc32c final : public Hasher {
 public:
  void Update(absl::Span<const std::byte> bytes) override {
    constexpr size_t kMostAtOnce = 1 << 30;  // a length is an int
    for (; !bytes.empty(); bytes.remove_prefix(std::min(kMostAtOnce, bytes.size()))) {
      const absl::Span<const std::byte> part = bytes.first(std::min(kMostAtOnce, bytes.size()));
      // It only reads.
      auto* const data =
          const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(part.data()));
      crc_ = crc32_iscsi(data, static_cast<int>(part.size()), crc_);
    }
  }
  std::string Finish() override { return BigEndian(~crc_); }

  std::unique_ptr<Hasher> Clone() const override { return std::make_unique<Crc32c>(*this); }

 private:
  // The function leaves the first and the last inversion to its caller.
  uint32_t crc_ = ~uint32_t{0};
};

class Crc64 final : public Hasher {
 public:
  void Update(absl::Span<const std::byte> bytes) override { crc_ = Crc64Nvme(crc_, bytes); }
  std::string Finish() override { return BigEndian(crc_); }

  std::unique_ptr<Hasher> Clone() const override { return std::make_unique<Crc64>(*this); }

 private:
  uint64_t crc_ = 0;
};

class Digest final : public Hasher {
 public:
  explicit Digest(const EVP_MD* kind) : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    EVP_DigestInit_ex(context_.get(), kind, nullptr);
  }
  void Update(absl::Span<const std::byte> bytes) override {
    EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size());
  }
  std::string Finish() override {
    // -1 where OpenSSL is told to refuse the kind.
    std::string value(static_cast<size_t>(std::max(EVP_MD_CTX_get_size(context_.get()), 0)), '\0');
    EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(value.data()), nullptr);
    return value;
  }

  std::unique_ptr<Hasher> Clone() const override {
    auto clone = std::make_unique<Digest>(EVP_MD_CTX_get0_md(context_.get()));
    EVP_MD_CTX_copy_ex(clone->context_.get(), context_.get());
    return clone;
  }

 private:
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

std::string ValueOf(Hasher& hasher, absl::string_view bytes) {
  hasher.Update({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
  return hasher.Finish();
}

}  // namespace

absl::string_view NameOf(ChecksumKind kind) {
  switch (kind) {
    case ChecksumKind::kCrc32:
      return "crc32";
    case ChecksumKind::kCrc32c:
      return "crc32c";
    case ChecksumKind::kCrc64Nvme:
      return "crc64nvme";
    case ChecksumKind::kSha256:
      break;
  }
  return "sha256";
}

size_t SizeOf(ChecksumKind kind) {
  switch (kind) {
    case ChecksumKind::kCrc32:
    case ChecksumKind::kCrc32c:
      return 4;
    case ChecksumKind::kCrc64Nvme:
      return 8;
    case ChecksumKind::kSha256:
      break;
  }
  return 32;
}

std::unique_ptr<Hasher> MakeHasher(ChecksumKind kind) {
  switch (kind) {
    case ChecksumKind::kCrc32:
      return std::make_unique<Crc32>();
    case ChecksumKind::kCrc32c:
      return std::make_unique<Crc32c>();
    case ChecksumKind::kCrc64Nvme:
      return std::make_unique<Crc64>();
    case ChecksumKind::kSha256:
      break;
  }
  return MakeSha256();
}

std::unique_ptr<Hasher> MakeMd5Hasher() { return std::make_unique<Digest>(EVP_md5()); }

std::string HashOf(ChecksumKind kind, absl::string_view bytes) {
  return ValueOf(*MakeHasher(kind), bytes);
}

std::string Md5Of(absl::string_view bytes) { return ValueOf(*MakeMd5Hasher(), bytes); }

std::string ShowDigest(absl::string_view value, uint32_t parts) {
  std::string text = absl::BytesToHexString(value);
  if (parts > 0) {
    absl::StrAppend(&text, "-", parts);
  }
  return text;
}

std::string ToS3(const Checksum& checksum) {
  std::string text = absl::Base64Escape(checksum.value);
  if (checksum.composite()) {
    absl::StrAppend(&text, "-", checksum.part_sizes.size());
  }
  return text;
}

std::optional<S3Checksum> ParseS3Checksum(ChecksumKind kind, absl::string_view text) {
  S3Checksum checksum;
  const size_t dash = text.find('-');
  if (dash != absl::string_view::npos) {
    const absl::string_view parts = text.substr(dash + 1);
    if (!std::all_of(parts.begin(), parts.end(), absl::ascii_isdigit) ||
        !absl::SimpleAtoi(parts, &checksum.parts) || checksum.parts == 0 ||
        checksum.parts > kMostParts) {
      return std::nullopt;
    }
  }
  if (!absl::Base64Unescape(text.substr(0, dash), &checksum.value) ||
      checksum.value.size() != SizeOf(kind)) {
    return std::nullopt;
  }
  return checksum;
}

}  // namespace weightd::source
