#include "daemon/device/worker_messages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::device {
namespace {

template <typename Message>
absl::StatusOr<Message> MessageOf(absl::string_view bytes) {
  static_assert(std::is_trivially_copyable_v<Message>);
  Message message;
  if (bytes.size() != sizeof(message)) {
    return Error(Reason::kInternal, absl::StrCat("a GPU message of ", bytes.size(), " bytes"));
  }
  std::memcpy(&message, bytes.data(), sizeof(message));
  if (message.mark != Message::kMark) {
    return Error(Reason::kInternal, "a GPU message of another kind");
  }
  return message;
}

template <size_t kSize>
void Store(absl::string_view text, char (&field)[kSize]) {
  std::memcpy(field, text.data(), std::min(text.size(), kSize - 1));
}

template <size_t kSize>
absl::string_view TextOf(const char (&field)[kSize]) {
  return {field, strnlen(field, kSize)};
}

}  // namespace

absl::StatusOr<Request> RequestOf(absl::string_view bytes) { return MessageOf<Request>(bytes); }

absl::StatusOr<Answer> AnswerOf(absl::string_view bytes) {
  ASSIGN_OR_RETURN(const Answer answer, MessageOf<Answer>(bytes));
  if (answer.reason > static_cast<uint32_t>(Reason::kDeviceNotVisible)) {
    return Error(Reason::kInternal, absl::StrCat("a GPU answer with reason ", answer.reason));
  }
  return answer;
}

absl::StatusOr<ListedGpu> ListedGpuOf(absl::string_view bytes) {
  return MessageOf<ListedGpu>(bytes);
}

Answer MakeAnswer(uint64_t number, const absl::Status& status) {
  Answer answer;
  answer.number = number;
  if (!status.ok()) {
    answer.reason = static_cast<uint32_t>(ReasonOf(status));
    Store(absl::string_view(status.message()), answer.message);
    Store(HintOf(status), answer.hint);
  }
  return answer;
}

absl::Status StatusOf(const Answer& answer) {
  if (answer.reason == 0) {
    return absl::OkStatus();
  }
  return Error(static_cast<Reason>(answer.reason), TextOf(answer.message), TextOf(answer.hint));
}

void SetMark(absl::string_view mark, uint64_t offset, Request& request) {
  request.marked = mark.size() == sizeof(request.segment_mark) ? 1 : 0;
  std::memcpy(request.segment_mark, mark.data(),
              std::min(mark.size(), sizeof(request.segment_mark)));
  request.mark_offset = offset;
}

absl::StatusOr<Fd> WriteRuns(const std::vector<CopyRun>& runs) {
  Fd file(memfd_create("weightd:gpu-runs", MFD_CLOEXEC));
  const size_t bytes = runs.size() * sizeof(CopyRun);
  for (size_t done = 0; file.valid() && done < bytes;) {
    const ssize_t written =
        write(file.get(), reinterpret_cast<const char*>(runs.data()) + done, bytes - done);
    if (written <= 0) {
      return ErrnoError(errno, "write down what to copy to a GPU");
    }
    done += static_cast<size_t>(written);
  }
  if (!file.valid()) {
    return ErrnoError(errno, "create a memfd");
  }
  return file;
}

absl::StatusOr<std::vector<CopyRun>> ReadRuns(const Fd& file, uint64_t count) {
  static_assert(std::is_trivially_copyable_v<CopyRun>);
  if (count > kMostRuns) {
    return Error(Reason::kInternal, absl::StrCat(count, " runs to copy to a GPU"));
  }
  std::vector<CopyRun> runs(count);
  const size_t bytes = runs.size() * sizeof(CopyRun);
  for (size_t done = 0; done < bytes;) {
    const ssize_t got = pread(file.get(), reinterpret_cast<char*>(runs.data()) + done, bytes - done,
                              static_cast<off_t>(done));
    if (got <= 0) {
      return Error(Reason::kInternal, "what to copy to a GPU can't be read");
    }
    done += static_cast<size_t>(got);
  }
  return runs;
}

}  // namespace weightd::device
