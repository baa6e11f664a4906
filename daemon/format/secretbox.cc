#include "daemon/format/secretbox.h"

#include <sodium.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::format {
namespace {

const unsigned char* Unsigned(absl::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

// The nonce of box number `index`.
void MakeNonce(absl::string_view first, uint64_t index,
               unsigned char (&nonce)[crypto_secretbox_NONCEBYTES]) {
  unsigned char added[crypto_secretbox_NONCEBYTES] = {};
  for (size_t i = 0; i < sizeof(index); ++i) {
    added[i] = static_cast<unsigned char>(index >> (8 * i));
  }
  std::copy_n(Unsigned(first), sizeof(nonce), nonce);
  sodium_add(nonce, added, sizeof(nonce));
}

absl::Status CheckHashing(const PasswordHashing& hashing) {
  if (hashing.memory < crypto_pwhash_MEMLIMIT_MIN || hashing.memory > kMostPasswordMemory ||
      hashing.operations < crypto_pwhash_OPSLIMIT_MIN ||
      hashing.operations > kMostPasswordOperations ||
      hashing.salt.size() != crypto_pwhash_SALTBYTES) {
    return Error(Reason::kMalformedModel,
                 absl::StrCat("a password hash of ", hashing.operations, " operations, ",
                              hashing.memory, " bytes of memory and a salt of ",
                              hashing.salt.size(), " bytes; at most ", kMostPasswordOperations,
                              " operations and ", kMostPasswordMemory, " bytes are allowed"),
                 "give the key itself, or write the file with a cheaper preset");
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t BoxCount(const SealedBoxes& boxes, uint64_t nbytes) {
  if (boxes.box_bytes == 0) {
    return 0;
  }
  return nbytes / boxes.box_bytes + (nbytes % boxes.box_bytes != 0 ? 1 : 0);
}

bool OpenBox(const SecretKey& key, const SealedBoxes& boxes, uint64_t index,
             absl::Span<std::byte> box) {
  if (sodium_init() < 0 || key.bytes().size() != crypto_secretbox_KEYBYTES ||
      boxes.nonce.size() != crypto_secretbox_NONCEBYTES ||
      index >= boxes.macs.size() / crypto_secretbox_MACBYTES) {
    return false;
  }
  unsigned char nonce[crypto_secretbox_NONCEBYTES];
  MakeNonce(boxes.nonce, index, nonce);
  auto* const bytes = reinterpret_cast<unsigned char*>(box.data());
  const unsigned char* const mac = Unsigned(boxes.macs) + index * crypto_secretbox_MACBYTES;
  return crypto_secretbox_open_detached(bytes, bytes, mac, box.size(), nonce,
                                        Unsigned(key.bytes())) == 0;
}

std::string SealBox(const SecretKey& key, absl::string_view nonce, uint64_t index,
                    absl::Span<std::byte> box) {
  unsigned char box_nonce[crypto_secretbox_NONCEBYTES];
  MakeNonce(nonce, index, box_nonce);
  std::string mac(crypto_secretbox_MACBYTES, '\0');
  auto* const bytes = reinterpret_cast<unsigned char*>(box.data());
  crypto_secretbox_detached(bytes, reinterpret_cast<unsigned char*>(mac.data()), bytes, box.size(),
                            box_nonce, Unsigned(key.bytes()));
  return mac;
}

std::string NewNonce() {
  std::string nonce(crypto_secretbox_NONCEBYTES, '\0');
  randombytes_buf(nonce.data(), nonce.size());
  return nonce;
}

PasswordHashing NewPasswordHashing() {
  PasswordHashing hashing = {.operations = crypto_pwhash_OPSLIMIT_MODERATE,
                             .memory = crypto_pwhash_MEMLIMIT_MODERATE,
                             .salt = std::string(crypto_pwhash_SALTBYTES, '\0')};
  randombytes_buf(hashing.salt.data(), hashing.salt.size());
  return hashing;
}

absl::StatusOr<SecretKey> KeyOfPassword(absl::string_view password,
                                        const PasswordHashing& hashing) {
  RETURN_IF_ERROR(CheckHashing(hashing));
  unsigned char key[crypto_secretbox_KEYBYTES];
  if (sodium_init() < 0 ||
      crypto_pwhash(key, sizeof(key), password.data(), password.size(), Unsigned(hashing.salt),
                    hashing.operations, hashing.memory, crypto_pwhash_ALG_ARGON2ID13) != 0) {
    return Error(Reason::kHostMemoryShort,
                 absl::StrCat("no ", hashing.memory, " bytes of memory for a password's hash"));
  }
  SecretKey secret(absl::string_view(reinterpret_cast<const char*>(key), sizeof(key)));
  sodium_memzero(key, sizeof(key));
  return secret;
}

}  // namespace weightd::format
