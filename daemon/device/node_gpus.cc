#include "daemon/device/node_gpus.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status.h"
#include "daemon/device/device_import.h"
#include "daemon/device/device_segment.h"
#include "daemon/device/device_upload.h"

namespace weightd::device {
namespace {

// A UUID or an index, as an operator writes it.
bool Names(absl::string_view name, const GpuFacts& gpu) {
  int index = 0;
  if (absl::SimpleAtoi(name, &index)) {
    return index == gpu.index;
  }
  const absl::StatusOr<GpuId> id = GpuId::FromText(name);
  return id.ok() && *id == gpu.id;
}

uint64_t BudgetOf(const GpuFacts& gpu, const GpusOptions& options) {
  uint64_t budget = options.budget_bytes.value_or(
      static_cast<uint64_t>(static_cast<double>(gpu.total_bytes) * options.budget_fraction));
  for (const auto& [name, bytes] : options.budgets) {
    if (Names(name, gpu)) {
      budget = bytes;
    }
  }
  return std::min(budget, gpu.total_bytes - std::min(gpu.total_bytes, options.reserve));
}

absl::Status CheckOptions(const GpusOptions& options) {
  if (!(options.budget_fraction >= 0 && options.budget_fraction <= 1)) {
    return Error(Reason::kInvalidArgument, "a GPU's budget is between none and all of its memory");
  }
  int index = 0;
  for (const auto& [name, bytes] : options.budgets) {
    if (!absl::SimpleAtoi(name, &index)) {
      RETURN_IF_ERROR(Annotate(GpuId::FromText(name).status(), "a GPU's budget"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckExports(const GpuFacts& gpu) {
  if (gpu.granularity != 0 && Budget::kGranularity % gpu.granularity == 0) {
    return absl::OkStatus();
  }
  return Error(
      Reason::kDeviceUnavailable,
      absl::StrCat(gpu.id.ToText(), " (", gpu.name, ") can't export its memory as descriptors"),
      "place the model with handles: legacy");
}

}  // namespace

NodeGpus::NodeGpus(const absl::StatusOr<std::vector<GpuFacts>>& listed, const GpusOptions& options)
    : why_none_(listed.status()) {
  for (const GpuFacts& facts : listed.ok() ? *listed : std::vector<GpuFacts>()) {
    gpus_.push_back(std::make_unique<Gpu>(
        facts, BudgetOf(facts, options), options,
        [this](const GpuId& gpu, const absl::Status& why) { TellLost(gpu, why); }));
  }
}

NodeGpus::~NodeGpus() { OnLost({}); }

std::vector<GpuStatus> NodeGpus::List() const {
  std::vector<GpuStatus> list;
  list.reserve(gpus_.size());
  for (const auto& gpu : gpus_) {
    list.push_back(gpu->status());
  }
  return list;
}

absl::StatusOr<GpuId> NodeGpus::Find(absl::string_view name) const {
  for (const auto& gpu : gpus_) {
    if (Names(name, gpu->facts())) {
      return gpu->facts().id;
    }
  }
  return NoSuchGpu(name);
}

absl::Status NodeGpus::NoSuchGpu(absl::string_view name) const {
  if (!why_none_.ok()) {
    return Error(Reason::kDeviceUnavailable,
                 absl::StrCat("no GPU ", name, ": ", why_none_.message()), HintOf(why_none_));
  }
  return Error(
      Reason::kDeviceUnavailable, absl::StrCat("no GPU ", name),
      absl::StrCat("there are ", absl::StrJoin(gpus_, ", ", [](std::string* out, const auto& gpu) {
                     absl::StrAppend(out, gpu->facts().index, " (", gpu->facts().id.ToText(), ")");
                   })));
}

absl::StatusOr<Gpu*> NodeGpus::Get(const GpuId& gpu) const {
  for (const auto& candidate : gpus_) {
    if (candidate->facts().id == gpu) {
      return candidate.get();
    }
  }
  return NoSuchGpu(gpu.ToText());
}

absl::StatusOr<Reservation> NodeGpus::Reserve(const GpuId& gpu, uint64_t bytes) {
  ASSIGN_OR_RETURN(Gpu* const found, Get(gpu));
  // Also a model without bytes has an allocation.
  return found->Reserve(std::max<uint64_t>(bytes, 1));
}

absl::StatusOr<Reservation> NodeGpus::ReserveHeld(const GpuId& gpu, uint64_t device_bytes) {
  ASSIGN_OR_RETURN(Gpu* const found, Get(gpu));
  if (device_bytes > found->facts().total_bytes) {
    return Error(Reason::kVerificationFailed,
                 absl::StrCat(device_bytes, " bytes are more than the GPU has"));
  }
  ASSIGN_OR_RETURN(Reservation reservation, found->budget()->Reserve(device_bytes + kMarkBytes));
  reservation.MarkAllocated();
  return reservation;
}

Usage NodeGpus::UsageOf(const GpuId& gpu) const {
  const absl::StatusOr<Gpu*> found = Get(gpu);
  return found.ok() ? (*found)->budget()->usage() : Usage();
}

absl::StatusOr<std::unique_ptr<Upload>> NodeGpus::BeginUpload(UploadPlan plan) {
  ASSIGN_OR_RETURN(Gpu* const gpu, Get(plan.reservation.gpu()));
  if (plan.handles == Handles::kDescriptor) {
    RETURN_IF_ERROR(CheckExports(gpu->facts()));
  }
  ASSIGN_OR_RETURN(std::shared_ptr<WorkerLink> link, gpu->Worker());
  // Bounded by the worker's patience.
  Cancellation never;
  return DeviceUpload::Begin(std::move(link), std::move(plan), false, never);
}

absl::StatusOr<std::shared_ptr<Segment>> NodeGpus::CopyPrivately(PrivateCopyPlan plan,
                                                                 Cancellation& cancellation) {
  ASSIGN_OR_RETURN(Gpu* const gpu, Get(plan.reservation.gpu()));
  RETURN_IF_ERROR(CheckExports(gpu->facts()));
  ASSIGN_OR_RETURN(std::shared_ptr<WorkerLink> link, gpu->Worker());
  std::unique_ptr<DeviceUpload> upload;
  if (plan.copied != nullptr) {
    const auto* const copied = dynamic_cast<const DeviceSegment*>(plan.copied.get());
    if (copied == nullptr || &copied->link() != link.get() || copied->is_private()) {
      return Error(Reason::kDeviceUnavailable, "the GPU segment to copy is lost", "try again");
    }
    ASSIGN_OR_RETURN(upload, DeviceUpload::BeginCopyOf(std::move(link), *copied, plan.device_bytes,
                                                       std::move(plan.reservation), cancellation));
  } else {
    const uint64_t source_bytes = plan.source_bytes;
    ASSIGN_OR_RETURN(upload, DeviceUpload::Begin(std::move(link),
                                                 {.reservation = std::move(plan.reservation),
                                                  .device_bytes = plan.device_bytes,
                                                  .runs = std::move(plan.runs),
                                                  .source = std::move(plan.source),
                                                  .source_bytes = source_bytes},
                                                 true, cancellation));
    upload->Copy({0, source_bytes}, 0);
  }
  return upload->Finish(cancellation);
}

absl::StatusOr<std::shared_ptr<Segment>> NodeGpus::Import(ImportPlan& plan,
                                                          Cancellation& cancellation) {
  ASSIGN_OR_RETURN(Gpu* const gpu, Get(plan.reservation.gpu()));
  RETURN_IF_ERROR(CheckExports(gpu->facts()));
  ASSIGN_OR_RETURN(std::shared_ptr<WorkerLink> link, gpu->Worker());
  return ImportSegment(std::move(link), plan, cancellation);
}

absl::Status NodeGpus::Drain(const GpuId& gpu) {
  ASSIGN_OR_RETURN(Gpu* const found, Get(gpu));
  return found->Drain();
}

absl::Status NodeGpus::Resume(const GpuId& gpu) {
  ASSIGN_OR_RETURN(Gpu* const found, Get(gpu));
  found->Resume();
  return absl::OkStatus();
}

void NodeGpus::OnLost(std::function<void(const GpuId& gpu, const absl::Status& why)> lost) {
  absl::MutexLock lock(&mutex_);
  lost_ = std::move(lost);
  if (lost_ == nullptr) {
    const auto quiet = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return telling_ == 0; };
    mutex_.Await(absl::Condition(&quiet));
  }
}

void NodeGpus::TellLost(const GpuId& gpu, const absl::Status& why) {
  std::function<void(const GpuId&, const absl::Status&)> lost;
  {
    absl::MutexLock lock(&mutex_);
    lost = lost_;
    ++telling_;
  }
  if (lost) {
    lost(gpu, why);
  }
  absl::MutexLock lock(&mutex_);
  --telling_;
}

absl::StatusOr<std::unique_ptr<Gpus>> MakeGpus(GpusOptions options) {
  RETURN_IF_ERROR(CheckOptions(options));
  const auto listed = ListGpus(options.worker_command, options.driver, options.patience);
  return std::make_unique<NodeGpus>(listed, options);
}

}  // namespace weightd::device
