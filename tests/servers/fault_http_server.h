#ifndef WEIGHTD_TESTS_SERVERS_FAULT_HTTP_SERVER_H_
#define WEIGHTD_TESTS_SERVERS_FAULT_HTTP_SERVER_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "tests/servers/loopback_server.h"

namespace weightd {

// How one request is answered: right, but for what is set here.
struct Reply {
  // 206 or 200 by default, as the request demands.
  int status = 0;
  // The whole object with status 200, also for a range.
  bool whole = false;
  std::optional<std::string> body;
  // Replace fields of the right head, or add to it; a field with an empty value is left out.
  std::vector<std::pair<std::string, std::string>> headers;
  // After so many bytes of the body, end it so.
  enum class After { kNothing, kClose, kReset, kStall };
  After after = After::kNothing;
  size_t after_bytes = 0;
  // Pause after each kilobyte of the body.
  absl::Duration drip = absl::ZeroDuration();
  // Bytes of the body between two of these pauses.
  size_t drip_bytes = 1024;

  static Reply Right() { return {}; }
  static Reply Status(int status);
  static Reply Cut(After after, size_t after_bytes);
  static Reply Header(std::string name, std::string value);
  static Reply Whole();
  static Reply RedirectTo(std::string location);
};

// A web server with one object at every path, on a loopback port of its own, that fails by script.
// It answers requests of any number of connections, keeps them alive, and knows ranges and
// If-Match. Thread-safe.
class FaultHttpServer {
 public:
  explicit FaultHttpServer(std::string object);

  std::string Url(absl::string_view path = "/object") const;

  // The next requests are answered by these, one each; afterwards `always`.
  void Script(std::vector<Reply> replies, Reply always = Reply::Right());
  void Replace(std::string object, std::string etag);
  void SetLastModified(std::string date);

  // The heads of the requests so far.
  std::vector<std::string> requests() const;
  size_t connections() const { return server_.connections(); }

 private:
  void Serve(int connection);
  Reply NextReply(const std::string& head);
  std::string HeadOf(const Reply& reply, const std::string& request, std::string* body) const;
  static bool Send(int connection, const Reply& reply, const std::string& head,
                   const std::string& body);

  mutable absl::Mutex mutex_;
  std::string object_ ABSL_GUARDED_BY(mutex_);
  std::string etag_ ABSL_GUARDED_BY(mutex_) = "\"v1\"";
  std::string last_modified_ ABSL_GUARDED_BY(mutex_);
  std::deque<Reply> script_ ABSL_GUARDED_BY(mutex_);
  Reply always_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> requests_ ABSL_GUARDED_BY(mutex_);
  // Last: its threads use the rest.
  LoopbackServer server_;
};

}  // namespace weightd

#endif  // WEIGHTD_TESTS_SERVERS_FAULT_HTTP_SERVER_H_
