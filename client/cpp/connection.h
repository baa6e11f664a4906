#ifndef WEIGHTD_CLIENT_CPP_CONNECTION_H_
#define WEIGHTD_CLIENT_CPP_CONNECTION_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/cpp/client.h"
#include "client/cpp/session.h"
#include "common/cancellation.h"
#include "common/ids.h"
#include "weightd/v1/weights.grpc.pb.h"

namespace weightd::client {

// The two channels to one daemon, kept alive by a Client and its models. Thread-safe.
class Client::Connection {
 public:
  static absl::StatusOr<std::shared_ptr<Connection>> Open(const std::string& socket_dir,
                                                          absl::Time deadline);
  // In a child after fork(), gRPC's objects are left alone: their threads don't exist there.
  ~Connection();
  Connection(const Connection&) = delete;

  Session& session() { return *session_; }
  const Session& session() const { return *session_; }

  // Waits until the model is resident, and returns the lease on it; until `cancellation`, if there
  // is one.
  absl::StatusOr<v1::Grant> Acquire(const v1::AcquireRequest& request, absl::Time deadline,
                                    const std::function<void(const LoadProgress&)>& progress,
                                    Cancellation* cancellation = nullptr);

  // Ends a lease; waits up to a second. If the daemon doesn't answer, the lease ends with a later
  // call, or with the session. Does nothing in a child after fork().
  void Release(LeaseId lease);
  // The same at a later call only: for when the daemon was just seen not to answer.
  void ReleaseLater(LeaseId lease);

 private:
  Connection(std::unique_ptr<Session> session, std::unique_ptr<v1::Weights::Stub> stub,
             std::string socket_path);

  // False if the daemon did not answer, which took a second to see.
  bool TryRelease(LeaseId lease);
  bool ReleaseWhatIsLeft();

  std::unique_ptr<Session> session_;
  std::unique_ptr<v1::Weights::Stub> stub_;
  const std::string socket_path_;

  absl::Mutex mutex_;
  std::vector<LeaseId> unreleased_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_CONNECTION_H_
