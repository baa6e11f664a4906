#include "daemon/daemon.h"

#include <sys/socket.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "common/version.h"
#include "daemon/config.h"
#include "daemon/configured_gpus.h"
#include "daemon/configured_metrics.h"
#include "daemon/configured_sources.h"
#include "daemon/event_lines.h"
#include "daemon/host/host_tier.h"
#include "daemon/host/memory_limits.h"
#include "daemon/logging.h"
#include "daemon/model_keys.h"
#include "daemon/service/access.h"
#include "daemon/service/tensor_index_codec.h"

namespace weightd {
namespace {

// For calls that are about to end anyway.
constexpr absl::Duration kCallsGrace = absl::Milliseconds(500);
constexpr uint32_t kAdminConnections = 64;
constexpr mode_t kPrivateSocket = 0600;
constexpr mode_t kOpenSocket = 0666;
// For a folder that holds others' folders: they may pass, nothing else.
constexpr mode_t kPassMode = 0711;

// Two spellings of one folder would be two locks on it, one waiting for the other.
std::string Normalised(absl::string_view folder) {
  while (folder.size() > 1 && absl::ConsumeSuffix(&folder, "/")) {
  }
  return std::string(folder);
}

// The folders to hold, each once, with their modes; a folder comes before those in it.
std::map<std::string, mode_t> FoldersOf(const v1::Config& config) {
  const std::string socket_dir = Normalised(config.socket_dir());
  std::map<std::string, mode_t> folders = {{socket_dir, 0700}};
  for (const v1::ListenerConfig& listener : config.listeners()) {
    const std::string directory = Normalised(listener.directory());
    folders[directory] |= listener.mode();
    if (LetsOthersIn(listener.mode()) && absl::StartsWith(directory, socket_dir + "/")) {
      folders[socket_dir] |= kPassMode;
    }
  }
  return folders;
}

// Of a valid config.
pipeline::VerifyPolicy VerifyPolicyOf(absl::string_view name) {
  return name == "full"    ? pipeline::VerifyPolicy::kFull
         : name == "never" ? pipeline::VerifyPolicy::kNever
                           : pipeline::VerifyPolicy::kFast;
}

v1::ConfiguredModel::State StateOf(const v1::ModelConfig& promise, const Uri& uri,
                                   const cache::Cache& cache) {
  const absl::StatusOr<cache::ModelSnapshot> model = cache.Model(uri);
  if (model.ok() && model->state == cache::ModelState::kLoading) {
    return v1::ConfiguredModel::LOADING;
  }
  if (!promise.preload() && !promise.pin()) {
    return v1::ConfiguredModel::ON_DEMAND;
  }
  if (model.ok() && model->state == cache::ModelState::kResident) {
    return v1::ConfiguredModel::READY;
  }
  return model.ok() && !model->last_error.empty() ? v1::ConfiguredModel::RETRYING
                                                  : v1::ConfiguredModel::EVICTED;
}

// How the promises of the config's model list are kept.
std::vector<v1::ConfiguredModel> KeptOf(
    const google::protobuf::RepeatedPtrField<v1::ModelConfig>& promises,
    const service::ModelNames& names, const cache::Cache& cache) {
  std::vector<v1::ConfiguredModel> kept;
  for (const v1::ModelConfig& promise : promises) {
    v1::ConfiguredModel& model = kept.emplace_back();
    model.set_name(promise.name());
    model.set_state(StateOf(promise, names.Resolve(promise.name()).value_or(Uri()), cache));
  }
  return kept;
}

absl::StatusOr<service::Access> AccessOf(const v1::ListenerConfig& config) {
  if (!config.has_access()) {
    return service::Access::Everything();
  }
  const v1::AccessConfig& access = config.access();
  return service::Access::Limited(
      {{access.attach().begin(), access.attach().end()},
       {access.load_configured().begin(), access.load_configured().end()},
       {access.load().begin(), access.load().end()}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const v1::Config& config,
                                                      Cancellation& stopping) {
  std::unique_ptr<Daemon> daemon(new Daemon());
  RETURN_IF_ERROR(daemon->NameModels(config));
  RETURN_IF_ERROR(daemon->OpenFolders(config, stopping));
  RETURN_IF_ERROR(daemon->FindGpus(config));
  RETURN_IF_ERROR(daemon->BuildCache(config));
  RETURN_IF_ERROR(daemon->StartListeners(config));
  daemon->ShowMetrics(config);
  RETURN_IF_ERROR(daemon->StartAdmin(config));
  daemon->KeepConfiguredModels(config);
  if (!config.metrics().address().empty()) {
    RETURN_IF_ERROR(daemon->metrics_->Serve(config.metrics().address()));
  }
  Log(LogLevel::kInfo, "daemon.serving",
      {{"version", absl::string_view(kVersion)},
       {"socket_dir", config.socket_dir()},
       {"budget_bytes", daemon->cache_->Usage().budget}});
  return daemon;
}

void Daemon::Stop() {
  ready_keeper_.reset();
  for (const auto& folder : folders_) {
    folder->Unbind();
  }
  configured_models_.reset();
  const absl::Time deadline = absl::Now() + kCallsGrace;
  if (admin_ != nullptr) {
    admin_->Shutdown(deadline);
  }
  for (const auto& listener : listeners_) {
    listener->ShutdownCalls(deadline);
  }
  metrics_.reset();
  listeners_.clear();
  admin_.reset();
  admin_service_.reset();
  event_lines_.reset();
  counting_.reset();
}

absl::Status Daemon::NameModels(const v1::Config& config) {
  for (const v1::ModelConfig& model : config.models()) {
    RETURN_IF_ERROR(names_.Add(model.name(), model.uri()));
  }
  return absl::OkStatus();
}

absl::Status Daemon::OpenFolders(const v1::Config& config, Cancellation& stopping) {
  for (const auto& [path, mode] : FoldersOf(config)) {
    service::SocketFolderOptions options;
    options.path = path;
    options.mode = mode;
    options.on_wait = [&path](absl::string_view why) {
      Log(LogLevel::kWarning, "folder.waiting", {{"socket_dir", path}, {"message", why}});
    };
    ASSIGN_OR_RETURN(std::unique_ptr<service::SocketFolder> folder,
                     service::SocketFolder::Open(std::move(options), stopping));
    folders_.push_back(std::move(folder));
  }
  return absl::OkStatus();
}

absl::Status Daemon::FindGpus(const v1::Config& config) {
  ASSIGN_OR_RETURN(gpus_, device::MakeGpus(GpusOptionsOf(config)));
  LogGpus(*gpus_);
  counters_ = MakeCounters(config, *gpus_);
  call_observers_.Add(counters_.get());
  return absl::OkStatus();
}

absl::Status Daemon::BuildCache(const v1::Config& config) {
  RETURN_IF_ERROR(AddSources(config.sources(), *counters_, sources_));
  host::HostTierOptions tier;
  tier.budget = config.host().budget();
  if (tier.budget == 0) {
    ASSIGN_OR_RETURN(tier.budget, host::DefaultBudget());
  }
  if (config.host().ready() > tier.budget) {
    return Error(
        Reason::kInvalidArgument,
        absl::StrCat("host.ready is ", config.host().ready(), " bytes, the budget ", tier.budget),
        "set host.budget, or make less memory ready");
  }
  tier.ready = AlignDown(config.host().ready(), kPageBytes);
  tier.huge_pages = config.host().huge_pages();
  // By default wherever the kernel allows it.
  tier.mlock = !config.host().has_mlock() || config.host().mlock();
  pipeline::LoaderOptions loader;
  loader.chunk_bytes = config.sources().http().chunk();
  for (const v1::ModelConfig& model : config.models()) {
    ASSIGN_OR_RETURN(const Uri uri, names_.Resolve(model.name()));
    if (!model.verify().empty()) {
      loader.verify[uri.ToString()] = VerifyPolicyOf(model.verify());
    }
    for (const std::string& pin : model.sha256()) {
      RETURN_IF_ERROR(AddPin(pin, loader.pins[uri.ToString()]));
    }
  }
  loader.verify_by_default = VerifyPolicyOf(config.verify());
  ASSIGN_OR_RETURN(ModelKeys keys, ModelKeys::Make(config.keys()));
  loader.key_of = [keys = std::move(keys)](const Uri& model) { return keys.For(model); };
  loader.gpus = gpus_.get();
  loader.staging_bytes = config.gpu().ring();
  loader_ = pipeline::MakeModelLoader(&sources_, service::EncodeTensorIndex, std::move(loader));
  const auto host_tier = std::make_shared<host::HostTier>(std::move(tier));
  ASSIGN_OR_RETURN(auto placements, PlacementsOf(config, names_, *gpus_));
  cache_ = cache::Cache::Create({.revalidate = RevalidateInterval(config.cache()),
                                 .unclaimed_lease = ToDuration(config.cache().unclaimed_lease()),
                                 .max_loads = static_cast<int>(config.cache().max_loads()),
                                 .placements = std::move(placements)},
                                host_tier, loader_.get(), gpus_.get());
  if (host_tier->options().ready > 0) {
    ready_keeper_ = std::make_unique<host::ReadyKeeper>(host_tier);
  }
  event_lines_ = cache_->events().Subscribe(LogEvent);
  counting_ = cache_->events().Subscribe(
      [counters = counters_.get()](const cache::Event& event) { counters->Happened(event); });
  return absl::OkStatus();
}

service::SocketFolder* Daemon::FolderAt(const std::string& path) const {
  const auto found = std::find_if(folders_.begin(), folders_.end(), [&](const auto& folder) {
    return folder->path() == Normalised(path);
  });
  return found->get();
}

absl::Status Daemon::StartListeners(const v1::Config& config) {
  in_flight_ = std::make_unique<service::UserShares>(service::DescriptorsInFlight(),
                                                     service::UserShares::Users::kSeveral);
  for (const v1::ListenerConfig& listener : config.listeners()) {
    RETURN_IF_ERROR(Annotate(StartListener(listener), absl::StrCat("listener ", listener.name())));
  }
  return absl::OkStatus();
}

absl::Status Daemon::StartListener(const v1::ListenerConfig& config) {
  ASSIGN_OR_RETURN(service::Access access, AccessOf(config));
  service::SocketFolder& folder = *FolderAt(config.directory());
  const mode_t mode = LetsOthersIn(config.mode()) ? kOpenSocket : kPrivateSocket;
  ASSIGN_OR_RETURN(Fd handles, folder.Bind(service::kHandlesSocket, SOCK_SEQPACKET, mode));
  ASSIGN_OR_RETURN(Fd calls, folder.Bind(service::kWeightsSocket, SOCK_STREAM, mode));
  service::ClientListenerOptions options;
  options.name = config.name();
  options.directory = config.directory();
  options.max_sessions = static_cast<int>(config.max_sessions());
  options.max_connections = config.max_connections();
  if (LetsOthersIn(config.mode())) {
    options.users = service::UserShares::Users::kSeveral;
  }
  ASSIGN_OR_RETURN(auto listener,
                   service::ClientListener::Start(
                       std::move(calls), std::move(handles), std::move(access), std::move(options),
                       {cache_.get(), &sessions_, &names_, in_flight_.get(), &call_observers_}));
  listeners_.push_back(std::move(listener));
  return absl::OkStatus();
}

absl::Status Daemon::StartAdmin(const v1::Config& config) {
  admin_service_ = std::make_unique<service::AdminService>(service::AdminService::Daemon{
      .cache = cache_.get(),
      .names = &names_,
      .listeners = [this] { return ListenerStatuses(); },
      .started = absl::Now(),
      .peers = &admin_peers_,
      .observer = &call_observers_,
      .log_levels = {.current = [] { return std::string(NameOf(CurrentLogLevel())); },
                     .change = ChangeLogLevel},
      .metrics = [this] { return metrics_->Text(); }});
  ASSIGN_OR_RETURN(
      Fd listening,
      FolderAt(config.socket_dir())->Bind(service::kAdminSocket, SOCK_STREAM, kPrivateSocket));
  ASSIGN_OR_RETURN(
      admin_, service::GrpcListener::Start(
                  std::move(listening), {.connections = kAdminConnections}, admin_service_.get(),
                  {service::kAdminListener, &admin_peers_, &call_observers_}));
  return absl::OkStatus();
}

void Daemon::KeepConfiguredModels(const v1::Config& config) {
  std::vector<ConfiguredModels::Model> models;
  for (const v1::ModelConfig& model : config.models()) {
    // NameModels has parsed it before.
    models.push_back(
        {model.name(), names_.Resolve(model.name()).value_or(Uri()), model.preload(), model.pin()});
  }
  configured_models_ = std::make_unique<ConfiguredModels>(std::move(models), cache_.get());
}

void Daemon::ShowMetrics(const v1::Config& config) {
  metrics_ = MakeExposition(
      config,
      {.counters = counters_.get(),
       .cache = cache_.get(),
       .names = &names_,
       .listeners = [this] { return ListenerStatuses(); },
       .models = [this, models = config.models()] { return KeptOf(models, names_, *cache_); },
       .started = absl::Now()});
}

std::vector<v1::ListenerStatus> Daemon::ListenerStatuses() const {
  std::vector<v1::ListenerStatus> statuses;
  for (const auto& listener : listeners_) {
    v1::ListenerStatus& status = statuses.emplace_back();
    status.set_name(listener->options().name);
    status.set_directory(listener->options().directory);
    status.set_sessions(listener->sessions());
  }
  return statuses;
}

}  // namespace weightd
