#include "daemon/source/http_driver.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "daemon/source/retry_policy.h"

namespace weightd::source {
namespace {

// Slower than this on average over the stall time counts as stalled.
constexpr double kLeastBytesPerSecond = 1024;

using SteadyClock = std::chrono::steady_clock;

constexpr size_t kMostThreads = 2;
// A try that brought this much was no failure of the server's, and is not counted.
constexpr uint64_t kGoodProgress = 1 << 20;
// Enough for a long load on a bad day; see RetryBudget.
constexpr int kRetriesPerConnection = 5;
constexpr int kMostPollMilliseconds = 1000;

struct CurlCleanup {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
using CurlHandle = std::unique_ptr<CURL, CurlCleanup>;

// What the threads of one RunExchanges share.
class Shared {
 public:
  Shared(absl::Span<Exchange* const> exchanges, int retries)
      : budget_(retries), exchanges_(exchanges) {}

  // Before the first thread starts.
  void AddMulti(CURLM* multi) { multis_.push_back(multi); }

  // The next one to carry out; null if there is none.
  Exchange* Next() {
    const size_t index = next_++;
    return index < exchanges_.size() ? exchanges_[index] : nullptr;
  }

  void Fail(const absl::Status& status) {
    {
      absl::MutexLock lock(&mutex_);
      status_.Update(status);
    }
    Stop();
  }

  // Also from a thread that drives nothing.
  void Stop() {
    stopped_ = true;
    for (CURLM* const multi : multis_) {
      curl_multi_wakeup(multi);
    }
  }

  const std::atomic<bool>& stopped() const { return stopped_; }
  RetryBudget& budget() { return budget_; }
  absl::Status status() const {
    absl::MutexLock lock(&mutex_);
    return status_;
  }

 private:
  RetryBudget budget_;
  const absl::Span<Exchange* const> exchanges_;
  std::vector<CURLM*> multis_;
  std::atomic<size_t> next_ = 0;
  std::atomic<bool> stopped_ = false;
  mutable absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

// One thread's transfers. A slot is idle (no exchange), on the wire, or waits for its next try.
class Driver {
 public:
  Driver(Connections& connections, size_t slots, const HttpSettings& settings,
         const ReadPolicy& policy, Shared& shared, Cancellation& cancellation)
      : connections_(connections),
        multi_(connections.multi()),
        settings_(settings),
        stall_(absl::ToChronoNanoseconds(settings.options.stall_timeout)),
        least_(static_cast<uint64_t>(absl::ToDoubleSeconds(settings.options.stall_timeout) *
                                     kLeastBytesPerSecond) +
               1),
        shared_(shared),
        random_(static_cast<uint32_t>(absl::GetCurrentTimeNanos())) {
    for (size_t i = 0; i < slots; ++i) {
      slots_.push_back(std::make_unique<Slot>(&settings, policy, &shared.stopped(), &cancellation));
    }
  }

  void Run() {
    while (!shared_.stopped()) {
      StartSlots();
      if (std::all_of(slots_.begin(), slots_.end(),
                      [](const auto& slot) { return slot->exchange == nullptr; })) {
        break;
      }
      int running = 0;
      curl_multi_perform(multi_, &running);
      if (!TakeEnds() && !shared_.stopped()) {
        Wait();
      }
    }
    for (const auto& slot : slots_) {
      TakeOff(*slot);
      Disconnect(*slot);
    }
  }

 private:
  struct Slot {
    Slot(const HttpSettings* settings, const ReadPolicy& policy, const std::atomic<bool>* stopped,
         Cancellation* cancellation)
        : transfer(settings, policy, stopped, cancellation) {}

    Transfer transfer;
    Exchange* exchange = nullptr;
    bool on_wire = false;
    // Of tries that are direct: first a handle in the multi handle that connects, then what it
    // made.
    CurlHandle connector;
    std::unique_ptr<DirectConnection> connection;
    int failed_tries = 0;
    uint64_t arrived_before = 0;
    // When it counts as stalled, or, not on the wire, when it is tried again.
    SteadyClock::time_point due;
  };

