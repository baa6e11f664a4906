#ifndef WEIGHTD_DAEMON_HOST_HOLDERS_H_
#define WEIGHTD_DAEMON_HOST_HOLDERS_H_

#include "common/fd.h"

namespace weightd::host {

// Whether anything beside `probe`, a read-only descriptor of a memfd, holds that file: an open
// descriptor in any process (one under way in a socket too) or a mapping. Our own descriptors count
// if they were opened read-only; mappings made through `probe` itself don't, nor does the
// descriptor that memfd_create gave. True when the kernel can't tell. Two threads don't ask about
// one file at once, nor open it meanwhile: the question is a lease that is held for a moment
// (fcntl(2), F_SETLEASE), and an open of a leased file waits.
bool HeldByOthers(const Fd& probe);

}  // namespace weightd::host

#endif  // WEIGHTD_DAEMON_HOST_HOLDERS_H_
