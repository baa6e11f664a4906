#include "daemon/source/http/http_driver.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "daemon/source/http/http_pace.h"
#include "daemon/source/http/http_run.h"
#include "daemon/source/http/http_wire.h"
#include "daemon/source/http/retry_policy.h"
#include "daemon/source/traffic.h"

namespace weightd::source {
namespace {

// Slower than this on average over the stall time counts as stalled.
constexpr double kLeastBytesPerSecond = 1024;

using SteadyClock = std::chrono::steady_clock;

constexpr size_t kMostThreads = 2;
// A try that brought this much was no failure of the server's, and is not counted.
constexpr uint64_t kGoodProgress = 1 << 20;
// Of those used at first: enough for a long load on a bad day; see RetryBudget.
constexpr int kRetriesPerConnection = 5;
constexpr int kMostPollMilliseconds = 1000;
// How long to wait where nothing may be received for the moment: less than Allowance::step() lasts.
constexpr int kPaceMilliseconds = 4;

// One thread's exchanges. A slot is idle (no exchange), on the wire, or waits for its next try.
class Driver {
 public:
  // Driver number `index` of `count`; the first one ticks the run's regulator. All outlive it.
  Driver(Connections* connections, size_t index, size_t count, const HttpSettings* settings,
         const ReadPolicy& policy, Run* run, Cancellation* cancellation)
      : connections_(*connections),
        index_(index),
        count_(count),
        settings_(*settings),
        policy_(policy),
        run_(*run),
        cancellation_(*cancellation),
        pace_(&run->regulator().allowance()),
        traffic_(settings->options.traffic),
        stall_(absl::ToChronoNanoseconds(settings->options.stall_timeout)),
        least_(static_cast<uint64_t>(absl::ToDoubleSeconds(settings->options.stall_timeout) *
                                     kLeastBytesPerSecond) +
               1),
        random_(static_cast<uint32_t>(absl::GetCurrentTimeNanos())) {}

  void Drive() {
    while (!run_.stopped()) {
      StartSlots();
      const bool idle = std::all_of(slots_.begin(), slots_.end(),
                                    [](const auto& slot) { return slot->exchange == nullptr; });
      if (idle && run_.exhausted()) {
        break;
      }
      TickIfDue();
      RefillPace();
      int running = 0;
      curl_multi_perform(connections_.multi(), &running);
      if (!TakeEnds() && !run_.stopped()) {
        Wait();
      }
    }
    TellReceived();
    slots_.clear();
  }

 private:
  struct Slot {
    explicit Slot(Driver& driver)
        : wire(&driver.connections_, &driver.settings_, driver.policy_, &driver.pace_,
               &driver.run_.stopped(), &driver.cancellation_) {}

    Wire wire;
    Exchange* exchange = nullptr;
    FailedTries failed;
    uint64_t arrived_before = 0;
    // Of all slots, when the last try failed.
    uint64_t successes_before = 0;
    // When it counts as stalled, or, not on the wire, when it is tried again.
    SteadyClock::time_point due;
  };

  // This thread's part of the connections.
  size_t Allowed() const {
    return (static_cast<size_t>(run_.regulator().connections()) + count_ - 1 - index_) / count_;
  }

  void StartSlots() {
    const SteadyClock::time_point now = SteadyClock::now();
    const size_t allowed = Allowed();
    while (slots_.size() < allowed && !run_.exhausted()) {
      slots_.push_back(std::make_unique<Slot>(*this));
    }
    for (size_t i = 0; i < slots_.size(); ++i) {
      Slot& slot = *slots_[i];
      if (slot.exchange == nullptr && i < allowed) {
        slot.exchange = run_.Next();
        slot.failed = {};
        slot.due = now;
      }
      if (slot.exchange != nullptr && !slot.wire.busy() && slot.due <= now) {
        slot.arrived_before = slot.exchange->arrived();
        slot.due = now + stall_;
        if (absl::Status status = slot.wire.Begin(slot.exchange); !status.ok()) {
          Fail(status);
          return;
        }
      }
    }
  }

  void TellReceived() {
    const uint64_t bytes = pace_.received() - std::exchange(told_, pace_.received());
    run_.regulator().Received(bytes);
    if (traffic_ != nullptr && bytes > 0) {
      traffic_->Received(bytes);
    }
  }

  void Fail(const absl::Status& status) {
    if (traffic_ != nullptr) {
      traffic_->Ended(status);
    }
    run_.Fail(status);
  }

