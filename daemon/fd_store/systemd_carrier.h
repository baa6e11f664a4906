#ifndef WEIGHTD_DAEMON_FD_STORE_SYSTEMD_CARRIER_H_
#define WEIGHTD_DAEMON_FD_STORE_SYSTEMD_CARRIER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/fd.h"
#include "daemon/fd_store/carrier.h"
#include "daemon/fd_store/inherited.h"

namespace weightd::fd_store {

// The way to systemd, which gives what it stores to the next process of the unit. It answers
// nothing: what it has no room for is lost without a word, so the unit's FileDescriptorStoreMax=
// has to be as large as our limit.
class SystemdCarrier final : public Carrier {
 public:
  // `address` is that of NOTIFY_SOCKET.
  static absl::StatusOr<std::unique_ptr<SystemdCarrier>> Make(std::string address,
                                                              Inherited inherited);

  std::string place() const override { return address_; }
  size_t limit() const override { return limit_; }
  absl::Status Open() override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<StoredFd>> List() override;
  absl::Status Store(const std::string& name, const Fd& fd) override;
  absl::Status Remove(const std::string& name) override;
  // Sends a barrier (sd_notify_barrier(3)).
  absl::Status Settle() override;
  int lost() const override { return -1; }
  void Interrupt() override;

 private:
  SystemdCarrier(std::string address, Inherited inherited, Fd interrupted);
  absl::Status Say(const std::string& message, const Fd& fd) const;

  const std::string address_;
  const size_t limit_;
  const Fd interrupted_;
  std::vector<StoredFd> inherited_;
};

}  // namespace weightd::fd_store

#endif  // WEIGHTD_DAEMON_FD_STORE_SYSTEMD_CARRIER_H_
