#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_READER_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_READER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/source/http/connection_budget.h"
#include "daemon/source/http/http_dialect.h"
#include "daemon/source/http/http_driver.h"
#include "daemon/source/http/http_options.h"
#include "daemon/source/http/http_settings.h"
#include "daemon/source/source.h"

namespace weightd::source {

// Stats and reads objects of one kind of server over kept-alive connections. Thread-safe.
class HttpReader {
 public:
  // INVALID_ARGUMENT for options that make no sense.
  static absl::StatusOr<std::unique_ptr<HttpReader>> Make(HttpSourceOptions options,
                                                          std::shared_ptr<HttpDialect> dialect);

  // As Source's.
  absl::StatusOr<ObjectVersion> Stat(const Uri& uri, const ReadPolicy& policy,
                                     Cancellation& cancellation);
  absl::Status Read(absl::Span<const ReadRequest> requests, const ReadPolicy& policy,
                    const ReadObserver& observer, Cancellation& cancellation);

  // What the server knows of the object's checksums (Question::kChecksums): an answer for each of
  // `queries`, which are added to its URI. kSourceChanged if it is another version by now.
  absl::StatusOr<std::vector<Answer>> AskChecksums(const ObjectVersion& object,
                                                   absl::Span<const std::string> queries,
                                                   const ReadPolicy& policy,
                                                   Cancellation& cancellation);

  // The whole answer for `uri`; more than `most_bytes` is kSourceProtocol.
  absl::StatusOr<std::string> Fetch(const Uri& uri, size_t most_bytes, const ReadPolicy& policy,
                                    Cancellation& cancellation);

 private:
  explicit HttpReader(HttpSettings settings)
      : settings_(std::move(settings)), budget_(settings_.options.connections) {}
  absl::Status Run(absl::Span<Exchange* const> exchanges, const ReadPolicy& policy,
                   Cancellation& cancellation);
  absl::StatusOr<ObjectVersion> Ask(const Uri& uri, bool ranged, const ReadPolicy& policy,
                                    Cancellation& cancellation);

  const HttpSettings settings_;
  ConnectionPool pool_;
  ConnectionBudget budget_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_READER_H_
