#ifndef WEIGHTD_DAEMON_FD_STORE_KEEPER_PROTOCOL_H_
#define WEIGHTD_DAEMON_FD_STORE_KEEPER_PROTOCOL_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

// What weightd and weightd-keeper say to one another, on the SOCK_SEQPACKET socket `keeper.sock`. A
// packet is text, lines of KEY=VALUE, in the words of systemd's descriptor store
// (sd_pid_notify_with_fds(3)); it carries one descriptor where that is said, else none.
//
//   keeper, to whoever connects:  KEEPER=1 FDSTORE=<how many it holds at most>
//   or, and hangs up:             ERROR=NOT_ALLOWED MESSAGE=<text>
//
//   client                                          keeper
//   FDSTORE=1 FDNAME=<name> FDPOLL=0  + descriptor  OK=1
//   FDSTOREREMOVE=1 FDNAME=<name>                   OK=1, also if it has none of that name
//   FDLIST=1                                        FD=1 FDNAME=<name> + descriptor, for each;
//   END=1 FDS=<how many> what it can't do                                ERROR=<word>
//   MESSAGE=<text>, and nothing changed
//
// Each request is answered, in their order. Stored is a duplicate of the descriptor, the same open
// file; what is there under that name already is not stored again. Listed are those that are there
// when the list is asked for, the oldest first; they stay. KEEPER is the version of this protocol.
// Keys that one doesn't know mean nothing, so that versions can add some; a request without one of
// the first column's first keys is UNKNOWN.
//
// Used by weightd-keeper, which has no Abseil.

namespace weightd::fd_store {

inline constexpr std::string_view kKeeperSocket = "keeper.sock";
// Of the folder's path, so that the socket's fits the 107 that the kernel allows.
inline constexpr size_t kMaxKeeperFolder = 107 - 1 - kKeeperSocket.size();
inline constexpr int kKeeperVersion = 1;
// Bytes of a packet; systemd takes as many.
inline constexpr size_t kMaxKeeperPacket = 4096;
inline constexpr size_t kMaxNameBytes = 255;
// Descriptors that one store holds, whatever the limits of processes are.
inline constexpr size_t kMaxStored = 1 << 16;

// The words of ERROR.
inline constexpr std::string_view kNotAllowed = "NOT_ALLOWED";
inline constexpr std::string_view kMalformed = "MALFORMED";
inline constexpr std::string_view kUnknown = "UNKNOWN";
inline constexpr std::string_view kFull = "FULL";

// 1-255 of [A-Za-z0-9._-].
bool IsName(std::string_view name);

// The value of the first line of that key.
std::optional<std::string_view> FieldOf(std::string_view packet, std::string_view key);

// Whether the packet has the line `key`=1.
bool Says(std::string_view packet, std::string_view key);

// The value as a number; nothing if it is none, or larger than kMaxStored.
std::optional<size_t> NumberOf(std::string_view packet, std::string_view key);

// Both also what systemd takes.
std::string StoreRequest(std::string_view name);
std::string RemoveRequest(std::string_view name);

}  // namespace weightd::fd_store

#endif  // WEIGHTD_DAEMON_FD_STORE_KEEPER_PROTOCOL_H_
