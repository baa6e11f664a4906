#ifndef WEIGHTD_DAEMON_CONFIG_H_
#define WEIGHTD_DAEMON_CONFIG_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

inline constexpr absl::string_view kDefaultSocketDir = "/run/weightd";

// What is said about the config beside the file.
struct ConfigOverrides {
  // --socket-dir; wins over the file.
  std::string flag_socket_dir = {};
  // WEIGHTD_DIR; counts if neither the flag nor the file says anything.
  std::string environment_socket_dir = {};
};

// Reads a config, fills in the defaults that config.proto names, and checks it. host.budget and
// host.mlock stay absent unless they are given: their defaults depend on the machine. An empty text
// is the default config. Errors are INVALID_ARGUMENT, name file, line and field, and say what to
// do.
absl::StatusOr<v1::Config> ParseConfig(absl::string_view text, absl::string_view file_name,
                                       const ConfigOverrides& overrides);

// The config as YAML that ParseConfig reads.
std::string PrintConfig(const v1::Config& config);

// Whether users other than the daemon's own reach the listener, by its folder's mode or as its
// owner.
bool LetsOthersIn(const v1::ListenerConfig& listener);

absl::Duration ToDuration(const google::protobuf::Duration& duration);

// Of a valid config's cache.revalidate: zero for "always", InfiniteDuration for "never".
absl::Duration RevalidateInterval(const v1::CacheConfig& cache);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIG_H_
