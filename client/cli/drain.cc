#include "client/cli/drain.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "client/cli/interrupt.h"
#include "client/cli/json_writer.h"
#include "client/cli/progress.h"
#include "client/cli/reports.h"
#include "common/cancellation.h"
#include "common/printable_text.h"
#include "common/status.h"

namespace weightd::cli {
namespace {

using client::AdminClient;

// A drain that is over by then says what it did, and nothing of what it waited for.
constexpr absl::Duration kLook = absl::Milliseconds(500);

// Tells which loads still run, whenever others do, and how far they are together.
class LoadsPrinter {
 public:
  explicit LoadsPrinter(const Streams& streams) : streams_(streams) {}

  void Show(const std::vector<v1::ModelSummary>& models) {
    std::set<std::string> names;
    v1::LoadProgress together;
    for (const v1::ModelSummary& model : models) {
      if (model.state() == v1::LOADING) {
        names.insert(PrintableText(model.model()));
        together.set_phase(std::max(together.phase(), model.progress().phase()));
        together.set_bytes_done(together.bytes_done() + model.progress().bytes_done());
        together.set_bytes_total(together.bytes_total() + model.progress().bytes_total());
      }
    }
    if (names != names_) {
      Finish();
      names_ = names;
      printer_.emplace(streams_.err, streams_.is_terminal, streams_.columns);
      if (!names.empty()) {
        streams_.err << "waiting for " << names.size()
                     << (names.size() == 1 ? " load: " : " loads: ") << absl::StrJoin(names, ", ")
                     << '\n'
                     << std::flush;
      }
    }
    if (!names.empty()) {
      printer_->Show(together, absl::Now());
    }
  }

  void Finish() {
    if (printer_.has_value()) {
      printer_->Finish();
    }
  }

 private:
  const Streams& streams_;
  std::set<std::string> names_;
  std::optional<ProgressPrinter> printer_;
};

absl::Status GoesOn() {
  return Error(Reason::kCancelled, "interrupted; the drain goes on in the daemon",
               "weightctl resume undoes it, weightctl drain --wait gives its loads another time");
}

absl::StatusOr<v1::DrainNodeResponse> DrainNode(const AdminClient& daemon,
                                                const Arguments& arguments, const Streams& streams,
                                                Cancellation& interrupted) {
  absl::Notification over;
  absl::StatusOr<v1::DrainNodeResponse> drained = absl::UnknownError("not drained yet");
  std::thread draining([&] {
    drained = daemon.DrainNode(arguments.drain_wait, &interrupted);
    over.Notify();
  });
  LoadsPrinter printer(streams);
  while (!over.WaitForNotificationWithTimeout(kLook)) {
    if (arguments.json) {
      continue;
    }
    if (const auto models = daemon.ListModels(); models.ok() && !over.HasBeenNotified()) {
      printer.Show(*models);
    }
  }
  draining.join();
  printer.Finish();
  return !drained.ok() && interrupted.cancelled() ? GoesOn() : drained;
}

absl::Status DrainGpu(const AdminClient::Options& options, const Arguments& arguments,
                      std::ostream& out) {
  ASSIGN_OR_RETURN(const AdminClient daemon, AdminClient::Connect(options));
  ASSIGN_OR_RETURN(const auto drained, daemon.DrainGpu(arguments.gpus.front(), arguments.force));
  arguments.json ? PrintJson(drained, out) : PrintDrained(drained, out);
  return absl::OkStatus();
}

}  // namespace

absl::Status Drain(const AdminClient::Options& options, const Arguments& arguments,
                   const Streams& streams) {
  if (!arguments.gpus.empty()) {
    return DrainGpu(options, arguments, streams.out);
  }
  Cancellation interrupted;
  // Before gRPC's threads, which would take the signal.
  const Interrupt interrupt(&interrupted);
  ASSIGN_OR_RETURN(const AdminClient daemon, AdminClient::Connect(options));
  RETURN_IF_ERROR(interrupted.status());
  ASSIGN_OR_RETURN(const auto drained, DrainNode(daemon, arguments, streams, interrupted));
  arguments.json ? PrintJson(drained, streams.out) : PrintNodeDrained(drained, streams.out);
  // Who restarts the daemon next is to notice. Without a keeper nothing else was to be expected.
  return drained.handed_over() || !drained.has_keeper()
             ? absl::OkStatus()
             : Error(Reason::kDeadline, "the keeper doesn't have all that is resident",
                     "see to the keeper, and run weightctl drain again");
}

absl::Status Resume(const AdminClient& daemon, const Arguments& arguments, std::ostream& out) {
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
