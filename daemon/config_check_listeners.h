#ifndef WEIGHTD_DAEMON_CONFIG_CHECK_LISTENERS_H_
#define WEIGHTD_DAEMON_CONFIG_CHECK_LISTENERS_H_

#include "absl/status/status.h"
#include "daemon/config_fields.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// That listeners have names and folders of their own, that nobody gets rights by default, and that
// nobody who owns one folder can replace another, or the admin socket.
absl::Status CheckListeners(const v1::Config& config, const FieldLines& lines);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIG_CHECK_LISTENERS_H_
