#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_DIRECT_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_DIRECT_H_

#include <curl/curl.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/fd.h"
#include "daemon/source/http/address_policy.h"
#include "daemon/source/http/http_answer.h"

namespace weightd::source {

// What is made of an answer while it arrives.
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;

  // One line of the head, with its line break. False: the answer is not wanted any further.
  virtual bool TakeHeadLine(absl::string_view line) = 0;
  // Whether the head is complete, and what it says.
  virtual bool head_done() const = 0;
  virtual const Answer& answer() const = 0;
  // How many bytes of the body may be received now; 0: none for the moment.
  virtual uint64_t Allowed() const = 0;
  // Where the next bytes of the body go; empty: they are to be handed to TakeBody.
  virtual absl::Span<char> Space() = 0;
  // So many bytes are in the last Space(). False: no more are wanted.
  virtual bool Took(size_t bytes) = 0;
  virtual bool TakeBody(absl::Span<const char> bytes) = 0;
};

// A plain HTTP/1.1 connection that libcurl made (names, addresses, time limits) and on which we
// speak: the body goes from the socket straight to its place. libcurl would copy it once more,
// which is a fifth of all that a load costs. Only for answers whose length is announced; whatever
// else a server does is left to libcurl.
class DirectConnection {
 public:
  // Of what `connected` (CURLOPT_CONNECT_ONLY) has connected. The socket is a duplicate: libcurl
  // closes its own descriptor when it likes, and its number then is somebody else's. Null if there
  // is none.
  static std::unique_ptr<DirectConnection> From(CURL* connected, std::string origin);
  DirectConnection(Fd socket, std::string origin)
      : socket_(std::move(socket)), origin_(std::move(origin)) {}

  const std::string& origin() const { return origin_; }
  // Whether it has brought an answer.
  bool used_before() const { return used_before_; }
  // Who is at the other end.
  std::optional<IpAddress> Peer() const;

  // Begins an exchange; `request` ends with an empty line.
  void Send(std::string request);
  enum class State {
    kGoesOn,
    kEnded,
    // The server had closed a connection that was kept: the request was not seen.
    kUnseen,
    // The answer's length isn't announced.
    kUnsuited,
    kUnwanted,
    kCutShort,
  };
  // What can be done without waiting.
  State Drive(AnswerSink& sink);
  // Whether another request may follow: the last answer ended as announced, and nothing came since,
  // neither an end nor bytes that would be taken for the next answer.
  bool reusable() const;
  // When the last exchange ended.
  std::chrono::steady_clock::time_point idle_since() const { return idle_since_; }

  // What to wait for.
  curl_waitfd WaitFor() const;

 private:
  // How much must have come for WaitFor() to be over; an end is over at once.
  void WakeFor(uint64_t bytes);
  State DriveHead(AnswerSink& sink);
  State DriveBody(AnswerSink& sink);
  State TakeHead(AnswerSink& sink, absl::string_view bytes);
  State HeadDone(AnswerSink& sink, absl::string_view rest);

  const Fd socket_;
  const std::string origin_;
  bool used_before_ = false;
  bool ended_well_ = false;
  std::chrono::steady_clock::time_point idle_since_;
  std::string unsent_;
  // The last line of the head, as far as it came.
  std::string line_;
  bool in_head_ = false;
  size_t head_bytes_ = 0;
  uint64_t body_left_ = 0;
  int wakes_for_ = 1;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_DIRECT_H_
