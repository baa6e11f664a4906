#ifndef WEIGHTD_TESTS_FAKES_REQUIRE_H_
#define WEIGHTD_TESTS_FAKES_REQUIRE_H_

#include <cstdio>
#include <cstdlib>

namespace weightd::fakes {

// A fake that can't start makes every test meaningless.
inline void Require(bool condition, const char* what) {
  if (!condition) {
    std::perror(what);
    std::abort();
  }
}

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_REQUIRE_H_
