#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_DRIVER_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_DRIVER_H_

#include "absl/status/status.h"
#include "common/cancellation.h"
#include "daemon/source/http/http_connections.h"
#include "daemon/source/http/http_exchange.h"
#include "daemon/source/http/http_regulator.h"
#include "daemon/source/http/http_transfer.h"
#include "daemon/source/source.h"

namespace weightd::source {

// Carries out all of `exchanges`, as many at a time as `regulator` allows, on at most two threads
// (the caller's is one of them). Retries what can be retried; the first
// failure for good ends them all. Receives no faster than `regulator` allows. After the return no
// exchange is touched any more.
absl::Status RunExchanges(ExchangeQueue& exchanges, const HttpSettings& settings,
                          const ReadPolicy& policy, ConnectionPool& pool, Regulator& regulator,
                          Cancellation& cancellation);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_DRIVER_H_
