#include "daemon/source/http/http_transfer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/source/http/http_curl_options.h"

namespace weightd::source {
namespace {

constexpr int kMostRedirects = 5;
constexpr absl::string_view kHttpPrefix = "http://";
// A short answer that is not wanted is read to its end: it may say why, and its connection can
// serve the next request.
constexpr uint64_t kWorthReading = 16 << 10;

bool IsBody(int status) { return status == 200 || status == 206; }

}  // namespace

Transfer::Transfer(const HttpSettings* settings, const ReadPolicy& policy, Pace* pace,
                   const std::atomic<bool>* stopped, Cancellation* cancellation)
    : settings_(settings),
      policy_(policy),
      pace_(pace),
      stopped_(stopped),
      cancellation_(cancellation),
      handle_(curl_easy_init()) {}

Transfer::~Transfer() {
  curl_easy_cleanup(handle_);
  curl_slist_free_all(headers_);
}

absl::Status Transfer::Begin(Exchange* exchange) {
  exchange_ = exchange;
  only_libcurl_ = false;
  afresh_ = false;
  name_ = exchange->uri().Redacted();
  redirects_ = 0;
  redirect_.reset();
  ASSIGN_OR_RETURN(hop_, settings_->dialect->FirstHop(exchange->uri()));
  return Prepare();
}

absl::Status Transfer::Prepare() {
  // A name with its root's dot is the same host.
  const absl::string_view host = absl::StripSuffix(hop_.host, ".");
  const std::string& proxy = settings_->proxies.For(hop_.scheme, host);
  proxied_ = !proxy.empty();
  answer_ = Answer();
  head_done_ = false;
  head_bytes_ = 0;
  error_text_.clear();
  refused_ = false;
  opened_ = false;
  doubtful_ = false;
  held_back_ = false;
  moved_ = 0;
  verdict_ = absl::OkStatus();
  tls_detail_[0] = '\0';
  if (proxied_ && !policy_.any_address) {
    // The proxy connects, so the socket can't be checked: see ProxyChoice.
    const std::optional<IpAddress> literal = IpAddress::Parse(host);
    if (host == "localhost" || absl::EndsWith(host, ".localhost") ||
        (literal.has_value() && !MayConnect(*literal, settings_->allowed))) {
      return AddressRefused(name_);
    }
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> lines, HeaderLines());
  const size_t path = std::min(hop_.url.find('/', kHttpPrefix.size()), hop_.url.size());
  origin_ = hop_.url.substr(0, path);
  again_ = false;
  direct_ = GoesDirect();
  if (direct_) {
    request_ = absl::StrCat("GET ", path < hop_.url.size() ? hop_.url.substr(path) : "/",
                            " HTTP/1.1\r\nHost: ", origin_.substr(kHttpPrefix.size()),
                            "\r\nUser-Agent: ", kUserAgent,
                            "\r\nAccept: */*\r\nRange: bytes=", exchange_->Range(), "\r\n",
                            absl::StrJoin(lines, "\r\n"), "\r\n\r\n");
  } else {
    SetRequest(lines, proxy);
  }
  return absl::OkStatus();
}

// A request of ours is plain text: nothing in it may look like the end of a line.
bool Transfer::GoesDirect() const {
  return !only_libcurl_ && !afresh_ && origin_ != libcurls_origin_ && !proxied_ &&
         absl::StartsWith(hop_.url, kHttpPrefix) && hop_.user.empty() && hop_.password.empty() &&
         exchange_->has_place() && std::all_of(hop_.url.begin(), hop_.url.end(), [](char c) {
           return absl::ascii_isgraph(c);
         });
}

absl::StatusOr<std::vector<std::string>> Transfer::HeaderLines() {
  absl::StatusOr<Proof> proof =
      settings_->dialect->Headers(exchange_->uri(), hop_, exchange_->question(), *cancellation_);
  if (!proof.ok() && !policy_.any_path && !cancellation_->cancelled()) {
    // Why not may tell of this node's files and services, which are no client's business.
    return Error(ReasonOf(proof.status()),
                 absl::StrCat(name_, ": the store's credentials can't be had"),
                 "ask an operator, who sees why with weightctl preload");
  }
  ASSIGN_OR_RETURN(proof_, std::move(proof));
  std::vector<std::string> lines = proof_.lines;
  lines.push_back("Accept-Encoding: identity");
  if (const std::string etag = exchange_->IfMatch();
      !etag.empty() && settings_->dialect->pins_by_etag()) {
    lines.push_back(absl::StrCat("If-Match: ", etag));
  }
  for (const std::string& line : lines) {
    if (std::any_of(line.begin(), line.end(), absl::ascii_iscntrl)) {
      return Error(Reason::kSourceProtocol,
                   absl::StrCat(name_, ": its ETag can't be sent back: it has control characters"),
                   "look at the server, or at a proxy on the way to it");
    }
  }
  return lines;
}

bool Transfer::MayUse(const DirectConnection& connection) {
  const bool may = connection.origin() == origin_ && MayReach(connection.Peer());
  refused_ = false;
  return may;
}

std::optional<CURLcode> Transfer::Pump(DirectConnection& connection) {
  using State = DirectConnection::State;
  switch (connection.Drive(*this)) {
    case State::kGoesOn:
      return std::nullopt;
    case State::kEnded:
      return CURLE_OK;
    case State::kUnwanted:
      return CURLE_WRITE_ERROR;
    case State::kCutShort:
      return head_done_ ? CURLE_PARTIAL_FILE : CURLE_GOT_NOTHING;
    case State::kUnsuited:
      only_libcurl_ = true;
      if (IsBody(answer_.status)) {
        libcurls_origin_ = origin_;
      }
      break;
    case State::kUnseen:
      break;
  }
  again_ = true;
  return CURLE_OK;
}

bool Transfer::MayReach(const std::optional<IpAddress>& address) {
  if (policy_.any_address || proxied_ ||
      (address.has_value() && MayConnect(*address, settings_->allowed))) {
    return true;
  }
  refused_ = true;
  return false;
}

bool Transfer::TakeHeadLine(absl::string_view line) {
  moved_ += line.size();
  head_bytes_ += line.size();
  if (head_bytes_ > kMostHeadBytes) {
    verdict_ = HeadTooLong(name_);
    return false;
  }
  // What comes after the body (trailers) says nothing that counts.
  if (head_done_) {
    return true;
  }
  if (line == "\r\n" || line == "\n") {
    return answer_.status < 200 || TakeHead();
  }
  answer_.AddLine(line);
  return true;
}

// False: the body is neither wanted nor worth reading.
bool Transfer::TakeHead() {
  head_done_ = true;
  Amend();
  if (IsBody(answer_.status)) {
    doubtful_ = exchange_->MayBeAnothers(answer_) && OnKeptConnection();
    if (doubtful_) {
      return false;
    }
    verdict_ = exchange_->OnHead(answer_);
    if (verdict_.ok()) {
      return true;
    }
  }
  return answer_.content_length.value_or(0) <= kWorthReading;
}

void Transfer::Amend() {
  settings_->dialect->Amend(hop_, redirect_.has_value() ? &*redirect_ : nullptr, answer_);
}

bool Transfer::OnKeptConnection() const {
  long connects = 0;
  curl_easy_getinfo(handle_, CURLINFO_NUM_CONNECTS, &connects);
  return direct_ ? kept_connection_ : connects == 0;
}

bool Transfer::TakesBody() const { return head_done_ && IsBody(answer_.status) && verdict_.ok(); }

absl::Span<char> Transfer::Space() {
  if (!TakesBody()) {
    return {};
  }
  const absl::Span<std::byte> space = exchange_->Space();
  return {reinterpret_cast<char*>(space.data()), space.size()};
}

bool Transfer::Took(size_t bytes) {
  moved_ += bytes;
  pace_->Spend(bytes);
  return exchange_->Took(bytes) && !stopped_->load(std::memory_order_relaxed);
}

bool Transfer::TakeBody(absl::Span<const char> bytes) {
  moved_ += bytes.size();
  pace_->Spend(bytes.size());
  if (stopped_->load(std::memory_order_relaxed)) {
    return false;
  }
  if (!TakesBody()) {
    error_text_.append(bytes.data(), bytes.size());
    return error_text_.size() <= kWorthReading;
  }
  return exchange_->OnBody(bytes);
}

Transfer::End Transfer::Fail(HttpFailure failure) {
  failure_ = std::move(failure);
  return End::kFailed;
}

// Whoever may not have what lies there may not be led there, and whoever gets the bytes later is
// asked the same.
absl::Status Transfer::CheckRedirect(const Hop& next) {
  RETURN_IF_ERROR(settings_->dialect->MayFollow(exchange_->uri(), next));
  const absl::StatusOr<Uri> place = Uri::Parse(next.url);
  if (Trail* const trail = exchange_->trail()) {
    trail->Add(place.ok() ? std::optional(place->Redacted()) : std::nullopt);
  }
  if (!place.ok()) {
    return policy_.denied == nullptr ? absl::OkStatus() : NotAllowed();
  }
  return CheckPlaces({place->Redacted()}, policy_);
}

Transfer::End Transfer::Finish(CURLcode code) {
  // Of a name's several addresses one that may be reached is enough, also if it doesn't answer.
  if (refused_ && !opened_ && !head_done_) {
    return Fail({.status = AddressRefused(name_)});
  }
  if (!verdict_.ok()) {
    return Fail({.status = verdict_});
  }
  if (doubtful_) {
    afresh_ = true;
    return DriveOn();
  }
  // A transfer that we cut short ourselves ends with an error of libcurl's.
  if (head_done_ && IsBody(answer_.status)) {
    if (code == CURLE_OK) {
      exchange_->OnEnd();
    }
    if (exchange_->complete()) {
      return End::kDone;
    }
    return Fail(code == CURLE_OK || code == CURLE_PARTIAL_FILE
                    ? ShortBody(name_)
                    : FailureOfCurl(code, tls_detail_, name_));
  }
  if (head_done_ && answer_.IsRedirect() && settings_->dialect->follows_redirects()) {
    if (++redirects_ > kMostRedirects) {
      return Fail({.status = TooManyRedirects(name_)});
    }
    absl::StatusOr<Hop> next = NextHop(hop_, answer_.location, name_);
    if (!next.ok()) {
      return Fail({.status = next.status()});
    }
    if (absl::Status may = CheckRedirect(*next); !may.ok()) {
      return Fail({.status = std::move(may)});
    }
    hop_ = *std::move(next);
    redirect_ = answer_;
    return DriveOn();
  }
  if (head_done_) {
    return Fail(
        settings_->dialect->FailureOf(exchange_->uri(), proof_, answer_, error_text_, name_));
  }
  return Fail(FailureOfCurl(code, tls_detail_, name_));
}

Transfer::End Transfer::DriveOn() {
  const absl::Status prepared = Prepare();
  return prepared.ok() ? End::kDriveOn : Fail({.status = prepared});
}

}  // namespace weightd::source
