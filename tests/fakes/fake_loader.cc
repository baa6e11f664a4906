#include "tests/fakes/fake_loader.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/byte_range.h"
#include "common/fd.h"
#include "common/mapping.h"
#include "common/status.h"
#include "daemon/host/host_segment.h"
#include "daemon/pipeline/device_layout.h"
#include "daemon/pipeline/digests.h"
#include "daemon/source/checksum.h"

namespace weightd::fakes {
namespace {

absl::StatusOr<std::shared_ptr<host::HostSegment>> SealFilled(absl::string_view label,
                                                              uint64_t bytes, int value,
                                                              host::Reservation room) {
  ASSIGN_OR_RETURN(host::WritableSegment segment,
                   host::WritableSegment::Create(label, bytes, std::move(room)));
  std::memset(segment.bytes().data(), value, segment.bytes().size());
  return std::move(segment).Seal();
}

// Each byte of the model that it stands for.
int ValueOf(const RevisionId& revision) { return std::stoi(revision.hex().substr(0, 8)) % 256; }

absl::StatusOr<Fd> FilledMemory(uint64_t bytes, int value) {
  Fd memfd(memfd_create("fake-loader", MFD_CLOEXEC));
  if (!memfd.valid() || ftruncate(memfd.get(), static_cast<off_t>(bytes)) != 0) {
    return ErrnoError(errno, "make memory");
  }
  ASSIGN_OR_RETURN(const Mapping mapping,
                   Mapping::Map(memfd.get(), bytes, Mapping::Access::kSharedWritable));
  std::memset(mapping.data(), value, bytes);
  return memfd;
}

}  // namespace

// Of no bytes; its clones are made when the loader's gate is open.
class FakeLoader::GatedHasher final : public source::Hasher {
 public:
  explicit GatedHasher(FakeLoader* loader)
      : loader_(*loader), hasher_(source::MakeHasher(source::ChecksumKind::kSha256)) {}

  void Update(absl::Span<const std::byte> bytes) override { hasher_->Update(bytes); }
  std::string Finish() override { return hasher_->Finish(); }
  std::unique_ptr<Hasher> Clone() const override {
    absl::MutexLock lock(&loader_.mutex_);
    loader_.hashing_waits_ = true;
    loader_.mutex_.Await(absl::Condition(&loader_.hashing_open_));
    return hasher_->Clone();
  }

 private:
  FakeLoader& loader_;
  const std::unique_ptr<source::Hasher> hasher_;
};

RevisionId MakeRevision(int number) {
  return RevisionId(absl::StrFormat("%08d", number) + std::string(56, '0'));
}

void FakeLoader::UseGpus(device::Gpus* gpus) {
  absl::MutexLock lock(&mutex_);
  gpus_ = gpus;
}

void FakeLoader::Put(const Uri& uri, int revision, uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  Stored& stored = models_[uri.ToString()];
  stored = {
      .revision = revision, .bytes = bytes, .key = stored.key, .small_files = stored.small_files};
}

void FakeLoader::PutSmallFiles(const Uri& uri, std::vector<std::string> names) {
  absl::MutexLock lock(&mutex_);
  models_[uri.ToString()].small_files = std::move(names);
}

void FakeLoader::Remove(const Uri& uri) {
  absl::MutexLock lock(&mutex_);
  models_.erase(uri.ToString());
}

void FakeLoader::Encrypt(const Uri& uri, const std::string& key) {
  absl::MutexLock lock(&mutex_);
  models_[uri.ToString()].key = key;
}

void FakeLoader::FailResolves(absl::Status error) {
  absl::MutexLock lock(&mutex_);
  resolve_error_ = std::move(error);
}

void FakeLoader::FailLoads(absl::Status error) {
  absl::MutexLock lock(&mutex_);
  load_error_ = std::move(error);
}

void FakeLoader::RefuseNarrowPolicies() {
  absl::MutexLock lock(&mutex_);
  refuse_narrow_ = true;
}

void FakeLoader::ChangeDuringLoads(const Uri& uri, int times) {
  absl::MutexLock lock(&mutex_);
  models_[uri.ToString()].changes_to_come = times;
}

void FakeLoader::CloseGate() {
  absl::MutexLock lock(&mutex_);
  open_ = false;
}

void FakeLoader::OpenGate() {
  absl::MutexLock lock(&mutex_);
  open_ = true;
}

void FakeLoader::IgnoreCancellation() {
  absl::MutexLock lock(&mutex_);
  ignore_cancellation_ = true;
}

void FakeLoader::CloseHashing() {
  absl::MutexLock lock(&mutex_);
  hashing_open_ = false;
}

void FakeLoader::OpenHashing() {
  absl::MutexLock lock(&mutex_);
  hashing_open_ = true;
}

void FakeLoader::AwaitHashing() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&hashing_waits_));
}

