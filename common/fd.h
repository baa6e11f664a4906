#ifndef WEIGHTD_COMMON_FD_H_
#define WEIGHTD_COMMON_FD_H_

#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace weightd {

// Owns a file descriptor, or none.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { Reset(); }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    Reset(std::exchange(other.fd_, -1));
    return *this;
  }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1);

  // Another descriptor of the same open file, close-on-exec.
  absl::StatusOr<Fd> Duplicate() const;

  // A new open file of the same inode, read-only: what is sent to others, who can't write through
  // it.
  absl::StatusOr<Fd> ReopenReadOnly() const;

 private:
  int fd_ = -1;
};

}  // namespace weightd

#endif  // WEIGHTD_COMMON_FD_H_
