#include "daemon/fd_store/open.h"

#include <utility>
#include <vector>

#include "common/status.h"
#include "daemon/fd_store/keeper_carrier.h"
#include "daemon/fd_store/systemd_carrier.h"

namespace weightd::fd_store {
namespace {

class Nowhere final : public FdStore {
 public:
  std::vector<StoredFd> TakeBack() override { return {}; }
  void Store(absl::string_view, const Fd&) override {}
  void Remove(absl::string_view) override {}
};

}  // namespace

absl::StatusOr<std::unique_ptr<FdStore>> Open(Options options) {
  std::unique_ptr<Carrier> carrier;
  if (options.ForManager()) {
    ASSIGN_OR_RETURN(carrier, SystemdCarrier::Make(std::move(options.notify_socket),
                                                   std::move(options.inherited)));
  } else if (!options.keeper_dir.empty()) {
    ASSIGN_OR_RETURN(carrier, KeeperCarrier::Make(std::move(options.keeper_dir)));
  } else {
    return std::make_unique<Nowhere>();
  }
  return std::make_unique<Courier>(std::move(carrier), std::move(options.observer));
}

}  // namespace weightd::fd_store
