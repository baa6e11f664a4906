#ifndef WEIGHTD_COMMON_WIPE_H_
#define WEIGHTD_COMMON_WIPE_H_

#include <cstring>
#include <string>

namespace weightd {

// Overwrites a secret where it lies, which no compiler leaves out, and empties the text.
inline void Wipe(std::string& text) {
  explicit_bzero(text.data(), text.size());
  text.clear();
}

}  // namespace weightd

#endif  // WEIGHTD_COMMON_WIPE_H_
