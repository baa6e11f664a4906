#include "tests/fakes/memory_source.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/status.h"

namespace weightd::fakes {
namespace {

constexpr uint64_t kStepBytes = 64 << 10;
constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// The spelling that sources are asked with.
std::string Normalised(absl::string_view uri) { return Uri::Parse(uri)->ToString(); }

}  // namespace

void MemorySource::PutVersion(absl::string_view uri, std::string bytes, bool strong) {
  absl::MutexLock lock(&mutex_);
  objects_[Normalised(uri)] = {std::move(bytes), absl::StrCat("version-", next_version_++), strong};
}

void MemorySource::Put(absl::string_view uri, std::string bytes) {
  PutVersion(uri, std::move(bytes), /*strong=*/true);
}

void MemorySource::PutUnpinned(absl::string_view uri, std::string bytes) {
  PutVersion(uri, std::move(bytes), /*strong=*/false);
}

void MemorySource::Remove(absl::string_view uri) {
  absl::MutexLock lock(&mutex_);
  objects_.erase(Normalised(uri));
}

void MemorySource::FailStat(absl::string_view uri, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  stat_faults_[Normalised(uri)] = std::move(error);
}

void MemorySource::FailRead(absl::string_view uri, uint64_t at, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  read_faults_[Normalised(uri)] = {at, std::move(error)};
}

void MemorySource::SetChecksums(absl::string_view uri, std::vector<source::Checksum> checksums,
                                std::vector<source::Checksum> inferred) {
  absl::MutexLock lock(&mutex_);
  Object& object = objects_.at(Normalised(uri));
  object.checksums = std::move(checksums);
  object.inferred = std::move(inferred);
}

void MemorySource::FlipBit(absl::string_view uri, uint64_t at, int times) {
  absl::MutexLock lock(&mutex_);
  flips_[Normalised(uri)] = {at, times};
}

void MemorySource::MendWhenDistrusted() {
  absl::MutexLock lock(&mutex_);
  mends_ = true;
}

void MemorySource::SetCanList(bool can_list) {
  absl::MutexLock lock(&mutex_);
  can_list_ = can_list;
}

void MemorySource::HoldReadsAfter(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  allowance_ = bytes;
}

void MemorySource::ReleaseReads() {
  absl::MutexLock lock(&mutex_);
  allowance_ = kUnlimited;
}

bool MemorySource::AwaitHeldRead() {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(
      absl::Condition(+[](int* held) { return *held > 0; }, &held_reads_), absl::Minutes(1));
}

std::vector<MemorySource::RecordedRead> MemorySource::reads() const {
  absl::MutexLock lock(&mutex_);
  return reads_;
}

std::vector<std::string> MemorySource::stats() const {
  absl::MutexLock lock(&mutex_);
  return stats_;
}

uint64_t MemorySource::bytes_read() const {
  absl::MutexLock lock(&mutex_);
  return bytes_read_;
}

absl::StatusOr<source::ObjectVersion> MemorySource::Stat(const Uri& uri,
                                                         const source::ReadPolicy& policy,
                                                         Cancellation& cancellation) {
  (void)policy;
  RETURN_IF_ERROR(cancellation.status());
  absl::MutexLock lock(&mutex_);
  const std::string name = uri.ToString();
  stats_.push_back(name);
  if (const auto fault = stat_faults_.find(name);
      fault != stat_faults_.end() && !fault->second.ok()) {
    return fault->second;
  }
  const auto found = objects_.find(name);
  if (found == objects_.end()) {
    return Error(Reason::kModelNotFound, "no such object");
  }
  source::ObjectVersion version;
  version.uri = uri;
  version.size = found->second.bytes.size();
  version.validator = found->second.validator;
  version.strong = found->second.strong;
  return version;
}

absl::StatusOr<std::vector<std::string>> MemorySource::List(const Uri& folder,
                                                            const source::ReadPolicy& policy,
                                                            Cancellation& cancellation) {
  (void)policy;
  RETURN_IF_ERROR(cancellation.status());
  absl::MutexLock lock(&mutex_);
  if (!can_list_) {
    return Error(Reason::kUnsupported, "this source can't list");
  }
  const std::string prefix =
      folder.IsFolder() ? folder.ToString() : absl::StrCat(folder.ToString(), "/");
  std::vector<std::string> names;
  for (const auto& [name, object] : objects_) {
    if (absl::StartsWith(name, prefix) && !absl::StrContains(name.substr(prefix.size()), '/')) {
      names.push_back(name.substr(prefix.size()));
    }
  }
  return names;
}

absl::StatusOr<std::vector<source::Checksum>> MemorySource::Checksums(
    const source::ObjectVersion& version, PartSizes part_sizes, const source::ReadPolicy& policy,
    Cancellation& cancellation) {
  (void)policy;
  RETURN_IF_ERROR(cancellation.status());
  absl::MutexLock lock(&mutex_);
  const auto found = objects_.find(version.uri.ToString());
  if (found == objects_.end() || found->second.validator != version.validator) {
    return Error(Reason::kSourceChanged, absl::StrCat(version.uri.FileName(), " has changed"));
  }
  const Object& object = found->second;
  return part_sizes == PartSizes::kInferred && !object.inferred.empty() ? object.inferred
                                                                        : object.checksums;
}

absl::StatusOr<uint64_t> MemorySource::ReadStep(const source::ObjectVersion& version,
                                                ByteRange range, std::byte* destination,
                                                Cancellation& cancellation) {
  absl::MutexLock lock(&mutex_);
  const std::string name = version.uri.ToString();
  const absl::Condition open(+[](uint64_t* allowance) { return *allowance > 0; }, &allowance_);
  if (allowance_ == 0) {
    ++held_reads_;
    while (!mutex_.AwaitWithTimeout(open, absl::Milliseconds(5)) && !cancellation.cancelled()) {
    }
    --held_reads_;
  }
  RETURN_IF_ERROR(cancellation.status());
  const auto found = objects_.find(name);
  if (found == objects_.end() || found->second.validator != version.validator) {
    return Error(Reason::kSourceChanged, absl::StrCat(version.uri.FileName(), " has changed"));
  }
  uint64_t length = std::min({range.size(), kStepBytes, allowance_});
  if (const auto fault = read_faults_.find(name);
      fault != read_faults_.end() && !fault->second.error.ok() && fault->second.at < range.end) {
    if (fault->second.at <= range.begin) {
      return fault->second.error;
    }
    length = std::min(length, fault->second.at - range.begin);
  }
  memcpy(destination, found->second.bytes.data() + range.begin, length);
  if (const auto flip = flips_.find(name); flip != flips_.end() && flip->second.times > 0 &&
                                           flip->second.at >= range.begin &&
                                           flip->second.at < range.begin + length) {
    --flip->second.times;
    destination[flip->second.at - range.begin] ^= std::byte{1};
  }
  bytes_read_ += length;
  if (allowance_ != kUnlimited) {
    allowance_ -= length;
  }
  return length;
}

bool MemorySource::Distrust(absl::Span<const source::ObjectVersion* const> objects,
                            const source::ReadPolicy& policy, Cancellation& cancellation) {
  (void)policy;
  (void)cancellation;
  absl::MutexLock lock(&mutex_);
  size_t mended = 0;
  for (const source::ObjectVersion* object : objects) {
    mended += mends_ ? flips_.erase(object->uri.ToString()) : 0;
  }
  return mended > 0;
}

absl::Status MemorySource::Read(absl::Span<const source::ReadRequest> requests,
                                const source::ReadPolicy& policy,
                                const source::ReadObserver& observer, Cancellation& cancellation) {
  (void)policy;
  {
    absl::MutexLock lock(&mutex_);
    for (const source::ReadRequest& request : requests) {
      reads_.push_back({request.object->uri.ToString(), request.range});
    }
  }
  for (size_t index = 0; index < requests.size(); ++index) {
    const source::ReadRequest& request = requests[index];
    ByteRange rest = request.range;
    if (rest.begin > rest.end || rest.end > request.object->size) {
      return Error(Reason::kInternal, "a read outside the object");
    }
    while (!rest.empty()) {
      std::byte* const destination = request.destination + (rest.begin - request.range.begin);
      ASSIGN_OR_RETURN(const uint64_t length,
                       ReadStep(*request.object, rest, destination, cancellation));
      rest.begin += length;
      observer.on_bytes(length);
    }
    observer.on_request_done(index);
  }
  return absl::OkStatus();
}

}  // namespace weightd::fakes
