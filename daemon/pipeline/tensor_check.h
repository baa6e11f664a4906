#ifndef WEIGHTD_DAEMON_PIPELINE_TENSOR_CHECK_H_
#define WEIGHTD_DAEMON_PIPELINE_TENSOR_CHECK_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/call_once.h"
#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "daemon/format/header.h"
#include "daemon/format/tensorizer_record.h"
#include "daemon/pipeline/arrivals.h"
#include "daemon/pipeline/ctr_files.h"
#include "daemon/pipeline/job_queue.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/record_sums.h"
#include "daemon/pipeline/tensor_keys.h"

namespace weightd::pipeline {

// What is done with the tensors of tensorizer files once their bytes are in place, on threads of
// its own: each one's own header is compared with the file's, its bytes are decrypted where they
// lie, and its checksums are verified, as far as the policy wants. And what is done with those of
// files that are encrypted with AES-CTR: they are decrypted. Use it in this order: constructor,
// CheckKey, Start, Finish, proof.
class TensorCheck {
 public:
  // What somebody wants to know while it works; called from its threads.
  struct Observer {
    // These bytes of a file that it decrypts are in clear, and stay as they are.
    std::function<void(uint32_t file, ByteRange bytes)> on_decrypted = [](uint32_t, ByteRange) {};
    // Through() may have changed.
    std::function<void()> on_progress = {};
    // Of the segment: what lies behind comes only once it is through with what lies before.
    uint64_t reach = std::numeric_limits<uint64_t>::max();
  };

  // Takes the tensors of tensorizer files out of `headers`, which are those of `files`. `extents`
  // are the layout's. All but the headers outlive it.
  TensorCheck(absl::Span<const ModelFile> files, absl::Span<format::FileHeader> headers,
              absl::Span<const Extent> extents, VerifyPolicy policy, TensorKeys* keys);
  // Stops and waits for the threads.
  ~TensorCheck();
  TensorCheck(const TensorCheck&) = delete;

  // kKeyMissing for an encrypted file without a key, kKeyRefused for a key where no file is
  // encrypted, or one of another cipher; kVerificationFailed for an encrypted file that proves
  // nothing where all is to be proved.
  absl::Status CheckKey() const;

  // Whether it took tensors out of the headers.
  bool holds_tensors() const { return !tasks_.empty(); }
  // Whether it changes bytes of that file, or of any.
  bool decrypts(uint32_t file) const;
  bool decrypts() const;

  // So many bytes have to be there at once, of the largest tensor that can't be taken in pieces.
  uint64_t MostAtOnce() const;

  // The bytes come to `segment` as `arrivals` tells. A failure cancels `transfer`; whoever else
  // does stops `arrivals`. All outlive it.
  void Start(Arrivals& arrivals, std::byte* segment, Cancellation& transfer, Observer observer);

  // The first byte that it may still look at, or decrypt. From any thread.
  FilePosition Through() const { return queue_.Through(); }

  // When all has come: waits for the threads. kVerificationFailed, kKeyRefused or kMalformedModel
  // for the first tensor that was found to be wrong; `transfer`'s reason if it was cancelled.
  absl::Status Finish();

  // No count of proof() will be larger.
  TensorProof most() const;
  // What OK from Finish() means.
  TensorProof proof() const;

 private:
  struct Task {
    uint32_t file = 0;
    format::TensorEntry tensor;
  };
  // A task, or a piece of ctr_files_.
  struct Job {
    FilePosition begin;
    bool is_task = false;
    size_t index = 0;
  };

  std::vector<Job> Jobs() const;
  void Work(size_t thread);
  absl::Status Do(size_t thread, const Job& job);
  absl::Status Check(size_t thread, const Task& task);
  // Counts what will be proved; an error if that is too little for the policy.
  absl::Status Count(const Task& task, const format::TensorRecord& record, const RecordSums& sums);
  // Takes a tensor's bytes as they come; OK and nothing done if stopped.
  absl::Status TakeBytes(size_t thread, const Task& task, RecordSums& sums);
  absl::Status OpenBoxes(size_t thread, const Task& task, const format::TensorRecord& record,
                         RecordSums& sums);
  // The thread is through with bytes of a file.
  void Pass(size_t thread, uint32_t file, ByteRange bytes);
  // Whether the key opens any of the first tensors, while nobody else is at them: what a key that
  // does can't open was changed.
  absl::Status TryKey();
  void Fail(const absl::Status& failure);
  absl::StatusOr<format::TensorRecord> RecordOf(const Task& task);
  absl::Span<std::byte> BytesOf(const Task& task) const;
  absl::string_view NameOf(const Task& task) const { return files_[task.file].name; }
  void Join();

  const absl::Span<const ModelFile> files_;
  const absl::Span<const Extent> extents_;
  const VerifyPolicy policy_;
  TensorKeys* const keys_;
  CtrFiles ctr_files_;
  std::vector<std::optional<format::TensorizerTraits>> traits_;
  // In the order in which bytes come.
  std::vector<Task> tasks_;

  Arrivals* arrivals_ = nullptr;
  std::byte* segment_ = nullptr;
  Cancellation* transfer_ = nullptr;
  std::vector<std::thread> threads_;
  Observer observer_;
  // In the order in which bytes come.
  std::vector<Job> jobs_;
  // Of jobs_.
  JobQueue queue_;
  absl::once_flag key_tried_;
  std::atomic<uint64_t> crc32_ = 0;
  std::atomic<uint64_t> sha256_ = 0;
  std::atomic<uint64_t> unverified_ = 0;
  std::atomic<uint64_t> poly1305_ = 0;

  absl::Mutex mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_TENSOR_CHECK_H_
