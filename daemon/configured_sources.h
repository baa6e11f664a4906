#ifndef WEIGHTD_DAEMON_CONFIGURED_SOURCES_H_
#define WEIGHTD_DAEMON_CONFIGURED_SOURCES_H_

#include "absl/status/status.h"
#include "daemon/metrics/counters.h"
#include "daemon/source/registry.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// Makes the sources that the config describes, for their schemes: file, http, https, s3, hf. What
// comes from them `counters`, which outlive them, count by store: "file", "http", "hf", a store's
// name, or "s3" where none names the bucket.
absl::Status AddSources(const v1::SourcesConfig& config, metrics::Counters& counters,
                        source::Registry& sources);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIGURED_SOURCES_H_
