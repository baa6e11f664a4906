#ifndef WEIGHTD_CLIENT_CPP_SOCKET_DIR_H_
#define WEIGHTD_CLIENT_CPP_SOCKET_DIR_H_

#include <string>

namespace weightd::client {

inline constexpr char kDefaultSocketDir[] = "/run/weightd";

// `given`, or if that is empty the environment variable WEIGHTD_DIR, or else the default.
std::string ResolveSocketDir(const std::string& given);

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_SOCKET_DIR_H_
