#include <memory>

#include "tests/fakes/fake_cuda/api.h"
#include "tests/fakes/fake_cuda/process.h"

// Streams and events.

namespace weightd::cuda {

using fake_cuda::BeginCurrent;
using fake_cuda::Device;
using fake_cuda::Event;
using fake_cuda::Stream;

extern "C" {

CUresult cuStreamCreate(CUstream* stream, unsigned int flags) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuStreamCreate", &device));
  if ((flags & ~CU_STREAM_NON_BLOCKING) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *stream = device->AddStream(/*blocking=*/flags == 0);
  return CUDA_SUCCESS;
}

CUresult cuStreamDestroy_v2(CUstream stream) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuStreamDestroy", &device));
  return device->RemoveStream(stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuStreamSynchronize(CUstream stream) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuStreamSynchronize", &device));
  if (stream == nullptr) {
    device->Drain(/*all=*/false);
    return device->State();
  }
  const std::shared_ptr<Stream> found = device->FindStream(stream);
  if (found == nullptr) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  found->Drain();
  return device->State();
}

CUresult cuEventCreate(CUevent* event, unsigned int flags) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuEventCreate", &device));
  if ((flags & ~(CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING)) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *event = device->AddEvent();
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuEventDestroy", &device));
  return device->RemoveEvent(event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuEventRecord", &device));
  const std::shared_ptr<Event> found = device->FindEvent(event);
  const std::shared_ptr<Stream> on = device->FindStream(stream);
  if (found == nullptr || (stream != nullptr && on == nullptr)) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  const std::shared_ptr<absl::Notification> recorded = found->Record();
  if (on == nullptr) {
    device->Drain(/*all=*/false);
    recorded->Notify();
  } else {
    on->Enqueue([recorded] { recorded->Notify(); });
  }
  return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent event) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuEventQuery", &device));
  const std::shared_ptr<Event> found = device->FindEvent(event);
  if (found == nullptr) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  const std::shared_ptr<absl::Notification> last = found->last();
  if (last != nullptr && !last->HasBeenNotified()) {
    return CUDA_ERROR_NOT_READY;
  }
  return device->State();
}

CUresult cuEventSynchronize(CUevent event) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuEventSynchronize", &device));
  const std::shared_ptr<Event> found = device->FindEvent(event);
  if (found == nullptr) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (const std::shared_ptr<absl::Notification> last = found->last(); last != nullptr) {
    last->WaitForNotification();
  }
  return device->State();
}

}  // extern "C"

}  // namespace weightd::cuda
