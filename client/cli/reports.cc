#include "client/cli/reports.h"

#include <google/protobuf/message.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/event_text.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "common/printable_text.h"

namespace weightd::cli {
namespace {

constexpr size_t kGpuCharacters = 12;

std::string Ago(bool known, const google::protobuf::Timestamp& timestamp, absl::Time now) {
  return known ? absl::StrCat(DurationText(now - TimeOf(timestamp)), " ago") : "";
}

std::string StateText(const v1::ModelSummary& model) {
  std::string state = v1::ModelState_IsValid(model.state())
                          ? absl::AsciiStrToLower(v1::ModelState_Name(model.state()))
                          : "unknown";
  if (model.state() == v1::LOADING && model.progress().bytes_total() > 0) {
    absl::StrAppend(
        &state, " ",
        100 * (model.progress().bytes_done() >> 10) / ((model.progress().bytes_total() >> 10) + 1),
        "%");
  }
  absl::StrAppend(&state, model.readopted() ? ", readopted" : "");
  return model.stale() ? absl::StrCat(state, ", stale") : state;
}

std::string NameText(const v1::ModelSummary& model) {
  return model.aliases().empty()
             ? model.model()
             : absl::StrCat(absl::StrJoin(model.aliases(), ", "), " = ", model.model());
}

// "GPU-" and the digits that usually tell a node's GPUs apart.
std::string GpusText(const v1::ModelSummary& model) {
  return absl::StrJoin(model.gpu_copies(), ", ", [](std::string* out, const v1::GpuCopy& copy) {
    out->append(copy.gpu(), 0, kGpuCharacters);
  });
}

std::string ShapeText(absl::Span<const uint64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

std::string Revision(const std::string& revision) { return revision.substr(0, kRevisionDigits); }

void PrintField(absl::string_view name, absl::string_view value, std::ostream& out) {
  if (!value.empty()) {
    out << absl::StreamFormat("%-12s %s\n", name, PrintableText(value));
  }
}

// "tensors  105 by crc32, 2 not verified"
std::string TensorChecksText(const v1::TensorChecks& checks) {
  std::vector<std::string> parts;
  for (const auto& [count, how] :
       {std::pair(checks.crc32(), "by crc32"), std::pair(checks.sha256(), "by sha256"),
        std::pair(checks.poly1305(), "by decryption (poly1305)"),
        std::pair(checks.unverified(), "not verified"),
        std::pair(checks.unauthenticated(), "unauthenticated (decrypted with aes-ctr)")}) {
    if (count > 0) {
      parts.push_back(absl::StrCat(count, " ", how));
    }
  }
  return absl::StrCat("tensors  ", absl::StrJoin(parts, ", "));
}

std::string DTypeText(const v1::TensorPiece& tensor) {
  if (!tensor.torch_type().empty()) {
    return tensor.torch_type();
  }
  return v1::DType_IsValid(tensor.dtype()) ? v1::DType_Name(tensor.dtype()) : "unknown";
}

}  // namespace

void PrintStatus(const v1::GetStatusResponse& status, std::ostream& out) {
  const v1::TierStatus& host = status.host();
  PrintField("version", status.version(), out);
  PrintField("revision", status.source_revision(), out);
  PrintField("up", DurationText(absl::Seconds(status.uptime().seconds())), out);
  PrintField("budget", BytesText(host.budget()), out);
  PrintField("used", BytesText(host.resident() + host.loading() + host.draining()), out);
  PrintField("  resident", BytesText(host.resident()), out);
  PrintField("  loading", BytesText(host.loading()), out);
  PrintField("  draining", BytesText(host.draining()), out);
  if (host.ready() > 0) {
    PrintField("ready", BytesText(host.ready()), out);
  }
  PrintField("sessions", absl::StrCat(status.sessions()), out);
  PrintField("leases", absl::StrCat(status.leases()), out);
  PrintField("loads", absl::StrCat(status.loads_running()), out);
  PrintField("node", status.draining() ? "draining: no load starts, see weightctl resume" : "",
             out);
  PrintField("keeper", KeeperText(status), out);
  if (status.has_readoption()) {
    PrintField("readopted", ReadoptionText(status.readoption()), out);
    for (const v1::NotReadopted& one : status.readoption().failures()) {
      PrintField("  not", NotReadoptedText(one), out);
    }
  }
  PrintField("log level", status.log_level(), out);
  PrintGpus(status.gpus(), out);
  if (status.listeners().empty()) {
    return;
  }
  out << '\n';
  Table table({{"LISTENER"},
               {"FOLDER"},
               {"SESSIONS", true},
               {"LEASES", true},
               {"LEASED", true},
               {"DRAINING", true},
               {"QUOTA", true}});
  for (const v1::ListenerStatus& listener : status.listeners()) {
    table.AddRow({listener.name(), listener.directory().empty() ? "(gone)" : listener.directory(),
                  absl::StrCat(listener.sessions()), absl::StrCat(listener.leases()),
                  BytesText(listener.leased_bytes()), BytesText(listener.draining_bytes()),
                  listener.max_bytes() == 0 ? "none" : BytesText(listener.max_bytes())});
  }
  table.Print(out);
}

void PrintModels(const std::vector<v1::ModelSummary>& models, absl::Time now, std::ostream& out) {
  Table table({{"MODEL"},
               {"STATE"},
               {"SIZE", true},
               {"TENSORS", true},
               {"LEASES", true},
               {"PINNED"},
               {"REVISION"},
               {"LAST USED"},
               {"GPUS"}});
  for (const v1::ModelSummary& model : models) {
    table.AddRow({NameText(model), StateText(model), BytesText(model.host_bytes()),
                  absl::StrCat(model.tensor_count()), absl::StrCat(model.leases()),
                  model.pinned() ? "yes" : "no", Revision(model.revision()),
                  Ago(model.has_last_used_at(), model.last_used_at(), now), GpusText(model)});
  }
  table.Print(out);
}

void PrintModelLine(const v1::ModelSummary& model, std::ostream& out) {
  out << PrintableText(NameText(model)) << ": " << StateText(model);
  if (model.host_bytes() != 0) {
    out << ", " << BytesText(model.host_bytes()) << ", " << model.tensor_count() << " tensors";
  }
  out << (model.pinned() ? ", pinned" : "");
  if (!model.gpu_copies().empty()) {
    out << ", on " << PrintableText(GpusText(model));
  }
  if (!model.revision().empty()) {
    out << ", revision " << Revision(model.revision());
  }
  out << '\n';
}

void PrintDescription(const v1::DescribeModelResponse& description, std::ostream& out) {
  const v1::ModelSummary& model = description.model();
  PrintField("model", model.model(), out);
  PrintField("aliases", absl::StrJoin(model.aliases(), ", "), out);
  PrintField("state", StateText(model), out);
  PrintField("revision", model.revision(), out);
  PrintField("size", BytesText(model.host_bytes()), out);
  PrintField("tensors", absl::StrCat(model.tensor_count()), out);
  PrintField("leases", absl::StrCat(model.leases()), out);
  PrintField("uses", absl::StrCat(model.uses()), out);
  PrintField("pinned", model.pinned() ? "yes" : "no", out);
  for (const v1::GpuCopy& copy : model.gpu_copies()) {
    PrintField("gpu",
               absl::StrCat(copy.gpu(), "  ", BytesText(copy.nbytes()), ", ", copy.leases(),
                            copy.leases() == 1 ? " lease" : " leases"),
               out);
  }
  PrintField("huge pages", absl::StrFormat("%.0f%%", description.huge_page_fraction() * 100), out);
  PrintField("checked", absl::StrJoin(description.verification().checks(), ", "), out);
  PrintField("last error", model.last_error(), out);
  for (const auto& [key, value] : description.metadata()) {
    PrintField("metadata", absl::StrCat(key, " = ", value), out);
  }
  for (const v1::ModelFile& file : description.files()) {
    PrintField("file", absl::StrCat(file.name(), "  ", BytesText(file.size())), out);
  }
  for (const v1::FileCheck& check : description.verification().files()) {
    PrintField("verified",
               absl::StrCat(check.file(), "  ", check.kind(), " ", check.value(),
                            check.by() == v1::FileCheck::PIN ? " (pin)" : " (store)"),
               out);
  }
  if (description.verification().has_tensors()) {
    PrintField("verified", TensorChecksText(description.verification().tensors()), out);
  }
  if (description.tensors().empty()) {
    return;
  }
  out << '\n';
  Table table({{"TENSOR"}, {"DTYPE"}, {"SHAPE"}, {"OFFSET", true}, {"BYTES", true}});
  for (const v1::TensorPiece& tensor : description.tensors()) {
    table.AddRow({tensor.name(), DTypeText(tensor),
                  ShapeText(absl::MakeConstSpan(tensor.shape().data(), tensor.shape_size())),
                  absl::StrCat(tensor.offset()), absl::StrCat(tensor.nbytes())});
  }
  table.Print(out);
}

void PrintLeases(const std::vector<v1::Lease>& leases, absl::Time now, std::ostream& out) {
  Table table({{"LEASE", true},
               {"MODEL"},
               {"REVISION"},
               {"LISTENER"},
               {"USER", true},
               {"CLAIMED"},
               {"GRANTED"}});
  for (const v1::Lease& lease : leases) {
    table.AddRow({absl::StrCat(lease.lease_id()), lease.model(), Revision(lease.revision()),
                  lease.listener(), absl::StrCat(lease.uid()), lease.claimed() ? "yes" : "no",
                  Ago(lease.has_granted_at(), lease.granted_at(), now)});
  }
  table.Print(out);
}

void PrintEvicted(const v1::EvictResponse& evicted, std::ostream& out) {
  out << "freed " << BytesText(evicted.freed_bytes());
  if (evicted.draining_bytes() != 0) {
    out << "; " << BytesText(evicted.draining_bytes()) << " will be when their users unmap them";
  }
  out << '\n';
}

void PrintInspected(const InspectedModel& model, std::ostream& out) {
  const bool has_files = !model.tensors.empty() && !model.tensors.front().file.empty();
  std::vector<Table::Column> columns = {
      {"TENSOR"}, {"DTYPE"}, {"SHAPE"}, {"OFFSET", true}, {"BYTES", true}};
  if (has_files) {
    columns.push_back({"FILE"});
  }
  Table table(std::move(columns));
  uint64_t bytes = 0;
  for (const InspectedTensor& tensor : model.tensors) {
    const format::TensorEntry& entry = tensor.entry;
    bytes += entry.nbytes;
    table.AddRow({entry.name, std::string(TypeNameOf(entry)), ShapeText(entry.shape),
                  absl::StrCat(entry.bytes.begin), absl::StrCat(entry.nbytes), tensor.file});
  }
  table.Print(out);
  out << '\n' << model.tensors.size() << " tensors, " << BytesText(bytes) << '\n';
  for (const auto& [key, value] : model.metadata) {
    PrintField("metadata", absl::StrCat(key, " = ", value), out);
  }
}

void PrintPushed(const PushResult& result, std::ostream& out) {
  uint64_t bytes = 0;
  uint64_t sent = 0;
  for (const source::UploadedFile& file : result.files) {
    bytes += file.bytes;
    sent += file.bytes_sent;
  }
  const size_t count = result.files.size();
  out << PrintableText(result.target.Redacted()) << ": " << count
      << (count == 1 ? " file, " : " files, ") << BytesText(bytes);
  if (sent < bytes) {
    out << ", " << BytesText(bytes - sent) << " of it were there";
  }
  out << '\n';
}

void PrintConverted(const ConvertResult& result, std::ostream& out) {
  for (const convert::ConvertedFile& file : result.files) {
    out << PrintableText(file.path) << ": " << file.tensors
        << (file.tensors == 1 ? " tensor, " : " tensors, ") << BytesText(file.bytes) << '\n';
  }
}

void PrintVerified(const std::vector<convert::VerifiedTensor>& tensors, std::ostream& out) {
  Table table({{"FILE"}, {"TENSOR"}, {"DTYPE"}, {"SIZE", true}, {"PROVED BY"}});
  size_t wrong = 0;
  size_t unproved = 0;
  for (const convert::VerifiedTensor& tensor : tensors) {
    const convert::TensorFinding& found = tensor.found;
    std::vector<std::string> proofs;
    if (found.crc32) {
      proofs.emplace_back("crc32");
    }
    if (found.sha256) {
      proofs.emplace_back("sha256");
    }
    if (found.poly1305) {
      proofs.emplace_back("poly1305");
    }
    wrong += tensor.status.ok() ? 0 : 1;
    unproved += tensor.status.ok() && !found.any() ? 1 : 0;
    table.AddRow({PrintableText(tensor.file), PrintableText(tensor.entry.name),
                  std::string(TypeNameOf(tensor.entry)), BytesText(tensor.entry.nbytes),
                  !tensor.status.ok() ? "WRONG" : absl::StrJoin(proofs, " ")});
  }
  table.Print(out);
  for (const convert::VerifiedTensor& tensor : tensors) {
    if (!tensor.status.ok()) {
      out << PrintableText(tensor.status.message()) << '\n';
    }
  }
  out << tensors.size() - wrong - unproved << " proved, " << unproved << " without a checksum, "
      << wrong << " wrong\n";
}

void PrintFindings(const std::vector<Finding>& findings, std::ostream& out) {
  for (const Finding& finding : findings) {
    out << absl::StreamFormat("%-4s  %-16s  %s\n", StateName(finding.state), finding.check,
                              PrintableText(finding.finding));
    if (finding.state != Finding::State::kOk) {
      out << absl::StreamFormat("%24scost: %s\n", "", PrintableText(finding.cost))
          << absl::StreamFormat("%24sremedy: %s\n", "", PrintableText(finding.remedy));
    }
  }
}

}  // namespace weightd::cli