  void StartSlots() {
    const SteadyClock::time_point now = SteadyClock::now();
    for (const auto& slot : slots_) {
      if (slot->exchange == nullptr) {
        slot->exchange = shared_.Next();
        slot->failed_tries = 0;
        slot->due = now;
      }
      if (slot->exchange != nullptr && !slot->on_wire && slot->due <= now) {
        slot->arrived_before = slot->exchange->arrived();
        if (absl::Status status = slot->transfer.Begin(slot->exchange); !status.ok()) {
          shared_.Fail(status);
          return;
        }
        PutOn(*slot);
      }
    }
  }

  void PutOn(Slot& slot) {
    Transfer& transfer = slot.transfer;
    slot.on_wire = true;
    slot.due = SteadyClock::now() + stall_;
    if (!transfer.direct()) {
      curl_multi_add_handle(multi_, transfer.handle());
      return;
    }
    if (slot.connection != nullptr &&
        !(slot.connection->origin() == transfer.origin() && slot.connection->reusable())) {
      Disconnect(slot);
    }
    if (slot.connection == nullptr) {
      slot.connection = connections_.Take(
          [&transfer](const DirectConnection& kept) { return transfer.MayUse(kept); });
    }
    if (slot.connection != nullptr) {
      transfer.SendOver(*slot.connection);
      return;
    }
    slot.connector.reset(curl_easy_init());
    transfer.PrepareConnect(slot.connector.get());
    curl_multi_add_handle(multi_, slot.connector.get());
  }

  void TakeOff(Slot& slot) {
    if (!std::exchange(slot.on_wire, false)) {
      return;
    }
    if (!slot.transfer.direct()) {
      curl_multi_remove_handle(multi_, slot.transfer.handle());
    }
    DropConnector(slot);
    if (slot.connection != nullptr && !slot.connection->reusable()) {
      Disconnect(slot);
    }
  }

  // libcurl closes what it connected.
  void DropConnector(Slot& slot) {
    if (slot.connector != nullptr) {
      curl_multi_remove_handle(multi_, slot.connector.get());
      slot.connector.reset();
    }
  }

  void Disconnect(Slot& slot) {
    if (slot.connection != nullptr) {
      connections_.GiveBack(std::move(slot.connection));
    }
  }

  // Whether the slot's exchange is ours to drive.
  static bool Driven(const Slot& slot) {
    return slot.on_wire && slot.transfer.direct() && slot.connection != nullptr;
  }

  // Drives the exchanges that libcurl doesn't. True if any ended.
  bool Pump() {
    bool any = false;
    for (const auto& slot : slots_) {
      Transfer& transfer = slot->transfer;
      if (!Driven(*slot)) {
        continue;
      }
      const std::optional<CURLcode> code = transfer.Pump(*slot->connection);
      if (code.has_value() && transfer.again()) {
        Repeat(*slot);
        any = true;
      } else if (code.has_value()) {
        End(*slot, *code);
        any = true;
      }
    }
    return any;
  }

  void Repeat(Slot& slot) {
    TakeOff(slot);
    Disconnect(slot);
    if (absl::Status status = slot.transfer.Repeat(); !status.ok()) {
      shared_.Fail(status);
      return;
    }
    PutOn(slot);
  }

  void Wait() {
    std::vector<curl_waitfd> sockets;
    for (const auto& slot : slots_) {
      if (Driven(*slot)) {
        sockets.push_back(slot->connection->WaitFor());
      }
    }
    curl_multi_poll(multi_, sockets.data(), static_cast<unsigned>(sockets.size()),
                    MillisecondsToNext(), nullptr);
  }

  // True if any transfer ended.
  bool TakeEnds() {
    bool any = false;
    int left = 0;
    while (const CURLMsg* const message = curl_multi_info_read(multi_, &left)) {
      const CURLcode code = message->data.result;
      for (const auto& slot : slots_) {
        if (slot->on_wire && HandleOf(*slot) == message->easy_handle) {
          Answered(*slot, code);
          any = true;
          break;
        }
      }
    }
    any = Pump() || any;
    const SteadyClock::time_point now = SteadyClock::now();
    for (const auto& slot : slots_) {
      if (slot->on_wire && slot->transfer.TakeMoved(least_)) {
        slot->due = now + stall_;
      } else if (slot->on_wire && slot->due <= now) {
        End(*slot, CURLE_OPERATION_TIMEDOUT);
        any = true;
      }
    }
    return any;
  }

  static CURL* HandleOf(Slot& slot) {
    return slot.transfer.direct() ? slot.connector.get() : slot.transfer.handle();
  }

