#ifndef WEIGHTD_DAEMON_CACHE_HOLDER_H_
#define WEIGHTD_DAEMON_CACHE_HOLDER_H_

#include <cstdint>
#include <string>

#include "common/ids.h"

namespace weightd::cache {

// Who wants a model pinned.
enum class Pinner { kOperator, kConfig };

// Whose lease it is.
struct Holder {
  SessionId session;
  std::string listener;
  uint32_t uid = 0;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_HOLDER_H_
