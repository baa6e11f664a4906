#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_WIRE_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_WIRE_H_

#include <curl/curl.h>

#include <atomic>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "common/cancellation.h"
#include "daemon/source/http/http_connections.h"
#include "daemon/source/http/http_direct.h"
#include "daemon/source/http/http_transfer.h"
#include "daemon/source/source.h"

namespace weightd::source {

// One try of one exchange at a time, on whatever carries it: libcurl, in the multi handle of
// `connections`, or a connection of our own, which libcurl makes and Pump() drives. Used by the
// thread that uses `connections`.
class Wire {
 public:
  // All outlive it.
  Wire(Connections* connections, const HttpSettings* settings, const ReadPolicy& policy, Pace* pace,
       const std::atomic<bool>* stopped, Cancellation* cancellation)
      : connections_(*connections), transfer_(settings, policy, pace, stopped, cancellation) {}
  // Drops the try that is on its way.
  ~Wire();
  Wire(const Wire&) = delete;

  absl::Status Begin(Exchange* exchange);
  bool busy() const { return busy_; }

  // Whether libcurl means this one when it tells of `handle`.
  bool Is(const CURL* handle) const;
  // What libcurl told: that the transfer ended, or that a connection was made. How the try ended,
  // for Finish(); nothing if it goes on. So for Pump().
  std::optional<CURLcode> Answered(CURLcode code);

  // Whether the try is ours to drive, and what to wait for.
  bool driven() const { return busy_ && transfer_.direct() && connection_ != nullptr; }
  curl_waitfd WaitFor() const { return connection_->WaitFor(); }
  // What can be done without waiting.
  std::optional<CURLcode> Pump();
  // Goes on with what libcurl held back for want of pace.
  std::optional<CURLcode> Resume();

  // True if at least so many bytes came since it was last true.
  bool TakeMoved(uint64_t least) { return transfer_.TakeMoved(least); }

  // Takes it off the wire; after Transfer::End::kDriveOn it is on it again.
  Transfer::End Finish(CURLcode code);
  // Of the last that failed. Whether it did because the server is asked too much.
  const HttpFailure& failure() const { return transfer_.failure(); }
  bool AskedTooMuch() const { return transfer_.AskedTooMuch(); }

 private:
  void PutOn();
  void TakeOff();
  void DropConnector();
  void Disconnect();

  Connections& connections_;
  Transfer transfer_;
  bool busy_ = false;
  // Of tries that are direct: first a handle in the multi handle that connects, then what it made.
  CurlHandle connector_;
  std::unique_ptr<DirectConnection> connection_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_WIRE_H_
