#include "daemon/source/http_source.h"

#include <curl/curl.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/source/address_policy.h"
#include "daemon/source/http_driver.h"
#include "daemon/source/http_exchange.h"
#include "daemon/source/http_piece.h"
#include "daemon/source/http_transfer.h"
#include "daemon/source/proxy_choice.h"

namespace weightd::source {
namespace {

class HttpSource final : public Source {
 public:
  explicit HttpSource(HttpSettings settings) : settings_(std::move(settings)) {}

  absl::StatusOr<ObjectVersion> Stat(const Uri& uri, const ReadPolicy& policy,
                                     Cancellation& cancellation) override {
    absl::StatusOr<ObjectVersion> version = Ask(uri, /*ranged=*/true, policy, cancellation);
    // How an empty object answers for its first byte: 416, which says nothing of its version.
    if (ReasonOf(version.status()) == Reason::kSourceChanged) {
      return Ask(uri, /*ranged=*/false, policy, cancellation);
    }
    return version;
  }

  absl::StatusOr<std::vector<std::string>> List(const Uri& folder, const ReadPolicy&,
                                                Cancellation&) override {
    return Error(Reason::kUnsupported,
                 absl::StrCat(folder.Redacted(), ": web servers don't list folders"),
                 "name one file, or put a model.safetensors.index.json beside the shards");
  }

  absl::Status Read(absl::Span<const ReadRequest> requests, const ReadPolicy& policy,
                    const ReadObserver& observer, Cancellation& cancellation) override {
    RETURN_IF_ERROR(cancellation.status());
    RETURN_IF_ERROR(CheckRanges(requests));
    ReadTally tally(requests, &observer);
    std::vector<Piece> pieces = CutPieces(requests, settings_.options.chunk_bytes);
    std::vector<PieceRead> reads;
    reads.reserve(pieces.size());
    std::vector<Exchange*> exchanges;
    exchanges.reserve(pieces.size());
    for (Piece& piece : pieces) {
      exchanges.push_back(&reads.emplace_back(&piece, &tally));
    }
    return RunExchanges(exchanges, settings_, policy, pool_, cancellation);
  }

 private:
  absl::StatusOr<ObjectVersion> Ask(const Uri& uri, bool ranged, const ReadPolicy& policy,
                                    Cancellation& cancellation) {
    Probe probe(uri, ranged);
    Exchange* const exchange = &probe;
    RETURN_IF_ERROR(RunExchanges({&exchange, 1}, settings_, policy, pool_, cancellation));
    return probe.version();
  }

  const HttpSettings settings_;
  ConnectionPool pool_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Source>> MakeHttpSource(HttpSourceOptions options) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (initialised != CURLE_OK) {
    return Error(Reason::kInternal, "libcurl can't be initialised");
  }
  if (options.connections < 1 || options.attempts < 1 || options.chunk_bytes < 1 ||
      options.stall_timeout <= absl::ZeroDuration()) {
    return Error(Reason::kInvalidArgument,
                 "connections, attempts, chunk and stall timeout of the HTTP source must be "
                 "positive");
  }
  ASSIGN_OR_RETURN(std::vector<Network> allowed, Network::ParseAll(options.allowed_networks));
  return std::make_unique<HttpSource>(
      HttpSettings{std::move(options), std::move(allowed), ProxyChoice::FromEnvironment()});
}

}  // namespace weightd::source
