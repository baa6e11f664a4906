#include "daemon/service/convert.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/gpu_id.h"
#include "common/status.h"
#include "common/utf8.h"
#include "daemon/service/error_detail.h"
#include "daemon/service/paging.h"
#include "daemon/service/proto_time.h"
#include "daemon/service/tensor_index_codec.h"

namespace weightd::service {
namespace {

cache::ModelSnapshot Absent(Uri uri) {
  cache::ModelSnapshot model;
  model.uri = std::move(uri);
  return model;
}

v1::GpuStatus::State StateOf(device::GpuStatus::State state) {
  switch (state) {
    case device::GpuStatus::State::kIdle:
      return v1::GpuStatus::IDLE;
    case device::GpuStatus::State::kRunning:
      return v1::GpuStatus::RUNNING;
    case device::GpuStatus::State::kDrained:
      return v1::GpuStatus::DRAINED;
    case device::GpuStatus::State::kFailed:
      return v1::GpuStatus::FAILED;
  }
  return v1::GpuStatus::STATE_UNSPECIFIED;
}

}  // namespace

v1::LoadProgress ToProto(const cache::ProgressSnapshot& progress) {
  v1::LoadProgress proto;
  proto.set_phase(static_cast<v1::LoadPhase>(progress.phase));
  proto.set_bytes_done(progress.bytes_done);
  proto.set_bytes_total(progress.bytes_total);
  return proto;
}

v1::ModelSummary ToProto(const cache::ModelSnapshot& model, const ModelNames& names) {
  v1::ModelSummary proto;
  proto.set_model(model.uri.Redacted());
  for (std::string& alias : names.AliasesOf(model.uri)) {
    proto.add_aliases(std::move(alias));
  }
  proto.set_state(static_cast<v1::ModelState>(model.state));
  proto.set_revision(model.revision.hex());
  proto.set_host_bytes(model.host_bytes);
  proto.set_tensor_count(model.tensor_count);
  proto.set_file_count(model.file_count);
  proto.set_leases(model.leases);
  proto.set_pinned(model.pinned);
  proto.set_stale(model.stale);
  proto.set_readopted(model.readopted);
  proto.set_uses(model.uses);
  if (model.state == cache::ModelState::kLoading) {
    *proto.mutable_progress() = ToProto(model.progress);
  }
  if (model.loaded_at != absl::InfinitePast()) {
    *proto.mutable_loaded_at() = ToProto(model.loaded_at);
  }
  if (model.last_used_at != absl::InfinitePast()) {
    *proto.mutable_last_used_at() = ToProto(model.last_used_at);
  }
  proto.set_last_error(ToUtf8(model.last_error));
  for (const cache::GpuCopySnapshot& copy : model.copies) {
    v1::GpuCopy& added = *proto.add_gpu_copies();
    added.set_gpu(copy.gpu.ToText());
    added.set_nbytes(copy.bytes);
    added.set_leases(copy.leases);
  }
  return proto;
}

v1::Lease ToProto(const cache::LeaseSnapshot& lease) {
  v1::Lease proto;
  proto.set_lease_id(lease.id.value());
  proto.set_model(lease.uri.Redacted());
  proto.set_revision(lease.revision.hex());
  proto.set_listener(lease.listener);
  proto.set_uid(lease.uid);
  *proto.mutable_granted_at() = ToProto(lease.granted_at);
  proto.set_claimed(lease.claimed);
  return proto;
}

v1::Event ToProto(const cache::Event& event) {
  v1::Event proto;
  *proto.mutable_time() = ToProto(event.time);
  proto.set_kind(static_cast<v1::Event::Kind>(event.kind));
  // The loss of a GPU is of no model.
  if (event.uri != Uri()) {
    proto.set_model(event.uri.Redacted());
  }
  proto.set_revision(event.revision.hex());
  proto.set_lease_id(event.lease.value());
  proto.set_bytes(event.bytes);
  if (!event.error.ok()) {
    *proto.mutable_error() = ToErrorDetail(event.error, proto.model());
  }
  if (event.gpu.has_value()) {
    proto.set_gpu(event.gpu->ToText());
  }
  if (event.took.has_value()) {
    *proto.mutable_took() = ToProto(*event.took);
  }
  proto.set_listener(event.listener);
  return proto;
}

v1::Readoption ToProto(const cache::ReadoptionSnapshot& readoption) {
  v1::Readoption proto;
  proto.set_readopted(readoption.readopted);
  proto.set_not_readopted(readoption.not_readopted);
  proto.set_pins_lost(readoption.pins_lost);
  for (const cache::ReadoptionSnapshot::Failure& failure : readoption.failures) {
    v1::NotReadopted& added = *proto.add_failures();
    if (failure.uri != Uri()) {
      added.set_model(failure.uri.Redacted());
    }
    added.set_pinned(failure.pinned);
    *added.mutable_error() = ToErrorDetail(failure.why, added.model());
  }
  if (readoption.unknown > 0) {
    *proto.add_failures()->mutable_error() = ToErrorDetail(readoption.unknown_why, "");
  }
  return proto;
}

v1::TierStatus ToProto(const host::HostUsage& usage) {
  v1::TierStatus proto;
  proto.set_budget(usage.budget);
  proto.set_resident(usage.resident);
  proto.set_loading(usage.loading);
  proto.set_draining(usage.draining);
  proto.set_ready(usage.ready);
  return proto;
}

v1::GpuStatus ToProto(const device::GpuStatus& gpu) {
  v1::GpuStatus proto;
  proto.set_uuid(gpu.id.ToText());
  proto.set_index(static_cast<uint32_t>(gpu.index));
  proto.set_name(ToUtf8(gpu.name));
  proto.set_state(StateOf(gpu.state));
  proto.set_total_bytes(gpu.total_bytes);
  v1::TierStatus& tier = *proto.mutable_tier();
  tier.set_budget(gpu.usage.budget);
  tier.set_resident(gpu.usage.resident);
  tier.set_loading(gpu.usage.loading);
  tier.set_draining(gpu.usage.draining);
  proto.set_worker_pid(gpu.worker_pid);
  proto.set_last_error(ToUtf8(gpu.last_error));
  return proto;
}

v1::DeviceGrant ToProto(const cache::DeviceGrant& grant) {
  v1::DeviceGrant proto;
  proto.set_gpu_uuid(grant.gpu.ToBytes());
  proto.set_mode(grant.is_private ? v1::DeviceRequest::PRIVATE : v1::DeviceRequest::SHARED);
  proto.set_nbytes(grant.bytes);
  proto.set_legacy_handle(grant.legacy_handle);
  return proto;
}

v1::Verification VerificationOf(const cache::Grant& grant) {
  v1::Verification proto;
  proto.set_pinned_to_version(grant.pinned_to_version);
  for (const cache::FileProof& proof : grant.proofs) {
    AddCheck(proof.file, proof.verified, proto);
  }
  return proto;
}

absl::StatusOr<Pins> PinsOf(const google::protobuf::Map<std::string, std::string>& sha256) {
  if (sha256.size() > kMostPins) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat(sha256.size(), " SHA-256 pins; at most ", kMostPins, " are allowed"),
                 "pin the other files in the daemon's configuration");
  }
  Pins pins;
  for (const auto& [file, digest] : sha256) {
    RETURN_IF_ERROR(AddPin(file, digest, pins));
  }
  return pins;
}

