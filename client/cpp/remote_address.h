#ifndef WEIGHTD_CLIENT_CPP_REMOTE_ADDRESS_H_
#define WEIGHTD_CLIENT_CPP_REMOTE_ADDRESS_H_

#include <string>

namespace weightd::client {

// Where a daemon of another node serves operators (its config's admin.tcp), and what proves who is
// who. Files are PEM.
struct RemoteAddress {
  // HOST:PORT, "[::1]:7443"; empty: the daemon of this node.
  std::string address = {};
  // The authorities of the daemon's certificate.
  std::string ca_file = {};
  // Ours, with what leads to its authority, and its key.
  std::string certificate_file = {};
  std::string key_file = {};
  // The name that the daemon's certificate must have, if it isn't HOST.
  std::string server_name = {};
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_REMOTE_ADDRESS_H_
