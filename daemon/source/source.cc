#include "daemon/source/source.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::source {

absl::Status NotAllowed() {
  return Error(Reason::kNotAllowed, "not allowed or unknown",
               "ask the operator what this listener may attach and load");
}

absl::Status CheckPlaces(absl::Span<const std::string> places, const ReadPolicy& policy) {
  return policy.denied != nullptr && policy.denied->Covers(places) ? NotAllowed()
                                                                   : absl::OkStatus();
}

absl::Status CheckOrigins(absl::Span<const ObjectVersion* const> objects,
                          const ReadPolicy& policy) {
  if (policy.denied == nullptr) {
    return absl::OkStatus();
  }
  std::vector<std::string> places;
  for (const ObjectVersion* object : objects) {
    places.push_back(object->uri.Redacted());
    if (object->trail == nullptr) {
      continue;
    }
    std::optional<std::vector<std::string>> led_to = object->trail->Places();
    if (!led_to.has_value()) {
      return NotAllowed();
    }
    std::move(led_to->begin(), led_to->end(), std::back_inserter(places));
  }
  return CheckPlaces(places, policy);
}

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