absl::StatusOr<cache::DeviceRequest> DeviceRequestOf(const v1::DeviceRequest& request) {
  cache::DeviceRequest device;
  ASSIGN_OR_RETURN(device.gpu, GpuId::FromBytes(request.gpu_uuid()));
  if (request.mode() != v1::DeviceRequest::SHARED && request.mode() != v1::DeviceRequest::PRIVATE) {
    return Error(Reason::kInvalidArgument, "the device request says neither shared nor private",
                 "say which; update the client");
  }
  device.is_private = request.mode() == v1::DeviceRequest::PRIVATE;
  device.legacy = request.legacy();
  if (device.legacy && device.is_private) {
    return Error(Reason::kInvalidArgument, "legacy handles are of shared copies only",
                 "ask for a shared one, or for a private one without legacy");
  }
  return device;
}

std::vector<cache::ModelSnapshot> AllModels(const cache::Cache& cache, const ModelNames& names) {
  std::vector<cache::ModelSnapshot> models = cache.Models();
  std::set<std::string> known;
  for (const cache::ModelSnapshot& model : models) {
    known.insert(model.uri.ToString());
  }
  for (Uri& uri : names.Configured()) {
    if (known.count(uri.ToString()) == 0) {
      models.push_back(Absent(std::move(uri)));
    }
  }
  std::sort(models.begin(), models.end(),
            [](const cache::ModelSnapshot& a, const cache::ModelSnapshot& b) {
              return std::pair(a.uri.Redacted(), a.loaded_at) <
                     std::pair(b.uri.Redacted(), b.loaded_at);
            });
  return models;
}

absl::StatusOr<cache::ModelSnapshot> ModelOf(const Uri& uri, const cache::Cache& cache,
                                             const ModelNames& names) {
  absl::StatusOr<cache::ModelSnapshot> model = cache.Model(uri);
  if (model.ok() || names.AliasesOf(uri).empty()) {
    return model;
  }
  return Absent(uri);
}

absl::Status FillPage(const std::vector<cache::ModelSnapshot>& models, const ModelNames& names,
                      const v1::ListModelsRequest& request, v1::ListModelsResponse& response) {
  ASSIGN_OR_RETURN(Page page, PageOf(models.size(), request.page_size(), request.page_token(), ""));
  AddEntries(page, "", [&](size_t i) {
    v1::ModelSummary& added = *response.add_models();
    added = ToProto(models[i], names);
    return added.ByteSizeLong();
  });
  response.set_next_page_token(std::move(page.next_token));
  return absl::OkStatus();
}

}  // namespace weightd::service
