#include "common/source_revision.h"

#include "common/version.h"

namespace weightd {

// Of :stamp, which only shipped programs link.
extern const char kStamp[] __attribute__((weak));

std::string SourceRevision() { return kStamp == nullptr ? "" : kStamp; }

std::string VersionText(const std::string& program) {
  std::string text = program + " " + kVersion;
  if (const std::string revision = SourceRevision(); !revision.empty()) {
    text += " (" + revision + ")";
  }
  return text;
}

}  // namespace weightd
