#include "daemon/configured_fd_store.h"

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "common/utf8.h"
#include "daemon/cache/owner_mark.h"
#include "daemon/fd_store/open.h"
#include "daemon/logging.h"

namespace weightd {
namespace {

// Of the time that a daemon has to end.
constexpr absl::Duration kFlushPatience = absl::Seconds(2);

fd_store::Observer LogOf(const std::string& keeper) {
  fd_store::Observer observer;
  observer.on_away = [keeper](const absl::Status& why, fd_store::Charges ours) {
    Log(LogLevel::kWarning, "keeper.away",
        {{"keeper", keeper},
         {"error", why.message()},
         {"models", ours.models},
         {"descriptors", ours.descriptors},
         {"hint", HintOf(why)}});
  };
  observer.on_back = [keeper](fd_store::Charges ours) {
    Log(LogLevel::kInfo, "keeper.back",
        {{"keeper", keeper}, {"models", ours.models}, {"descriptors", ours.descriptors}});
  };
  observer.on_refused = [](absl::string_view name, absl::string_view model,
                           const absl::Status& why) {
    Log(LogLevel::kWarning, "keeper.refused",
        {{"model", model}, {"name", name}, {"error", why.message()}, {"hint", HintOf(why)}});
  };
  observer.on_others = [keeper](size_t descriptors) {
    Log(LogLevel::kInfo, "keeper.others",
        {{"keeper", keeper},
         {"descriptors", descriptors},
         {"hint",
          "nothing while daemons of other socket folders use it; what such a folder's last daemon "
          "left stays until the keeper ends"}});
  };
  observer.on_late = [keeper](size_t descriptors) {
    Log(LogLevel::kWarning, "keeper.late",
        {{"keeper", keeper},
         {"descriptors", descriptors},
         {"hint",
          "it gave them late: keeper.away, if it was said, tells why; what was asked for "
          "meanwhile was loaded again"}});
  };
  return observer;
}

std::filesystem::path Absolute(const std::string& folder) {
  std::error_code error;
  return std::filesystem::absolute(folder, error).lexically_normal();
}

std::string MarkOf(const std::filesystem::path& folder) {
  // One with a slash at its end has no last part.
  return cache::OwnerMark((folder.has_filename() ? folder : folder.parent_path()).string());
}

// Of builds that didn't follow symbolic links.
std::string FormerMark(const v1::Config& config) { return MarkOf(Absolute(config.socket_dir())); }

}  // namespace

absl::StatusOr<std::unique_ptr<fd_store::FdStore>> OpenFdStore(const v1::Config& config,
                                                               const std::string& notify_socket,
                                                               fd_store::Inherited inherited) {
  fd_store::Options options;
  options.inherited = std::move(inherited);
  options.notify_socket = notify_socket;
  options.keeper_dir = config.keeper_dir();
  options.is_ours = [marks = std::vector<std::string>{StoreMark(config), FormerMark(config)}](
                        absl::string_view name) { return !cache::IsOthers(name, marks); };
  // The manager goes first, and is known by its socket.
  options.observer = LogOf(options.ForManager() ? notify_socket : config.keeper_dir());
  return fd_store::Open(std::move(options));
}

std::string StoreMark(const v1::Config& config) {
  std::error_code error;
  // It need not be there yet.
  const auto folder = std::filesystem::weakly_canonical(Absolute(config.socket_dir()), error);
  return MarkOf(error ? Absolute(config.socket_dir()) : folder);
}

v1::KeeperStatus KeeperStatusOf(const fd_store::FdStore& store) {
  const fd_store::StoreStatus status = store.status();
  v1::KeeperStatus keeper;
  keeper.set_place(ToUtf8(status.place));
  keeper.set_reachable(status.reachable);
  keeper.set_stored(status.stored);
  keeper.set_pending(status.pending);
  keeper.set_refused(status.refused);
  keeper.set_others(status.others);
  return keeper;
}

void FlushFdStore(fd_store::FdStore* store) {
  if (store == nullptr) {
    return;
  }
  // A daemon that ends has waited before for one that is away.
  const bool reachable = store->status().reachable;
  if (store->Flush(absl::Now() + (reachable ? kFlushPatience : absl::ZeroDuration()))) {
    return;
  }
  const fd_store::StoreStatus status = store->status();
  Log(LogLevel::kWarning, "keeper.unfinished",
      {{"keeper", status.place},
       {"message", "it has not confirmed everything: the next daemon may have to load some again"},
       {"descriptors", status.pending + status.refused},
       {"hint", status.reachable
                    ? "run weightctl drain before the daemon ends: it waits for the keeper"
                    : "see to the keeper: keeper.away says what is wrong with it"}});
}

}  // namespace weightd
