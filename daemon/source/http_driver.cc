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
#include "daemon/source/http_wire.h"
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
// How long to wait where nothing may be received for the moment: less than Allowance::step() lasts.
constexpr int kPaceMilliseconds = 4;

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

// One thread's exchanges. A slot is idle (no exchange), on the wire, or waits for its next try.
class Driver {
 public:
  // One of a read's drivers `ticks` its regulator.
  Driver(Connections& connections, size_t slots, bool ticks, const HttpSettings& settings,
         const ReadPolicy& policy, Regulator& regulator, Shared& shared, Cancellation& cancellation)
      : multi_(connections.multi()),
        pace_(&regulator.allowance()),
        regulator_(regulator),
        ticks_(ticks),
        settings_(settings),
        stall_(absl::ToChronoNanoseconds(settings.options.stall_timeout)),
        least_(static_cast<uint64_t>(absl::ToDoubleSeconds(settings.options.stall_timeout) *
                                     kLeastBytesPerSecond) +
               1),
        shared_(shared),
        random_(static_cast<uint32_t>(absl::GetCurrentTimeNanos())) {
    for (size_t i = 0; i < slots; ++i) {
      slots_.push_back(
          std::make_unique<Slot>(connections, settings, policy, pace_, shared, cancellation));
    }
  }

  void Run() {
    while (!shared_.stopped()) {
      StartSlots();
      if (std::all_of(slots_.begin(), slots_.end(),
                      [](const auto& slot) { return slot->exchange == nullptr; })) {
        break;
      }
      TickIfDue();
      RefillPace();
      int running = 0;
      curl_multi_perform(multi_, &running);
      if (!TakeEnds() && !shared_.stopped()) {
        Wait();
      }
    }
    slots_.clear();
  }

 private:
  struct Slot {
    Slot(Connections& connections, const HttpSettings& settings, const ReadPolicy& policy,
         Pace& pace, Shared& shared, Cancellation& cancellation)
        : wire(&connections, &settings, policy, &pace, &shared.stopped(), &cancellation) {}

