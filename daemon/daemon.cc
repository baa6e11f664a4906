#include "daemon/daemon.h"

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "common/version.h"
#include "daemon/config.h"
#include "daemon/configured_fd_store.h"
#include "daemon/configured_gpus.h"
#include "daemon/configured_metrics.h"
#include "daemon/configured_sources.h"
#include "daemon/descriptor_plan.h"
#include "daemon/host/host_tier.h"
#include "daemon/host/memory_limits.h"
#include "daemon/logging.h"
#include "daemon/model_keys.h"
#include "daemon/service/access.h"
#include "daemon/service/card_codec.h"
#include "daemon/service/tensor_index_codec.h"

namespace weightd {
namespace {

// For calls that are about to end anyway.
constexpr absl::Duration kCallsGrace = absl::Milliseconds(500);
// Of what a daemon has to end.
constexpr absl::Duration kKeeperPatience = absl::Seconds(2);
constexpr uint32_t kAdminConnections = 64;

std::map<std::string, uint64_t, std::less<>> QuotasOf(const v1::Config& config) {
  std::map<std::string, uint64_t, std::less<>> quotas;
  for (const v1::ListenerConfig& listener : config.listeners()) {
    if (listener.has_max_bytes()) {
      quotas[listener.name()] = listener.max_bytes();
    }
  }
  return quotas;
}

absl::StatusOr<host::HostTierOptions> HostTierOptionsOf(const v1::HostTierConfig& config) {
  host::HostTierOptions tier;
  tier.budget = config.budget();
  if (tier.budget == 0) {
    ASSIGN_OR_RETURN(tier.budget, host::DefaultBudget());
  }
  if (config.ready() > tier.budget) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat("host.ready is ", config.ready(), " bytes, the budget ", tier.budget),
                 "set host.budget, or make less memory ready");
  }
  tier.ready = AlignDown(config.ready(), kPageBytes);
  tier.huge_pages = config.huge_pages();
  // By default wherever the kernel allows it.
  tier.mlock = !config.has_mlock() || config.mlock();
  return tier;
}

