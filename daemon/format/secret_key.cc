#include "daemon/format/secret_key.h"

#include <sodium.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace weightd::format {
namespace {

// Between two pages that can't be touched, locked where that is allowed, in no core dump.
void* AllocateSecret(size_t size) {
  void* const memory = sodium_init() < 0 ? nullptr : sodium_malloc(size);
  if (memory == nullptr) {
    // As for any other few bytes that there is no memory for.
    std::fputs("no memory for a secret\n", stderr);
    std::abort();
  }
  return memory;
}

}  // namespace

struct SecretKey::Memory {
  explicit Memory(absl::string_view bytes)
      : begin(static_cast<char*>(AllocateSecret(bytes.size()))), size(bytes.size()) {
    std::memcpy(begin, bytes.data(), size);
    sodium_mprotect_readonly(begin);
  }
  // Wipes them.
  ~Memory() { sodium_free(begin); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  char* const begin;
  const size_t size;
};

SecretKey::SecretKey(absl::string_view bytes)
    : memory_(bytes.empty() ? nullptr : std::make_shared<const Memory>(bytes)) {}

absl::string_view SecretKey::bytes() const {
  return memory_ == nullptr ? absl::string_view()
                            : absl::string_view(memory_->begin, memory_->size);
}

bool SecretKey::operator==(const SecretKey& other) const {
  return bytes().size() == other.bytes().size() &&
         sodium_memcmp(bytes().data(), other.bytes().data(), bytes().size()) == 0;
}

}  // namespace weightd::format
