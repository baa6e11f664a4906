#include "daemon/convert/verify_model.h"

#include <cstddef>
#include <cstdint>

#include "absl/synchronization/mutex.h"
#include "common/status.h"
#include "daemon/convert/batches.h"
#include "daemon/convert/input.h"
#include "daemon/convert/key_trial.h"
#include "daemon/convert/workers.h"

namespace weightd::convert {
namespace {

// Whether it says something of one tensor, not of the way to it.
bool IsOfTensor(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  return reason == Reason::kVerificationFailed || reason == Reason::kMalformedModel ||
         reason == Reason::kKeyRefused || reason == Reason::kUnsupported;
}

}  // namespace

absl::StatusOr<std::vector<VerifiedTensor>> VerifyModel(const source::Registry& sources,
                                                        const VerifyRequest& request, Report report,
                                                        Cancellation& cancellation) {
  ASSIGN_OR_RETURN(const Input input,
                   OpenInput(sources, request.input, request.key, request.unpinned, cancellation));
  pipeline::TensorKeys keys(request.key, nullptr);
  RETURN_IF_ERROR(CheckKey(input, keys));
  RETURN_IF_ERROR(TryKey(input, keys, cancellation));
  std::vector<VerifiedTensor> tensors;
  std::vector<TensorPlace> places;
  Progress progress;
  for (uint32_t file = 0; file < input.headers.size(); ++file) {
    for (const format::TensorEntry& tensor : input.headers[file].tensors) {
      tensors.push_back({input.model.files[file].name, tensor, {}, absl::OkStatus()});
      places.push_back({file, &tensor});
      progress.bytes_total += tensor.bytes.size();
    }
  }
  absl::Mutex mutex;
  const auto verify = [&](size_t i, TensorReader& reader, Cancellation& stop) -> absl::Status {
    RETURN_IF_ERROR(reader.Open(places[i].file, *places[i].tensor, stop).status());
    const auto take = [&](absl::Span<const std::byte> bytes) {
      absl::MutexLock lock(&mutex);
      progress.bytes_done += bytes.size();
      report(progress);
      return absl::OkStatus();
    };
    ASSIGN_OR_RETURN(tensors[i].found, reader.Read(take, stop));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ForEachTensor(
      input, pipeline::VerifyPolicy::kFull, keys, places, ReadOrder::kLargestFirst,
      [&](size_t i, TensorReader& reader, Cancellation& stop) -> absl::Status {
        tensors[i].status = verify(i, reader, stop);
        return IsOfTensor(tensors[i].status) ? absl::OkStatus() : tensors[i].status;
      },
      cancellation));
  return tensors;
}

}  // namespace weightd::convert
