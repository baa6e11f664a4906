#include "client/cli/commands.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/complete_command.h"
#include "client/cli/completion.h"
#include "client/cli/convert.h"
#include "client/cli/doctor.h"
#include "client/cli/drain.h"
#include "client/cli/health.h"
#include "client/cli/inspect.h"
#include "client/cli/interrupt.h"
#include "client/cli/json_writer.h"
#include "client/cli/key_option.h"
#include "client/cli/node_readings.h"
#include "client/cli/progress.h"
#include "client/cli/push.h"
#include "client/cli/remote_options.h"
#include "client/cli/reports.h"
#include "client/cli/store_access.h"
#include "client/cli/wait.h"
#include "client/cli/watch/live.h"
#include "client/cpp/admin_client.h"
#include "client/cpp/socket_dir.h"
#include "common/cancellation.h"
#include "common/huge_pages.h"
#include "common/printable_text.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/source/registry.h"
#include "weightd/v1/error.pb.h"

namespace weightd::cli {
namespace {

using client::AdminClient;

// So many times --timeout a daemon that was there may be gone, as when it is restarted.
constexpr int kTimeoutsToReturn = 6;

// A path in this folder is what a shell's user means by a model that is a local file; the daemon
// wants it absolute.
std::string ModelName(const std::string& given) {
  std::error_code error;
  const bool is_relative_path = absl::StartsWith(given, "./") || absl::StartsWith(given, "../");
  return is_relative_path ? std::filesystem::absolute(given, error).lexically_normal().string()
                          : given;
}

// The one GPU that a command is about; empty if it is about none.
std::string GpuOf(const Arguments& arguments) {
  return arguments.gpus.empty() ? "" : arguments.gpus.front();
}

template <typename T, typename PrintTable, typename PrintJsonOf>
absl::Status Print(const absl::StatusOr<T>& result, bool json, PrintTable table,
                   PrintJsonOf json_of) {
  if (!result.ok()) {
    return result.status();
  }
  json ? json_of(*result) : table(*result);
  return absl::OkStatus();
}

absl::Status Preload(const AdminClient& daemon, const Arguments& arguments,
                     const Streams& streams) {
  ASSIGN_OR_RETURN(const auto key, ReadKeyOption("--key", arguments.key));
  AdminClient::PreloadOptions options = {
      .pin = arguments.pin, .pins = arguments.pins, .gpus = arguments.gpus};
  if (key.has_value()) {
    (key->password ? options.password : options.key) = key->secret.bytes();
  }
  ProgressPrinter printer(streams.err, streams.is_terminal, streams.columns);
  const auto model =
      daemon.Preload(ModelName(arguments.model), options, [&](const v1::LoadProgress& progress) {
        if (!arguments.json) {
          printer.Show(progress, absl::Now());
        }
        return arguments.wait;
      });
  printer.Finish();
  return Print(
      model, arguments.json, [&](const auto& summary) { PrintModelLine(summary, streams.out); },
      [&](const auto& summary) { PrintJson(summary, streams.out); });
}

absl::StatusOr<InspectedModel> InspectModel(const Arguments& arguments) {
  if (!absl::StrContains(arguments.model, "://")) {
    return InspectPath(arguments.model);
  }
  ASSIGN_OR_RETURN(const Uri uri, Uri::Parse(arguments.model));
  ASSIGN_OR_RETURN(const source::Registry sources, MakeSources(arguments.convert.store));
  Cancellation cancellation;
  return InspectUri(sources, uri, cancellation);
}

absl::Status Inspect(const Arguments& arguments, const Streams& streams) {
  return Print(
      InspectModel(arguments), arguments.json,
      [&](const auto& model) { PrintInspected(model, streams.out); },
      [&](const auto& model) { PrintInspectedJson(model, streams.out); });
}

// The bar of a load, of other transfers.
v1::LoadProgress AsLoad(const source::UploadProgress& progress) {
  v1::LoadProgress load;
  load.set_phase(progress.sending ? v1::TRANSFERRING : v1::RESOLVING);
  load.set_bytes_done(progress.bytes_done);
  load.set_bytes_total(progress.bytes_total);
  return load;
}

v1::LoadProgress AsLoad(const convert::Progress& progress) {
  v1::LoadProgress load;
  load.set_phase(v1::TRANSFERRING);
  load.set_bytes_done(progress.bytes_done);
  load.set_bytes_total(progress.bytes_total);
  return load;
}

// Runs `transfer`, which this process makes itself, with a bar, until it ends or is interrupted.
template <typename Transfer>
auto WithBar(const Arguments& arguments, const Streams& streams, Transfer transfer) {
  // A store that closes a connection must not end us, nor a file that the shell limits.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  Cancellation cancellation;
  const Interrupt interrupt(&cancellation);
  ProgressPrinter printer(streams.err, streams.is_terminal, streams.columns);
  const auto report = [&](const auto& progress) {
    if (!arguments.json) {
      printer.Show(AsLoad(progress), absl::Now());
    }
  };
  auto result = transfer(report, cancellation);
  printer.Finish();
  return result;
}

absl::Status PushModel(const Arguments& arguments, const Streams& streams) {
  const auto push = [&](const auto& report, Cancellation& cancellation) {
    return Push(arguments.push, report, cancellation);
  };
  return Print(
      WithBar(arguments, streams, push), arguments.json,
      [&](const auto& result) { PrintPushed(result, streams.out); },
      [&](const auto& result) { PrintPushedJson(result, streams.out); });
}

absl::Status Convert(const Arguments& arguments, const Streams& streams) {
  const auto convert = [&](const auto& report, Cancellation& cancellation) {
    return ConvertModel(arguments.convert, report, cancellation);
  };
  return Print(
      WithBar(arguments, streams, convert), arguments.json,
      [&](const auto& result) { PrintConverted(result, streams.out); },
      [&](const auto& result) { PrintConvertedJson(result, streams.out); });
}

absl::Status Verify(const Arguments& arguments, const Streams& streams) {
  const auto verify = [&](const auto& report, Cancellation& cancellation) {
    return VerifyInput(arguments.convert, report, cancellation);
  };
  const auto verified = WithBar(arguments, streams, verify);
  RETURN_IF_ERROR(Print(
      verified, arguments.json, [&](const auto& tensors) { PrintVerified(tensors, streams.out); },
      [&](const auto& tensors) { PrintVerifiedJson(tensors, streams.out); }));
  const auto wrong = std::find_if(verified->begin(), verified->end(),
                                  [](const auto& tensor) { return !tensor.status.ok(); });
  return wrong == verified->end() ? absl::OkStatus() : wrong->status;
}

absl::Status Doctor(const Arguments& arguments, const Streams& streams) {
  const std::string socket_dir = client::ResolveSocketDir(arguments.socket_dir);
  NodeReadings node = ReadNode(socket_dir, arguments.cuda_driver);
  if (arguments.fix && !node.shmem_enabled.empty() && !HugePagesAllowed(node.shmem_enabled)) {
    RETURN_IF_ERROR(AllowHugePagesForSharedMemory());
    node = ReadNode(socket_dir, arguments.cuda_driver);
  }
  const std::vector<Finding> findings = Diagnose(node);
  arguments.json ? PrintFindingsJson(findings, streams.out) : PrintFindings(findings, streams.out);
  const auto failed = std::find_if(findings.begin(), findings.end(), [](const Finding& finding) {
    return finding.state == Finding::State::kFail;
  });
  return failed == findings.end()
             ? absl::OkStatus()
             : Error(Reason::kDaemonUnreachable,
                     absl::StrCat("this node cannot use weightd: ", failed->finding),
                     failed->remedy);
}

absl::Status PrintEvents(const AdminClient& daemon, bool json, std::ostream& out) {
  const auto events = daemon.OpenEvents();
  v1::WatchEventsResponse event;
  while (events->Next(event)) {
    json ? PrintJson(event, out) : PrintEvent(event, out);
  }
  return events->Finish();
}

absl::StatusOr<AdminClient::Options> OptionsOf(const Arguments& arguments) {
  AdminClient::Options options = {arguments.socket_dir, arguments.timeout, arguments.remote};
  RETURN_IF_ERROR(CompleteRemote(arguments.socket_dir, options.remote));
  return options;
}

absl::Status AskDaemon(const AdminClient& daemon, const Arguments& arguments,
                       const Streams& streams) {
  const bool json = arguments.json;
  const std::string model = ModelName(arguments.model);
  const auto print_json = [&](const auto& message) { PrintJson(message, streams.out); };
  const auto print_model = [&](const auto& summary) { PrintModelLine(summary, streams.out); };
  switch (arguments.command) {
    case Command::kStatus:
      return Print(
          daemon.GetStatus(), json, [&](const auto& status) { PrintStatus(status, streams.out); },
          print_json);
    case Command::kPreload:
      return Preload(daemon, arguments, streams);
    case Command::kList:
      return Print(
          daemon.ListModels(), json,
          [&](const auto& models) { PrintModels(models, absl::Now(), streams.out); },
          [&](const auto& models) { PrintModelsJson(models, streams.out); });
    case Command::kShow:
      return Print(
          daemon.DescribeModel(model, arguments.tensors), json,
          [&](const auto& description) { PrintDescription(description, streams.out); }, print_json);
    case Command::kEvict:
      return Print(
          daemon.Evict(model, arguments.force, GpuOf(arguments)), json,
          [&](const auto& evicted) { PrintEvicted(evicted, streams.out); }, print_json);
    case Command::kResume:
      return Resume(daemon, arguments, streams.out);
    case Command::kPin:
      return Print(daemon.Pin(model), json, print_model, print_json);
    case Command::kUnpin:
      return Print(daemon.Unpin(model), json, print_model, print_json);
    case Command::kLeases:
      return Print(
          daemon.ListLeases(model), json,
          [&](const auto& leases) { PrintLeases(leases, absl::Now(), streams.out); },
          [&](const auto& leases) { PrintLeasesJson(leases, streams.out); });
    case Command::kConfigured:
      return Print(
          daemon.ListConfiguredModels(), json,
          [&](const auto& models) { PrintConfigured(models, absl::Now(), streams.out); },
          [&](const auto& models) { PrintConfiguredJson(models, streams.out); });
    case Command::kReload:
      return Print(
          daemon.ReloadConfig(), json,
          [&](const auto& reloaded) { PrintReloaded(reloaded, streams.out); }, print_json);
    case Command::kLogLevel:
      return Print(
          daemon.SetLogLevel(arguments.log_level), json,
          [&](const auto& set) { PrintLogLevel(set, arguments.log_level, streams.out); },
          print_json);
    case Command::kMetrics:
      return Print(
          daemon.GetMetrics(), json, [&](const auto& metrics) { streams.out << metrics.text(); },
          print_json);
    case Command::kHealth:
      return ReportHealth(daemon, arguments, model, streams.out);
    case Command::kWatch:
      return PrintEvents(daemon, json, streams.out);
    default:
      return Error(Reason::kInternal, "this command asks no daemon");
  }
}

std::string ReasonName(const absl::Status& status) {
  const int reason = static_cast<int>(ReasonOf(status));
  return v1::ErrorReason_IsValid(reason)
             ? v1::ErrorReason_Name(static_cast<v1::ErrorReason>(reason))
             : "INTERNAL";
}

}  // namespace

absl::Status RunCommand(const Arguments& arguments, const Streams& streams) {
  switch (arguments.command) {
    case Command::kPrintText:
      streams.out << arguments.text;
      return absl::OkStatus();
    case Command::kInspect:
      return Inspect(arguments, streams);
    case Command::kPush:
      return PushModel(arguments, streams);
    case Command::kConvert:
      return Convert(arguments, streams);
    case Command::kVerify:
      return Verify(arguments, streams);
    case Command::kDoctor:
      return Doctor(arguments, streams);
    case Command::kWait:
      return WaitForModel(arguments, ModelName(arguments.model), streams);
    case Command::kCompletion:
      streams.out << CompletionScript(arguments.shell);
      return absl::OkStatus();
    case Command::kDrain: {
      ASSIGN_OR_RETURN(const AdminClient::Options options, OptionsOf(arguments));
      return Drain(options, arguments, streams);
    }
    case Command::kComplete:
      PrintCompletions(arguments.words, streams.out);
      return absl::OkStatus();
    default: {
      ASSIGN_OR_RETURN(const AdminClient::Options options, OptionsOf(arguments));
      if (arguments.command == Command::kWatch && streams.can_draw && !arguments.json &&
          !arguments.events) {
        return WatchLive(options, kTimeoutsToReturn * arguments.timeout);
      }
      ASSIGN_OR_RETURN(const AdminClient daemon, AdminClient::Connect(options));
      return AskDaemon(daemon, arguments, streams);
    }
  }
}

void PrintError(const absl::Status& status, bool json, std::ostream& err) {
  const std::string hint = HintOf(status);
  if (json) {
    JsonWriter object;
    object.BeginObject().Key("error").BeginObject();
    object.Key("reason").String(ReasonName(status));
    object.Key("message").String(status.message());
    object.Key("hint").String(hint).EndObject().EndObject();
    err << object.text() << '\n';
    return;
  }
  err << "weightctl: " << PrintableText(status.message());
  if (!hint.empty()) {
    err << "; " << PrintableText(hint);
  }
  err << '\n';
}

}  // namespace weightd::cli
