#include "daemon/configured_sources.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/config.h"
#include "daemon/logging.h"
#include "daemon/source/credentials/credential_provider.h"
#include "daemon/source/credentials/credential_source.h"
#include "daemon/source/file/file_source.h"
#include "daemon/source/hf/hf_settings.h"
#include "daemon/source/hf/hf_source.h"
#include "daemon/source/http/bandwidth.h"
#include "daemon/source/http/http_source.h"
#include "daemon/source/s3/s3_source.h"
#include "daemon/source/s3/s3_store.h"
#include "daemon/source/traffic.h"

namespace weightd {
namespace {

std::vector<std::string> Strings(const google::protobuf::RepeatedPtrField<std::string>& field) {
  return {field.begin(), field.end()};
}

using Limits = std::vector<std::shared_ptr<source::Bandwidth>>;

// What a store keeps: its own limit, if the config has one, and the `common` ones.
template <typename StoreConfig>
Limits LimitsOf(const StoreConfig& config, const Limits& common) {
  Limits limits = common;
  if (config.has_bandwidth()) {
    limits.push_back(std::make_shared<source::Bandwidth>(config.bandwidth()));
  }
  return limits;
}

source::HttpSourceOptions HttpOptions(const v1::HttpSourceConfig& config, Limits limits,
                                      source::Traffic* traffic) {
  return {.connections = static_cast<int>(config.connections()),
          .chunk_bytes = config.chunk(),
          .stall_timeout = ToDuration(config.stall_timeout()),
          .attempts = static_cast<int>(config.attempts()),
          .limits = std::move(limits),
          .traffic = traffic,
          .ca_file = config.ca_file(),
          .allowed_networks = Strings(config.allowed_networks())};
}

source::S3Style StyleOf(const v1::S3StoreConfig& config) {
  return config.style() == "path"      ? source::S3Style::kPath
         : config.style() == "virtual" ? source::S3Style::kVirtual
                                       : source::S3Style::kAuto;
}

std::shared_ptr<source::CredentialProvider> CredentialsOf(const v1::S3StoreConfig& config) {
  const v1::S3CredentialsConfig& credentials = config.credentials();
  if (credentials.anonymous()) {
    return nullptr;
  }
  return source::MakeCredentialProvider(
      {.given = {.access_key_id = credentials.access_key_id(),
                 .secret_key_file = credentials.secret_key_file(),
                 .session_token_file = credentials.session_token_file(),
                 .profile_file = credentials.profile_file(),
                 .profile = credentials.profile()},
       .allow_process = credentials.allow_process(),
       .region = config.region()});
}

absl::StatusOr<std::unique_ptr<source::Source>> MakeS3(const v1::SourcesConfig& config,
                                                       const Limits& common,
                                                       metrics::Counters& counters) {
  source::S3SourceOptions options;
  options.http = HttpOptions(config.http(), common, counters.TrafficOf("s3"));
  options.elsewhere = source::LocationOfEnvironment(source::Environment::OfProcess());
  options.credentials = source::MakeCredentialProvider({});
  for (const v1::S3StoreConfig& store : config.s3().stores()) {
    options.stores.push_back({.location = {.endpoint = store.endpoint(),
                                           .region = store.region(),
                                           .style = StyleOf(store)},
                              .buckets = Strings(store.buckets()),
                              .credentials = CredentialsOf(store),
                              .requester_pays = store.requester_pays(),
                              .ca_file = store.ca_file(),
                              .limits = LimitsOf(store, common),
                              .traffic = counters.TrafficOf(store.name())});
  }
  return source::MakeS3Source(std::move(options));
}

absl::StatusOr<std::unique_ptr<source::Source>> MakeHf(const v1::SourcesConfig& config,
                                                       const Limits& common,
                                                       metrics::Counters& counters) {
  const v1::HfSourceConfig& hf = config.hf();
  source::HfSourceOptions options;
  options.settings = source::HfSettingsOf(source::Environment::OfProcess());
  if (!hf.endpoint().empty()) {
    ASSIGN_OR_RETURN(options.settings.endpoint, source::CheckHubEndpoint(hf.endpoint()));
  }
  if (!hf.token_file().empty()) {
    options.shared_token = {.value = "", .file = hf.token_file(), .file_required = true};
    options.settings.token = options.shared_token;
  }
  if (!hf.cache().empty()) {
    options.shared_cache = hf.cache();
    options.settings.cache = hf.cache();
  }
  if (hf.has_offline()) {
    options.settings.offline = hf.offline();
  }
  if (!options.settings.endpoint.ok() && !options.settings.offline) {
    const absl::Status& status = options.settings.endpoint.status();
    Log(LogLevel::kWarning, "hub.no_address",
        {{"error", status.message()}, {"hint", HintOf(status)}});
  }
  options.http = HttpOptions(config.http(), LimitsOf(hf, common), counters.TrafficOf("hf"));
  if (!hf.ca_file().empty()) {
    options.http.ca_file = hf.ca_file();
  }
  options.on_damaged_copy = [](const std::string& file) {
    Log(LogLevel::kWarning, "hub.copy_damaged", {{"file", file}});
  };
  absl::StatusOr<std::unique_ptr<source::Source>> made = source::MakeHfSource(std::move(options));
  return made.ok() ? std::move(made) : Annotate(made.status(), "sources.hf");
}

}  // namespace

absl::Status AddSources(const v1::SourcesConfig& config, metrics::Counters& counters,
                        source::Registry& sources) {
  sources.Add("file", source::MakeFileSource({.roots = Strings(config.file().roots()),
                                              .direct_io = config.file().direct_io(),
                                              .traffic = counters.TrafficOf("file")}));
  Limits common;
  if (config.has_bandwidth()) {
    common.push_back(std::make_shared<source::Bandwidth>(config.bandwidth()));
  }
  ASSIGN_OR_RETURN(
      std::shared_ptr<source::Source> http,
      source::MakeHttpSource(
          HttpOptions(config.http(), LimitsOf(config.http(), common), counters.TrafficOf("http"))));
  sources.Add("http", http);
  sources.Add("https", std::move(http));
  ASSIGN_OR_RETURN(std::shared_ptr<source::Source> s3, MakeS3(config, common, counters));
  sources.Add("s3", std::move(s3));
  ASSIGN_OR_RETURN(std::shared_ptr<source::Source> hf, MakeHf(config, common, counters));
  sources.Add("hf", std::move(hf));
  return absl::OkStatus();
}

}  // namespace weightd
