#ifndef WEIGHTD_CLIENT_CPP_SESSION_FORK_H_
#define WEIGHTD_CLIENT_CPP_SESSION_FORK_H_

namespace weightd::client {

// Sockets that a child must not keep after fork(): while it held one, the parent's session would
// outlive the parent. They are closed in the child by pthread_atfork, without shutdown(), which
// would end the parent's session too.
void CloseInChildren(int socket);
void ForgetInChildren(int socket);

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_SESSION_FORK_H_
