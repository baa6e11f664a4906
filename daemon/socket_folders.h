#ifndef WEIGHTD_DAEMON_SOCKET_FOLDERS_H_
#define WEIGHTD_DAEMON_SOCKET_FOLDERS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/cancellation.h"
#include "daemon/service/socket_folder.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// Of sockets that just their owner may use.
inline constexpr mode_t kPrivateSocket = 0600;

// Of sockets that just those may use who get into a folder of this mode.
mode_t SocketModeOf(mode_t folder);

// The folders that the config has this daemon serve in, each once, whatever its spellings.
class SocketFolders {
 public:
  // Waits for whoever holds one until `stopping`; what becomes of them is logged.
  absl::Status Open(const v1::Config& config, Cancellation& stopping);
  // One of the config's.
  service::SocketFolder& At(const std::string& path) const;
  // Nobody new finds us.
  void Unbind();

 private:
  std::vector<std::unique_ptr<service::SocketFolder>> folders_;
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_SOCKET_FOLDERS_H_
