#include "daemon/service/convert.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "common/utf8.h"
#include "daemon/service/error_detail.h"
#include "daemon/service/paging.h"
#include "daemon/service/tensor_index_codec.h"

namespace weightd::service {
namespace {

google::protobuf::Timestamp ToTimestamp(absl::Time time) {
  google::protobuf::Timestamp timestamp;
  const int64_t nanos = absl::ToUnixNanos(time);
  timestamp.set_seconds(nanos / 1'000'000'000);
  timestamp.set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  return timestamp;
}

cache::ModelSnapshot Absent(Uri uri) {
  cache::ModelSnapshot model;
  model.uri = std::move(uri);
  return model;
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
  if (model.state == cache::ModelState::kLoading) {
    *proto.mutable_progress() = ToProto(model.progress);
  }
  if (model.loaded_at != absl::InfinitePast()) {
    *proto.mutable_loaded_at() = ToTimestamp(model.loaded_at);
  }
  if (model.last_used_at != absl::InfinitePast()) {
    *proto.mutable_last_used_at() = ToTimestamp(model.last_used_at);
  }
  proto.set_last_error(ToUtf8(model.last_error));
  return proto;
}

v1::Lease ToProto(const cache::LeaseSnapshot& lease) {
  v1::Lease proto;
  proto.set_lease_id(lease.id.value());
  proto.set_model(lease.uri.Redacted());
  proto.set_revision(lease.revision.hex());
  proto.set_listener(lease.listener);
  proto.set_uid(lease.uid);
  *proto.mutable_granted_at() = ToTimestamp(lease.granted_at);
  proto.set_claimed(lease.claimed);
  return proto;
}

v1::Event ToProto(const cache::Event& event) {
  v1::Event proto;
  *proto.mutable_time() = ToTimestamp(event.time);
  proto.set_kind(static_cast<v1::Event::Kind>(event.kind));
  proto.set_model(event.uri.Redacted());
  proto.set_revision(event.revision.hex());
  proto.set_lease_id(event.lease.value());
  proto.set_bytes(event.bytes);
  if (!event.error.ok()) {
    *proto.mutable_error() = ToErrorDetail(event.error, proto.model());
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
