#include "daemon/socket_folders.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/config.h"
#include "daemon/logging.h"
#include "daemon/service/owner.h"

namespace weightd {
namespace {

// For a folder that holds others' folders: they may pass, nothing else.
constexpr mode_t kPassMode = 0711;

// Two spellings of one folder would be two locks on it, one waiting for the other.
std::string Normalised(absl::string_view folder) {
  while (folder.size() > 1 && absl::ConsumeSuffix(&folder, "/")) {
  }
  return std::string(folder);
}

struct FolderRights {
  mode_t mode = 0;
  service::Owner owner = {};
};

// The folders to hold, each once; a folder comes before those in it.
absl::StatusOr<std::map<std::string, FolderRights>> FoldersOf(const v1::Config& config) {
  const std::string socket_dir = Normalised(config.socket_dir());
  std::map<std::string, FolderRights> folders = {{socket_dir, {.mode = 0700}}};
  for (const v1::ListenerConfig& listener : config.listeners()) {
    const std::string directory = Normalised(listener.directory());
    FolderRights& rights = folders[directory];
    rights.mode |= listener.mode();
    if (!listener.owner().empty()) {
      ASSIGN_OR_RETURN(rights.owner, service::ParseOwner(listener.owner()));
    }
    if (LetsOthersIn(listener) && absl::StartsWith(directory, socket_dir + "/")) {
      folders[socket_dir].mode |= kPassMode;
    }
  }
  return folders;
}

}  // namespace

mode_t SocketModeOf(mode_t folder) {
  return kPrivateSocket | ((folder & S_IXGRP) != 0 ? 0060 : 0) |
         ((folder & S_IXOTH) != 0 ? 0006 : 0);
}

absl::Status SocketFolders::Open(const v1::Config& config, Cancellation& stopping) {
  ASSIGN_OR_RETURN(const auto folders, FoldersOf(config));
  for (const auto& [path, rights] : folders) {
    service::SocketFolderOptions options;
    options.path = path;
    options.mode = rights.mode;
    options.owner = rights.owner;
    options.on_wait = [&path = path](absl::string_view why) {
      Log(LogLevel::kWarning, "folder.waiting", {{"socket_dir", path}, {"message", why}});
    };
    options.on_lost = [path = path] {
      Log(LogLevel::kWarning, "folder.lost", {{"socket_dir", path}});
    };
    ASSIGN_OR_RETURN(std::unique_ptr<service::SocketFolder> folder,
                     service::SocketFolder::Open(std::move(options), stopping));
    folders_.push_back(std::move(folder));
  }
  return absl::OkStatus();
}

service::SocketFolder& SocketFolders::At(const std::string& path) const {
  return **std::find_if(folders_.begin(), folders_.end(),
                        [&](const auto& folder) { return folder->path() == Normalised(path); });
}

void SocketFolders::Unbind() {
  for (const auto& folder : folders_) {
    folder->Unbind();
  }
}

}  // namespace weightd
