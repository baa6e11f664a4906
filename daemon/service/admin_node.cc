// What operators do to the node before another daemon takes over.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "daemon/service/admin_service.h"
#include "daemon/service/convert.h"

namespace weightd::service {
namespace {

constexpr absl::Duration kLongestWait = absl::Hours(24);
// Of a keeper; ours has to answer an operator, and to end within its own grace period.
constexpr absl::Duration kKeeperPatience = absl::Seconds(3);

// Zero for what is no duration, too.
absl::Duration WaitOf(const v1::DrainNodeRequest& request) {
  const absl::Duration wait =
      absl::Seconds(request.wait().seconds()) + absl::Nanoseconds(request.wait().nanos());
  return std::clamp(wait, absl::ZeroDuration(), kLongestWait);
}

}  // namespace

absl::Status AdminService::Drain(const v1::DrainNodeRequest& request,
                                 v1::DrainNodeResponse& response) const {
  ASSIGN_OR_RETURN(const cache::StoppedLoads loads,
                   daemon_.cache->StopLoads(absl::Now() + WaitOf(request)));
  const cache::HandedOver handed = daemon_.cache->HandOver(absl::Now() + kKeeperPatience);
  response.set_loads_ended(loads.ended);
  response.set_loads_stopped(loads.stopped);
  response.set_kept_models(handed.kept_models);
  response.set_kept_bytes(handed.kept_bytes);
  response.set_lost_models(handed.lost_models);
  if (daemon_.keeper) {
    *response.mutable_keeper() = daemon_.keeper();
    const v1::KeeperStatus& keeper = response.keeper();
    response.set_handed_over(handed.confirmed && handed.lost_models == 0 && keeper.reachable() &&
                             keeper.refused() == 0);
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AdminService::DrainNode(grpc::CallbackServerContext* context,
                                                  const v1::DrainNodeRequest* request,
                                                  v1::DrainNodeResponse* response) {
  const absl::Duration wait = WaitOf(*request);
  const std::string details =
      wait == absl::ZeroDuration() ? "" : absl::StrCat("wait=", absl::FormatDuration(wait));
  return calls_.AnswerLater(context, {"DrainNode", {}, details}, blocking_calls_,
                            [this, request, response] { return Drain(*request, *response); });
}

grpc::ServerUnaryReactor* AdminService::ResumeNode(grpc::CallbackServerContext* context,
                                                   const v1::ResumeNodeRequest* /*request*/,
                                                   v1::ResumeNodeResponse* response) {
  return calls_.Answer(context, {"ResumeNode"}, [&](const Caller&) -> absl::Status {
    ASSIGN_OR_RETURN(const bool was_draining, daemon_.cache->ResumeLoads());
    response->set_was_draining(was_draining);
    return absl::OkStatus();
  });
}

}  // namespace weightd::service
