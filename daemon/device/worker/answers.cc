#include "daemon/device/worker/answers.h"

#include <poll.h>
#include <unistd.h>

#include "absl/types/span.h"
#include "common/cuda_driver.h"
#include "common/fd_passing.h"

namespace weightd::device {
namespace {

// The daemon takes packets within microseconds; one that doesn't for so long is stopped or gone.
constexpr int kPatienceMs = 60'000;

}  // namespace

void Answers::Send(Answer answer, const absl::Status& status, Fd fd) {
  if (CudaDriver::NeedsProcessExit(status)) {
    SendLast(answer.number, status);
  }
  SendBytes(BytesOf(answer), fd.get());
}

void Answers::SendLast(uint64_t number, const absl::Status& status) {
  Answer answer = MakeAnswer(number, status);
  answer.last = 1;
  SendBytes(BytesOf(answer));
  _exit(1);
}

void Answers::SendBytes(absl::string_view bytes, int fd) {
  absl::MutexLock lock(&mutex_);
  const absl::Span<const int> fds(&fd, fd < 0 ? 0 : 1);
  while (!SendPacket(socket_, bytes, fds).ok()) {
    pollfd writable{socket_, POLLOUT, 0};
    if (poll(&writable, 1, kPatienceMs) <= 0 || (writable.revents & (POLLHUP | POLLERR)) != 0) {
      _exit(0);
    }
  }
}

}  // namespace weightd::device
