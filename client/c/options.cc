#include "client/c/options.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "client/c/error.h"
#include "common/gpu_id.h"
#include "common/status.h"
#include "weightd/v1/weights.pb.h"

namespace weightd::c {
namespace {

// No header has more: whoever says so didn't set the size.
constexpr size_t kMostBytes = 4096;

std::string Text(const char* text) { return text == nullptr ? std::string() : std::string(text); }

absl::StatusOr<weightd_options> KnownFields(const weightd_options& given) {
  if (given.size < sizeof(given.size) || given.size > kMostBytes) {
    return Error(Reason::kInvalidArgument, absl::StrCat("weightd_options has size ", given.size),
                 "begin with WEIGHTD_OPTIONS_INIT");
  }
  const auto* const bytes = reinterpret_cast<const char*>(&given);
  if (given.size > sizeof(given) &&
      std::any_of(bytes + sizeof(given), bytes + given.size, [](char byte) { return byte != 0; })) {
    return Error(Reason::kUnsupported,
                 "weightd_options sets a field that this libweightd does not know",
                 "compare weightd_abi_version() with WEIGHTD_ABI_VERSION, and update the library");
  }
  weightd_options known = WEIGHTD_OPTIONS_INIT;
  std::memcpy(&known, &given, std::min(given.size, sizeof(known)));
  return known;
}

absl::Status AddPins(const weightd_options& from, client::AttachOptions& to) {
  if (from.pins == nullptr && from.pin_count != 0) {
    return MissingArgument("weightd_options.pins");
  }
  for (size_t i = 0; i < from.pin_count; ++i) {
    if (from.pins[i].file == nullptr || from.pins[i].sha256 == nullptr) {
      return MissingArgument(absl::StrCat("a string of weightd_options.pins[", i, "]"));
    }
    if (!to.sha256.emplace(from.pins[i].file, from.pins[i].sha256).second) {
      return Error(Reason::kInvalidArgument,
                   absl::StrCat("weightd_options.pins names \"", from.pins[i].file, "\" twice"),
                   "give each file one SHA-256");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<client::DeviceOptions>> ReadDevice(const weightd_options& from) {
  client::DeviceOptions device;
  switch (from.place) {
    case WEIGHTD_HOST:
      return std::nullopt;
    case WEIGHTD_GPU_SHARED:
      device.mode = client::DeviceMode::kShared;
      break;
    case WEIGHTD_GPU_PRIVATE:
      device.mode = client::DeviceMode::kPrivate;
      break;
    default:
      return Error(Reason::kInvalidArgument, absl::StrCat("weightd_options.place is ", from.place),
                   "use a weightd_place");
  }
  device.ordinal = from.gpu_ordinal;
  if (from.gpu_uuid != nullptr) {
    ASSIGN_OR_RETURN(device.gpu, GpuId::FromText(from.gpu_uuid));
  }
  if (from.cuda_driver != nullptr) {
    device.driver = from.cuda_driver;
  }
  return device;
}

void AddProgress(const weightd_options& from, client::AttachOptions& to) {
  if (from.progress == nullptr) {
    return;
  }
  to.progress = [call = from.progress,
                 context = from.progress_context](const client::LoadProgress& progress) {
    const std::string name = v1::LoadPhase_Name(static_cast<v1::LoadPhase>(progress.phase));
    const std::string phase(absl::StripPrefix(name, "LOAD_PHASE_"));
    call(phase.c_str(), progress.bytes_done, progress.bytes_total, context);
  };
}

}  // namespace

absl::StatusOr<Options> ReadOptions(const weightd_options* options) {
  Options read;
  if (options == nullptr) {
    return read;
  }
  ASSIGN_OR_RETURN(const weightd_options from, KnownFields(*options));
  if (from.timeout_milliseconds < 0) {
    return Error(Reason::kInvalidArgument, "weightd_options.timeout_milliseconds is negative",
                 "0 is the default of one hour");
  }
  if (from.timeout_milliseconds > 0) {
    read.attach.timeout = absl::Milliseconds(from.timeout_milliseconds);
    read.connect.timeout = std::min(read.connect.timeout, read.attach.timeout);
  }
  read.connect.socket_dir = Text(from.socket_dir);
  read.attach.revision = Text(from.revision);
  read.attach.resident_only = from.resident_only != 0;
  read.attach.access =
      from.read_only != 0 ? client::Access::kSharedReadOnly : client::Access::kPrivateWritable;
  RETURN_IF_ERROR(AddPins(from, read.attach));
  AddProgress(from, read.attach);
  ASSIGN_OR_RETURN(read.device, ReadDevice(from));
  return read;
}

}  // namespace weightd::c
