#ifndef WEIGHTD_TESTS_SERVERS_HANDLER_SERVER_H_
#define WEIGHTD_TESTS_SERVERS_HANDLER_SERVER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "tests/servers/loopback_server.h"

namespace weightd {

struct ServiceRequest {
  std::string method;
  std::string path;
  // Names in lower case.
  std::map<std::string, std::string> headers;
  std::string body;

  // Empty if there is none.
  std::string Header(const std::string& name) const;
};

struct ServiceReply {
  int status = 200;
  std::string body = {};
  // "Name: value".
  std::vector<std::string> headers = {};
  // Reads the request and never answers.
  bool silent = false;
  // Reads the request and ends the connection.
  bool closes = false;
};

// A web server on a loopback port of its own that answers what a function says, which is called by
// several threads at once. Thread-safe.
class HandlerServer {
 public:
  using Handler = std::function<ServiceReply(const ServiceRequest& request)>;
  explicit HandlerServer(Handler handler);
  // Answers everybody the same.
  explicit HandlerServer(ServiceReply reply);

  std::string Url(absl::string_view path = "") const;
  // From the next request on.
  void Reply(ServiceReply reply);

  uint16_t port() const { return server_.port(); }

  // So far, in their order.
  std::vector<ServiceRequest> requests() const;
  // Waits until so many requests came; false if they don't come for a while.
  bool AwaitRequests(size_t count) const;

 private:
  void Serve(int connection);

  mutable absl::Mutex mutex_;
  Handler handler_ ABSL_GUARDED_BY(mutex_);
  std::vector<ServiceRequest> requests_ ABSL_GUARDED_BY(mutex_);
  // Last: its threads use the rest.
  LoopbackServer server_;
};

}  // namespace weightd

#endif  // WEIGHTD_TESTS_SERVERS_HANDLER_SERVER_H_
