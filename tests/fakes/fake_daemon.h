#ifndef WEIGHTD_TESTS_FAKES_FAKE_DAEMON_H_
#define WEIGHTD_TESTS_FAKES_FAKE_DAEMON_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/fd.h"
#include "tests/fakes/fake_model.h"
#include "weightd/v1/admin.grpc.pb.h"
#include "weightd/v1/handles.pb.h"
#include "weightd/v1/weights.grpc.pb.h"

namespace weightd::fakes {

// What a daemon does on its three sockets, with leases bound to sessions; in a temporary folder of
// its own. Misbehaves as told. Thread-safe; faults hold from the next call on.
class FakeDaemon {
 public:
  struct Faults {
    bool greets = true;
    bool answers_claims = true;
    // Changes the answer to a claim.
    std::function<void(v1::HandleReply&, std::vector<Fd>&)> tamper = nullptr;
    // Changes the grant.
    std::function<void(v1::Grant&)> tamper_grant = nullptr;
    // Fails every RPC with this, if its message is not empty.
    v1::ErrorDetail error = {};
    // Sent before the grant.
    std::vector<v1::LoadProgress> progress = {};
    // Fails every Acquire with this then, if its message is not empty.
    v1::ErrorDetail error_after_progress = {};
    // What WatchEvents says before it ends.
    std::vector<v1::Event> events = {};
    // What a reload of the config says.
    v1::ReloadConfigResponse reloaded = {};
    // What DrainNode says, if that is anything.
    v1::DrainNodeResponse drained = {};
    // More of what GetStatus says.
    v1::GetStatusResponse status = {};
    // Acquire says nothing until its caller gives up.
    bool stalls_acquires = false;
    // The same of those that take a lease on a GPU's memory again.
    bool stalls_renewals = false;
    // Release fails as if the daemon were overloaded, until its caller gives up.
    bool stalls_releases = false;
  };

  FakeDaemon();
  ~FakeDaemon();
  FakeDaemon(const FakeDaemon&) = delete;

  const std::string& socket_dir() const { return socket_dir_; }
  void Add(const std::string& name, FakeModel model);
  void Set(Faults faults);
  // As a daemon does that is killed and is there again at once, with the same listening sockets.
  void EndSessions();
  // As a forced eviction does. May be called from a fault.
  void EndLeases();

  // What came with the last Preload.
  v1::Secret secret() const;
  // A GPU that operators see, and drain and resume by its index.
  void AddGpu(v1::GpuStatus gpu);
  // A model of the config.
  void AddConfigured(v1::ConfiguredModel model);
  // Serves operators over TLS, too, who need a certificate of `authorities` (all of them PEM); the
  // port, on loopback.
  int ServeTls(const std::string& certificate, const std::string& key,
               const std::string& authorities);
  // What the last call of an operator that takes GPUs named.
  std::vector<std::string> named_gpus() const;

  size_t leases() const;
  size_t sessions() const;
  // Wait at most ten seconds for exactly so many; false if it didn't come to that.
  bool AwaitLeases(size_t count) const;
  bool AwaitSessions(size_t count) const;

 private:
  class WeightsService;
  class AdminService;

  void AcceptSessions();
  void ServeSession(int socket, const std::string& token);
  v1::HandleReply AnswerClaim(const std::string& token, uint64_t lease, std::vector<Fd>& fds);
  Faults faults() const;

  const std::string socket_dir_;
  Fd listener_;
  std::unique_ptr<WeightsService> weights_;
  std::unique_ptr<AdminService> admin_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::Server> tls_server_;
  std::thread acceptor_;

  mutable absl::Mutex mutex_;
  Faults faults_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, FakeModel> models_ ABSL_GUARDED_BY(mutex_);
  v1::Secret secret_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::GpuStatus> gpus_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> named_gpus_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::ConfiguredModel> configured_ ABSL_GUARDED_BY(mutex_);
  std::string log_level_ ABSL_GUARDED_BY(mutex_) = "info";
  struct Lease {
    std::string token;
    std::string model;
    // What was asked for; nothing is host memory.
    std::optional<v1::DeviceRequest> device;
  };
  std::map<uint64_t, Lease> leases_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Fd> sessions_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_FAKE_DAEMON_H_
