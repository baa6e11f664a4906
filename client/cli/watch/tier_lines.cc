#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/text.h"
#include "client/cli/watch/sections.h"

namespace weightd::cli {
namespace {

constexpr size_t kMostLabel = 16;
constexpr size_t kLeastBar = 8;
constexpr size_t kMostBar = 32;
constexpr size_t kMostNumbers = 20;  // "1023 MiB of 1023 MiB"
constexpr size_t kBrackets = 2;

double Fraction(uint64_t bytes, uint64_t budget) {
  return budget == 0 ? 0 : static_cast<double>(bytes) / static_cast<double>(budget);
}

// What a tier holds, as bars and legends name it.
struct Kind {
  uint64_t bytes;
  Ink ink;
  const char* name;
};

std::vector<Kind> KindsOf(const v1::TierStatus& tier) {
  return {{tier.resident(), Ink::kResident, "resident"},
          {tier.loading(), Ink::kLoading, "loading"},
          {tier.draining(), Ink::kDraining, "draining"},
          {tier.ready(), Ink::kReady, "ready"}};
}

Line TierLine(const std::string& label, size_t label_width, const v1::TierStatus& tier,
              const std::string& note, size_t columns, const Style& style) {
  const size_t taken = label_width + 2 + kBrackets + 2 + kMostNumbers;
  const size_t width = std::clamp(columns > taken ? columns - taken : 0, kLeastBar, kMostBar);
  std::vector<BarPart> parts;
  for (const Kind& kind : KindsOf(tier)) {
    parts.push_back({Fraction(kind.bytes, tier.budget()), kind.ink});
  }
  Line line;
  line.Add(label, Ink::kBold).PadTo(label_width + 2);
  AddBar(parts, width, style, line);
  const uint64_t used = tier.resident() + tier.loading() + tier.draining();
  line.Add(absl::StrCat("  ", BytesText(used), " of ", BytesText(tier.budget())));
  if (!note.empty()) {
    line.Add(absl::StrCat("  ", note), Ink::kDim);
  }
  for (const Kind& kind : KindsOf(tier)) {
    const std::string text = absl::StrCat(" ", kind.name, " ", BytesText(kind.bytes));
    if (kind.bytes > 0 && line.width() + 2 + 1 + text.size() <= columns) {
      line.Add("  ").Add(Block(kind.ink, style), kind.ink).Add(text, Ink::kDim);
    }
  }
  return line;
}

std::string LabelOf(const v1::GpuStatus& gpu) {
  return absl::StrCat("GPU ", gpu.index(), gpu.name().empty() ? "" : " ", gpu.name())
      .substr(0, kMostLabel);
}

std::string NoteOf(const v1::GpuStatus& gpu) {
  const bool plain =
      gpu.state() == v1::GpuStatus::RUNNING || !v1::GpuStatus::State_IsValid(gpu.state());
  return plain ? "" : absl::AsciiStrToLower(v1::GpuStatus::State_Name(gpu.state()));
}

}  // namespace

std::vector<Line> TierLines(const v1::GetStatusResponse& status, size_t columns,
                            const Style& style) {
  const std::string host = "host";
  size_t label_width = host.size();
  for (const v1::GpuStatus& gpu : status.gpus()) {
    label_width = std::max(label_width, DisplayWidth(LabelOf(gpu)));
  }
  std::vector<Line> lines;
  lines.reserve(1 + status.gpus_size());
  lines.push_back(TierLine(host, label_width, status.host(), "", columns, style));
  for (const v1::GpuStatus& gpu : status.gpus()) {
    lines.push_back(TierLine(LabelOf(gpu), label_width, gpu.tier(), NoteOf(gpu), columns, style));
  }
  return lines;
}

}  // namespace weightd::cli
