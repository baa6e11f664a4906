#include "client/cli/health.h"

#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/json_writer.h"
#include "client/cli/text.h"
#include "common/printable_text.h"
#include "common/status.h"

namespace weightd::cli {
namespace {

std::string MissingText(const v1::ConfiguredModel& model) {
  const std::string state =
      v1::ConfiguredModel::State_IsValid(model.state())
          ? absl::AsciiStrToLower(v1::ConfiguredModel::State_Name(model.state()))
          : "unknown";
  return absl::StrCat(model.name(), " (", state, model.last_error().empty() ? "" : ": ",
                      model.last_error(), ")");
}

// Models that the config preloads.
struct Preloaded {
  uint64_t all = 0;
  // Those that have left since they were loaded.
  uint64_t evicted = 0;
};

// An error that names those whose preload isn't done. One that was evicted is: whoever asks for it
// has it loaded, and a node whose room is short for a while is to serve, and a fleet's roll to go
// on.
absl::StatusOr<Preloaded> CountPreloaded(const client::AdminClient& daemon) {
  ASSIGN_OR_RETURN(const auto models, daemon.ListConfiguredModels());
  Preloaded preloaded;
  std::vector<std::string> missing;
  for (const v1::ConfiguredModel& model : models) {
    if (!model.preload()) {
      continue;
    }
    ++preloaded.all;
    if (model.state() == v1::ConfiguredModel::EVICTED) {
      ++preloaded.evicted;
    } else if (model.state() != v1::ConfiguredModel::READY) {
      missing.push_back(MissingText(model));
    }
  }
  if (!missing.empty()) {
    return Error(Reason::kModelNotResident,
                 absl::StrCat(missing.size(), " of ", preloaded.all,
                              " preloaded models not ready: ", absl::StrJoin(missing, ", ")),
                 "see weightctl configured");
  }
  return preloaded;
}

absl::Status CheckListeners(const v1::GetStatusResponse& status) {
  for (const v1::ListenerStatus& listener : status.listeners()) {
    if (listener.directory().empty()) {
      return Error(Reason::kDaemonUnreachable,
                   absl::StrCat("the sockets of listener ", listener.name(),
                                " are gone from their folder: no client finds it"),
                   "restart weightd");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckResident(const client::AdminClient& daemon, const std::string& model) {
  const auto description = daemon.DescribeModel(model, /*tensors=*/false);
  if (ReasonOf(description.status()) == Reason::kInvalidUri) {
    // Neither a URI nor a name of the list: one that is gone from it, to a probe.
    return Error(Reason::kModelNotFound, description.status().message(),
                 HintOf(description.status()));
  }
  RETURN_IF_ERROR(description.status());
  if (description->model().state() != v1::RESIDENT) {
    return Error(Reason::kModelNotResident, absl::StrCat(model, " is not resident"),
                 "see weightctl show");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReportHealth(const client::AdminClient& daemon, const Arguments& arguments,
                          const std::string& model, std::ostream& out) {
  const auto status = daemon.GetStatus();
  if (!status.ok()) {
    // Too slow is not there, to a probe.
    return ReasonOf(status.status()) == Reason::kDeadline
               ? Error(Reason::kDaemonUnreachable, status.status().message(),
                       HintOf(status.status()))
               : status.status();
  }
  RETURN_IF_ERROR(CheckListeners(*status));
  Preloaded preloaded;
  if (arguments.ready) {
    ASSIGN_OR_RETURN(preloaded, CountPreloaded(daemon));
  }
  if (!model.empty()) {
    RETURN_IF_ERROR(CheckResident(daemon, model));
  }
  if (arguments.json) {
    JsonWriter json;
    json.BeginObject().Key("serving").Bool(true).Key("version").String(status->version());
    json.Key("uptime").Number(static_cast<uint64_t>(status->uptime().seconds()));
    json.Key("draining").Bool(status->draining());
    if (arguments.ready) {
      json.Key("preloaded").Number(preloaded.all).Key("evicted").Number(preloaded.evicted);
    }
    out << json.EndObject().text() << '\n';
    return absl::OkStatus();
  }
  out << "weightd " << PrintableText(status->version()) << " serves, up "
      << DurationText(absl::Seconds(status->uptime().seconds()));
  if (arguments.ready) {
    out << ", " << preloaded.all << (preloaded.all == 1 ? " preloaded model" : " preloaded models")
        << " ready";
    if (preloaded.evicted != 0) {
      out << ", " << preloaded.evicted << " evicted since";
    }
  }
  out << (model.empty() ? "" : ", the model is resident")
      << (status->draining() ? ", draining: nothing is loaded" : "") << '\n';
  return absl::OkStatus();
}

}  // namespace weightd::cli