void FakeLoader::AwaitLoads(int count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return loads_ >= count; };
  mutex_.Await(absl::Condition(&enough));
}

void FakeLoader::AwaitResolves(int count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return resolves_ >= count; };
  mutex_.Await(absl::Condition(&enough));
}

void FakeLoader::AwaitIdle() {
  absl::MutexLock lock(&mutex_);
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return running_ == 0; };
  mutex_.Await(absl::Condition(&idle));
}

int FakeLoader::resolves() const {
  absl::MutexLock lock(&mutex_);
  return resolves_;
}

int FakeLoader::loads() const {
  absl::MutexLock lock(&mutex_);
  return loads_;
}

int FakeLoader::most_at_once() const {
  absl::MutexLock lock(&mutex_);
  return most_at_once_;
}

bool FakeLoader::awaited() const {
  absl::MutexLock lock(&mutex_);
  return last_->awaited;
}

std::string FakeLoader::last_key() const {
  absl::MutexLock lock(&mutex_);
  return last_key_;
}

pipeline::KnownSmallFiles FakeLoader::last_known() const {
  absl::MutexLock lock(&mutex_);
  return last_known_;
}

absl::StatusOr<pipeline::ResolvedModel> FakeLoader::Resolve(const Uri& uri,
                                                            const source::ReadPolicy& policy,
                                                            const pipeline::KnownSmallFiles& known,
                                                            Cancellation& cancellation) {
  RETURN_IF_ERROR(cancellation.status());
  absl::MutexLock lock(&mutex_);
  ++resolves_;
  last_known_ = known;
  RETURN_IF_ERROR(resolve_error_);
  if (refuse_narrow_ && !policy.any_path) {
    return Error(Reason::kNotAllowed, "not for this policy");
  }
  const auto found = models_.find(uri.ToString());
  if (found == models_.end()) {
    return Error(Reason::kModelNotFound, absl::StrCat("no ", uri.Redacted()));
  }
  pipeline::ResolvedModel resolved;
  resolved.uri = uri;
  resolved.revision = MakeRevision(found->second.revision);
  resolved.files.resize(1);
  resolved.files[0].version.uri = uri;
  resolved.total_bytes = found->second.bytes;
  for (const std::string& name : found->second.small_files) {
    resolved.small_files.push_back({.file = {.name = name, .version = {}}});
  }
  return resolved;
}

absl::StatusOr<pipeline::ResidentModel> FakeLoader::Load(
    const pipeline::ResolvedModel& resolved, const source::ReadPolicy&,
    const std::optional<pipeline::ModelKey>& key, const pipeline::MakeRoom& make_room,
    const pipeline::Destinations& destinations, pipeline::Progress& progress,
    Cancellation& cancellation) {
  const std::string secret = key.has_value() ? std::string(key->secret.bytes()) : "";
  {
    absl::MutexLock lock(&mutex_);
    most_at_once_ = std::max(most_at_once_, ++running_);
    last_ = &progress;
  }
  const auto attempt = [&]() -> absl::StatusOr<pipeline::ResidentModel> {
    progress.phase = pipeline::Phase::kReserving;
    ASSIGN_OR_RETURN(host::Reservation room,
                     make_room((destinations.host ? resolved.total_bytes : 0) + kPageBytes +
                               (resolved.small_files.empty() ? 0 : kPageBytes)));
    progress.bytes_total = resolved.total_bytes;
    progress.bytes_done = resolved.total_bytes / 2;
    progress.phase = pipeline::Phase::kTransferring;
    RETURN_IF_ERROR(PassGate(secret, cancellation));
    RETURN_IF_ERROR(Check(resolved, secret));
    ASSIGN_OR_RETURN(pipeline::ResidentModel model,
                     Fill(resolved, destinations.host, std::move(room)));
    if (!destinations.gpus.empty()) {
      progress.phase = pipeline::Phase::kCopying;
      RETURN_IF_ERROR(CopyToGpus(destinations, cancellation, model));
    }
    return model;
  };
  auto model = attempt();
  absl::MutexLock lock(&mutex_);
  --running_;
  return model;
}

