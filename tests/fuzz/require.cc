#include <cstdio>
#include <cstdlib>

#include "tests/fuzz/targets.h"

namespace weightd::fuzz {

void Require(bool kept, const char* promise) {
  if (!kept) {
    std::fprintf(stderr, "broken promise: %s\n", promise);
    std::abort();
  }
}

}  // namespace weightd::fuzz
