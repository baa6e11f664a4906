#include "common/huge_pages.h"

#include <fstream>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace weightd {

std::string ReadShmemEnabled() {
  std::ifstream file(kShmemEnabledPath);
  std::ostringstream text;
  text << file.rdbuf();
  return std::string(absl::StripAsciiWhitespace(text.str()));
}

bool HugePagesAllowed(absl::string_view shmem_enabled) {
  for (const char* word : {"[always]", "[within_size]", "[advise]", "[force]"}) {
    if (absl::StrContains(shmem_enabled, word)) {
      return true;
    }
  }
  return false;
}

}  // namespace weightd
