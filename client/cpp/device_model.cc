#include "client/cpp/device_model.h"

#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/device_model_state.h"
#include "client/cpp/sealed_file.h"
#include "common/cuda_driver.h"
#include "common/status.h"

namespace weightd::client {
namespace {

absl::Status Broken(absl::string_view what) {
  return Error(Reason::kInternal, absl::StrCat("the daemon's grant of GPU memory ", what),
               "client and daemon may be of different versions");
}

absl::Status CheckGrant(const v1::Grant& grant, const v1::DeviceRequest& asked) {
  if (!grant.has_device()) {
    return Broken("is one of host memory");
  }
  const v1::DeviceGrant& device = grant.device();
  if (device.gpu_uuid() != asked.gpu_uuid()) {
    return Broken("is of another GPU");
  }
  if (device.mode() != asked.mode()) {
    return Broken("is of another mode");
  }
  if (device.nbytes() == 0 || device.legacy_offset() >= device.nbytes()) {
    return Broken("has no memory");
  }
  const bool has_handle = device.legacy_handle().size() == sizeof(cuda::CUipcMemHandle);
  if (has_handle != asked.legacy() || (!asked.legacy() && device.legacy_offset() != 0)) {
    return Broken("has another kind of handle");
  }
  return absl::OkStatus();
}

absl::StatusOr<CudaMemory> OpenMemory(const v1::DeviceGrant& grant, const ClaimedHandles& handles,
                                      std::shared_ptr<const CudaContext> context,
                                      const DeviceOptions& options) {
  if (options.legacy) {
    cuda::CUipcMemHandle handle{};
    std::memcpy(handle.reserved, grant.legacy_handle().data(), sizeof(handle.reserved));
    return CudaMemory::OpenLegacy(std::move(context), handle, grant.nbytes());
  }
  if (handles.segment_bytes != grant.nbytes()) {
    return Broken(absl::StrCat("is of ", grant.nbytes(), " bytes, and its descriptor of ",
                               handles.segment_bytes));
  }
  return CudaMemory::Import(std::move(context), handles.segment.get(), grant.nbytes(),
                            options.mode == DeviceMode::kShared ? CudaMemory::Access::kReadOnly
                                                                : CudaMemory::Access::kReadWrite);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const CudaContext>> OpenGpu(const DeviceOptions& options) {
  auto driver = CudaDriver::Load(options.driver);
  if (!driver.ok()) {
    // The node may have one: it is this process that hasn't.
    return Error(Reason::kDeviceNotVisible, driver.status().message(), HintOf(driver.status()));
  }
  GpuId gpu;
  if (options.gpu.has_value()) {
    gpu = *options.gpu;
  } else {
    ASSIGN_OR_RETURN(gpu, CudaContext::GpuAt(**driver, options.ordinal));
  }
  return CudaContext::Retain(*std::move(driver), gpu);
}

v1::DeviceRequest ToRequest(const DeviceOptions& options, const GpuId& gpu) {
  v1::DeviceRequest request;
  request.set_gpu_uuid(gpu.ToBytes());
  request.set_mode(options.mode == DeviceMode::kShared ? v1::DeviceRequest::SHARED
                                                       : v1::DeviceRequest::PRIVATE);
  request.set_legacy(options.legacy);
  return request;
}

DeviceModel::State::State(std::shared_ptr<HeldLease> lease, const v1::Grant& grant,
                          const GpuId& gpu, DeviceMode mode)
    : lease_(std::move(lease)), granted_(grant), gpu_(gpu), mode_(mode), creator_(getpid()) {}

absl::StatusOr<std::shared_ptr<const DeviceModel::State>> DeviceModel::State::Map(
    std::shared_ptr<HeldLease> lease, const v1::Grant& grant, const ClaimedHandles& handles,
    std::shared_ptr<const CudaContext> context, const DeviceOptions& options) {
  const GpuId gpu = context->gpu();
  std::shared_ptr<State> state(new State(std::move(lease), grant, gpu, options.mode));
  RETURN_IF_ERROR(CheckGrant(grant, ToRequest(options, gpu)));
  ASSIGN_OR_RETURN(SealedMapping index, MapSealed(handles.index.get(), handles.index_bytes,
                                                  Access::kSharedReadOnly, "the tensor index"));
  ASSIGN_OR_RETURN(state->files_, SmallFiles::Map(handles));
  ASSIGN_OR_RETURN(CudaMemory memory,
                   OpenMemory(grant.device(), handles, std::move(context), options));
  const uint64_t offset = grant.device().legacy_offset();
  state->segment_ = {memory.pointer() + offset, memory.bytes() - offset};
  state->memory_ = std::make_unique<CudaMemory>(std::move(memory));
  state->tensors_.emplace(std::move(index.mapping), state->segment_, state->granted_.name);
  if (options.mode == DeviceMode::kPrivate) {
    state->lease_.reset();
  }
  return state;
}

DeviceModel::State::~State() {
  if (getpid() != creator_) {
    // Lost on purpose: the driver's state belongs to the parent.
    [[maybe_unused]] const CudaMemory* const lost = memory_.release();
    return;
  }
  tensors_.reset();
  files_ = {};
  Unmap();
}

void DeviceModel::State::Unmap() {
  if (memory_ == nullptr) {
    return;
  }
  // cuMemUnmap doesn't wait for kernels that still read, as cuMemFree does. If this fails, the
  // process's CUDA is broken, and there is nothing to wait for.
  const CudaContext& context = memory_->context();
  {
    const CudaContext::Current current(context);
    static_cast<void>(context.driver().cuCtxSynchronize());
  }
  memory_.reset();
}

const std::string& DeviceModel::name() const { return state_->granted().name; }

const std::string& DeviceModel::revision() const { return state_->granted().revision; }

const std::vector<FileCheck>& DeviceModel::verified() const { return state_->granted().verified; }

const GpuId& DeviceModel::gpu() const { return state_->gpu(); }

DeviceMode DeviceModel::mode() const { return state_->mode(); }

cuda::CUdeviceptr DeviceModel::pointer() const { return state_->segment().pointer; }

uint64_t DeviceModel::nbytes() const { return state_->segment().bytes; }

absl::StatusOr<DeviceTensor> DeviceModel::tensor(absl::string_view name) const {
  return state_->tensors().Find(name);
}

absl::StatusOr<absl::Span<const DeviceTensor>> DeviceModel::tensors() const {
  return state_->tensors().All();
}

absl::StatusOr<std::map<std::string, std::string>> DeviceModel::metadata() const {
  return state_->tensors().Metadata();
}

absl::StatusOr<std::map<std::string, absl::string_view>> DeviceModel::files() const {
  ASSIGN_OR_RETURN(const v1::TensorIndex* index, state_->tensors().Index());
  return state_->files().All(*index);
}

absl::StatusOr<absl::string_view> DeviceModel::file(absl::string_view name) const {
  ASSIGN_OR_RETURN(const v1::TensorIndex* index, state_->tensors().Index());
  return state_->files().Find(*index, name);
}

}  // namespace weightd::client
