#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_DIALECT_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_DIALECT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/source/credentials.h"
#include "daemon/source/http/http_answer.h"
#include "daemon/source/http/http_errors.h"
#include "daemon/source/http/http_hop.h"

namespace weightd::source {

// What a request shows of who makes it.
struct Proof {
  // Header lines ("Name: value").
  std::vector<std::string> lines;
  // What they were made with; nothing: the request is not signed.
  std::optional<Credentials> credentials;
  // A server has refused these already, and there are no others.
  bool refused_before = false;
  // Of S3: the region that was signed for, and what the store's clock was thought to be ahead.
  std::string region;
  absl::Duration ahead = absl::ZeroDuration();
  // Of a hub: the request went where the hub had sent us, not to the hub.
  bool elsewhere = false;
};

// What is asked of an object.
enum class Question {
  kBytes,
  // No bytes (HEAD), but what the server knows of their checksums.
  kChecksums,
};

// How servers of one kind are asked: where an object lies, what proves who asks, what their errors
// mean. Thread-safe; lives as long as its source.
class HttpDialect {
 public:
  virtual ~HttpDialect() = default;

  // Where a try begins.
  virtual absl::StatusOr<Hop> FirstHop(const Uri& uri) = 0;

  // What a request of this hop carries besides Range, If-Match and what every request has. May wait
  // for credentials.
  virtual absl::StatusOr<Proof> Headers(const Uri& uri, const Hop& hop, Question question,
                                        Cancellation& cancellation) = 0;

  // Whether redirects are followed. If not, they are failures.
  virtual bool follows_redirects() const = 0;

  // Whether a redirect of a request for `uri` may be followed, as far as this kind of server has
  // rules of its own.
  virtual absl::Status MayFollow(const Uri& /*uri*/, const Hop& /*next*/) const {
    return absl::OkStatus();
  }

  // Whether requests are pinned to a version by its ETag (If-Match).
  virtual bool pins_by_etag() const { return true; }

  // Brings what `answer`, of `hop`, says of the object's version into the form that versions have
  // here. `redirect` is the answer that led there, already in that form; null for the first hop.
  virtual void Amend(const Hop& /*hop*/, const Answer* /*redirect*/, Answer& /*answer*/) const {}

  // What an answer means that is no body, to a request that carried `proof`. `body` is its
  // beginning, at most 16 KiB. `name` is the redacted URI.
  virtual HttpFailure FailureOf(const Uri& uri, const Proof& proof, const Answer& answer,
                                absl::string_view body, absl::string_view name) = 0;
};

// Plain web servers: the URI says it all.
class PlainHttp final : public HttpDialect {
 public:
  absl::StatusOr<Hop> FirstHop(const Uri& uri) override;
  absl::StatusOr<Proof> Headers(const Uri&, const Hop&, Question, Cancellation&) override;
  bool follows_redirects() const override { return true; }
  HttpFailure FailureOf(const Uri& uri, const Proof& proof, const Answer& answer,
                        absl::string_view body, absl::string_view name) override;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_DIALECT_H_
