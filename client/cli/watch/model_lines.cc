#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/text.h"
#include "client/cli/watch/sections.h"

namespace weightd::cli {
namespace {

constexpr size_t kLeastName = 12;
constexpr size_t kStateWidth = 9;   // "resident", "draining"
constexpr size_t kSizeWidth = 8;    // "1023 MiB"
constexpr size_t kLeasesWidth = 6;  // the title
constexpr size_t kLeastBar = 6;
constexpr size_t kMostBar = 24;
// Where a line has room for leases and for what else is to be said of a model.
constexpr size_t kColumnsForAll = 56;

std::string NameOf(const v1::ModelSummary& model) {
  return model.aliases().empty() ? model.model() : absl::StrJoin(model.aliases(), ", ");
}

bool Loads(const v1::ModelSummary& model) { return model.state() == v1::LOADING; }

// A load's bytes are of one model; what else a line says of a model needs these columns.
size_t NameWidth(const std::vector<const v1::ModelSummary*>& models, size_t columns) {
  size_t longest = kLeastName;
  for (const v1::ModelSummary* model : models) {
    longest = std::max(longest, DisplayWidth(NameOf(*model)));
  }
  const size_t others = kStateWidth + kSizeWidth + 4 +
                        (columns >= kColumnsForAll ? kLeasesWidth + 2 + columns / 4 : 0);
  return std::min(longest, std::max(kLeastName, columns > others ? columns - others : 0));
}

Line& AddRight(absl::string_view text, size_t width, Line& line) {
  const size_t blank = width > DisplayWidth(text) ? width - DisplayWidth(text) : 0;
  return line.Add(absl::StrCat(std::string(blank, ' '), text));
}

std::string StateText(const v1::ModelSummary& model) {
  return v1::ModelState_IsValid(model.state())
             ? absl::AsciiStrToLower(v1::ModelState_Name(model.state()))
             : "unknown";
}

Ink InkOf(const v1::ModelSummary& model) {
  switch (model.state()) {
    case v1::RESIDENT:
      return Ink::kResident;
    case v1::LOADING:
      return Ink::kLoading;
    case v1::DRAINING:
      return Ink::kDraining;
    default:
      return model.last_error().empty() ? Ink::kPlain : Ink::kBad;
  }
}

// Indices as `weightctl status` counts; a GPU that it doesn't know by the begin of its UUID.
std::string GpuText(const v1::GpuCopy& copy, const v1::GetStatusResponse& status) {
  for (const v1::GpuStatus& gpu : status.gpus()) {
    if (gpu.uuid() == copy.gpu()) {
      return absl::StrCat("GPU ", gpu.index());
    }
  }
  return copy.gpu().substr(0, 12);
}

std::string NotesOf(const v1::ModelSummary& model, const v1::GetStatusResponse& status) {
  std::vector<std::string> notes;
  if (model.pinned()) {
    notes.emplace_back("pinned");
  }
  if (model.stale()) {
    notes.emplace_back("stale");
  }
  for (const v1::GpuCopy& copy : model.gpu_copies()) {
    notes.push_back(GpuText(copy, status));
  }
  if (!model.last_error().empty()) {
    notes.push_back(model.last_error());
  }
  return absl::StrJoin(notes, ", ");
}

std::string PhaseText(const v1::LoadProgress& progress) {
  return v1::LoadPhase_IsValid(progress.phase()) && progress.phase() != v1::LOAD_PHASE_UNSPECIFIED
             ? absl::AsciiStrToLower(v1::LoadPhase_Name(progress.phase()))
             : "loading";
}

// A bar, and of the numbers as many as fit beside one: how much, how fast, how long.
void AddProgress(const v1::LoadProgress& progress, double rate, size_t columns, const Style& style,
                 Line& line) {
  const size_t room = columns > line.width() ? columns - line.width() : 0;
  if (progress.bytes_total() == 0) {
    line.Add(PhaseText(progress), Ink::kLoading);
    return;
  }
  const uint64_t done = std::min(progress.bytes_done(), progress.bytes_total());
  const double fraction = static_cast<double>(done) / static_cast<double>(progress.bytes_total());
  std::vector<std::string> texts = {absl::StrFormat("%3.0f%%", fraction * 100)};
  if (rate > 0 && done < progress.bytes_total()) {
    const auto left = absl::Seconds(static_cast<double>(progress.bytes_total() - done) / rate);
    texts.push_back(absl::StrCat(DurationText(absl::Ceil(left, absl::Seconds(1))), " left"));
    texts.push_back(absl::StrCat(BytesText(static_cast<uint64_t>(rate)), "/s"));
  } else if (progress.phase() != v1::TRANSFERRING) {
    texts.push_back(PhaseText(progress));
  }
  texts.push_back(absl::StrCat("of ", BytesText(progress.bytes_total())));
  size_t taken = kLeastBar + 2;
  std::string numbers;
  for (const std::string& text : texts) {
    if (taken + 2 + text.size() > room) {
      break;
    }
    taken += 2 + text.size();
    absl::StrAppend(&numbers, "  ", text);
  }
  AddBar({{fraction, Ink::kLoading}},
         std::min(kMostBar, kLeastBar + (room > taken ? room - taken : 0)), style, line);
  line.Add(numbers);
}

Line TitleLine(size_t count, size_t name_width, size_t columns) {
  Line line;
  line.Add(absl::StrCat("MODELS (", count, ")"), Ink::kBold).PadTo(name_width + 2);
  line.Add("STATE", Ink::kDim).PadTo(name_width + 2 + kStateWidth + 2 + kSizeWidth - 4);
  line.Add("SIZE", Ink::kDim);
  if (columns >= kColumnsForAll) {
    line.Add("  LEASES", Ink::kDim);
  }
  return line;
}

}  // namespace

std::vector<Line> ModelLines(const WatchView& view, size_t columns, const Style& style) {
  std::vector<const v1::ModelSummary*> models;
  models.reserve(view.models.size());
  for (const bool loads : {true, false}) {
    for (const v1::ModelSummary& model : view.models) {
      if (Loads(model) == loads) {
        models.push_back(&model);
      }
    }
  }
  const size_t name_width = NameWidth(models, columns);
  std::vector<Line> lines;
  lines.reserve(1 + models.size());
  lines.push_back(TitleLine(models.size(), name_width, columns));
  for (const v1::ModelSummary* model : models) {
    Line line;
    line.Add(KeepEnd(NameOf(*model), name_width, style)).PadTo(name_width + 2);
    if (Loads(*model)) {
      const auto rate = view.rates.find(model->model());
      AddProgress(model->progress(), rate == view.rates.end() ? 0 : rate->second, columns, style,
                  line);
    } else {
      line.Add(StateText(*model), InkOf(*model)).PadTo(name_width + 2 + kStateWidth + 2);
      AddRight(BytesText(model->host_bytes()), kSizeWidth, line);
      if (columns >= kColumnsForAll) {
        AddRight(absl::StrCat(model->leases()), kLeasesWidth + 2, line);
        line.Add(absl::StrCat("  ", NotesOf(*model, view.status)),
                 model->last_error().empty() ? Ink::kPlain : Ink::kBad);
      }
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace weightd::cli
