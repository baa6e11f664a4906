#ifndef WEIGHTD_DAEMON_CONFIG_CHECK_H_
#define WEIGHTD_DAEMON_CONFIG_CHECK_H_

#include "absl/status/status.h"
#include "daemon/config_fields.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// What config.proto's types can't say: ranges, names, paths, patterns, networks, and that nobody
// gets rights by default. `config` has its defaults filled in.
absl::Status CheckConfig(const v1::Config& config, const FieldLines& lines);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIG_CHECK_H_
