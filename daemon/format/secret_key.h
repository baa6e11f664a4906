#ifndef WEIGHTD_DAEMON_FORMAT_SECRET_KEY_H_
#define WEIGHTD_DAEMON_FORMAT_SECRET_KEY_H_

#include <cstddef>
#include <memory>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace weightd::format {

// Of a key; and the most that a password may have, or the text that a key is written in.
inline constexpr size_t kKeyBytes = 32;
inline constexpr size_t kMostSecretBytes = 4096;

// Secret bytes: a key of 32, or a password. Kept in memory of its own that no core dump holds and,
// where that is allowed, no swap; wiped when the last copy goes. Copies share the bytes. Never
// printed. Thread-safe.
class SecretKey {
 public:
  // No bytes.
  SecretKey() = default;
  explicit SecretKey(absl::string_view bytes);

  bool empty() const { return bytes().empty(); }
  absl::string_view bytes() const;
  // How long this takes tells their sizes, and nothing else of them.
  bool operator==(const SecretKey& other) const;

 private:
  struct Memory;
  std::shared_ptr<const Memory> memory_;
};

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_SECRET_KEY_H_
