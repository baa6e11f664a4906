#include "client/cli/drain.h"

#include "client/cli/json_writer.h"
#include "client/cli/reports.h"
#include "common/status.h"

namespace weightd::cli {

absl::Status Drain(const client::AdminClient& daemon, const Arguments& arguments,
                   std::ostream& out) {
  if (!arguments.gpus.empty()) {
    ASSIGN_OR_RETURN(const auto drained, daemon.DrainGpu(arguments.gpus.front(), arguments.force));
    arguments.json ? PrintJson(drained, out) : PrintDrained(drained, out);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const auto drained, daemon.DrainNode(arguments.drain_wait));
  arguments.json ? PrintJson(drained, out) : PrintNodeDrained(drained, out);
  // Who restarts the daemon next is to notice. Without a keeper nothing else was to be expected.
  return drained.handed_over() || !drained.has_keeper()
             ? absl::OkStatus()
             : Error(Reason::kDeadline, "the keeper doesn't have all that is resident",
                     "see to the keeper, and run weightctl drain again");
}

absl::Status Resume(const client::AdminClient& daemon, const Arguments& arguments,
                    std::ostream& out) {
  if (!arguments.gpus.empty()) {
    ASSIGN_OR_RETURN(const auto resumed, daemon.ResumeGpu(arguments.gpus.front()));
    arguments.json ? PrintJson(resumed, out) : PrintGpuLine(resumed.gpu(), out);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const auto resumed, daemon.ResumeNode());
  if (arguments.json) {
    PrintJson(resumed, out);
  } else {
    out << (resumed.was_draining() ? "loads start again\n" : "the node was not draining\n");
  }
  return absl::OkStatus();
}

}  // namespace weightd::cli
