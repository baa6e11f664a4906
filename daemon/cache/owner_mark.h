#ifndef WEIGHTD_DAEMON_CACHE_OWNER_MARK_H_
#define WEIGHTD_DAEMON_CACHE_OWNER_MARK_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

// Several daemons may use one keeper. Each knows what is its own, and what an earlier daemon in its
// place left, by the socket folder that they serve: the first digits of a place in the store are a
// digest of its path. They are upper-case ones and begin with F, for the digits that builds before
// there were marks gave are all lower-case: those are anybody's. Such a build takes what is marked
// for its own, so that it may follow one that marks.

namespace weightd::cache {

// Of whoever serves that folder: 16 hexadecimal digits.
std::string OwnerMark(absl::string_view socket_dir);

// Whether a descriptor in the store is another daemon's than those that `marks` are of, by its
// name; not so of what no daemon would call so.
bool IsOthers(absl::string_view stored_name, absl::Span<const std::string> marks);

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_OWNER_MARK_H_