  void TickIfDue() {
    TellReceived();
    Regulator& regulator = run_.regulator();
    const SteadyClock::time_point now = SteadyClock::now();
    if (ticks() && now >= next_tick_) {
      next_tick_ = now + Regulator::kTick;
      if (regulator.Tick()) {
        run_.WakeAll();
      }
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
    curl_multi_poll(connections_.multi(), sockets.data(), static_cast<unsigned>(sockets.size()),
                    held_back ? kPaceMilliseconds : MillisecondsToNext(), nullptr);
  }

  // True if any try ended or got its connection.
  bool TakeEnds() {
    bool any = false;
    int left = 0;
    while (const CURLMsg* const message = curl_multi_info_read(connections_.multi(), &left)) {
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
    if (!code.has_value() || run_.stopped()) {
      return false;
    }
    switch (slot.wire.Finish(*code)) {
      case Transfer::End::kDriveOn:
        slot.due = SteadyClock::now() + stall_;
        break;
      case Transfer::End::kDone:
        slot.exchange = nullptr;
        run_.retries().Succeeded();
        if (traffic_ != nullptr) {
          traffic_->Ended(absl::OkStatus());
        }
        break;
      case Transfer::End::kFailed:
        TryAgain(slot);
    }
    return true;
  }

  void TryAgain(Slot& slot) {
    const HttpFailure& failure = slot.wire.failure();
    if (!failure.passing) {
      Fail(failure.status);
      return;
    }
    const uint64_t successes = run_.retries().successes();
    slot.failed.Add(slot.exchange->arrived() - slot.arrived_before >= kGoodProgress,
                    successes > std::exchange(slot.successes_before, successes));
    if (slot.wire.AskedTooMuch()) {
      run_.regulator().Refused();
    }
    const std::optional<absl::Duration> wait =
        NextTry(slot.failed, settings_.options.attempts, failure.wait,
                std::uniform_real_distribution<double>(0, 1)(random_));
    if (!wait.has_value() || !run_.retries().Take()) {
      Fail(
          Annotate(failure.status, absl::StrCat("gave up after ", slot.failed.in_a_row, " tries")));
      return;
    }
    if (traffic_ != nullptr) {
      traffic_->TriesAgain(failure.retry);
    }
    slot.due = SteadyClock::now() + absl::ToChronoNanoseconds(*wait);
  }

  int MillisecondsToNext() const {
    SteadyClock::duration wait = std::chrono::milliseconds(kMostPollMilliseconds);
    const SteadyClock::time_point now = SteadyClock::now();
    if (ticks()) {
      wait = std::clamp(next_tick_ - now, SteadyClock::duration::zero(), wait);
    }
    for (const auto& slot : slots_) {
      // Not every byte wakes, but all are counted at the next tick.
      if (slot->wire.driven()) {
        wait = std::min<SteadyClock::duration>(wait, Regulator::kTick);
      }
      if (slot->exchange != nullptr) {
        wait = std::min(wait, std::max(slot->due - now, SteadyClock::duration::zero()));
      }
    }
    // Up, not down: a wait cut to 0 would spin until the time has come.
    return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(wait).count());
  }

  bool ticks() const { return index_ == 0; }

  Connections& connections_;
  const size_t index_;
  const size_t count_;
  const HttpSettings& settings_;
  const ReadPolicy policy_;
  Run& run_;
  Cancellation& cancellation_;
  Pace pace_;
  Traffic* const traffic_;
  const SteadyClock::duration stall_;
  // Bytes that a transfer must bring in that time: a server that sends one now and then would hold
  // a load for ever.
  const uint64_t least_;
  std::minstd_rand random_;
  // Only ever more: those beyond what is allowed come to rest.
  std::vector<std::unique_ptr<Slot>> slots_;
  size_t turn_ = 0;
  // At the last refill.
  SteadyClock::time_point refilled_;
  bool held_back_ = false;
  SteadyClock::time_point next_tick_ = SteadyClock::now() + Regulator::kTick;
  // Of the bytes received, what others know.
  uint64_t told_ = 0;
};

}  // namespace

absl::Status RunExchanges(ExchangeQueue& exchanges, const HttpSettings& settings,
                          const ReadPolicy& policy, ConnectionPool& pool, Regulator& regulator,
                          Cancellation& cancellation) {
  const int most = settings.options.connections;
  const size_t threads = exchanges.single() || most == 1 ? 1 : kMostThreads;
  // A background read may begin with one connection.
  const int first = std::max(regulator.connections(), ConnectionCount::kFirst);
  Run run(&exchanges, &regulator, kRetriesPerConnection * first);
  std::vector<std::unique_ptr<Connections>> kept;
  std::vector<std::unique_ptr<Driver>> drivers;
  for (size_t i = 0; i < threads; ++i) {
    kept.push_back(pool.Take());
    run.AddMulti(kept.back()->multi());
    curl_multi_setopt(kept.back()->multi(), CURLMOPT_MAXCONNECTS, static_cast<long>(most));
    drivers.push_back(std::make_unique<Driver>(kept.back().get(), i, threads, &settings, policy,
                                               &run, &cancellation));
  }
  {
    const Cancellation::Registration registration = cancellation.OnCancel([&run] { run.Stop(); });
    std::vector<std::thread> others;
    for (size_t i = 1; i < threads; ++i) {
      others.emplace_back([driver = drivers[i].get()] { driver->Drive(); });
    }
    drivers[0]->Drive();
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
  return run.status();
}

}  // namespace weightd::source
