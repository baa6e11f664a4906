#ifndef WEIGHTD_DAEMON_DEVICE_WORKER_MESSAGES_H_
#define WEIGHTD_DAEMON_DEVICE_WORKER_MESSAGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/fd.h"
#include "daemon/device/gpus.h"

// What the daemon and a GPU's worker say to one another: packets of fixed size. Both ends are the
// same binary, so the structs' bytes are the format; a receiver still checks all that it uses.
//
// Every request has a number, from 1, and gets exactly one answer with that number, in any order.
// The worker's first answer has number 0 and follows no request: whether it can work.

namespace weightd::device {

// Where a worker finds its end of the socket.
inline constexpr int kWorkerSocket = 3;
// Most runs of one upload: far more than any model has tensors.
inline constexpr uint64_t kMostRuns = 16 << 20;

struct Request {
  enum class Type : uint32_t {
    // Answered with the GPU's free and total bytes.
    kMemory = 1,
    // Allocates `segment`. With descriptors: the source, and the runs (WriteRuns). Without: filled
    // from the segment `copied`.
    kCreate,
    // Answered when those bytes are on the device.
    kCopy,
    // Answered when all copies have ended, with what the segment was exported as.
    kFinish,
    // Whatever has become of the segment; answered when its memory is free.
    kFree,
    // Takes `segment` from the descriptor: memory of `device_bytes` that has the mark.
    kImport,
  };
  static constexpr uint32_t kMark = 0x57475251;

  uint32_t mark = kMark;
  Type type = Type::kMemory;
  uint64_t number = 0;
  uint64_t segment = 0;
  // kCreate
  uint64_t device_bytes = 0;
  uint64_t source_bytes = 0;
  uint64_t runs = 0;
  uint64_t copied = 0;
  uint32_t legacy = 0;
  uint32_t pin_source = 0;
  // kImport, and kCreate if `marked`: what is to lie at that place on the device.
  char segment_mark[kMarkBytes] = {};
  uint64_t mark_offset = 0;
  uint64_t marked = 0;
  // kCopy
  uint64_t host_begin = 0;
  uint64_t host_end = 0;
  uint64_t source_offset = 0;
};

struct Answer {
  static constexpr uint32_t kMark = 0x57474157;

  uint32_t mark = kMark;
  // A Reason; 0 is success.
  uint32_t reason = 0;
  uint64_t number = 0;
  // The worker ends after this answer.
  uint32_t last = 0;
  uint32_t has_legacy_handle = 0;
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
  char legacy_handle[64] = {};
  // Cut where they don't fit.
  char message[512] = {};
  char hint[256] = {};
};

// One GPU, in the answer to the question which there are: one packet for each, then an Answer.
struct ListedGpu {
  static constexpr uint32_t kMark = 0x57474c53;

  uint32_t mark = kMark;
  int32_t index = 0;
  uint8_t uuid[GpuId::kBytes] = {};
  char name[256] = {};
  uint64_t total_bytes = 0;
  uint64_t granularity = 0;
  // Virtual memory management, and its export as descriptors.
  uint32_t exports_descriptors = 0;
  uint32_t unused = 0;
};

// Of kMarkBytes, or none.
void SetMark(absl::string_view mark, uint64_t offset, Request& request);

// The bytes of a message.
template <typename Message>
absl::string_view BytesOf(const Message& message) {
  return {reinterpret_cast<const char*>(&message), sizeof(message)};
}

// kInternal if the bytes are no such message.
absl::StatusOr<Request> RequestOf(absl::string_view bytes);
absl::StatusOr<Answer> AnswerOf(absl::string_view bytes);
absl::StatusOr<ListedGpu> ListedGpuOf(absl::string_view bytes);

Answer MakeAnswer(uint64_t number, const absl::Status& status);
absl::Status StatusOf(const Answer& answer);

// Runs travel as a file: there may be more than a packet holds.
absl::StatusOr<Fd> WriteRuns(const std::vector<CopyRun>& runs);
absl::StatusOr<std::vector<CopyRun>> ReadRuns(const Fd& file, uint64_t count);

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_WORKER_MESSAGES_H_
