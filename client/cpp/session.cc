#include "client/cpp/session.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/daemon_gone.h"
#include "client/cpp/rpc.h"
#include "client/cpp/session_fork.h"
#include "common/fd_passing.h"
#include "common/status.h"

namespace weightd::client {
namespace {

absl::Status Malformed(absl::string_view what) {
  return Error(Reason::kInternal, absl::StrCat("the daemon's handle channel ", what),
               "client and daemon may be of different versions");
}

// OK when poll(2) reports `events` or an error of the socket; the next call on it then says which.
absl::Status WaitFor(int socket, int16_t events, absl::Time deadline) {
  for (;;) {
    const absl::Duration left = deadline - absl::Now();
    const int64_t milliseconds = std::clamp<int64_t>(
        absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))), 0, 3'600'000);
    pollfd wanted{socket, events, 0};
    const int ready = poll(&wanted, 1, static_cast<int>(milliseconds));
    if (ready > 0) {
      return absl::OkStatus();
    }
    if (ready < 0 && errno != EINTR) {
      return ErrnoError(errno, "wait for the daemon");
    }
    if (ready == 0 && absl::Now() >= deadline) {
      return Error(Reason::kDeadline, "the daemon did not answer on its handle channel in time",
                   "see with weightctl status whether it is well");
    }
  }
}

absl::StatusOr<Fd> Connect(const std::string& path, absl::Time deadline) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return Error(Reason::kInvalidArgument, absl::StrCat("socket path ", path, " is too long"),
                 "use a shorter socket folder, or a symbolic link to it");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket.valid()) {
    return ErrnoError(errno, "make a socket");
  }
  // Bounds the wait for a place in the queue of a daemon that doesn't accept.
  const timeval patience =
      absl::ToTimeval(std::clamp(deadline - absl::Now(), absl::Milliseconds(1), absl::Hours(1)));
  setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return CannotConnect(errno, path);
  }
  if (fcntl(socket.get(), F_SETFL, O_NONBLOCK) != 0) {
    return ErrnoError(errno, "make a socket non-blocking");
  }
  return socket;
}

absl::StatusOr<std::pair<v1::HandleReply, std::vector<Fd>>> Receive(int socket,
                                                                    absl::string_view path,
                                                                    absl::Time deadline) {
  RETURN_IF_ERROR(WaitFor(socket, POLLIN, deadline));
  auto packet = ReceivePacket(socket, /*accept_fds=*/true);
  if (!packet.ok() && packet.status().code() == absl::StatusCode::kInvalidArgument) {
    return Malformed("sent a packet that is too large");
  }
  if (!packet.ok() || packet->bytes.empty()) {
    return DaemonGone("the daemon ended the session", path);
  }
  v1::HandleReply reply;
  if (!reply.ParseFromString(packet->bytes)) {
    return Malformed("sent a packet that is no HandleReply");
  }
  return std::make_pair(std::move(reply), std::move(packet->fds));
}

absl::StatusOr<ClaimedHandles> TakeHandles(const v1::Handles& handles, std::vector<Fd> fds,
                                           Session::Segment segment) {
  if (static_cast<size_t>(handles.handles_size()) != fds.size()) {
    return Malformed(
        absl::StrCat("announced ", handles.handles_size(), " descriptors and sent ", fds.size()));
  }
  const auto is_segment = [segment](v1::Handle::Kind kind) {
    return (segment == Session::Segment::kHost && kind == v1::Handle::HOST_SEGMENT) ||
           (segment == Session::Segment::kDevice && kind == v1::Handle::DEVICE_SEGMENT);
  };
  ClaimedHandles claimed;
  for (size_t i = 0; i < fds.size(); ++i) {
    const v1::Handle& handle = handles.handles(static_cast<int>(i));
    if (is_segment(handle.kind()) && !claimed.segment.valid()) {
      claimed.segment = std::move(fds[i]);
      claimed.segment_bytes = handle.nbytes();
    } else if (handle.kind() == v1::Handle::TENSOR_INDEX && !claimed.index.valid()) {
      claimed.index = std::move(fds[i]);
      claimed.index_bytes = handle.nbytes();
    } else if (handle.kind() == v1::Handle::SMALL_FILES && !claimed.small_files.valid()) {
      claimed.small_files = std::move(fds[i]);
      claimed.small_file_bytes = handle.nbytes();
    }
  }
  const bool has_segment = claimed.segment.valid() || segment == Session::Segment::kElsewhere;
  if (!has_segment || !claimed.index.valid()) {
    return Malformed("sent no segment or no index");
  }
  return claimed;
}

}  // namespace