  // What libcurl says: that a transfer ended, or that a connection was made.
  void Answered(Slot& slot, CURLcode code) {
    Transfer& transfer = slot.transfer;
    if (!transfer.direct() || code != CURLE_OK) {
      End(slot, code);
      return;
    }
    slot.connection = DirectConnection::From(slot.connector.get(), transfer.origin());
    DropConnector(slot);
    if (slot.connection == nullptr) {
      End(slot, CURLE_COULDNT_CONNECT);
      return;
    }
    transfer.SendOver(*slot.connection);
  }

  void End(Slot& slot, CURLcode code) {
    TakeOff(slot);
    if (shared_.stopped()) {
      return;
    }
    switch (slot.transfer.Finish(code)) {
      case Transfer::End::kNextHop:
        PutOn(slot);
        return;
      case Transfer::End::kDone:
        slot.exchange = nullptr;
        shared_.budget().Succeeded();
        return;
      case Transfer::End::kFailed:
        TryAgain(slot);
    }
  }

  void TryAgain(Slot& slot) {
    const HttpFailure& failure = slot.transfer.failure();
    if (!failure.passing) {
      shared_.Fail(failure.status);
      return;
    }
    if (slot.exchange->arrived() - slot.arrived_before >= kGoodProgress) {
      slot.failed_tries = 0;
    }
    ++slot.failed_tries;
    const std::optional<absl::Duration> wait =
        NextTry(slot.failed_tries, settings_.options.attempts, failure.wait,
                std::uniform_real_distribution<double>(0, 1)(random_));
    if (!wait.has_value() || !shared_.budget().Take()) {
      shared_.Fail(
          Annotate(failure.status, absl::StrCat("gave up after ", slot.failed_tries, " tries")));
      return;
    }
    slot.due = SteadyClock::now() + absl::ToChronoNanoseconds(*wait);
  }

  int MillisecondsToNext() const {
    SteadyClock::duration wait = std::chrono::milliseconds(kMostPollMilliseconds);
    const SteadyClock::time_point now = SteadyClock::now();
    for (const auto& slot : slots_) {
      if (slot->exchange != nullptr) {
        wait = std::min(wait, std::max(slot->due - now, SteadyClock::duration::zero()));
      }
    }
    // Up, not down: a wait cut to 0 would spin until the time has come.
    return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(wait).count());
  }

  Connections& connections_;
  CURLM* const multi_;
  const HttpSettings& settings_;
  const SteadyClock::duration stall_;
  // Bytes that a transfer must bring in that time: a server that sends one now and then would hold
  // a load for ever.
  const uint64_t least_;
  Shared& shared_;
  std::minstd_rand random_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace

absl::Status RunExchanges(absl::Span<Exchange* const> exchanges, const HttpSettings& settings,
                          const ReadPolicy& policy, ConnectionPool& pool,
                          Cancellation& cancellation) {
  const size_t connections =
      std::min(static_cast<size_t>(settings.options.connections), exchanges.size());
  const size_t threads = std::min(kMostThreads, connections);
  Shared shared(exchanges, kRetriesPerConnection * settings.options.connections);
  std::vector<std::unique_ptr<Connections>> kept;
  std::vector<std::unique_ptr<Driver>> drivers;
  for (size_t i = 0; i < threads; ++i) {
    kept.push_back(pool.Take());
    shared.AddMulti(kept.back()->multi());
    const size_t slots = (connections + i) / threads;
    curl_multi_setopt(kept.back()->multi(), CURLMOPT_MAXCONNECTS,
                      static_cast<long>(settings.options.connections));
    drivers.push_back(
        std::make_unique<Driver>(*kept.back(), slots, settings, policy, shared, cancellation));
  }
  {
    const Cancellation::Registration registration =
        cancellation.OnCancel([&shared] { shared.Stop(); });
    std::vector<std::thread> others;
    for (size_t i = 1; i < threads; ++i) {
      others.emplace_back([driver = drivers[i].get()] { driver->Run(); });
    }
    if (threads > 0) {
      drivers[0]->Run();
    }
    for (std::thread& other : others) {
      other.join();
    }
  }
  // Handles leave their multi handle before that is used by others.
  drivers.clear();
  for (std::unique_ptr<Connections>& connections : kept) {
    pool.GiveBack(std::move(connections));
  }
  RETURN_IF_ERROR(cancellation.status());
  return shared.status();
}

}  // namespace weightd::source
