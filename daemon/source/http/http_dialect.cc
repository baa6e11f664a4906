#include "daemon/source/http/http_dialect.h"

namespace weightd::source {

absl::StatusOr<Hop> PlainHttp::FirstHop(const Uri& uri) { return source::FirstHop(uri); }

absl::StatusOr<Proof> PlainHttp::Headers(const Uri&, const Hop&, Question, Cancellation&) {
  return Proof();
}

HttpFailure PlainHttp::FailureOf(const Uri&, const Proof&, const Answer& answer, absl::string_view,
                                 absl::string_view name) {
  return FailureOfStatus(answer.status, answer.retry_after, name);
}

}  // namespace weightd::source
