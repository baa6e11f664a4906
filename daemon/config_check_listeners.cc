#include "daemon/config_check_listeners.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/config.h"
#include "daemon/config_values.h"
#include "daemon/service/call_record.h"
#include "daemon/service/owner.h"

namespace weightd {
namespace {

constexpr uint64_t kLeastQuota = 1 << 20;
constexpr uint64_t kMostQuota = uint64_t{1} << 50;
constexpr uint64_t kHighestRate = 1'000'000;
constexpr absl::string_view kNoLimit = "leave the key out for no limit";

absl::Status CheckAccess(const v1::ListenerConfig& listener, const std::string& path,
                         const FieldLines& lines) {
  const v1::AccessConfig& access = listener.access();
  RETURN_IF_ERROR(CheckModelPatterns(access.attach(), path + ".access.attach", lines));
  RETURN_IF_ERROR(
      CheckModelPatterns(access.load_configured(), path + ".access.load_configured", lines));
  RETURN_IF_ERROR(CheckModelPatterns(access.load(), path + ".access.load", lines));
  RETURN_IF_ERROR(CheckModelPatterns(access.deny(), path + ".access.deny", lines));
  const bool named =
      access.attach_size() > 0 || access.load_configured_size() > 0 || access.load_size() > 0;
  if (LetsOthersIn(listener) && !named) {
    return lines.ErrorAt(path + ".access",
                         "users other than the daemon's own reach this listener, so it must name "
                         "its patterns",
                         "list what they may attach to under access.attach, or use mode 0700 and "
                         "no other owner");
  }
  if (listener.has_access() && !named && access.deny().empty()) {
    return lines.ErrorAt(path + ".access", "names no patterns, so its clients could do nothing",
                         "list patterns, or leave access out");
  }
  return absl::OkStatus();
}

absl::Status CheckMode(uint32_t mode, const std::string& path, const FieldLines& lines) {
  if ((mode & 0700) != 0700) {
    return lines.ErrorAt(path + ".mode", "the folder's owner needs all rights",
                         "use 0700, 0750 or 0755");
  }
  if ((mode & 0022) != 0) {
    return lines.ErrorAt(path + ".mode", "others could replace the sockets",
                         "use 0700, 0750 or 0755");
  }
  return absl::OkStatus();
}

// In one spelling, with a last slash.
std::string FolderName(const std::string& directory) {
  std::string name = std::filesystem::path(directory).lexically_normal().string();
  return absl::EndsWith(name, "/") ? name : absl::StrCat(name, "/");
}

absl::Status CheckOwner(const v1::ListenerConfig& listener, const v1::Config& config,
                        const std::string& path, const FieldLines& lines) {
  if (listener.owner().empty()) {
    return absl::OkStatus();
  }
  const absl::StatusOr<service::Owner> owner = service::ParseOwner(listener.owner());
  if (!owner.ok()) {
    return lines.ErrorAt(path + ".owner", owner.status().message(), HintOf(owner.status()));
  }
  if (!owner->foreign()) {
    return absl::OkStatus();
  }
  const std::string theirs = FolderName(listener.directory());
  if (absl::StartsWith(FolderName(config.socket_dir()), theirs)) {
    return lines.ErrorAt(path + ".owner",
                         "admin.sock is in this folder, and whoever owns the folder can pose as "
                         "weightd to operators",
                         "give the listener a folder of its own, or name only a group: \":group\"");
  }
  for (const v1::ListenerConfig& other : config.listeners()) {
    if (&other != &listener && absl::StartsWith(FolderName(other.directory()), theirs)) {
      return lines.ErrorAt(
          path + ".owner",
          absl::StrCat("the folder of listener ", other.name(),
                       " is in this one, and whoever owns this one can replace that one"),
          "give that listener a folder elsewhere");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLimits(const v1::ListenerConfig& listener, const std::string& path,
                         const FieldLines& lines) {
  RETURN_IF_ERROR(CheckRange(listener.max_sessions(), {1, 65536}, path + ".max_sessions", lines));
  RETURN_IF_ERROR(
      CheckRange(listener.max_connections(), {1, 65536}, path + ".max_connections", lines));
  if (listener.has_max_bytes()) {
    RETURN_IF_ERROR(CheckRange(listener.max_bytes(), {kLeastQuota, kMostQuota}, path + ".max_bytes",
                               lines, kNoLimit));
  }
  if (listener.has_calls_per_second()) {
    RETURN_IF_ERROR(CheckRange(listener.calls_per_second(), {1, kHighestRate},
                               path + ".calls_per_second", lines, kNoLimit));
  }
  if (listener.has_connections_per_second()) {
    RETURN_IF_ERROR(CheckRange(listener.connections_per_second(), {1, kHighestRate},
                               path + ".connections_per_second", lines, kNoLimit));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckListeners(const v1::Config& config, const FieldLines& lines) {
  absl::flat_hash_set<std::string> names;
  absl::flat_hash_set<std::string> directories;
  for (int i = 0; i < config.listeners_size(); ++i) {
    const v1::ListenerConfig& listener = config.listeners(i);
    const std::string path = absl::StrCat("listeners[", i, "]");
    RETURN_IF_ERROR(CheckName(listener.name(), path + ".name", lines));
    if (listener.name() == service::kAdminListener ||
        listener.name() == service::kAdminTcpListener) {
      return lines.ErrorAt(
          path + ".name",
          absl::StrCat("logs and metrics call the operators' own listener ", listener.name()),
          "choose another name");
    }
    if (!names.insert(listener.name()).second) {
      return lines.ErrorAt(path + ".name", "another listener has this name");
    }
    if (listener.directory().empty()) {
      return lines.ErrorAt(path + ".directory", "missing",
                           absl::StrCat("name a folder for its sockets, such as ",
                                        config.socket_dir(), "/", listener.name()));
    }
    if (listener.directory() != config.socket_dir()) {
      RETURN_IF_ERROR(CheckAbsolutePath(listener.directory(), path + ".directory", lines));
    }
    if (!directories.insert(FolderName(listener.directory())).second) {
      return lines.ErrorAt(path + ".directory", "another listener has this folder");
    }
    RETURN_IF_ERROR(CheckMode(listener.mode(), path, lines));
    RETURN_IF_ERROR(CheckOwner(listener, config, path, lines));
    RETURN_IF_ERROR(CheckAccess(listener, path, lines));
    RETURN_IF_ERROR(CheckLimits(listener, path, lines));
  }
  return absl::OkStatus();
}

}  // namespace weightd
