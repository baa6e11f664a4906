#include "daemon/pipeline/uploads.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

#include "common/status.h"
#include "daemon/pipeline/parallel.h"

namespace weightd::pipeline {

void Uploads::Begin(uint64_t device_bytes, std::vector<device::CopyRun> runs,
                    const Source& source) {
  runs_ = std::move(runs);
  std::vector<std::optional<device::UploadPlan>> plans;
  for (const GpuId& gpu : destinations_.gpus) {
    uploads_.push_back(std::make_unique<OneUpload>());
    uploads_.back()->gpu = gpu;
    plans.emplace_back();
    absl::StatusOr<device::Reservation> room = destinations_.make_room_on(gpu, device_bytes);
    absl::StatusOr<Fd> opened = source.open();
    if (!room.ok() || !opened.ok()) {
      Fail(*uploads_.back(), room.ok() ? opened.status() : room.status());
      continue;
    }
    plans.back() = device::UploadPlan{.reservation = *std::move(room),
                                      .device_bytes = device_bytes,
                                      .handles = destinations_.handles,
                                      .mark = destinations_.mark,
                                      .runs = runs_,
                                      .source = *std::move(opened),
                                      .source_bytes = source.bytes,
                                      .pin_source = source.pin};
  }
  // A worker may have to start first.
  (void)ForEachAtOnce(plans.size(), [&](size_t i) {
    if (plans[i].has_value()) {
      absl::StatusOr<std::unique_ptr<device::Upload>> begun =
          gpus_->BeginUpload(*std::move(plans[i]));
      if (begun.ok()) {
        uploads_[i]->upload = *std::move(begun);
      } else {
        Fail(*uploads_[i], begun.status());
      }
    }
    return absl::OkStatus();
  });
}

void Uploads::Fail(OneUpload& one, const absl::Status& failure) {
  one.failure = failure;
  one.failed = true;
}

Uploads::Copies Uploads::Copy(ByteRange host, uint64_t source_offset) {
  const auto run = std::partition_point(
      runs_.begin(), runs_.end(),
      [&](const device::CopyRun& other) { return other.host.end <= host.begin; });
  Copies copies;
  if (run == runs_.end() || run->host.begin >= host.end) {
    return copies;
  }
  for (const std::unique_ptr<OneUpload>& one : uploads_) {
    copies.push_back(one->failed ? 0 : one->upload->Copy(host, source_offset));
  }
  return copies;
}

absl::Status Uploads::Await(const Copies& copies, Cancellation& cancellation) {
  for (size_t i = 0; i < copies.size(); ++i) {
    OneUpload& one = *uploads_[i];
    if (one.failed) {
      continue;
    }
    const absl::Status done = one.upload->Await(copies[i], cancellation);
    RETURN_IF_ERROR(cancellation.status());
    if (!done.ok()) {
      Fail(one, done);
    }
  }
  return status();
}

absl::Status Uploads::status() const {
  const auto lives = [](const std::unique_ptr<OneUpload>& one) { return !one->failed; };
  if (uploads_.empty() || std::any_of(uploads_.begin(), uploads_.end(), lives)) {
    return absl::OkStatus();
  }
  return uploads_.front()->failure;
}

absl::Status Uploads::Finish(Cancellation& cancellation, ResidentModel& model) {
  for (const std::unique_ptr<OneUpload>& one : uploads_) {
    if (!one->failed) {
      absl::StatusOr<std::shared_ptr<device::Segment>> finished = one->upload->Finish(cancellation);
      RETURN_IF_ERROR(cancellation.status());
      if (finished.ok()) {
        model.copies.push_back(*std::move(finished));
        continue;
      }
      Fail(*one, finished.status());
    }
    model.copy_failures.emplace_back(one->gpu, one->failure);
  }
  return destinations_.host ? absl::OkStatus() : status();
}

}  // namespace weightd::pipeline
