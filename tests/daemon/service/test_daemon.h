#ifndef WEIGHTD_TESTS_DAEMON_SERVICE_TEST_DAEMON_H_
#define WEIGHTD_TESTS_DAEMON_SERVICE_TEST_DAEMON_H_

#include <grpcpp/channel.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/cancellation.h"
#include "common/fd.h"
#include "common/uri.h"
#include "daemon/cache/cache.h"
#include "daemon/fd_store/fd_store.h"
#include "daemon/service/access.h"
#include "daemon/service/admin_service.h"
#include "daemon/service/call_observers.h"
#include "daemon/service/client_listener.h"
#include "daemon/service/socket_folder.h"
#include "tests/fakes/fake_loader.h"
#include "weightd/v1/admin.grpc.pb.h"
#include "weightd/v1/error.pb.h"
#include "weightd/v1/handles.pb.h"
#include "weightd/v1/weights.grpc.pb.h"

namespace weightd::service {

// Real listeners on real sockets over a real cache, whose models come from a FakeLoader.
class TestDaemon {
 public:
  // `wrap` puts a cache of the test's own before the real one.
  using WrapCache = std::function<std::unique_ptr<cache::Cache>(std::unique_ptr<cache::Cache>)>;
  // `fd_store`: what models are kept in, a keeper that is reached; outlives this.
  explicit TestDaemon(const WrapCache& wrap = nullptr, fd_store::FdStore* fd_store = nullptr);
  ~TestDaemon();

  // A listener with a folder of its own.
  void Listen(const std::string& name, Access access, ClientListenerOptions options = {});
  std::string FolderOf(const std::string& listener) const { return root_ + "/" + listener; }
  ClientListener& listener() { return *listeners_.front(); }

  // Makes the model loadable.
  void Put(absl::string_view uri);
  // Until no lease is left, for at most 5 s.
  bool AwaitNoLeases();

  std::unique_ptr<v1::Weights::Stub> Weights(const std::string& listener) const;
  std::unique_ptr<v1::Admin::Stub> Admin() const;

  fakes::FakeLoader loader;
  ModelNames names;
  Sessions sessions;
  // Observers are added before the first Listen().
  CallObservers observers;
  // That of the log.
  std::string log_level = "info";
  std::unique_ptr<UserShares> in_flight;
  std::unique_ptr<cache::Cache> cache;

 private:
  std::string root_;
  Cancellation cancellation_;
  std::vector<std::unique_ptr<SocketFolder>> folders_;
  std::vector<std::unique_ptr<ClientListener>> listeners_;
  Peers admin_peers_;
  std::unique_ptr<AdminService> admin_service_;
  std::unique_ptr<GrpcListener> admin_;
};

// The client's end of a session, by hand.
class TestSession {
 public:
  explicit TestSession(const std::string& folder);

  const std::string& token() const { return token_; }
  // What the daemon said first.
  const v1::HandleReply& greeting() const { return greeting_; }
  int socket() const { return socket_.get(); }
  void End() { socket_.Reset(); }

  void Send(absl::string_view bytes) const;
  void SendClaim(uint64_t lease) const;
  struct Answer {
    v1::HandleReply reply;
    std::vector<Fd> fds;
    // The daemon has ended the session.
    bool ended = false;
  };
  // Waits for at most 5 s; a test that gets nothing fails.
  Answer Receive() const;

 private:
  Fd socket_;
  v1::HandleReply greeting_;
  std::string token_;
};

// The lease that an Acquire with this token is granted, or 0 with `status` and `detail` set.
struct Acquired {
  uint64_t lease = 0;
  grpc::Status status;
  v1::ErrorDetail detail;
};
Acquired Acquire(v1::Weights::Stub& weights, const std::string& token, const std::string& model,
                 bool resident_only = false);

// Of a failed call.
v1::ErrorDetail DetailOf(const grpc::ClientContext& context);

}  // namespace weightd::service

#endif  // WEIGHTD_TESTS_DAEMON_SERVICE_TEST_DAEMON_H_
