#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/event_text.h"
#include "client/cli/reports.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "common/printable_text.h"

namespace weightd::cli {
namespace {

std::string StateText(const v1::ConfiguredModel& model) {
  return v1::ConfiguredModel::State_IsValid(model.state())
             ? absl::AsciiStrToLower(v1::ConfiguredModel::State_Name(model.state()))
             : "unknown";
}

std::string NextTry(const v1::ConfiguredModel& model, absl::Time now) {
  if (!model.has_next_try_at()) {
    return "";
  }
  const absl::Duration until = TimeOf(model.next_try_at()) - now;
  return until <= absl::ZeroDuration()
             ? "now"
             : absl::StrCat("in ", DurationText(absl::Ceil(until, absl::Seconds(1))));
}

}  // namespace

void PrintConfigured(const std::vector<v1::ConfiguredModel>& models, absl::Time now,
                     std::ostream& out) {
  Table table({{"MODEL"},
               {"URI"},
               {"PRELOAD"},
               {"PINNED"},
               {"STATE"},
               {"FAILURES", true},
               {"NEXT TRY"},
               {"LAST ERROR"}});
  for (const v1::ConfiguredModel& model : models) {
    table.AddRow({model.name(), model.uri(), model.preload() ? "yes" : "no",
                  model.pin() ? "yes" : "no", StateText(model), absl::StrCat(model.failures()),
                  NextTry(model, now), model.last_error()});
  }
  table.Print(out);
}

void PrintReloaded(const v1::ReloadConfigResponse& reloaded, std::ostream& out) {
  const auto print = [&out](const char* what, const auto& names) {
    if (!names.empty()) {
      out << absl::StreamFormat("%-13s %s\n", what, PrintableText(absl::StrJoin(names, ", ")));
    }
  };
  if (reloaded.added().empty() && reloaded.changed().empty() && reloaded.removed().empty()) {
    out << "no model changed\n";
  }
  print("added", reloaded.added());
  print("changed", reloaded.changed());
  print("removed", reloaded.removed());
  print("needs restart", reloaded.needs_restart());
}

void PrintLogLevel(const v1::SetLogLevelResponse& set, const std::string& level,
                   std::ostream& out) {
  out << "log level " << level << ", was " << PrintableText(set.previous()) << '\n';
}

}  // namespace weightd::cli
