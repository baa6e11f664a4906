#include "daemon/source/http/http_reader.h"

#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/source/http/address_policy.h"
#include "daemon/source/http/http_exchange.h"
#include "daemon/source/http/http_piece.h"
#include "daemon/source/http/http_piece_queue.h"
#include "daemon/source/http/http_probe.h"
#include "daemon/source/http/proxy_choice.h"

namespace weightd::source {
namespace {

// At most; each takes one round trip.
constexpr int kQuestionsAtOnce = 8;

class ExchangeList final : public ExchangeQueue {
 public:
  // `exchanges` outlive it.
  explicit ExchangeList(absl::Span<Exchange* const> exchanges) : exchanges_(exchanges) {}

  Exchange* Next(int) override {
    const size_t index = next_++;
    return index < exchanges_.size() ? exchanges_[index] : nullptr;
  }
  bool single() const override { return exchanges_.size() == 1; }

 private:
  const absl::Span<Exchange* const> exchanges_;
  std::atomic<size_t> next_ = 0;
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

absl::StatusOr<std::vector<Answer>> HttpReader::AskChecksums(const ObjectVersion& object,
                                                             absl::Span<const std::string> queries,
                                                             const ReadPolicy& policy,
                                                             Cancellation& cancellation) {
  std::deque<ChecksumProbe> probes;
  std::vector<Exchange*> exchanges;
  if (queries.empty()) {
    return std::vector<Answer>();
  }
  for (const std::string& query : queries) {
    const char* const before = query.empty() ? "" : object.uri.query().empty() ? "?" : "&";
    ASSIGN_OR_RETURN(Uri uri, Uri::Parse(absl::StrCat(object.uri.ToString(), before, query)));
    exchanges.push_back(&probes.emplace_back(&object, std::move(uri)));
  }
  RETURN_IF_ERROR(Run(exchanges, policy, cancellation));
  std::vector<Answer> answers;
  answers.reserve(probes.size());
  for (const ChecksumProbe& probe : probes) {
    answers.push_back(probe.answer());
  }
  return answers;
}

absl::StatusOr<std::string> HttpReader::Fetch(const Uri& uri, size_t most_bytes,
                                              const ReadPolicy& policy,
                                              Cancellation& cancellation) {
  TextFetch fetch(uri, most_bytes);
  RETURN_IF_ERROR(Run({&fetch}, policy, cancellation));
  return fetch.TakeText();
}

absl::StatusOr<ObjectVersion> HttpReader::Ask(const Uri& uri, bool ranged, const ReadPolicy& policy,
                                              Cancellation& cancellation) {
  Probe probe(uri, ranged);
  RETURN_IF_ERROR(Run({&probe}, policy, cancellation));
  return probe.version();
}

absl::Status HttpReader::Run(absl::Span<Exchange* const> exchanges, const ReadPolicy& policy,
                             Cancellation& cancellation) {
  ExchangeList list(exchanges);
  // Questions are neither counted nor held back.
  ConnectionBudget few(std::min(kQuestionsAtOnce, static_cast<int>(exchanges.size())));
  Regulator regulator({}, &few, [] { return true; });
  return RunExchanges(list, settings_, policy, pool_, regulator, cancellation);
}

}  // namespace weightd::source
