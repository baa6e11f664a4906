#ifndef WEIGHTD_DAEMON_DEVICE_WORKER_LIST_H_
#define WEIGHTD_DAEMON_DEVICE_WORKER_LIST_H_

#include <string>

namespace weightd::device {

// Sends what GPUs the driver shows: a ListedGpu for each, then an Answer. Returns an exit code.
int SendList(int socket, const std::string& driver);

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_WORKER_LIST_H_
