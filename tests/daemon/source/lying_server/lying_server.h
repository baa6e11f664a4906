#ifndef WEIGHTD_TESTS_DAEMON_SOURCE_LYING_SERVER_LYING_SERVER_H_
#define WEIGHTD_TESTS_DAEMON_SOURCE_LYING_SERVER_LYING_SERVER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "tests/daemon/source/lying_server/dice.h"
#include "tests/daemon/source/lying_server/lies.h"
#include "tests/daemon/source/lying_server/wire_answer.h"
#include "tests/servers/loopback_server.h"

namespace weightd::source {

// Name to bytes.
using Files = std::map<std::string, std::string>;

// A web server with one folder, which is at the same time an S3 bucket with one prefix, that tells
// one kind of lie: to some request, to some request and all after it, or now and then, as its seed
// says. Thread-safe.
class LyingServer {
 public:
  // `newer` are other versions of the same files, of the same sizes.
  LyingServer(const Lie& lie, uint64_t seed, const Files& files, const Files& newer);

  uint16_t port() const { return server_.port(); }
  size_t lies() const { return lies_; }
  // Whether the server beside it, which has the same files and is no business of the client's
  // credentials, was shown any.
  bool leaked() const { return leaked_; }

 private:
  void Serve(int connection, bool lies);
  WireAnswer RightAnswer(const std::string& request, bool* may_be_lied) const;
  WireAnswer Listing() const;
  bool ShallLie(uint64_t number) const;

  const Lie& lie_;
  const uint64_t seed_;
  const Files& files_;
  const Files& newer_;
  // When it lies.
  enum class When { kOnce, kFromThenOn, kNowAndThen };
  When when_;
  uint64_t first_;

  std::atomic<uint64_t> answers_ = 0;
  std::atomic<size_t> lies_ = 0;
  std::atomic<bool> leaked_ = false;
  LoopbackServer elsewhere_;
  // Last: its threads use the rest.
  LoopbackServer server_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_TESTS_DAEMON_SOURCE_LYING_SERVER_LYING_SERVER_H_