absl::Status FakeLoader::PassGate(const std::string& key, Cancellation& cancellation) {
  absl::MutexLock lock(&mutex_);
  ++loads_;
  last_key_ = key;
  while (!open_ && (ignore_cancellation_ || !cancellation.cancelled())) {
    const auto open = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return open_; };
    mutex_.AwaitWithTimeout(absl::Condition(&open), absl::Milliseconds(1));
  }
  return cancellation.status();
}

absl::Status FakeLoader::Check(const pipeline::ResolvedModel& resolved, const std::string& key) {
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(load_error_);
  Stored& stored = models_[resolved.uri.ToString()];
  if (stored.changes_to_come > 0) {
    --stored.changes_to_come;
    ++stored.revision;
  }
  if (resolved.revision != MakeRevision(stored.revision)) {
    return Error(Reason::kSourceChanged, "the object changed while it was read");
  }
  if (key != stored.key) {
    return key.empty() ? Error(Reason::kKeyMissing, "it is encrypted")
                       : Error(Reason::kKeyRefused, "it is not of this key");
  }
  return absl::OkStatus();
}

absl::StatusOr<pipeline::ResidentModel> FakeLoader::Fill(const pipeline::ResolvedModel& resolved,
                                                         bool host, host::Reservation room) {
  const std::string label =
      absl::StrCat(resolved.uri.Redacted(), "@", resolved.revision.hex().substr(0, 12));
  const int value = ValueOf(resolved.revision);
  pipeline::ResidentModel model;
  model.index.uri = resolved.uri;
  model.index.revision = resolved.revision;
  model.index.files = resolved.files;
  model.index.segment_bytes = resolved.total_bytes;
  model.index.pieces.push_back({.name = "weight",
                                .torch_type = {},
                                .shape = {resolved.total_bytes},
                                .nbytes = resolved.total_bytes});
  pipeline::LayOutOnDevice(model.index);
  // Of one file without a byte.
  std::vector<pipeline::Digests::Header> headers;
  headers.push_back({.sha256 = std::make_unique<GatedHasher>(this), .bytes = 0});
  model.digests = std::make_shared<pipeline::Digests>(model.index, std::move(headers));
  model.encoded_index_bytes = kPageBytes;
  host::Reservation index_room = room.Split(kPageBytes);
  ASSIGN_OR_RETURN(model.encoded_index, SealFilled(absl::StrCat(label, " index"), kPageBytes, value,
                                                   std::move(index_room)));
  model.index.small_files = resolved.small_files;
  if (!resolved.small_files.empty()) {
    model.small_file_bytes = kPageBytes;
    ASSIGN_OR_RETURN(model.small_files, SealFilled(absl::StrCat(label, " files"), kPageBytes, value,
                                                   room.Split(kPageBytes)));
  }
  if (host) {
    ASSIGN_OR_RETURN(model.weights,
                     SealFilled(label, resolved.total_bytes, value, std::move(room)));
  }
  return model;
}

absl::Status FakeLoader::CopyToGpus(const pipeline::Destinations& destinations,
                                    Cancellation& cancellation, pipeline::ResidentModel& model) {
  device::Gpus* gpus = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    gpus = gpus_;
  }
  const uint64_t bytes = model.index.segment_bytes;
  const auto copy = [&](const GpuId& gpu) -> absl::StatusOr<std::shared_ptr<device::Segment>> {
    device::UploadPlan plan;
    plan.device_bytes = model.index.device_bytes;
    ASSIGN_OR_RETURN(plan.reservation, destinations.make_room_on(gpu, plan.device_bytes));
    plan.handles = destinations.handles;
    plan.mark = destinations.mark;
    plan.runs = pipeline::CopyRunsOf(model.index);
    ASSIGN_OR_RETURN(plan.source, FilledMemory(bytes, ValueOf(model.index.revision)));
    plan.source_bytes = bytes;
    ASSIGN_OR_RETURN(const std::unique_ptr<device::Upload> upload,
                     gpus->BeginUpload(std::move(plan)));
    upload->Copy({0, bytes}, 0);
    return upload->Finish(cancellation);
  };
  for (const GpuId& gpu : destinations.gpus) {
    auto copied = copy(gpu);
    RETURN_IF_ERROR(cancellation.status());
    if (copied.ok()) {
      model.copies.push_back(*std::move(copied));
    } else {
      model.copy_failures.emplace_back(gpu, copied.status());
    }
  }
  return model.weights == nullptr && model.copies.empty() ? model.copy_failures.front().second
                                                          : absl::OkStatus();
}

}  // namespace weightd::fakes
