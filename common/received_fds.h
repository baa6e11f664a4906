#ifndef WEIGHTD_COMMON_RECEIVED_FDS_H_
#define WEIGHTD_COMMON_RECEIVED_FDS_H_

#include <sys/socket.h>

#include <vector>

#include "common/fd.h"

namespace weightd {

// Every descriptor that came with a message of recvmsg(2) (SCM_RIGHTS, unix(7)), those of a cut
// message included: the caller's from now on. Once for a message.
std::vector<Fd> ReceivedFds(msghdr& message);

}  // namespace weightd

#endif  // WEIGHTD_COMMON_RECEIVED_FDS_H_
