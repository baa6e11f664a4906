#include "client/cli/watch/feed.h"

#include <sys/eventfd.h>

#include <memory>
#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "common/status.h"

namespace weightd::cli {
namespace {

constexpr absl::Duration kInterval = absl::Milliseconds(250);
// More than the largest screens have rows.
constexpr size_t kEventsKept = 200;

}  // namespace

Feed::Feed(client::AdminClient daemon, client::AdminClient::Options options)
    : options_(std::move(options)), news_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  thread_ = std::thread([this, daemon = std::move(daemon)]() mutable { Run(std::move(daemon)); });
}

Feed::~Feed() {
  end_.Cancel(Error(Reason::kCancelled, "nobody watches any more"));
  thread_.join();
}

WatchView Feed::Look() {
  eventfd_t count = 0;
  eventfd_read(news_.get(), &count);
  const absl::MutexLock lock(&mutex_);
  return view_;
}

void Feed::Run(client::AdminClient daemon) {
  std::optional<client::AdminClient> connected = std::move(daemon);
  while (!end_.cancelled()) {
    if (connected.has_value()) {
      Follow(*connected);
      connected.reset();
      end_.WaitFor(kInterval);
      continue;
    }
    auto again = client::AdminClient::Connect(options_);
    if (again.ok()) {
      connected = *std::move(again);
    } else {
      Lost(again.status());
      end_.WaitFor(kInterval);
    }
  }
}

void Feed::Follow(const client::AdminClient& daemon) {
  // A stream that ends is a daemon that ended, even if another answers already in its place.
  Cancellation over;
  const std::unique_ptr<client::EventStream> events = daemon.OpenEvents();
  std::thread reader([&] {
    v1::WatchEventsResponse event;
    while (events->Next(event)) {
      Add(event);
    }
    over.Cancel(Error(Reason::kDaemonUnreachable, "the events ended"));
  });
  const auto ended = end_.OnCancel([&] { over.Cancel(Error(Reason::kCancelled, "ended")); });
  while (!over.cancelled()) {
    if (const absl::Status asked = Ask(daemon); !asked.ok()) {
      Lost(asked);
      break;
    }
    over.WaitFor(kInterval);
  }
  events->Cancel();
  reader.join();
}

absl::Status Feed::Ask(const client::AdminClient& daemon) {
  ASSIGN_OR_RETURN(v1::GetStatusResponse status, daemon.GetStatus());
  ASSIGN_OR_RETURN(std::vector<v1::ModelSummary> models, daemon.ListModels());
  auto configured = daemon.ListConfiguredModels();
  // A daemon of an older version says nothing of these.
  if (!configured.ok() && configured.status().code() != absl::StatusCode::kUnimplemented) {
    return configured.status();
  }
  {
    const absl::MutexLock lock(&mutex_);
    Measure(models);
    view_.status = std::move(status);
    view_.models = std::move(models);
    view_.configured =
        configured.ok() ? *std::move(configured) : std::vector<v1::ConfiguredModel>();
    view_.answered_at = absl::Now();
    view_.trouble = absl::OkStatus();
    view_.trouble_since = absl::InfiniteFuture();
  }
  eventfd_write(news_.get(), 1);
  return absl::OkStatus();
}

void Feed::Measure(const std::vector<v1::ModelSummary>& models) {
  std::map<std::string, RateMeter> meters;
  view_.rates.clear();
  for (const v1::ModelSummary& model : models) {
    if (model.state() != v1::LOADING || model.progress().phase() != v1::TRANSFERRING) {
      continue;
    }
    RateMeter& meter = meters[model.model()] = std::move(meters_[model.model()]);
    meter.Add(absl::Now(), model.progress().bytes_done());
    view_.rates[model.model()] = meter.rate();
  }
  meters_ = std::move(meters);
}

void Feed::Add(v1::WatchEventsResponse event) {
  {
    const absl::MutexLock lock(&mutex_);
    view_.events.push_back(std::move(event));
    if (view_.events.size() > kEventsKept) {
      view_.events.pop_front();
    }
  }
  eventfd_write(news_.get(), 1);
}

void Feed::Lost(const absl::Status& why) {
  {
    const absl::MutexLock lock(&mutex_);
    if (view_.trouble.ok()) {
      view_.trouble_since = absl::Now();
    }
    view_.trouble = why;
  }
  eventfd_write(news_.get(), 1);
}

}  // namespace weightd::cli
