#include "daemon/fd_store/inherited.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/fd_store/keeper_protocol.h"

namespace weightd::fd_store {
namespace {

constexpr int kFirstFd = 3;  // SD_LISTEN_FDS_START

std::string TakeVariable(const char* name) {
  const char* const value = std::getenv(name);
  std::string taken = value == nullptr ? "" : value;
  unsetenv(name);
  return taken;
}

std::optional<size_t> CountIn(const std::string& text) {
  size_t count = 0;
  if (!absl::SimpleAtoi(text, &count) || count == 0 || count > kMaxStored) {
    return std::nullopt;
  }
  return count;
}

}  // namespace

Inherited Inherited::FromEnvironment() {
  Inherited inherited;
  inherited.limit = CountIn(TakeVariable("FDSTORE"));
  const std::string pid = TakeVariable("LISTEN_PID");
  const std::optional<size_t> count = CountIn(TakeVariable("LISTEN_FDS"));
  const std::vector<std::string> names = absl::StrSplit(TakeVariable("LISTEN_FDNAMES"), ':');
  if (pid != absl::StrCat(getpid()) || !count.has_value()) {
    return inherited;
  }
  for (size_t i = 0; i < *count; ++i) {
    const int fd = kFirstFd + static_cast<int>(i);
    // Fails for one that isn't open.
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) {
      inherited.fds.push_back({i < names.size() ? names[i] : "", Fd(fd)});
    }
  }
  return inherited;
}

}  // namespace weightd::fd_store
