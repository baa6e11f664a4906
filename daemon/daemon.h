#ifndef WEIGHTD_DAEMON_DAEMON_H_
#define WEIGHTD_DAEMON_DAEMON_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/cancellation.h"
#include "daemon/admin_tcp.h"
#include "daemon/audit_log.h"
#include "daemon/cache/cache.h"
#include "daemon/cache/events.h"
#include "daemon/config_reloader.h"
#include "daemon/device/gpus.h"
#include "daemon/event_lines.h"
#include "daemon/fd_store/fd_store.h"
#include "daemon/host/ready_keeper.h"
#include "daemon/metrics/counters.h"
#include "daemon/metrics/exposition.h"
#include "daemon/model_list.h"
#include "daemon/pipeline/loader.h"
#include "daemon/service/admin_service.h"
#include "daemon/service/call_observers.h"
#include "daemon/service/client_listener.h"
#include "daemon/service/connection_acceptor.h"
#include "daemon/service/grpc_listener.h"
#include "daemon/service/sessions.h"
#include "daemon/service/tls_listener.h"
#include "daemon/service/user_shares.h"
#include "daemon/socket_folders.h"
#include "daemon/source/registry.h"
#include "weightd/v1/admin.pb.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// The whole daemon, put together from its config. Serves from Start until it dies; then no new
// client finds it, running calls get a moment to end, sessions and loads are ended, and what
// clients mapped stays theirs.
class Daemon {
 public:
  // `config` comes from ParseConfig; `file` is where it may be read again. Waits for a dying
  // predecessor in the same folders until `stopping`; then takes over what is in `fd_store` (null:
  // none), which outlives it.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const v1::Config& config, ConfigFile file,
                                                       fd_store::FdStore* fd_store,
                                                       Cancellation& stopping);
  // What is held and done, in a line. Takes the locks that every client's call takes.
  std::string Summary() const;
  // Ends all calls and sessions. What is left is memory, which the end of the process frees.
  void Stop();
  ~Daemon() { Stop(); }
  Daemon(const Daemon&) = delete;

 private:
  Daemon() = default;

  absl::Status FindGpus(const v1::Config& config);
  absl::Status BuildCache(const v1::Config& config, fd_store::FdStore* fd_store);
  absl::Status StartListeners(const v1::Config& config);
  absl::Status StartListener(const v1::ListenerConfig& config);
  absl::Status StartAdmin(const v1::Config& config);
  void ShowMetrics();
  // What is left to load and to keep is the next daemon's.
  void HandOver();
  // Empty if there is none.
  std::function<v1::KeeperStatus()> KeeperStatus() const;
  std::vector<v1::ListenerStatus> ListenerStatuses() const;

  // In the order they are built; they die in the opposite one.
  ModelList models_;
  SocketFolders folders_;
  // Null: there is none.
  fd_store::FdStore* fd_store_ = nullptr;
  std::unique_ptr<metrics::Counters> counters_;
  source::Registry sources_;
  std::unique_ptr<device::Gpus> gpus_;
  std::unique_ptr<pipeline::ModelLoader> loader_;
  std::unique_ptr<cache::Cache> cache_;
  std::unique_ptr<host::ReadyKeeper> ready_keeper_;
  EventLines event_lines_;
  std::unique_ptr<cache::EventLog::Subscription> line_writing_;
  service::CallObservers call_observers_;
  AuditLog audit_log_;
  std::unique_ptr<cache::EventLog::Subscription> counting_;
  service::Sessions sessions_;
  std::unique_ptr<service::UserShares> in_flight_;
  std::vector<std::unique_ptr<service::ClientListener>> listeners_;
  std::unique_ptr<ConfigReloader> reloader_;
  CertificateExpiry certificate_expiry_ = 0;
  std::unique_ptr<metrics::Exposition> metrics_;
  service::Peers admin_peers_;
  std::unique_ptr<service::AdminService> admin_service_;
  std::unique_ptr<service::GrpcListener> admin_;
  std::unique_ptr<service::TlsListener> admin_tcp_;
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_DAEMON_H_
