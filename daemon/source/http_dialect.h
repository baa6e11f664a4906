#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_DIALECT_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_DIALECT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/source/http_answer.h"
#include "daemon/source/http_errors.h"
#include "daemon/source/http_hop.h"

namespace weightd::source {

// How servers of one kind are asked: where an object lies, what proves who asks, what their errors
// mean. Thread-safe; lives as long as its source.
class HttpDialect {
 public:
  virtual ~HttpDialect() = default;

  // Where a try begins.
  virtual absl::StatusOr<Hop> FirstHop(const Uri& uri) = 0;

  // Header lines ("Name: value") that a GET of this hop carries besides Range, If-Match and what
  // every request has. May wait for credentials.
  virtual absl::StatusOr<std::vector<std::string>> Headers(const Uri& uri, const Hop& hop,
                                                           Cancellation& cancellation) = 0;

  // Whether redirects are followed. If not, they are failures.
  virtual bool follows_redirects() const = 0;

  // What an answer means that is no body. `body` is its beginning, at most 16 KiB. `name` is the
  // redacted URI.
  virtual HttpFailure FailureOf(const Uri& uri, const Answer& answer, absl::string_view body,
                                absl::string_view name) = 0;
};

// Plain web servers: the URI says it all.
class PlainHttp final : public HttpDialect {
 public:
  absl::StatusOr<Hop> FirstHop(const Uri& uri) override;
  absl::StatusOr<std::vector<std::string>> Headers(const Uri&, const Hop&, Cancellation&) override;
  bool follows_redirects() const override { return true; }
  HttpFailure FailureOf(const Uri& uri, const Answer& answer, absl::string_view body,
                        absl::string_view name) override;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_DIALECT_H_
