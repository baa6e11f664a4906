#ifndef WEIGHTD_TESTS_SERVERS_LOOPBACK_SERVER_H_
#define WEIGHTD_TESTS_SERVERS_LOOPBACK_SERVER_H_

#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/fd.h"

namespace weightd {

// What servers for tests have in common: a loopback port of its own, and a thread for each
// connection. Thread-safe.
class LoopbackServer {
 public:
  // `serve` runs once for each connection, which it speaks on until it returns; several run at
  // once. The server's end makes their sends and receives fail, and waits for them.
  using Serve = std::function<void(int connection)>;
  explicit LoopbackServer(Serve serve);
  ~LoopbackServer();
  LoopbackServer(const LoopbackServer&) = delete;

  uint16_t port() const { return port_; }
  // So far.
  size_t connections() const;

 private:
  void Accept();

  uint16_t port_ = 0;
  const Fd listener_;
  const Serve serve_;
  mutable absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Open until the server ends, so that a number is not used anew under a thread that still has it.
  std::list<Fd> connections_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

// What is said on a connection. False or nothing: it ended.
bool SendAll(int connection, absl::string_view bytes);
// Receives until `received` holds `bytes` bytes.
bool ReceiveUntil(int connection, size_t bytes, std::string& received);
// Takes the head of one request off `received`, receiving more as needed; without the empty line.
std::optional<std::string> TakeHead(int connection, std::string& received);
// Until the peer goes, or the server ends.
void AwaitEnd(int connection);
// Ends the connection with a reset.
void Reset(int connection);

// A port of loopback that nobody listens on: it was bound a moment ago.
uint16_t UnusedPort();

}  // namespace weightd

#endif  // WEIGHTD_TESTS_SERVERS_LOOPBACK_SERVER_H_
