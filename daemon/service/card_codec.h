#ifndef WEIGHTD_DAEMON_SERVICE_CARD_CODEC_H_
#define WEIGHTD_DAEMON_SERVICE_CARD_CODEC_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/cache/card_facts.h"

namespace weightd::service {

// The body of a model's card: a serialized ModelCard.
std::string EncodeCard(const cache::CardFacts& facts);

// kVerificationFailed for what EncodeCard can't have written: not a ModelCard, a URI or a revision
// that isn't one, files that are referred to and aren't there, ranges beyond their end. As much
// memory as the body's bytes, times a few.
absl::StatusOr<cache::CardFacts> DecodeCard(absl::string_view body);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_CARD_CODEC_H_
