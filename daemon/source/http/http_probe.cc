#include "daemon/source/http/http_probe.h"

#include "common/status.h"

namespace weightd::source {

absl::Status Probe::OnHead(const Answer& answer) {
  ASSIGN_OR_RETURN(version_, VersionFrom(answer, uri_));
  version_->trail = trail_;
  return absl::OkStatus();
}

std::string ChecksumProbe::IfMatch() const { return object_->strong ? object_->validator : ""; }

absl::Status ChecksumProbe::OnHead(const Answer& answer) {
  RETURN_IF_ERROR(CheckVersion(answer, *object_));
  answer_ = answer;
  return absl::OkStatus();
}

}  // namespace weightd::source
