#ifndef WEIGHTD_COMMON_NOTIFY_H_
#define WEIGHTD_COMMON_NOTIFY_H_

#include <string>
#include <string_view>

namespace weightd {

// One message to a service manager, with a duplicate of `fd` unless that is -1: sd_notify(3).
// `address` is that of NOTIFY_SOCKET, a path or '@' and a name. Waits for a manager that is busy,
// up to 5 s. Returns 0, or the errno: EAFNOSUPPORT for an address of another kind. (No
// absl::Status: weightd-keeper, which has no Abseil, uses it, too.)
int Notify(const std::string& address, std::string_view message, int fd = -1);

}  // namespace weightd

#endif  // WEIGHTD_COMMON_NOTIFY_H_
