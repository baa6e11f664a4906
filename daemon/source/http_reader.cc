#include "daemon/source/http_reader.h"

#include <curl/curl.h>

#include <utility>
#include <vector>

#include "common/status.h"
#include "daemon/source/address_policy.h"
#include "daemon/source/http_exchange.h"
#include "daemon/source/http_piece.h"
#include "daemon/source/http_piece_queue.h"
#include "daemon/source/proxy_choice.h"

namespace weightd::source {
namespace {

class OneExchange final : public ExchangeQueue {
 public:
  explicit OneExchange(Exchange* exchange) : exchange_(exchange) {}

  Exchange* Next(int) override { return std::exchange(exchange_, nullptr); }
  bool single() const override { return true; }

 private:
  Exchange* exchange_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpReader>> HttpReader::Make(HttpSourceOptions options,
                                                             std::shared_ptr<HttpDialect> dialect) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (initialised != CURLE_OK) {
    return Error(Reason::kInternal, "libcurl can't be initialised");
  }
  if (options.connections < 1 || options.attempts < 1 || options.chunk_bytes < 1 ||
      options.stall_timeout <= absl::ZeroDuration()) {
    return Error(Reason::kInvalidArgument,
                 "connections, attempts, chunk and stall timeout of an HTTP source must be "
                 "positive");
  }
  ASSIGN_OR_RETURN(std::vector<Network> allowed, Network::ParseAll(options.allowed_networks));
  return std::unique_ptr<HttpReader>(new HttpReader(HttpSettings{
      std::move(options), std::move(allowed), ProxyChoice::FromEnvironment(), std::move(dialect)}));
}

absl::StatusOr<ObjectVersion> HttpReader::Stat(const Uri& uri, const ReadPolicy& policy,
                                               Cancellation& cancellation) {
  absl::StatusOr<ObjectVersion> version = Ask(uri, /*ranged=*/true, policy, cancellation);
  // How an empty object answers for its first byte: 416, which says nothing of its version.
  if (ReasonOf(version.status()) == Reason::kSourceChanged) {
    return Ask(uri, /*ranged=*/false, policy, cancellation);
  }
  return version;
}

absl::Status HttpReader::Read(absl::Span<const ReadRequest> requests, const ReadPolicy& policy,
                              const ReadObserver& observer, Cancellation& cancellation) {
  RETURN_IF_ERROR(cancellation.status());
  RETURN_IF_ERROR(CheckRanges(requests));
  ReadTally tally(requests, &observer);
  PieceQueue pieces(requests, settings_.options.chunk_bytes, &tally);
  Regulator regulator(settings_.options.limits, &budget_, observer.awaited);
  return RunExchanges(pieces, settings_, policy, pool_, regulator, cancellation);
}

absl::StatusOr<std::string> HttpReader::Fetch(const Uri& uri, size_t most_bytes,
                                              const ReadPolicy& policy,
                                              Cancellation& cancellation) {
  TextFetch fetch(uri, most_bytes);
  RETURN_IF_ERROR(Run(fetch, policy, cancellation));
  return fetch.TakeText();
}

absl::StatusOr<ObjectVersion> HttpReader::Ask(const Uri& uri, bool ranged, const ReadPolicy& policy,
                                              Cancellation& cancellation) {
  Probe probe(uri, ranged);
  RETURN_IF_ERROR(Run(probe, policy, cancellation));
  return probe.version();
}

absl::Status HttpReader::Run(Exchange& exchange, const ReadPolicy& policy,
                             Cancellation& cancellation) {
  OneExchange only(&exchange);
  // A question is neither counted nor held back.
  ConnectionBudget one(1);
  Regulator regulator({}, &one, [] { return true; });
  return RunExchanges(only, settings_, policy, pool_, regulator, cancellation);
}

}  // namespace weightd::source
