#ifndef WEIGHTD_DAEMON_KEEPER_SERVER_H_
#define WEIGHTD_DAEMON_KEEPER_SERVER_H_

#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/fd.h"
#include "daemon/keeper/packet.h"
#include "daemon/keeper/shelf.h"

namespace weightd::keeper {

// Two daemons at once, during a hand-over, and whoever else looks. One more takes the place of the
// one that was silent the longest, of those first that have stored nothing.
inline constexpr size_t kMaxConnections = 32;
// Descriptors of this process that are none of the shelf's: standard streams, folder, lock,
// sockets, one request's.
inline constexpr size_t kOwnFds = kMaxConnections + 16;

// Who is connected, and what they ask (daemon/fd_store/keeper_protocol.h). One thread, which waits
// for nobody: an answer that a client doesn't take keeps nobody but that client waiting.
class Server {
 public:
  // `listening` is non-blocking.
  Server(Fd listening, size_t limit) : listening_(std::move(listening)), shelf_(limit) {}

  // Whether others find the keeper where it listens; may have it listen elsewhere for that.
  using Find = std::function<bool(Fd& listening)>;

  // Serves until `stop` is readable; or, which is false, until nobody is connected and nobody can
  // be any more. `find` is asked every second.
  bool Serve(int stop, const Find& find = [](Fd&) { return true; });

 private:
  // How far it is in telling a client what there is.
  struct List {
    uint64_t asked;  // in which round
    // The last one's number. Not before a round in which all others were heard: of two daemons, the
    // next one asks as soon as the first is dead, whose last request may not have been read yet.
    std::optional<uint64_t> end = {};
    uint64_t sent = 0;  // that of the last one sent
    size_t count = 0;
  };

  struct Connection {
    Fd socket;
    // What it has to take before it is heard again.
    std::optional<List> list = {};
    std::string answer = {};
    bool has_stored = false;
    // When, on a clock that counts rounds.
    uint64_t heard = 0;

    bool busy() const { return list.has_value() || !answer.empty(); }
  };

  void AttendAll(const std::vector<pollfd>& waits);
  void Accept();
  void MakeRoom();
  // False once the connection is over.
  bool Attend(Connection& connection, bool readable);
  bool GoOn(Connection& connection);
  // Lists that were asked for before this round.
  void BeginLists();
  void Answer(Connection& connection, Packet packet);

  Fd listening_;
  // There was no descriptor for one who connected: until there may be, nobody else is let in.
  bool deaf_ = false;
  Shelf shelf_;
  std::list<Connection> connections_;
  uint64_t round_ = 0;
};

}  // namespace weightd::keeper

#endif  // WEIGHTD_DAEMON_KEEPER_SERVER_H_