absl::StatusOr<service::Access> AccessOf(const v1::ListenerConfig& config) {
  if (!config.has_access()) {
    return service::Access::Everything();
  }
  const v1::AccessConfig& access = config.access();
  if (access.attach().empty() && access.load_configured().empty() && access.load().empty()) {
    return service::Access::EverythingBut({access.deny().begin(), access.deny().end()});
  }
  return service::Access::Limited(
      {{access.attach().begin(), access.attach().end()},
       {access.load_configured().begin(), access.load_configured().end()},
       {access.load().begin(), access.load().end()},
       {access.deny().begin(), access.deny().end()}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const v1::Config& config, ConfigFile file,
                                                      fd_store::FdStore* fd_store,
                                                      Cancellation& stopping) {
  std::unique_ptr<Daemon> daemon(new Daemon());
  daemon->call_observers_.Add(&daemon->audit_log_);
  RETURN_IF_ERROR(daemon->models_.Set(config));
  RETURN_IF_ERROR(daemon->folders_.Open(config, stopping));
  RETURN_IF_ERROR(daemon->FindGpus(config));
  RETURN_IF_ERROR(daemon->BuildCache(config, fd_store));
  RETURN_IF_ERROR(daemon->StartListeners(config));
  daemon->models_.Keep();
  const auto use_models = [models = &daemon->models_](const v1::Config& changed) {
    return models->Replace(changed);
  };
  ASSIGN_OR_RETURN(daemon->reloader_, ConfigReloader::Start(config, std::move(file), use_models));
  daemon->ShowMetrics();
  RETURN_IF_ERROR(daemon->StartAdmin(config));
  if (!config.metrics().address().empty()) {
    RETURN_IF_ERROR(daemon->metrics_->Serve(config.metrics().address()));
  }
  std::vector<LogField> serving = {{"version", absl::string_view(kVersion)},
                                   {"socket_dir", config.socket_dir()},
                                   {"budget_bytes", daemon->cache_->Usage().budget}};
  if (daemon->admin_tcp_ != nullptr) {
    serving.emplace_back("admin_tcp", daemon->admin_tcp_->address());
  }
  Log(LogLevel::kInfo, "daemon.serving", serving);
  return daemon;
}

std::string Daemon::Summary() const {
  const host::HostUsage usage = cache_->Usage();
  constexpr double kGib = 1 << 30;
  return absl::StrFormat(
      "%.1f of %.1f GiB in use, %u loads running",
      static_cast<double>(usage.resident + usage.loading + usage.draining) / kGib,
      static_cast<double>(usage.budget) / kGib, cache_->LoadsRunning());
}

void Daemon::Stop() {
  ready_keeper_.reset();
  folders_.Unbind();
  HandOver();
  const absl::Time deadline = absl::Now() + kCallsGrace;
  if (admin_tcp_ != nullptr) {
    admin_tcp_->StopAccepting();
  }
  if (admin_ != nullptr) {
    admin_->Shutdown(deadline);
  }
  // Carried what the last calls answered.
  admin_tcp_.reset();
  for (const auto& listener : listeners_) {
    listener->ShutdownCalls(deadline);
  }
  metrics_.reset();
  listeners_.clear();
  audit_log_.WriteLeftOut();
  admin_.reset();
  admin_service_.reset();
  reloader_.reset();
  line_writing_.reset();
  event_lines_.WriteLeftOut();
  models_.StopKeeping();
  counting_.reset();
}

void Daemon::HandOver() {
  // Whoever waits for a load asks the next daemon. Who watches hears of it, and so does the log.
  if (cache_ != nullptr) {
    cache_->StopLoadsForGood();
    cache_->HandOver(absl::Now() + kKeeperPatience);
  }
}

absl::Status Daemon::FindGpus(const v1::Config& config) {
  ASSIGN_OR_RETURN(gpus_, device::MakeGpus(GpusOptionsOf(config)));
  LogGpus(*gpus_);
  counters_ = MakeCounters(config, *gpus_);
  call_observers_.Add(counters_.get());
  return absl::OkStatus();
}

absl::Status Daemon::BuildCache(const v1::Config& config, fd_store::FdStore* fd_store) {
  fd_store_ = fd_store;
  RETURN_IF_ERROR(AddSources(config.sources(), *counters_, sources_));
  ASSIGN_OR_RETURN(host::HostTierOptions tier, HostTierOptionsOf(config.host()));
  pipeline::LoaderOptions loader;
  loader.chunk_bytes = config.sources().http().chunk();
  loader.rules_of = [this](const Uri& model) { return models_.RulesOf(model); };
  ASSIGN_OR_RETURN(ModelKeys keys, ModelKeys::Make(config.keys()));
  loader.key_of = [keys = std::move(keys)](const Uri& model) { return keys.For(model); };
  loader.gpus = gpus_.get();
  loader.staging_bytes = config.gpu().ring();
  loader_ = pipeline::MakeModelLoader(&sources_, service::EncodeTensorIndex, std::move(loader));
  const auto host_tier = std::make_shared<host::HostTier>(std::move(tier));
  cache_ = cache::Cache::Create(
      {.revalidate = RevalidateInterval(config.cache()),
       .unclaimed_lease = ToDuration(config.cache().unclaimed_lease()),
       .max_loads = static_cast<int>(config.cache().max_loads()),
       .quotas = QuotasOf(config),
       .fd_store = fd_store,
       .store_mark = StoreMark(config),
       .encode_card = service::EncodeCard,
       .decode_card = service::DecodeCard,
       .decode_index = service::DecodeTensorIndex,
       .pinned_by_config = [this](const Uri& model) { return models_.Pins(model); },
       .verify_of = [this](const Uri& model) { return models_.RulesOf(model).verify; },
       .pins_of = [this](const Uri& model) { return models_.RulesOf(model).pins; }},
      host_tier, loader_.get(), gpus_.get());
  line_writing_ = cache_->events().Subscribe(
      [this](const cache::Event& event) { event_lines_.Happened(event); });
  counting_ = cache_->events().Subscribe(
      [counters = counters_.get()](const cache::Event& event) { counters->Happened(event); });
  if (fd_store != nullptr) {
    // We hold the folders' locks: whoever left it has ended.
    cache_->Readopt(fd_store->TakeBack());
  }
  RETURN_IF_ERROR(models_.Place(config, cache_.get(), gpus_.get()));
  if (host_tier->options().ready > 0) {
    ready_keeper_ = std::make_unique<host::ReadyKeeper>(host_tier);
  }
  return absl::OkStatus();
}

absl::Status Daemon::StartListeners(const v1::Config& config) {
  in_flight_ = std::make_unique<service::UserShares>(service::DescriptorsInFlight(),
                                                     service::UserShares::Users::kSeveral);
  const v1::Config fitting = WithinDescriptors(config, gpus_->List().size());
  for (const v1::ListenerConfig& listener : fitting.listeners()) {
    RETURN_IF_ERROR(Annotate(StartListener(listener), absl::StrCat("listener ", listener.name())));
  }
  return absl::OkStatus();
}

absl::Status Daemon::StartListener(const v1::ListenerConfig& config) {
  ASSIGN_OR_RETURN(service::Access access, AccessOf(config));
  service::SocketFolder& folder = folders_.At(config.directory());
  const mode_t mode = SocketModeOf(config.mode());
  ASSIGN_OR_RETURN(Fd handles, folder.Bind(service::kHandlesSocket, SOCK_SEQPACKET, mode));
  ASSIGN_OR_RETURN(Fd calls, folder.Bind(service::kWeightsSocket, SOCK_STREAM, mode));
  RETURN_IF_ERROR(folder.GiveAway());
  service::ClientListenerOptions options;
  options.name = config.name();
  options.directory = config.directory();
  options.max_sessions = static_cast<int>(config.max_sessions());
  options.max_connections = config.max_connections();
  options.calls_per_second = config.calls_per_second();
  options.connections_per_second = config.connections_per_second();
  if (LetsOthersIn(config)) {
    options.users = service::UserShares::Users::kSeveral;
  }
  ASSIGN_OR_RETURN(
      auto listener,
      service::ClientListener::Start(
          std::move(calls), std::move(handles), std::move(access), std::move(options),
          {cache_.get(), &sessions_, &models_.names(), in_flight_.get(), &call_observers_}));
  listeners_.push_back(std::move(listener));
  return absl::OkStatus();
}

absl::Status Daemon::StartAdmin(const v1::Config& config) {
  admin_service_ = std::make_unique<service::AdminService>(service::AdminService::Daemon{
      .cache = cache_.get(),
      .names = &models_.names(),
      .listeners = [this] { return ListenerStatuses(); },
      .started = absl::Now(),
      .peers = &admin_peers_,
      .observer = &call_observers_,
      .log_levels = {.current = [] { return std::string(NameOf(CurrentLogLevel())); },
                     .change = ChangeLogLevel},
      .read_config_again = [this] { return reloader_->Reload("admin"); },
      .configured_models = [this] { return models_.Snapshot(); },
      .metrics = [this] { return metrics_->Text(); },
      .keeper = KeeperStatus()});
  ASSIGN_OR_RETURN(
      Fd listening,
      folders_.At(config.socket_dir()).Bind(service::kAdminSocket, SOCK_STREAM, kPrivateSocket));
  if (!service::RefusesDescriptors(listening)) {
    Log(LogLevel::kWarning, "kernel.passes_descriptors",
        {{"message",
          "clients can hold this daemon up with sockets that they pass to it; Linux "
          "6.16 and later can keep them from it"}});
  }
  ASSIGN_OR_RETURN(
      admin_, service::GrpcListener::Start(
                  std::move(listening), {.connections = kAdminConnections}, admin_service_.get(),
                  {service::kAdminListener, &admin_peers_, &call_observers_}));
  ASSIGN_OR_RETURN(admin_tcp_,
                   StartAdminTcp(config.admin().tcp(), admin_.get(),
                                 {service::kAdminTcpListener, &admin_peers_, &call_observers_},
                                 &certificate_expiry_));
  return absl::OkStatus();
}

void Daemon::ShowMetrics() {
  metrics_ =
      MakeExposition({.counters = counters_.get(),
                      .cache = cache_.get(),
                      .names = &models_.names(),
                      .listeners = [this] { return ListenerStatuses(); },
                      .models = [this] { return models_.Snapshot(); },
                      .admin_certificate_expiry = [this] { return certificate_expiry_.load(); },
                      .keeper = KeeperStatus(),
                      .started = absl::Now()});
}

std::function<v1::KeeperStatus()> Daemon::KeeperStatus() const {
  if (fd_store_ == nullptr) {
    return {};
  }
  return [store = fd_store_] { return KeeperStatusOf(*store); };
}

std::vector<v1::ListenerStatus> Daemon::ListenerStatuses() const {
  std::vector<v1::ListenerStatus> statuses;
  for (const auto& listener : listeners_) {
    v1::ListenerStatus& status = statuses.emplace_back();
    status.set_name(listener->options().name);
    // Without it where no client finds the listener any more.
    if (folders_.At(listener->options().directory).Serves()) {
      status.set_directory(listener->options().directory);
    }
    status.set_sessions(listener->sessions());
  }
  return statuses;
}

}  // namespace weightd
