#include "daemon/config_check.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/pins.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/config_check_admin.h"
#include "daemon/config_check_gpu.h"
#include "daemon/config_check_keys.h"
#include "daemon/config_check_listeners.h"
#include "daemon/config_values.h"
#include "daemon/fd_store/keeper_protocol.h"
#include "daemon/source/hf/hf_settings.h"
#include "daemon/source/s3/s3_store.h"

namespace weightd {
namespace {

// Bytes a second.
constexpr uint64_t kLeastBandwidth = 125'000;
constexpr uint64_t kMostBandwidth = 12'500'000'000'000;

constexpr absl::string_view kVerifyPolicies[] = {"fast", "full", "never"};

bool IsNetwork(absl::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '/');
  uint32_t prefix = 0;
  if (parts.size() != 2 || parts[1].empty() || parts[1].size() > 3 ||
      !absl::c_all_of(parts[1], absl::ascii_isdigit) || !absl::SimpleAtoi(parts[1], &prefix)) {
    return false;
  }
  in6_addr address;
  return (inet_pton(AF_INET, parts[0].c_str(), &address) == 1 && prefix <= 32) ||
         (inet_pton(AF_INET6, parts[0].c_str(), &address) == 1 && prefix <= 128);
}

absl::Status CheckModels(const v1::Config& config, const FieldLines& lines) {
  absl::flat_hash_set<std::string> names;
  absl::flat_hash_map<std::string, Pins> pins;  // by URI
  absl::flat_hash_map<std::string, std::string> verify;
  Placements placements;
  for (int i = 0; i < config.models_size(); ++i) {
    const v1::ModelConfig& model = config.models(i);
    const std::string path = absl::StrCat("models[", i, "]");
    RETURN_IF_ERROR(CheckName(model.name(), path + ".name", lines));
    if (!names.insert(model.name()).second) {
      return lines.ErrorAt(path + ".name", "another model has this name");
    }
    const absl::StatusOr<Uri> uri = Uri::Parse(model.uri());
    if (!uri.ok()) {
      return lines.ErrorAt(path + ".uri", uri.status().message(), HintOf(uri.status()));
    }
    if (!model.verify().empty()) {
      RETURN_IF_ERROR(CheckOneOf(model.verify(), kVerifyPolicies, path + ".verify", lines));
      const auto [first, added] = verify.emplace(uri->ToString(), model.verify());
      if (!added && first->second != model.verify()) {
        return lines.ErrorAt(path + ".verify", "another model of this URI says otherwise");
      }
    }
    RETURN_IF_ERROR(CheckPlacement(model, *uri, path, placements, lines));
    for (int j = 0; j < model.sha256_size(); ++j) {
      const absl::Status pinned = AddPin(model.sha256(j), pins[uri->ToString()]);
      if (!pinned.ok()) {
        return lines.ErrorAt(absl::StrCat(path, ".sha256[", j, "]"), pinned.message(),
                             HintOf(pinned));
      }
    }
  }
  return absl::OkStatus();
}

// "*", or a bucket's name ("Amazon S3 User Guide", General purpose bucket naming rules) and perhaps
// a prefix.
bool IsBucketEntry(absl::string_view entry) {
  const absl::string_view bucket = entry.substr(0, entry.find('/'));
  return entry == "*" || (bucket.size() >= 3 && bucket.size() <= 63 &&
                          std::all_of(bucket.begin(), bucket.end(), [](char c) {
                            return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-' ||
                                   c == '.';
                          }));
}

absl::Status CheckBuckets(const v1::S3StoreConfig& store, const std::string& path,
                          absl::flat_hash_set<std::string>& known, const FieldLines& lines) {
  if (store.buckets().empty()) {
    return lines.ErrorAt(path, "names no bucket",
                         "list buckets or bucket/prefix/, or \"*\" for any");
  }
  for (int i = 0; i < store.buckets_size(); ++i) {
    const std::string& entry = store.buckets(i);
    const std::string place = absl::StrCat(path, "[", i, "]");
    if (!IsBucketEntry(entry)) {
      return lines.ErrorAt(place, "not a bucket",
                           "write bucket or bucket/prefix/, in lower case and without s3://");
    }
    if (!known.insert(std::string(absl::StripSuffix(entry, "/"))).second) {
      return lines.ErrorAt(place, "named before");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckEndpoint(absl::string_view endpoint, absl::string_view field,
                           const FieldLines& lines) {
  if (endpoint.empty()) {
    return absl::OkStatus();
  }
  const absl::Status status = source::ParseEndpoint(endpoint).status();
  return status.ok() ? status : lines.ErrorAt(field, status.message(), HintOf(status));
}

absl::Status CheckCredentials(const v1::S3CredentialsConfig& credentials, absl::string_view path,
                              const FieldLines& lines) {
  const bool key = !credentials.access_key_id().empty();
  if (key != !credentials.secret_key_file().empty()) {
    return lines.ErrorAt(path, "access_key_id and secret_key_file go together");
  }
  const int ways = (key ? 1 : 0) + (credentials.profile_file().empty() ? 0 : 1) +
                   (credentials.anonymous() ? 1 : 0);
  if (ways > 1) {
    return lines.ErrorAt(path, "a key, a file of profiles and anonymous exclude one another");
  }
  for (const auto& [file, name] :
       {std::pair(&credentials.secret_key_file(), "secret_key_file"),
        std::pair(&credentials.session_token_file(), "session_token_file"),
        std::pair(&credentials.profile_file(), "profile_file")}) {
    if (!file->empty()) {
      RETURN_IF_ERROR(CheckAbsolutePath(*file, absl::StrCat(path, ".", name), lines));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBandwidth(uint64_t rate, absl::string_view path, const FieldLines& lines) {
  if (rate >= kLeastBandwidth && rate <= kMostBandwidth) {
    return absl::OkStatus();
  }
  return lines.ErrorAt(path, "must be from 1Mb/s to 100Tb/s", "leave the key out for no limit");
}

absl::Status CheckS3(const v1::S3SourceConfig& s3, const FieldLines& lines) {
  absl::flat_hash_set<std::string> names;
  absl::flat_hash_set<std::string> buckets;
  for (int i = 0; i < s3.stores_size(); ++i) {
    const v1::S3StoreConfig& store = s3.stores(i);
    const std::string path = absl::StrCat("sources.s3.stores[", i, "]");
    RETURN_IF_ERROR(CheckName(store.name(), path + ".name", lines));
    if (!names.insert(store.name()).second) {
      return lines.ErrorAt(path + ".name", "another store has this name");
    }
    RETURN_IF_ERROR(CheckBuckets(store, path + ".buckets", buckets, lines));
    RETURN_IF_ERROR(CheckEndpoint(store.endpoint(), path + ".endpoint", lines));
    RETURN_IF_ERROR(CheckOneOf(store.style(), {"auto", "path", "virtual"}, path + ".style", lines));
    if (!store.ca_file().empty()) {
      RETURN_IF_ERROR(CheckAbsolutePath(store.ca_file(), path + ".ca_file", lines));
    }
    RETURN_IF_ERROR(CheckCredentials(store.credentials(), path + ".credentials", lines));
    if (store.has_bandwidth()) {
      RETURN_IF_ERROR(CheckBandwidth(store.bandwidth(), path + ".bandwidth", lines));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckHf(const v1::HfSourceConfig& hf, const FieldLines& lines) {
  if (!hf.endpoint().empty()) {
    const absl::Status status = source::CheckHubEndpoint(hf.endpoint()).status();
    if (!status.ok()) {
      return lines.ErrorAt("sources.hf.endpoint", status.message(), HintOf(status));
    }
  }
  for (const auto& [path, name] : {std::pair(&hf.token_file(), "sources.hf.token_file"),
                                   std::pair(&hf.cache(), "sources.hf.cache"),
                                   std::pair(&hf.ca_file(), "sources.hf.ca_file")}) {
    if (!path->empty()) {
      RETURN_IF_ERROR(CheckAbsolutePath(*path, name, lines));
    }
  }
  return hf.has_bandwidth() ? CheckBandwidth(hf.bandwidth(), "sources.hf.bandwidth", lines)
                            : absl::OkStatus();
}

absl::Status CheckSources(const v1::SourcesConfig& sources, const FieldLines& lines) {
  for (int i = 0; i < sources.file().roots_size(); ++i) {
    RETURN_IF_ERROR(CheckAbsolutePath(sources.file().roots(i),
                                      absl::StrCat("sources.file.roots[", i, "]"), lines));
  }
  RETURN_IF_ERROR(CheckS3(sources.s3(), lines));
  RETURN_IF_ERROR(CheckHf(sources.hf(), lines));
  const v1::HttpSourceConfig& http = sources.http();
  if (sources.has_bandwidth()) {
    RETURN_IF_ERROR(CheckBandwidth(sources.bandwidth(), "sources.bandwidth", lines));
  }
  if (http.has_bandwidth()) {
    RETURN_IF_ERROR(CheckBandwidth(http.bandwidth(), "sources.http.bandwidth", lines));
  }
  RETURN_IF_ERROR(CheckRange(http.connections(), {1, 256}, "sources.http.connections", lines));
  RETURN_IF_ERROR(
      CheckRange(http.chunk(), {64 << 10, uint64_t{1} << 30}, "sources.http.chunk", lines));
  RETURN_IF_ERROR(CheckRange(http.attempts(), {1, 100}, "sources.http.attempts", lines));
  if (!http.ca_file().empty()) {
    RETURN_IF_ERROR(CheckAbsolutePath(http.ca_file(), "sources.http.ca_file", lines));
  }
  for (int i = 0; i < http.allowed_networks_size(); ++i) {
    if (!IsNetwork(http.allowed_networks(i))) {
      return lines.ErrorAt(absl::StrCat("sources.http.allowed_networks[", i, "]"), "not a network",
                           "write address/bits, such as 10.0.0.0/8 or fd00::/8");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckOthers(const v1::Config& config, const FieldLines& lines) {
  if (config.host().budget() != 0) {
    RETURN_IF_ERROR(
        CheckRange(config.host().budget(), {1 << 20, uint64_t{1} << 50}, "host.budget", lines));
    RETURN_IF_ERROR(
        CheckRange(config.host().ready(), {0, config.host().budget()}, "host.ready", lines));
  }
  const v1::CacheConfig& cache = config.cache();
  absl::Duration interval;
  if (cache.revalidate() != "never" && cache.revalidate() != "always" &&
      !ParsePositiveDuration(cache.revalidate(), interval)) {
    return lines.ErrorAt("cache.revalidate", "must be never, always or a time such as 60s");
  }
  RETURN_IF_ERROR(CheckRange(cache.max_loads(), {1, 64}, "cache.max_loads", lines));
  if (!config.metrics().address().empty()) {
    RETURN_IF_ERROR(CheckListenAddress(config.metrics().address(), "metrics.address", lines));
  }
  if (!config.keeper_dir().empty()) {
    RETURN_IF_ERROR(CheckAbsolutePath(config.keeper_dir(), "keeper_dir", lines));
    if (config.keeper_dir().size() > fd_store::kMaxKeeperFolder) {
      return lines.ErrorAt(
          "keeper_dir", "too long for the address of a socket in it",
          absl::StrCat("choose one of at most ", fd_store::kMaxKeeperFolder, " bytes"));
    }
  }
  RETURN_IF_ERROR(
      CheckOneOf(config.log().level(), {"debug", "info", "warning", "error"}, "log.level", lines));
  return CheckOneOf(config.log().format(), {"json", "text"}, "log.format", lines);
}

}  // namespace

absl::Status CheckConfig(const v1::Config& config, const FieldLines& lines) {
  RETURN_IF_ERROR(CheckListeners(config, lines));
  RETURN_IF_ERROR(CheckModels(config, lines));
  RETURN_IF_ERROR(CheckSources(config.sources(), lines));
  RETURN_IF_ERROR(CheckKeys(config, lines));
  RETURN_IF_ERROR(CheckGpu(config.gpu(), lines));
  RETURN_IF_ERROR(CheckAdmin(config.admin(), lines));
  RETURN_IF_ERROR(CheckOneOf(config.verify(), kVerifyPolicies, "verify", lines));
  return CheckOthers(config, lines);
}

}  // namespace weightd
