#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <thread>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/fd.h"
#include "common/fd_passing.h"
#include "daemon/fd_store/keeper_protocol.h"
#include "daemon/keeper/server.h"
#include "tests/fuzz/targets.h"

namespace weightd::fuzz {
namespace {

constexpr size_t kRoom = 3;

// A keeper with a client.
class Keeper {
 public:
  Keeper() : stop_(eventfd(0, EFD_CLOEXEC)) {
    Fd listening(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    auto* const name = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof(address);
    // The kernel chooses the name (unix(7), autobind).
    Require(bind(listening.get(), name, sizeof(sa_family_t)) == 0 &&
                listen(listening.get(), 1) == 0 && getsockname(listening.get(), name, &size) == 0,
            "a socket can listen");
    client_ = Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    Require(connect(client_.get(), name, size) == 0, "the keeper listens");
    thread_ = std::thread([this, socket = std::move(listening)]() mutable {
      keeper::Server(std::move(socket), kRoom).Serve(stop_.get());
    });
  }
  ~Keeper() {
    eventfd_write(stop_.get(), 1);
    thread_.join();
  }

  int client() const { return client_.get(); }

 private:
  const Fd stop_;
  Fd client_;
  std::thread thread_;
};

// Returns how many were sent; stops when the keeper takes no more.
size_t SendAll(int socket, absl::string_view input) {
  size_t sent = 0;
  while (!input.empty()) {
    const size_t length = static_cast<unsigned char>(input[0]) & 0x7F;
    const bool with_fd = (static_cast<unsigned char>(input[0]) & 0x80) != 0;
    const absl::string_view packet = input.substr(1, length);
    input.remove_prefix(std::min(1 + length, input.size()));
    // An empty packet is the client's end.
    if (packet.empty()) {
      continue;
    }
    const int descriptors[] = {socket};
    if (!SendPacket(socket, packet, absl::MakeSpan(descriptors, with_fd ? 1 : 0)).ok()) {
      break;
    }
    ++sent;
  }
  return sent;
}

}  // namespace

void KeeperRequests(absl::string_view input) {
  const Keeper keeper;
  const size_t sent = SendAll(keeper.client(), input);
  shutdown(keeper.client(), SHUT_WR);
  auto packet = ReceivePacket(keeper.client(), /*accept_fds=*/true);
  Require(packet.ok() && fd_store::NumberOf(packet->bytes, "KEEPER") == fd_store::kKeeperVersion,
          "a keeper says who it is");
  size_t answered = 0;
  size_t listed = 0;
  while ((packet = ReceivePacket(keeper.client(), true)).ok() && !packet->bytes.empty()) {
    if (fd_store::Says(packet->bytes, "FD")) {
      Require(packet->fds.size() == 1 && ++listed <= kRoom &&
                  fd_store::IsName(fd_store::FieldOf(packet->bytes, "FDNAME").value_or("")),
              "what is listed was stored");
      continue;
    }
    if (fd_store::Says(packet->bytes, "END")) {
      Require(fd_store::NumberOf(packet->bytes, "FDS") == listed, "a list is whole");
      listed = 0;
    } else {
      Require(fd_store::Says(packet->bytes, "OK") !=
                  fd_store::FieldOf(packet->bytes, "ERROR").has_value(),
              "an answer is yes or no");
    }
    Require(packet->fds.empty(), "only lists have descriptors");
    ++answered;
  }
  Require(answered == sent, "each request is answered");
}

}  // namespace weightd::fuzz
