#ifndef WEIGHTD_DAEMON_CONFIG_CHECK_ADMIN_H_
#define WEIGHTD_DAEMON_CONFIG_CHECK_ADMIN_H_

#include "absl/status/status.h"
#include "daemon/config_fields.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// That `admin.tcp` has all it takes to let nobody in by mistake. Its files are not looked at, which
// may lie on another machine: the daemon does as it starts.
absl::Status CheckAdmin(const v1::AdminConfig& admin, const FieldLines& lines);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIG_CHECK_ADMIN_H_
