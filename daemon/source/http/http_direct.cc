#include "daemon/source/http/http_direct.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"

namespace weightd::source {
namespace {

constexpr size_t kMostHeadBytes = 64 << 10;
constexpr size_t kPieceBytes = 16 << 10;
// So that one connection doesn't keep the others waiting.
constexpr uint64_t kBytesAtOnce = 4 << 20;
// So much of a body is worth waking up for: else a server that sends slower than we receive has us
// woken for every packet, and costs twice the time (SO_RCVLOWAT in socket(7)).
constexpr uint64_t kWorthWaking = 256 << 10;

// Whether a line of a head is one that can't be taken for something else: a status line first, and
// then fields, none of them continued from the line before (RFC 9112, sections 4 and 5).
bool IsPlainLine(absl::string_view line, bool in_head) {
  const bool is_status = absl::StartsWith(line, "HTTP/1.");
  return in_head ? !is_status && line[0] != ' ' && line[0] != '\t' : is_status;
}

bool WouldBlock() { return errno == EAGAIN || errno == EWOULDBLOCK; }

}  // namespace

std::unique_ptr<DirectConnection> DirectConnection::From(CURL* connected, std::string origin) {
  curl_socket_t theirs = CURL_SOCKET_BAD;
  curl_easy_getinfo(connected, CURLINFO_ACTIVESOCKET, &theirs);
  Fd ours(theirs == CURL_SOCKET_BAD ? -1 : fcntl(theirs, F_DUPFD_CLOEXEC, 0));
  return ours.valid() ? std::make_unique<DirectConnection>(std::move(ours), std::move(origin))
                      : nullptr;
}

std::optional<IpAddress> DirectConnection::Peer() const {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  return getpeername(socket_.get(), any, &size) == 0 ? IpAddress::Of(*any) : std::nullopt;
}

void DirectConnection::Send(std::string request) {
  WakeFor(1);
  unsent_ = std::move(request);
  line_.clear();
  in_head_ = false;
  head_bytes_ = 0;
  body_left_ = 0;
  ended_well_ = false;
}

bool DirectConnection::reusable() const {
  char byte = 0;
  return ended_well_ && recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && WouldBlock();
}

curl_waitfd DirectConnection::WaitFor() const {
  return {.fd = socket_.get(),
          .events = static_cast<short>(unsent_.empty() ? CURL_WAIT_POLLIN : CURL_WAIT_POLLOUT),
          .revents = 0};
}

DirectConnection::State DirectConnection::Drive(AnswerSink& sink) {
  while (!unsent_.empty()) {
    const ssize_t sent =
        send(socket_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EINTR) {
      return WouldBlock() ? State::kGoesOn : used_before_ ? State::kUnseen : State::kCutShort;
    }
    unsent_.erase(0, static_cast<size_t>(std::max<ssize_t>(sent, 0)));
  }
  State state = sink.head_done() ? State::kGoesOn : DriveHead(sink);
  if (state == State::kGoesOn && sink.head_done()) {
    state = DriveBody(sink);
  }
  if (state == State::kEnded) {
    used_before_ = true;
    idle_since_ = std::chrono::steady_clock::now();
    ended_well_ = !sink.answer().closes;
  }
  return state;
}

void DirectConnection::WakeFor(uint64_t bytes) {
  const int least = static_cast<int>(bytes);
  if (least != wakes_for_ &&
      setsockopt(socket_.get(), SOL_SOCKET, SO_RCVLOWAT, &least, sizeof(least)) == 0) {
    wakes_for_ = least;
  }
}

DirectConnection::State DirectConnection::DriveHead(AnswerSink& sink) {
  std::array<char, kPieceBytes> bytes;
  while (!sink.head_done()) {
    // What comes with a head can't be left in the socket, so a head that comes pays for debts.
    if (sink.Allowed() == 0) {
      return State::kGoesOn;
    }
    const ssize_t received = recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (received < 0 && (WouldBlock() || errno == EINTR)) {
      return State::kGoesOn;
    }
    if (received <= 0) {
      return used_before_ && head_bytes_ == 0 ? State::kUnseen : State::kCutShort;
    }
    const State state = TakeHead(sink, {bytes.data(), static_cast<size_t>(received)});
    if (state != State::kGoesOn) {
      return state;
    }
  }
  return State::kGoesOn;
}

DirectConnection::State DirectConnection::TakeHead(AnswerSink& sink, absl::string_view bytes) {
  while (!bytes.empty()) {
    const size_t end = std::min(bytes.find('\n'), bytes.size() - 1) + 1;
    line_.append(bytes.data(), end);
    head_bytes_ += end;
    bytes.remove_prefix(end);
    if (head_bytes_ > kMostHeadBytes) {
      return State::kUnsuited;
    }
    if (line_.back() != '\n') {
      break;
    }
    if (!IsPlainLine(line_, std::exchange(in_head_, true))) {
      return State::kUnsuited;
    }
    const bool wanted = sink.TakeHeadLine(line_);
    // The head of an answer that only informs (1xx) is followed by another.
    in_head_ = line_ != "\r\n" && line_ != "\n";
    line_.clear();
    if (!wanted) {
      return State::kUnwanted;
    }
    if (sink.head_done()) {
      return HeadDone(sink, bytes);
    }
  }
  return State::kGoesOn;
}

DirectConnection::State DirectConnection::HeadDone(AnswerSink& sink, absl::string_view rest) {
  const Answer& answer = sink.answer();
  if (answer.chunked || answer.unclear_length || !answer.content_length.has_value() ||
      answer.status == 204 || answer.status == 304) {
    return State::kUnsuited;
  }
  body_left_ = *answer.content_length;
  const size_t taken = static_cast<size_t>(std::min<uint64_t>(rest.size(), body_left_));
  body_left_ -= taken;
  if (taken > 0 && !sink.TakeBody({rest.data(), taken})) {
    return State::kUnwanted;
  }
  // More than was announced would be read as the next answer.
  return rest.size() > taken ? State::kUnwanted : State::kGoesOn;
}

DirectConnection::State DirectConnection::DriveBody(AnswerSink& sink) {
  std::array<char, kPieceBytes> elsewhere;
  for (uint64_t done = 0; body_left_ > 0;) {
    const uint64_t allowed = std::min(sink.Allowed(), kBytesAtOnce - done);
    if (allowed == 0) {
      WakeFor(std::min(body_left_, kWorthWaking));
      return State::kGoesOn;
    }
    absl::Span<char> space = sink.Space();
    const bool in_place = !space.empty();
    if (!in_place) {
      space = absl::MakeSpan(elsewhere);
    }
    const size_t wanted =
        static_cast<size_t>(std::min({static_cast<uint64_t>(space.size()), body_left_, allowed}));
    const ssize_t received = recv(socket_.get(), space.data(), wanted, MSG_DONTWAIT);
    if (received < 0 && (WouldBlock() || errno == EINTR)) {
      WakeFor(std::min(body_left_, kWorthWaking));
      return State::kGoesOn;
    }
    if (received <= 0) {
      return State::kCutShort;
    }
    const size_t bytes = static_cast<size_t>(received);
    body_left_ -= bytes;
    done += bytes;
    if (!(in_place ? sink.Took(bytes) : sink.TakeBody({space.data(), bytes}))) {
      return body_left_ == 0 ? State::kEnded : State::kUnwanted;
    }
  }
  return State::kEnded;
}

}  // namespace weightd::source
