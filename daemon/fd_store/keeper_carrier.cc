#include "daemon/fd_store/keeper_carrier.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "common/status.h"

namespace weightd::fd_store {
namespace {

// A keeper answers at once.
constexpr int kPatienceMs = 5000;

constexpr absl::string_view kAsTheDaemonsUser = "run weightd-keeper as the daemon's user";
constexpr absl::string_view kRaiseLimit =
    "raise the daemon's hard limit of open files (ulimit -Hn, or LimitNOFILE= of the unit), and "
    "restart it";

absl::Status Gone(absl::string_view why) {
  return Error(Reason::kDaemonUnreachable, why,
               "see to weightd-keeper: once it answers, all is stored there");
}

std::string PathIn(const std::string& folder) {
  return absl::StrCat(folder, "/", std::string(kKeeperSocket));
}

// For who has to look what is in the way to it.
absl::Status NoWay(int error_number, absl::string_view what, const std::string& folder) {
  const absl::Status status = ErrnoError(error_number, what);
  if (error_number == EACCES || error_number == EPERM) {
    return Error(
        Reason::kNotAllowed, status.message(),
        absl::StrCat("it seems that weightd-keeper runs as another user: ", kAsTheDaemonsUser));
  }
  if (error_number == EMFILE || error_number == ENFILE) {
    return Error(ReasonOf(status), status.message(), kRaiseLimit);
  }
  return Error(
      ReasonOf(status), status.message(),
      absl::StrCat("start weightd-keeper --dir ", folder, ", or correct keeper_dir of the config"));
}

bool IsTrusted(uid_t user) { return user == geteuid() || user == 0; }

absl::Status CheckFolder(const std::string& folder) {
  struct stat found{};
  if (stat(folder.c_str(), &found) != 0) {
    return NoWay(errno, absl::StrCat("stat ", folder), folder);
  }
  if (!S_ISDIR(found.st_mode) || !IsTrusted(found.st_uid) ||
      (found.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return Error(
        Reason::kNotAllowed,
        absl::StrFormat("%s (user %d, mode %o) is not a folder that only root or the "
                        "daemon's user may write to",
                        folder, found.st_uid, found.st_mode & 07777),
        "whoever can replace the socket can pose as the keeper: let weightd-keeper make the "
        "folder");
  }
  return absl::OkStatus();
}

absl::Status CheckPeer(const Fd& socket) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return ErrnoError(errno, "ask who the keeper is");
  }
  if (!IsTrusted(peer.uid)) {
    return Error(
        Reason::kNotAllowed,
        absl::StrCat("the keeper is user ", peer.uid, ", neither root nor the daemon's user"),
        kAsTheDaemonsUser);
  }
  return absl::OkStatus();
}

// Whether this process can have one more descriptor. A packet whose descriptor it can't have is
// cut, as one that is too large is.
bool HasOneLeft(const Fd& any) { return Fd(fcntl(any.get(), F_DUPFD_CLOEXEC, 0)).valid(); }

// What an ERROR of the keeper is for the courier: an answer, or a keeper that is of no use.
absl::Status StatusOf(const std::string& answer) {
  const std::string word(FieldOf(answer, "ERROR").value_or("an answer that is none"));
  const std::string message(FieldOf(answer, "MESSAGE").value_or(""));
  const std::string text = absl::StrCat("the keeper says ", word, ": ", message);
  if (word == kFull) {
    return Error(Reason::kTooManyRequests, text,
                 "raise the keeper's hard limit of open files (ulimit -Hn), or end daemons that "
                 "share it: what isn't stored the next daemon loads again");
  }
  if (word == kNotAllowed) {
    return Error(Reason::kNotAllowed, text, kAsTheDaemonsUser);
  }
  return word == kMalformed || word == kUnknown ? Error(Reason::kInvalidArgument, text)
                                                : Gone(text);
}

}  // namespace

absl::StatusOr<std::unique_ptr<KeeperCarrier>> KeeperCarrier::Make(std::string folder) {
  if (folder.empty() || folder.size() > kMaxKeeperFolder) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat("the keeper's folder ", folder, " has ", folder.size(),
                              " bytes; its socket's address allows 1 to ", kMaxKeeperFolder),
                 "choose a shorter folder");
  }
  Fd interrupted(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!interrupted.valid()) {
    return ErrnoError(errno, "prepare to talk to the keeper");
  }
  return std::unique_ptr<KeeperCarrier>(
      new KeeperCarrier(std::move(folder), std::move(interrupted)));
}

absl::Status KeeperCarrier::Open() {
  RETURN_IF_ERROR(CheckFolder(folder_));
  RETURN_IF_ERROR(Connect());
  RETURN_IF_ERROR(CheckPeer(socket_));
  ASSIGN_OR_RETURN(const Packet greeting, Hear());
  const std::optional<size_t> version = NumberOf(greeting.bytes, "KEEPER");
  if (!version.has_value()) {
    return StatusOf(greeting.bytes);
  }
  return *version == kKeeperVersion ? absl::OkStatus()
                                    : Error(Reason::kUnsupported,
                                            absl::StrCat("the keeper speaks version ", *version,
                                                         " of the protocol, we ", kKeeperVersion),
                                            "run a weightd-keeper of this release");
}

