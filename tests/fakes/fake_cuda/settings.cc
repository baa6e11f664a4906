#include "tests/fakes/fake_cuda/settings.h"

#include <climits>
#include <cstdlib>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/status.h"

namespace weightd::fake_cuda {
namespace {

constexpr int kMostDevices = 256;
// CUDA 12.4.
constexpr int kVersion = 12040;
constexpr uint64_t kRegisterLimit = uint64_t{512} << 30;

std::string Variable(const char* name, absl::string_view otherwise) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string(otherwise) : std::string(value);
}

std::optional<uint64_t> Bytes(absl::string_view text) {
  int shift = 0;
  if (absl::ConsumeSuffix(&text, "KiB")) {
    shift = 10;
  } else if (absl::ConsumeSuffix(&text, "MiB")) {
    shift = 20;
  } else if (absl::ConsumeSuffix(&text, "GiB")) {
    shift = 30;
  }
  uint64_t number = 0;
  if (!absl::SimpleAtoi(text, &number) || number > (UINT64_MAX >> shift)) {
    return std::nullopt;
  }
  return number << shift;
}

// "2x256MiB,1GiB".
absl::StatusOr<std::vector<DeviceSettings>> Devices(absl::string_view text) {
  std::vector<DeviceSettings> devices;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> words = absl::StrSplit(part, absl::MaxSplits('x', 1));
    int count = 1;
    const std::optional<uint64_t> bytes = Bytes(words.back());
    if ((words.size() == 2 && !absl::SimpleAtoi(words[0], &count)) || !bytes.has_value() ||
        count < 0 || devices.size() + static_cast<size_t>(count) > kMostDevices) {
      return Error(Reason::kInvalidArgument,
                   absl::StrCat("FAKE_CUDA_DEVICES=", text, ": not like 2x256MiB,1GiB"));
    }
    for (int i = 0; i < count; ++i) {
      const int ordinal = static_cast<int>(devices.size());
      devices.push_back({ordinal, UuidOf(ordinal), *bytes});
    }
  }
  return devices;
}

// An index, or the beginning of a UUID that is no other's.
const DeviceSettings* FindVisible(const std::vector<DeviceSettings>& devices,
                                  absl::string_view name) {
  size_t index = 0;
  if (absl::SimpleAtoi(name, &index)) {
    return index < devices.size() ? &devices[index] : nullptr;
  }
  const DeviceSettings* found = nullptr;
  for (const DeviceSettings& device : devices) {
    if (absl::StartsWith(name, "GPU-") && absl::StartsWith(device.uuid.ToText(), name)) {
      if (found != nullptr) {
        return nullptr;
      }
      found = &device;
    }
  }
  return found;
}

// As the real driver reads it: up to the first entry that names no device.
std::vector<DeviceSettings> Visible(const std::vector<DeviceSettings>& devices) {
  const char* const variable = std::getenv("CUDA_VISIBLE_DEVICES");
  if (variable == nullptr) {
    return devices;
  }
  std::vector<DeviceSettings> visible;
  for (const absl::string_view name : absl::StrSplit(variable, ',')) {
    const DeviceSettings* const device = FindVisible(devices, name);
    if (device == nullptr) {
      break;
    }
    visible.push_back(*device);
  }
  return visible;
}

}  // namespace

GpuId UuidOf(int ordinal) {
  return GpuId({0xfa, 0x4e, 0xc0, 0xda, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0,
                static_cast<uint8_t>(ordinal)});
}

absl::StatusOr<Settings> ReadSettings() {
  const std::string dir = Variable("FAKE_CUDA_DIR", "");
  char resolved[PATH_MAX];
  if (realpath(dir.c_str(), resolved) == nullptr) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat("FAKE_CUDA_DIR=", dir,
                              " is not a folder: the fake driver needs one "
                              "that all its processes share"));
  }
  Settings settings;
  settings.dir = resolved;
  ASSIGN_OR_RETURN(const std::vector<DeviceSettings> devices,
                   Devices(Variable("FAKE_CUDA_DEVICES", "1x1GiB")));
  settings.visible = Visible(devices);
  int64_t delay = 0;
  const std::string limit = Variable("FAKE_CUDA_REGISTER_LIMIT", absl::StrCat(kRegisterLimit));
  const std::optional<uint64_t> limit_bytes = Bytes(limit);
  if (!absl::SimpleAtoi(Variable("FAKE_CUDA_COPY_DELAY_US", "0"), &delay) ||
      !limit_bytes.has_value()) {
    return Error(Reason::kInvalidArgument,
                 "FAKE_CUDA_COPY_DELAY_US or FAKE_CUDA_REGISTER_LIMIT is not a number");
  }
  settings.copy_delay = absl::Microseconds(delay);
  settings.register_limit = *limit_bytes;
  settings.exporter_must_live = Variable("FAKE_CUDA_EXPORTER_MUST_LIVE", "") == "1";
  return settings;
}

int DriverVersion() {
  int version = 0;
  return absl::SimpleAtoi(Variable("FAKE_CUDA_VERSION", ""), &version) ? version : kVersion;
}

}  // namespace weightd::fake_cuda