Session::Session(Fd socket, std::string path)
    : socket_(std::move(socket)), path_(std::move(path)), creator_(getpid()) {
  CloseInChildren(socket_.get());
}

Session::~Session() {
  if (IsOurs()) {
    ForgetInChildren(socket_.get());
  } else {
    // Closed at the fork; the number may be another file's by now.
    const_cast<Fd&>(socket_).Release();
  }
}

bool Session::IsOurs() const { return getpid() == creator_; }

bool Session::Lives() const {
  char byte = 0;
  const ssize_t received = recv(socket_.get(), &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT);
  return received > 0 || (received < 0 && errno == EAGAIN);
}

absl::StatusOr<std::unique_ptr<Session>> Session::Open(const std::string& socket_dir,
                                                       absl::Time deadline) {
  std::string path = absl::StrCat(socket_dir, "/handles.sock");
  ASSIGN_OR_RETURN(Fd socket, Connect(path, deadline));
  std::unique_ptr<Session> session(new Session(std::move(socket), std::move(path)));
  auto greeting = Receive(session->socket_.get(), session->path_, deadline);
  if (!greeting.ok()) {
    return ReasonOf(greeting.status()) == Reason::kDeadline
               ? DaemonGone(absl::StrCat("the daemon at ", session->path_, " does not answer"),
                            session->path_)
               : greeting.status();
  }
  if (greeting->first.has_failed()) {
    return FromDetail(greeting->first.failed().error());
  }
  if (!greeting->first.has_hello()) {
    return Malformed("did not begin with a greeting");
  }
  session->token_ = greeting->first.hello().session_token();
  session->daemon_version_ = greeting->first.hello().daemon_version();
  return session;
}

absl::StatusOr<ClaimedHandles> Session::Claim(LeaseId lease, Segment segment, absl::Time deadline) {
  bool answer_owed = false;
  {
    absl::MutexLock lock(&mutex_);
    const auto is_free = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !claiming_; };
    if (!mutex_.AwaitWithDeadline(absl::Condition(&is_free), deadline)) {
      return Error(Reason::kDeadline, "other claims of this client did not end in time");
    }
    claiming_ = true;
    answer_owed = answer_owed_;
  }
  auto handles = ClaimInTurn(lease, segment, deadline, answer_owed);
  absl::MutexLock lock(&mutex_);
  claiming_ = false;
  answer_owed_ = answer_owed;
  return handles;
}

absl::StatusOr<ClaimedHandles> Session::ClaimInTurn(LeaseId lease, Segment segment,
                                                    absl::Time deadline, bool& answer_owed) {
  if (answer_owed) {
    RETURN_IF_ERROR(Receive(socket_.get(), path_, deadline).status());
    answer_owed = false;
  }
  v1::HandleRequest request;
  request.mutable_claim()->set_lease_id(lease.value());
  RETURN_IF_ERROR(WaitFor(socket_.get(), POLLOUT, deadline));
  if (!SendPacket(socket_.get(), request.SerializeAsString()).ok()) {
    return DaemonGone("the daemon ended the session", path_);
  }
  answer_owed = true;
  ASSIGN_OR_RETURN(auto answer, Receive(socket_.get(), path_, deadline));
  answer_owed = false;
  auto& [reply, fds] = answer;
  if (reply.has_failed() && reply.failed().lease_id() == lease.value()) {
    return FromDetail(reply.failed().error());
  }
  if (!reply.has_handles() || reply.handles().lease_id() != lease.value()) {
    return Malformed("answered another question");
  }
  return TakeHandles(reply.handles(), std::move(fds), segment);
}

}  // namespace weightd::client