absl::Status KeeperCarrier::Connect() {
  const std::string path = PathIn(folder_);
  ASSIGN_OR_RETURN(place_, Look());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  socket_.Reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_.valid() ||
      connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return NoWay(errno, absl::StrCat("connect to ", path), folder_);
  }
  // If it was replaced meanwhile, whom we are connected to is anybody's guess.
  return Check();
}

absl::StatusOr<KeeperCarrier::Place> KeeperCarrier::Look() const {
  const std::string path = PathIn(folder_);
  struct stat found{};
  if (lstat(path.c_str(), &found) != 0) {
    return NoWay(errno, absl::StrCat("stat ", path), folder_);
  }
  return Place{.device = found.st_dev, .inode = found.st_ino};
}

absl::Status KeeperCarrier::Check() {
  const absl::StatusOr<Place> now = Look();
  if (ReasonOf(now.status()) == Reason::kModelNotFound) {
    return Error(Reason::kDaemonUnreachable,
                 absl::StrCat("its socket was removed, and no next daemon would find it: ",
                              now.status().message()),
                 absl::StrCat("restart weightd-keeper --dir ", folder_,
                              ", unless it serves there again by itself"));
  }
  RETURN_IF_ERROR(now.status());
  RETURN_IF_ERROR(CheckFolder(folder_));
  return now->device == place_.device && now->inode == place_.inode
             ? absl::OkStatus()
             : Error(Reason::kDaemonUnreachable,
                     absl::StrCat("another socket lies at ", PathIn(folder_),
                                  " by now, where the next daemon looks"),
                     "nothing, if another keeper took its place: all is stored there");
}

absl::StatusOr<std::vector<StoredFd>> KeeperCarrier::List() {
  RETURN_IF_ERROR(Ask("FDLIST=1", -1));
  std::vector<StoredFd> stored;
  while (true) {
    ASSIGN_OR_RETURN(Packet packet, Hear());
    if (Says(packet.bytes, "END")) {
      return NumberOf(packet.bytes, "FDS") == stored.size()
                 ? std::move(stored)
                 : absl::StatusOr<std::vector<StoredFd>>(Gone("the keeper's list is not whole"));
    }
    const std::string name(FieldOf(packet.bytes, "FDNAME").value_or(""));
    if (!Says(packet.bytes, "FD") || !IsName(name) || packet.fds.size() != 1 ||
        stored.size() >= kMaxStored) {
      return Gone("the keeper's list is not as the protocol has it, or endless");
    }
    stored.push_back({name, std::move(packet.fds[0])});
  }
}

absl::Status KeeperCarrier::Store(const std::string& name, const Fd& fd) {
  RETURN_IF_ERROR(Ask(StoreRequest(name), fd.get()));
  return HearDone();
}

absl::Status KeeperCarrier::Remove(const std::string& name) {
  RETURN_IF_ERROR(Ask(RemoveRequest(name), -1));
  return HearDone();
}

void KeeperCarrier::Interrupt() { eventfd_write(interrupted_.get(), 1); }

absl::Status KeeperCarrier::Ask(absl::string_view request, int fd) {
  const absl::Status sent =
      SendPacket(socket_.get(), request, absl::MakeConstSpan(&fd, fd >= 0 ? 1 : 0));
  return sent.ok() ? sent : Gone(sent.message());
}

absl::StatusOr<Packet> KeeperCarrier::Hear() {
  pollfd waits[] = {{interrupted_.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}};
  int ready = 0;
  do {
    ready = poll(waits, 2, kPatienceMs);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0 || waits[0].revents != 0) {
    return Gone(ready == 0 ? "the keeper doesn't answer" : "we are ending");
  }
  absl::StatusOr<Packet> packet = ReceivePacket(socket_.get(), true);
  if (absl::IsInvalidArgument(packet.status()) && !HasOneLeft(socket_)) {
    return Error(Reason::kTooManyRequests,
                 "the daemon's limit of open files is too low for what the keeper has: that stays "
                 "there for the next daemon",
                 kRaiseLimit);
  }
  if (!packet.ok()) {
    return Gone(packet.status().message());
  }
  if (packet->bytes.empty()) {
    return Gone("the keeper hung up");
  }
  return packet;
}

absl::Status KeeperCarrier::HearDone() {
  const absl::StatusOr<Packet> answer = Hear();
  if (!answer.ok()) {
    // Never a refusal: it has not answered.
    return Gone(answer.status().message());
  }
  return Says(answer->bytes, "OK") ? absl::OkStatus() : StatusOf(answer->bytes);
}

}  // namespace weightd::fd_store
