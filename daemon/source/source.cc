#include "daemon/source/source.h"

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::source {

absl::Status CheckRanges(absl::Span<const ReadRequest> requests) {
  for (const ReadRequest& request : requests) {
    if (request.range.end > request.object->size || request.range.begin > request.range.end) {
      return Error(Reason::kInvalidArgument, absl::StrCat(request.object->uri.Redacted(),
                                                          ": bytes past its end are asked for"));
    }
  }
  return absl::OkStatus();
}

}  // namespace weightd::source