    Wire wire;
    Exchange* exchange = nullptr;
    int failed_tries = 0;
    uint64_t arrived_before = 0;
    // Of all slots, when the last try failed.
    uint64_t successes_before = 0;
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
      if (slot->exchange != nullptr && !slot->wire.busy() && slot->due <= now) {
        slot->arrived_before = slot->exchange->arrived();
        slot->due = now + stall_;
        if (absl::Status status = slot->wire.Begin(slot->exchange); !status.ok()) {
          shared_.Fail(status);
          return;
        }
      }
    }
  }

  void TickIfDue() {
    const SteadyClock::time_point now = SteadyClock::now();
    if (ticks_ && now >= next_tick_) {
      next_tick_ = now + Regulator::kTick;
      regulator_.Tick();
    }
  }

  // Time in which nothing may be received is not the servers': it doesn't count against them.
  void RefillPace() {
    pace_.Refill();
    const SteadyClock::time_point now = SteadyClock::now();
    const SteadyClock::duration since = now - std::exchange(refilled_, now);
    if (std::exchange(held_back_, pace_.left() == 0)) {
      for (const auto& slot : slots_) {
        slot->due += slot->wire.busy() ? since : SteadyClock::duration::zero();
      }
    }
  }

  void Wait() {
    const bool held_back = pace_.left() == 0;
    std::vector<curl_waitfd> sockets;
    for (const auto& slot : slots_) {
      if (slot->wire.driven() && !held_back) {
        sockets.push_back(slot->wire.WaitFor());
      }
    }
    curl_multi_poll(multi_, sockets.data(), static_cast<unsigned>(sockets.size()),
                    held_back ? kPaceMilliseconds : MillisecondsToNext(), nullptr);
  }

  // True if any try ended or got its connection.
  bool TakeEnds() {
    bool any = false;
    int left = 0;
    while (const CURLMsg* const message = curl_multi_info_read(multi_, &left)) {
      const CURLcode code = message->data.result;
      const auto told = std::find_if(slots_.begin(), slots_.end(), [&](const auto& slot) {
        return slot->wire.Is(message->easy_handle);
      });
      if (told != slots_.end()) {
        EndIf(**told, (*told)->wire.Answered(code));
        any = true;
      }
    }
    any = Pump() || any;
    return EndStalled() || any;
  }

  // Each time from another slot on: what little may be received is not always the first one's.
  bool Pump() {
    bool any = false;
    ++turn_;
    for (size_t i = 0; i < slots_.size(); ++i) {
      Slot& slot = *slots_[(turn_ + i) % slots_.size()];
      if (slot.wire.driven()) {
        any = EndIf(slot, slot.wire.Pump()) || any;
      } else if (pace_.left() > 0) {
        any = EndIf(slot, slot.wire.Resume()) || any;
      }
    }
    return any;
  }

  bool EndStalled() {
    bool any = false;
    const SteadyClock::time_point now = SteadyClock::now();
    for (const auto& slot : slots_) {
      if (slot->wire.busy() && slot->wire.TakeMoved(least_)) {
        slot->due = now + stall_;
      } else if (slot->wire.busy() && slot->due <= now) {
        any = EndIf(*slot, CURLE_OPERATION_TIMEDOUT);
      }
    }
    return any;
  }

  // True if there is a code to end with.
  bool EndIf(Slot& slot, std::optional<CURLcode> code) {
    if (!code.has_value() || shared_.stopped()) {
      return false;
    }
    switch (slot.wire.Finish(*code)) {
      case Transfer::End::kNextHop:
        slot.due = SteadyClock::now() + stall_;
        break;
      case Transfer::End::kDone:
        slot.exchange = nullptr;
        shared_.budget().Succeeded();
        break;
      case Transfer::End::kFailed:
        TryAgain(slot);
    }
    return true;
  }

  void TryAgain(Slot& slot) {
    const HttpFailure& failure = slot.wire.failure();
    if (!failure.passing) {
      shared_.Fail(failure.status);
      return;
    }
    const uint64_t successes = shared_.budget().successes();
    // A server that serves others meanwhile is busy, not down.
    if (slot.exchange->arrived() - slot.arrived_before >= kGoodProgress ||
        successes > slot.successes_before) {
      slot.failed_tries = 0;
    }
    slot.successes_before = successes;
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
    if (ticks_) {
      wait = std::clamp(next_tick_ - now, SteadyClock::duration::zero(), wait);
    }
    for (const auto& slot : slots_) {
      if (slot->exchange != nullptr) {
        wait = std::min(wait, std::max(slot->due - now, SteadyClock::duration::zero()));
      }
    }
    // Up, not down: a wait cut to 0 would spin until the time has come.
    return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(wait).count());
  }

  CURLM* const multi_;
  // Before the slots, which use it.
  Pace pace_;
  Regulator& regulator_;
  const bool ticks_;
  SteadyClock::time_point next_tick_;
  const HttpSettings& settings_;
  const SteadyClock::duration stall_;
  // Bytes that a transfer must bring in that time: a server that sends one now and then would hold
  // a load for ever.
  const uint64_t least_;
  Shared& shared_;
  std::minstd_rand random_;
  std::vector<std::unique_ptr<Slot>> slots_;
  size_t turn_ = 0;
  // At the last refill.
  SteadyClock::time_point refilled_;
  bool held_back_ = false;
};

}  // namespace

absl::Status RunExchanges(absl::Span<Exchange* const> exchanges, const HttpSettings& settings,
                          const ReadPolicy& policy, ConnectionPool& pool, Regulator& regulator,
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
    drivers.push_back(std::make_unique<Driver>(*kept.back(), slots, /*ticks=*/i == 0, settings,
                                               policy, regulator, shared, cancellation));
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
