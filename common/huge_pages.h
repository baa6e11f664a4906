#ifndef WEIGHTD_COMMON_HUGE_PAGES_H_
#define WEIGHTD_COMMON_HUGE_PAGES_H_

#include <string>

#include "absl/strings/string_view.h"

namespace weightd {

// Where the kernel keeps it.
inline constexpr char kShmemEnabledPath[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

// What the kernel says of huge pages for shared memory
// (Documentation/admin-guide/mm/transhuge.rst), as the text of shmem_enabled; empty if it has none
// or it can't be read.
std::string ReadShmemEnabled();

// Whether that lets memory which asks for huge pages (MADV_HUGEPAGE) have them. The word in
// brackets is the chosen one.
bool HugePagesAllowed(absl::string_view shmem_enabled);

}  // namespace weightd

#endif  // WEIGHTD_COMMON_HUGE_PAGES_H_
