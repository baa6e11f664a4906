#include "daemon/config.h"

#include "common/status.h"
#include "daemon/config_check.h"
#include "daemon/config_fields.h"
#include "daemon/config_values.h"
#include "daemon/config_yaml.h"
#include "daemon/service/owner.h"

namespace weightd {
namespace {

// Values of config.proto's comments.
constexpr uint32_t kDefaultMode = 0700;
constexpr uint32_t kDefaultMaxSessions = 256;
constexpr uint32_t kDefaultMaxConnections = 1024;
constexpr uint32_t kDefaultHttpConnections = 32;
constexpr uint64_t kDefaultChunkBytes = 32 << 20;
constexpr int64_t kDefaultStallSeconds = 30;
constexpr uint32_t kDefaultAttempts = 5;
constexpr int64_t kDefaultUnclaimedLeaseSeconds = 30;
constexpr uint32_t kDefaultMaxLoads = 8;
constexpr char kDefaultListener[] = "default";
constexpr char kDefaultGpuDriver[] = "libcuda.so.1";
constexpr char kDefaultGpuBudget[] = "50%";
constexpr uint64_t kDefaultGpuReserve = uint64_t{1} << 30;
constexpr uint64_t kDefaultGpuRing = 256 << 20;

void DefaultSocketDir(const ConfigOverrides& overrides, v1::Config& config) {
  if (!overrides.flag_socket_dir.empty()) {
    config.set_socket_dir(overrides.flag_socket_dir);
  } else if (config.socket_dir().empty()) {
    config.set_socket_dir(overrides.environment_socket_dir.empty()
                              ? std::string(kDefaultSocketDir)
                              : overrides.environment_socket_dir);
  }
}

void DefaultListeners(v1::Config& config) {
  if (config.listeners().empty()) {
    config.add_listeners()->set_name(kDefaultListener);
  }
  for (v1::ListenerConfig& listener : *config.mutable_listeners()) {
    if (listener.name() == kDefaultListener && listener.directory().empty()) {
      listener.set_directory(config.socket_dir());
    }
    if (!listener.has_mode()) {
      listener.set_mode(kDefaultMode);
    }
    if (!listener.has_max_sessions()) {
      listener.set_max_sessions(kDefaultMaxSessions);
    }
    if (!listener.has_max_connections()) {
      listener.set_max_connections(kDefaultMaxConnections);
    }
  }
}

void DefaultSources(v1::SourcesConfig& sources) {
  if (!sources.file().has_direct_io()) {
    sources.mutable_file()->set_direct_io(true);
  }
  for (v1::S3StoreConfig& store : *sources.mutable_s3()->mutable_stores()) {
    if (store.region().empty()) {
      store.set_region("us-east-1");
    }
    if (store.style().empty()) {
      store.set_style("auto");
    }
  }
  v1::HttpSourceConfig& http = *sources.mutable_http();
  if (!http.has_connections()) {
    http.set_connections(kDefaultHttpConnections);
  }
  if (!http.has_chunk()) {
    http.set_chunk(kDefaultChunkBytes);
  }
  if (!http.has_stall_timeout()) {
    http.mutable_stall_timeout()->set_seconds(kDefaultStallSeconds);
  }
  if (!http.has_attempts()) {
    http.set_attempts(kDefaultAttempts);
  }
}

void DefaultGpu(v1::Config& config) {
  v1::GpuConfig& gpu = *config.mutable_gpu();
  if (gpu.driver().empty()) {
    gpu.set_driver(kDefaultGpuDriver);
  }
  if (gpu.budget().empty()) {
    gpu.set_budget(kDefaultGpuBudget);
  }
  if (!gpu.has_reserve()) {
    gpu.set_reserve(kDefaultGpuReserve);
  }
  if (gpu.ring() == 0) {
    gpu.set_ring(kDefaultGpuRing);
  }
  for (v1::ModelConfig& model : *config.mutable_models()) {
    if (model.has_placement() && model.placement().handles().empty()) {
      model.mutable_placement()->set_handles("descriptor");
    }
  }
}

void DefaultOthers(v1::Config& config) {
  if (!config.host().has_huge_pages()) {
    config.mutable_host()->set_huge_pages(true);
  }
  v1::CacheConfig& cache = *config.mutable_cache();
  if (cache.revalidate().empty()) {
    cache.set_revalidate("60s");
  }
  if (!cache.has_unclaimed_lease()) {
    cache.mutable_unclaimed_lease()->set_seconds(kDefaultUnclaimedLeaseSeconds);
  }
  if (!cache.has_max_loads()) {
    cache.set_max_loads(kDefaultMaxLoads);
  }
  if (config.verify().empty()) {
    config.set_verify("fast");
  }
  for (v1::KeyConfig& key : *config.mutable_keys()) {
    if (key.cipher().empty()) {
      key.set_cipher("secretbox");
    }
  }
  v1::LogConfig& log = *config.mutable_log();
  if (log.level().empty()) {
    log.set_level("info");
  }
  if (log.format().empty()) {
    log.set_format("json");
  }
}

}  // namespace

absl::StatusOr<v1::Config> ParseConfig(absl::string_view text, absl::string_view file_name,
                                       const ConfigOverrides& overrides) {
  ASSIGN_OR_RETURN(const YamlNode yaml, ReadYaml(text, file_name));
  v1::Config config;
  FieldLines lines{std::string(file_name)};
  if (yaml.kind != YamlNode::Kind::kNull) {
    RETURN_IF_ERROR(FillMessage(yaml, config, lines));
    // Flags and the environment are typed where a relative path means something.
    if (!config.socket_dir().empty()) {
      RETURN_IF_ERROR(CheckAbsolutePath(config.socket_dir(), "socket_dir", lines));
    }
  }
  DefaultSocketDir(overrides, config);
  DefaultListeners(config);
  DefaultSources(*config.mutable_sources());
  DefaultGpu(config);
  DefaultOthers(config);
  RETURN_IF_ERROR(CheckConfig(config, lines));
  return config;
}

std::string PrintConfig(const v1::Config& config) { return WriteYaml(DescribeMessage(config)); }

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

bool LetsOthersIn(const v1::ListenerConfig& listener) {
  if ((listener.mode() & 0077) != 0) {
    return true;
  }
  if (listener.owner().empty()) {
    return false;
  }
  const absl::StatusOr<service::Owner> owner = service::ParseOwner(listener.owner());
  return !owner.ok() || owner->foreign();
}

absl::Duration RevalidateInterval(const v1::CacheConfig& cache) {
  absl::Duration interval = absl::InfiniteDuration();
  if (cache.revalidate() == "always") {
    return absl::ZeroDuration();
  }
  ParsePositiveDuration(cache.revalidate(), interval);
  return interval;
}

}  // namespace weightd
