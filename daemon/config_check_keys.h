#ifndef WEIGHTD_DAEMON_CONFIG_CHECK_KEYS_H_
#define WEIGHTD_DAEMON_CONFIG_CHECK_KEYS_H_

#include "absl/status/status.h"
#include "daemon/config_fields.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// That each entry of `keys` names models and one secret, and what belongs to its cipher.
absl::Status CheckKeys(const v1::Config& config, const FieldLines& lines);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIG_CHECK_KEYS_H_
