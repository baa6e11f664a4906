#ifndef WEIGHTD_DAEMON_FD_STORE_SAME_OPEN_FILE_H_
#define WEIGHTD_DAEMON_FD_STORE_SAME_OPEN_FILE_H_

namespace weightd::fd_store {

// Whether two descriptors are of one open file description. Where neither the kernel (before 6.10)
// nor the container's seccomp profile lets us ask, whether they are of one file, opened alike; as
// systemd does.
bool IsSameOpenFile(int one, int other);

}  // namespace weightd::fd_store

#endif  // WEIGHTD_DAEMON_FD_STORE_SAME_OPEN_FILE_H_
