#ifndef WEIGHTD_COMMON_SOURCE_REVISION_H_
#define WEIGHTD_COMMON_SOURCE_REVISION_H_

#include <string>

namespace weightd {

// The git commit that this program was built from, with "-dirty" if tracked files differed from it.
// Empty if unknown: built outside a checkout, or a program without :stamp.
std::string SourceRevision();

// For `--version`: "weightd 0.1.0 (4afd833…)", without the parentheses if the revision is unknown.
std::string VersionText(const std::string& program);

}  // namespace weightd

#endif  // WEIGHTD_COMMON_SOURCE_REVISION_H_
