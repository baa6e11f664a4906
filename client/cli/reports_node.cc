// What outlives the daemon, and what becomes of it before the daemon ends.

#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/reports.h"
#include "client/cli/text.h"
#include "common/printable_text.h"

namespace weightd::cli {
namespace {

std::string Counted(uint64_t count, absl::string_view what) {
  return absl::StrCat(count, " ", what, count == 1 ? "" : "s");
}

std::string WhyNotHandedOver(const v1::DrainNodeResponse& drained) {
  if (!drained.has_keeper()) {
    return "no keeper holds models beyond this daemon";
  }
  const std::string place = absl::StrCat("the keeper ", PrintableText(drained.keeper().place()));
  if (!drained.keeper().reachable()) {
    return absl::StrCat(place, " can't be reached");
  }
  if (drained.keeper().refused() > 0) {
    return absl::StrCat(place, " has no room for ",
                        Counted(drained.keeper().refused(), "descriptor"));
  }
  return drained.lost_models() > 0 && drained.keeper().pending() == 0
             ? absl::StrCat(place,
                            " was not given all that they are made of (model.not_kept in "
                            "the daemon's log says why)")
             : absl::StrCat(place, " has not confirmed everything: drain again");
}

// The answer has no room for it.
constexpr char kWhyNotReachable[] = " (keeper.away in the daemon's log says why)";

}  // namespace

std::string KeeperText(const v1::GetStatusResponse& status) {
  if (!status.has_keeper()) {
    return "none: models end with the daemon";
  }
  const v1::KeeperStatus& keeper = status.keeper();
  std::string text = absl::StrCat(keeper.place(), keeper.reachable() ? "" : ", not reachable", ": ",
                                  Counted(keeper.stored(), "descriptor"));
  const auto add = [&text](uint64_t count, absl::string_view what) {
    if (count > 0) {
      absl::StrAppend(&text, ", ", count, " ", what);
    }
  };
  add(keeper.pending(), "waiting");
  add(keeper.refused(), "refused");
  add(keeper.others(), "of other daemons");
  return keeper.reachable() ? text : absl::StrCat(text, kWhyNotReachable);
}

std::string ReadoptionText(const v1::Readoption& readoption) {
  std::string text = Counted(readoption.readopted(), "model");
  if (readoption.not_readopted() > 0) {
    absl::StrAppend(&text, ", ", readoption.not_readopted(), " not");
  }
  if (readoption.pins_lost() > 0) {
    absl::StrAppend(&text, ", ", Counted(readoption.pins_lost(), "pin"), " lost");
  }
  return text;
}

std::string NotReadoptedText(const v1::NotReadopted& one) {
  const std::string model =
      one.model().empty() ? "" : absl::StrCat(one.model(), one.pinned() ? " (pinned)" : "", ": ");
  return absl::StrCat(model, one.error().message());
}

void PrintNodeDrained(const v1::DrainNodeResponse& drained, std::ostream& out) {
  out << "draining: no load starts here until the next daemon runs, or weightctl resume\n";
  if (drained.loads_ended() + drained.loads_stopped() > 0) {
    out << "loads: " << drained.loads_ended() << " ended, " << drained.loads_stopped()
        << " stopped\n";
  }
  if (drained.handed_over() || drained.kept_models() > 0) {
    out << "handed over: " << Counted(drained.kept_models(), "model") << ", "
        << BytesText(drained.kept_bytes()) << ", to " << PrintableText(drained.keeper().place())
        << '\n';
  }
  if (!drained.handed_over()) {
    out << "not " << (drained.kept_models() > 0 ? "all " : "")
        << "handed over: " << WhyNotHandedOver(drained) << '\n';
  }
  if (drained.lost_models() > 0) {
    out << "to be loaded anew: " << Counted(drained.lost_models(), "model") << '\n';
  }
}

}  // namespace weightd::cli
