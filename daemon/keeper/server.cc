#include "daemon/keeper/server.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <tuple>
#include <utility>
#include <vector>

#include "daemon/fd_store/keeper_protocol.h"

namespace weightd::keeper {
namespace {

using Clock = std::chrono::steady_clock;

// Between two looks whether it is found.
constexpr std::chrono::milliseconds kPause(1000);

int Until(Clock::time_point time) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(time - Clock::now());
  return std::max(0, static_cast<int>(left.count()));
}

std::string ErrorAnswer(std::string_view word, std::string_view message) {
  return "ERROR=" + std::string(word) + "\nMESSAGE=" + std::string(message);
}

bool IsAllowed(int socket) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         (peer.uid == geteuid() || peer.uid == 0);
}

}  // namespace

bool Server::Serve(int stop, const Find& find) {
  Clock::time_point next_look = Clock::now() + kPause;
  while (true) {
    std::vector<pollfd> waits = {{stop, POLLIN, 0}, {deaf_ ? -1 : listening_.get(), POLLIN, 0}};
    for (const Connection& connection : connections_) {
      const int event = connection.busy() ? POLLOUT : POLLIN;
      waits.push_back({connection.socket.get(), static_cast<short>(event), 0});
    }
    if (poll(waits.data(), waits.size(), Until(next_look)) < 0) {
      continue;
    }
    if (waits[0].revents != 0) {
      return true;
    }
    ++round_;
    AttendAll(waits);
    BeginLists();
    if (waits[1].revents != 0) {
      Accept();
    }
    if (Clock::now() >= next_look) {
      next_look = Clock::now() + kPause;
      deaf_ = false;
      if (!find(listening_) && connections_.empty()) {
        return false;
      }
    }
  }
}

// Connections are in the order of what was waited for, behind two others.
void Server::AttendAll(const std::vector<pollfd>& waits) {
  size_t i = 2;
  for (auto connection = connections_.begin(); connection != connections_.end(); ++i) {
    const bool lives =
        waits[i].revents == 0 || Attend(*connection, (waits[i].revents & POLLIN) != 0);
    deaf_ = deaf_ && lives;
    connection = lives ? std::next(connection) : connections_.erase(connection);
  }
}

void Server::BeginLists() {
  for (Connection& connection : connections_) {
    std::optional<List>& list = connection.list;
    if (list.has_value() && !list->end.has_value() && list->asked < round_) {
      list->end = shelf_.last();
    }
  }
}

void Server::Accept() {
  Fd socket(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid()) {
    deaf_ = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    return;
  }
  if (!IsAllowed(socket.get())) {
    Send(socket.get(),
         ErrorAnswer(fd_store::kNotAllowed, "only the keeper's own user and root may connect"));
    return;
  }
  MakeRoom();
  Connection& connection = connections_.emplace_back(Connection{.socket = std::move(socket)});
  connection.heard = round_;
  connection.answer = "KEEPER=" + std::to_string(fd_store::kKeeperVersion) +
                      "\nFDSTORE=" + std::to_string(shelf_.limit());
}

void Server::MakeRoom() {
  if (connections_.size() >= kMaxConnections) {
    connections_.erase(std::min_element(
        connections_.begin(), connections_.end(), [](const auto& one, const auto& other) {
          return std::tie(one.has_stored, one.heard) < std::tie(other.has_stored, other.heard);
        }));
  }
}

bool Server::Attend(Connection& connection, bool readable) {
  if (readable && !connection.busy()) {
    Packet packet;
    const Outcome received = Receive(connection.socket.get(), packet);
    if (received != Outcome::kDone) {
      return received == Outcome::kLater;
    }
    connection.heard = round_;
    Answer(connection, std::move(packet));
  }
  return GoOn(connection);
}

void Server::Answer(Connection& connection, Packet packet) {
  const std::string_view text = packet.text;
  const bool stores = fd_store::Says(text, "FDSTORE");
  const bool removes = fd_store::Says(text, "FDSTOREREMOVE");
  const std::string_view name = fd_store::FieldOf(text, "FDNAME").value_or("");
  if (packet.cut || packet.fds.size() != (stores ? 1 : 0)) {
    connection.answer =
        ErrorAnswer(fd_store::kMalformed, "too long, or not with as many descriptors as it should");
  } else if (fd_store::Says(text, "FDLIST")) {
    connection.list = List{.asked = round_};
  } else if (!stores && !removes) {
    connection.answer = ErrorAnswer(fd_store::kUnknown, "not a request that this keeper knows");
  } else if (!fd_store::IsName(name)) {
    connection.answer =
        ErrorAnswer(fd_store::kMalformed, "FDNAME has to be 1-255 of A-Z a-z 0-9 . _ -");
  } else if (removes) {
    shelf_.Remove(name);
    connection.answer = "OK=1";
  } else if (!shelf_.Put(name, std::move(packet.fds[0]))) {
    connection.answer = ErrorAnswer(
        fd_store::kFull, "no room for another descriptor: raise the keeper's limit of open files");
  } else {
    connection.has_stored = true;
    connection.answer = "OK=1";
  }
}

bool Server::GoOn(Connection& connection) {
  if (connection.list.has_value() && !connection.list->end.has_value()) {
    return true;
  }
  Outcome sent = Outcome::kDone;
  while (connection.list.has_value() && sent == Outcome::kDone) {
    List& list = *connection.list;
    const Shelf::Kept* const next = shelf_.After(list.sent);
    if (next == nullptr || next->number > list.end) {
      connection.answer = "END=1\nFDS=" + std::to_string(list.count);
      connection.list.reset();
      break;
    }
    sent = Send(connection.socket.get(), "FD=1\nFDNAME=" + next->name, next->fd.get());
    if (sent == Outcome::kDone) {
      list.sent = next->number;
      ++list.count;
    }
  }
  if (!connection.answer.empty() && sent == Outcome::kDone) {
    sent = Send(connection.socket.get(), connection.answer);
    if (sent == Outcome::kDone) {
      connection.answer.clear();
    }
  }
  return sent != Outcome::kGone;
}

}  // namespace weightd::keeper
