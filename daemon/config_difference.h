#ifndef WEIGHTD_DAEMON_CONFIG_DIFFERENCE_H_
#define WEIGHTD_DAEMON_CONFIG_DIFFERENCE_H_

#include <string>
#include <vector>

#include "weightd/v1/admin.pb.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// What another config changes, as ReloadConfigResponse says it: models by name, each group sorted;
// of all the rest but the log's level, the paths of fields ("sources.http.chunk",
// "listeners[0].mode"), as mistakes in the config are told.
v1::ReloadConfigResponse DifferenceOf(const v1::Config& running, const v1::Config& file);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIG_DIFFERENCE_H_
