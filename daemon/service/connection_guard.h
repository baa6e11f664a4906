#ifndef WEIGHTD_DAEMON_SERVICE_CONNECTION_GUARD_H_
#define WEIGHTD_DAEMON_SERVICE_CONNECTION_GUARD_H_

#include <cstdint>

namespace weightd::service {

// Meters what gRPC receives over a connection of ours (Http2Meter), and ends the connection that
// sends more than gRPC would hold. gRPC offers no place for that, and a relay before it would cost
// each call two more threads to wake: so this library defines recvmsg(2) and sendmsg(2), which gRPC
// calls in libgrpc.so, for the whole process, and looks on from the thread that moves the bytes
// anyway. Other sockets' messages pass as they are.
//
// It also takes the descriptors that a client sends, which the kernel would else close on gRPC's
// thread: see ReceiveWithoutDescriptors().
//
// Before the descriptor is handed to gRPC; holds until that socket is closed. Streams are counted
// as in Http2Meter. Thread-safe.
void GuardConnection(int socket, uint32_t unacknowledged_streams);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_CONNECTION_GUARD_H_
