#include "daemon/service/denied_models.h"

#include <algorithm>
#include <vector>

namespace weightd::service {

bool DeniedModels::Covers(absl::Span<const std::string> places) const {
  const std::vector<std::string> named =
      names_->PlacesOf([this](absl::string_view name) { return access_.DeniesName(name); });
  return std::any_of(places.begin(), places.end(), [&](const std::string& place) {
    return access_.DeniesPlace(place) ||
           std::any_of(named.begin(), named.end(),
                       [&place](const std::string& outer) { return LiesIn(place, outer); });
  });
}

}  // namespace weightd::service
