#ifndef WEIGHTD_DAEMON_FD_STORE_KEEPER_CARRIER_H_
#define WEIGHTD_DAEMON_FD_STORE_KEEPER_CARRIER_H_

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/fd.h"
#include "common/fd_passing.h"
#include "daemon/fd_store/carrier.h"
#include "daemon/fd_store/keeper_protocol.h"

namespace weightd::fd_store {

// The way to weightd-keeper. Its folder has to be our user's or root's, and nobody else may write
// to it; whoever listens there has to be one of these, too.
class KeeperCarrier final : public Carrier {
 public:
  // `folder` is checked only when the way is opened: the keeper may come later. INVALID_ARGUMENT if
  // it is too long a path.
  static absl::StatusOr<std::unique_ptr<KeeperCarrier>> Make(std::string folder);

  std::string place() const override { return folder_; }
  size_t limit() const override { return kMaxStored; }
  absl::Status Open() override;
  absl::StatusOr<std::vector<StoredFd>> List() override;
  absl::Status Store(const std::string& name, const Fd& fd) override;
  absl::Status Remove(const std::string& name) override;
  // Each request was answered.
  absl::Status Settle() override { return absl::OkStatus(); }
  int lost() const override { return socket_.get(); }
  absl::Status Check() override;
  void Interrupt() override;

 private:
  KeeperCarrier(std::string folder, Fd interrupted)
      : folder_(std::move(folder)), interrupted_(std::move(interrupted)) {}

  // Which socket lies at a path. While we are connected to it, no other one has its inode.
  struct Place {
    dev_t device = 0;
    ino_t inode = 0;
  };
  absl::StatusOr<Place> Look() const;
  absl::Status Connect();
  absl::Status Ask(absl::string_view request, int fd);
  absl::StatusOr<Packet> Hear();
  // The answer to a request that has none but OK.
  absl::Status HearDone();

  const std::string folder_;
  const Fd interrupted_;
  Fd socket_;
  // Where we connected to it.
  Place place_;
};

}  // namespace weightd::fd_store

#endif  // WEIGHTD_DAEMON_FD_STORE_KEEPER_CARRIER_H_
