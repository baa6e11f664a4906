#include "client/cpp/socket_dir.h"

#include <cstdlib>

namespace weightd::client {

std::string ResolveSocketDir(const std::string& given) {
  if (!given.empty()) {
    return given;
  }
  const char* const from_environment = std::getenv("WEIGHTD_DIR");
  return from_environment != nullptr && *from_environment != '\0' ? from_environment
                                                                  : kDefaultSocketDir;
}

}  // namespace weightd::client
