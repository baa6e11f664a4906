#include "daemon/fd_store/open.h"

#include <utility>

#include "common/status.h"
#include "daemon/fd_store/keeper_carrier.h"
#include "daemon/fd_store/systemd_carrier.h"

namespace weightd::fd_store {
absl::StatusOr<std::unique_ptr<FdStore>> Open(Options options) {
  std::unique_ptr<Carrier> carrier;
  if (options.ForManager()) {
    options.is_ours = [](absl::string_view) { return true; };
    ASSIGN_OR_RETURN(carrier, SystemdCarrier::Make(std::move(options.notify_socket),
                                                   std::move(options.inherited)));
  } else if (!options.keeper_dir.empty()) {
    ASSIGN_OR_RETURN(carrier, KeeperCarrier::Make(std::move(options.keeper_dir)));
  } else {
    return nullptr;
  }
  return std::make_unique<Courier>(std::move(carrier), std::move(options.is_ours),
                                   std::move(options.observer));
}

}  // namespace weightd::fd_store
