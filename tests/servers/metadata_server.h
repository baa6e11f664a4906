#ifndef WEIGHTD_TESTS_SERVERS_METADATA_SERVER_H_
#define WEIGHTD_TESTS_SERVERS_METADATA_SERVER_H_

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "tests/servers/handler_server.h"

namespace weightd {

// An EC2 instance's metadata service with a role, as the EC2 User Guide has it: version 2 takes a
// PUT with a lifetime and no X-Forwarded-For for a token, and answers nothing without one.
// Thread-safe.
class MetadataServer {
 public:
  struct Behaviour {
    // Knows no tokens, answers everybody.
    bool version_1_only = false;
    // The token's answer never arrives: what a hop limit of 1 does to a container.
    bool lose_token = false;
    // Answers 403 to everything.
    bool switched_off = false;
    // Empty: the instance has none.
    std::string role = "node-role";
    // What the role's path gives.
    ServiceReply credentials = {};
  };

  explicit MetadataServer(Behaviour behaviour);

  std::string Url() const { return server_.Url(); }
  const HandlerServer& server() const { return server_; }
  void Become(Behaviour behaviour);

 private:
  ServiceReply Answer(const ServiceRequest& request) const;

  mutable absl::Mutex mutex_;
  Behaviour behaviour_ ABSL_GUARDED_BY(mutex_);
  // Last: its threads use the rest.
  HandlerServer server_;
};

}  // namespace weightd

#endif  // WEIGHTD_TESTS_SERVERS_METADATA_SERVER_H_
