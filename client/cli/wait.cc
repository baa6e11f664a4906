#include "client/cli/wait.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/json_writer.h"
#include "client/cli/progress.h"
#include "client/cli/text.h"
#include "client/cpp/client.h"
#include "common/printable_text.h"
#include "common/status.h"

namespace weightd::cli {
namespace {

constexpr absl::Duration kPause = absl::Seconds(1);
constexpr absl::Duration kConnectTimeout = absl::Seconds(5);

// Whether the same may succeed later.
bool MayPass(const absl::Status& status) {
  switch (ReasonOf(status)) {
    // A daemon that starts, and one that loads what this listener may only attach to.
    case Reason::kDaemonUnreachable:
    case Reason::kShuttingDown:
    case Reason::kSessionInvalid:
    case Reason::kModelNotResident:
    case Reason::kTooManyRequests:
    case Reason::kQuotaExceeded:
    case Reason::kSourceUnavailable:
    case Reason::kSourceChanged:
    case Reason::kBudgetExceeded:
    case Reason::kHostMemoryShort:
    case Reason::kCancelled:
      return true;
    default:
      return false;
  }
}

absl::StatusOr<uint64_t> AttachOnce(const Arguments& arguments, const std::string& model,
                                    absl::Time deadline, ProgressPrinter& printer) {
  const absl::Duration left = deadline - absl::Now();
  ASSIGN_OR_RETURN(const auto daemon, client::Client::Connect(
                                          {arguments.socket_dir, std::min(left, kConnectTimeout)}));
  client::AttachOptions options;
  options.timeout = deadline - absl::Now();
  options.progress = [&](const client::LoadProgress& progress) {
    v1::LoadProgress shown;
    shown.set_phase(static_cast<v1::LoadPhase>(progress.phase));
    shown.set_bytes_done(progress.bytes_done);
    shown.set_bytes_total(progress.bytes_total);
    if (!arguments.json) {
      printer.Show(shown, absl::Now());
    }
  };
  ASSIGN_OR_RETURN(const auto attached, daemon.Attach(model, options));
  return attached.bytes().size();
}

absl::Status TooLate(const absl::Status& last, const std::string& model, absl::Duration timeout) {
  return Error(
      Reason::kDeadline,
      absl::StrCat(model, " was not there within ", DurationText(timeout), ": ", last.message()),
      HintOf(last));
}

}  // namespace

absl::Status WaitForModel(const Arguments& arguments, const std::string& model,
                          const Streams& streams) {
  if (!arguments.remote.address.empty()) {
    return Error(Reason::kInvalidArgument,
                 "wait attaches over the sockets of this node, and --address names another one",
                 "leave --address out, or preload the model there");
  }
  const absl::Time begin = absl::Now();
  const absl::Time deadline = begin + arguments.timeout;
  ProgressPrinter printer(streams.err, streams.is_terminal, streams.columns);
  std::string said;
  for (;;) {
    const auto bytes = AttachOnce(arguments, model, deadline, printer);
    printer.Finish();
    if (bytes.ok()) {
      if (arguments.json) {
        JsonWriter json;
        json.BeginObject().Key("model").String(model).Key("bytes").Number(*bytes).EndObject();
        streams.out << json.text() << '\n';
      } else {
        streams.out << PrintableText(model) << ": there, " << BytesText(*bytes) << ", after "
                    << TookText(absl::Now() - begin) << '\n';
      }
      return absl::OkStatus();
    }
    if (!MayPass(bytes.status())) {
      return bytes.status();
    }
    if (absl::Now() + kPause >= deadline) {
      return TooLate(bytes.status(), model, arguments.timeout);
    }
    // Once for each reason: what logs a pod's start wants to know why it waits, not how often.
    if (!arguments.json && bytes.status().message() != said) {
      said = std::string(bytes.status().message());
      streams.err << "waiting: " << PrintableText(said) << '\n' << std::flush;
    }
    absl::SleepFor(kPause);
  }
}

}  // namespace weightd::cli
