#include <google/protobuf/repeated_field.h>

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/reports.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "common/printable_text.h"

namespace weightd::cli {
namespace {

std::string StateText(const v1::GpuStatus& gpu) {
  return v1::GpuStatus::State_IsValid(gpu.state())
             ? absl::AsciiStrToLower(v1::GpuStatus::State_Name(gpu.state()))
             : "unknown";
}

}  // namespace

void PrintGpus(const google::protobuf::RepeatedPtrField<v1::GpuStatus>& gpus, std::ostream& out) {
  if (gpus.empty()) {
    return;
  }
  out << '\n';
  Table table({{"GPU", true},
               {"UUID"},
               {"NAME"},
               {"STATE"},
               {"MEMORY", true},
               {"BUDGET", true},
               {"RESIDENT", true},
               {"LOADING", true},
               {"DRAINING", true},
               {"WORKER", true}});
  for (const v1::GpuStatus& gpu : gpus) {
    const v1::TierStatus& tier = gpu.tier();
    table.AddRow({absl::StrCat(gpu.index()), gpu.uuid(), gpu.name(), StateText(gpu),
                  BytesText(gpu.total_bytes()), BytesText(tier.budget()),
                  BytesText(tier.resident()), BytesText(tier.loading()), BytesText(tier.draining()),
                  gpu.worker_pid() == 0 ? "" : absl::StrCat(gpu.worker_pid())});
  }
  table.Print(out);
  for (const v1::GpuStatus& gpu : gpus) {
    if (!gpu.last_error().empty()) {
      out << "GPU " << gpu.index() << ": its last worker ended: " << PrintableText(gpu.last_error())
          << '\n';
    }
  }
}

void PrintGpuLine(const v1::GpuStatus& gpu, std::ostream& out) {
  out << "GPU " << gpu.index() << " (" << PrintableText(gpu.uuid()) << "): " << StateText(gpu)
      << '\n';
}

void PrintDrained(const v1::DrainGpuResponse& drained, std::ostream& out) {
  PrintGpuLine(drained.gpu(), out);
  out << "freed " << BytesText(drained.freed_bytes()) << '\n';
}

}  // namespace weightd::cli
