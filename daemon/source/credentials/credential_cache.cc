#include "daemon/source/credentials/credential_cache.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/status.h"

namespace weightd::source {
namespace {

constexpr absl::Duration kAhead = absl::Minutes(5);
constexpr absl::Duration kTooLate = absl::Seconds(30);
constexpr absl::Duration kPause = absl::Seconds(30);
constexpr absl::Duration kPauseWithout = absl::Seconds(1);
constexpr absl::Duration kLookAgain = absl::Minutes(1);

// Lock order: a cancellation's, then ours. So no cancellation is asked while ours is held.
class CachingProvider final : public CredentialProvider {
 public:
  CachingProvider(std::unique_ptr<CredentialSource> source, std::function<absl::Time()> clock)
      : clock_(std::move(clock)), source_(std::move(source)) {}

  ~CachingProvider() override {
    stop_.Cancel(Error(Reason::kShuttingDown, "the daemon ends"));
    std::thread fetcher;
    {
      absl::MutexLock lock(&mutex_);
      fetcher = std::move(fetcher_);
    }
    if (fetcher.joinable()) {
      fetcher.join();
    }
  }

  absl::StatusOr<std::optional<Credentials>> Get(Cancellation& cancellation) override {
    RETURN_IF_ERROR(cancellation.status());
    std::shared_ptr<const Held> held;
    {
      absl::MutexLock lock(&mutex_);
      held = held_;
    }
    const bool outdated = held != nullptr && held->Outdated();
    {
      absl::MutexLock lock(&mutex_);
      if (outdated && held == held_) {
        refresh_from_ = wait_from_ = absl::InfinitePast();
      }
      if (std::optional<Result> result = Look(); result.has_value()) {
        return *std::move(result);
      }
    }
    return Wait(cancellation);
  }

  void Invalidate(const Credentials& used) override {
    absl::MutexLock lock(&mutex_);
    if (held_ == nullptr || !held_->fetched.has_value() ||
        !SameKeys(held_->fetched->credentials, used)) {
      return;
    }
    held_ = nullptr;
    not_before_ = absl::InfinitePast();
  }

 private:
  using Result = absl::StatusOr<std::optional<Credentials>>;

  // Never changed once it is held.
  struct Held {
    // Nothing: no place is configured.
    std::optional<FetchedCredentials> fetched;

    bool Outdated() const {
      return fetched.has_value() &&
             std::any_of(fetched->files.begin(), fetched->files.end(),
                         [](const FileStamp& file) { return file.Changed(); });
    }
    absl::Time expires() const {
      return fetched.has_value() ? fetched->credentials.expires : absl::InfiniteFuture();
    }
  };

  // What Get gives, or nothing if that depends on the fetch that runs, which this begins if it is
  // time.
  std::optional<Result> Look() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::Time now = clock_();
    const bool usable = held_ != nullptr && now < held_->expires();
    if (!fetching_ && now >= not_before_ && (!usable || now >= refresh_from_)) {
      BeginFetch();
    }
    if (fetching_ && (!usable || now >= wait_from_)) {
      return std::nullopt;
    }
    if (!usable) {
      return Result(failure_);
    }
    return Result(held_->fetched.has_value() ? std::make_optional(held_->fetched->credentials)
                                             : std::nullopt);
  }

  Result Wait(Cancellation& cancellation) {
    bool cancelled = false;
    // Unregistered after the lock is given back: see the order of locks.
    const Cancellation::Registration registration = cancellation.OnCancel([this, &cancelled] {
      absl::MutexLock lock(&mutex_);
      cancelled = true;
      changed_.SignalAll();
    });
    {
      absl::MutexLock lock(&mutex_);
      while (!cancelled) {
        if (std::optional<Result> result = Look(); result.has_value()) {
          return *std::move(result);
        }
        changed_.Wait(&mutex_);
      }
    }
    return cancellation.status();
  }

  void BeginFetch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // The last one has nothing more to do than to return.
    if (fetcher_.joinable()) {
      fetcher_.join();
    }
    fetching_ = true;
    fetcher_ = std::thread([this] {
      absl::StatusOr<std::optional<FetchedCredentials>> fetched = source_->Fetch(stop_);
      absl::MutexLock lock(&mutex_);
      Take(std::move(fetched));
      fetching_ = false;
      changed_.SignalAll();
    });
  }

  void Take(absl::StatusOr<std::optional<FetchedCredentials>> fetched)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::Time now = clock_();
    if (fetched.ok() && fetched->has_value() && (*fetched)->credentials.expires <= now) {
      fetched =
          Error(Reason::kSourceDenied,
                absl::StrCat((*fetched)->credentials.kind, ": gives credentials that have expired"),
                "check this node's clock, and what renews them");
    }
    if (!fetched.ok()) {
      failure_ = fetched.status();
      const absl::Duration left = held_ == nullptr ? absl::ZeroDuration() : held_->expires() - now;
      not_before_ = now + std::clamp(left, kPauseWithout, kPause);
      return;
    }
    held_ = std::make_shared<const Held>(Held{*std::move(fetched)});
    const absl::Duration life = held_->expires() - now;
    refresh_from_ = held_->fetched.has_value() ? held_->expires() - std::min(kAhead, life / 2)
                                               : now + kLookAgain;
    wait_from_ = held_->expires() - std::min(kTooLate, life / 10);
    not_before_ = absl::InfinitePast();
  }

  const std::function<absl::Time()> clock_;
  Cancellation stop_;
  // Used by the fetcher only.
  const std::unique_ptr<CredentialSource> source_;

  absl::Mutex mutex_;
  absl::CondVar changed_;
  std::shared_ptr<const Held> held_ ABSL_GUARDED_BY(mutex_);
  absl::Time refresh_from_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::Time wait_from_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::Time not_before_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  // Of the last fetch that failed.
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  bool fetching_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread fetcher_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<CredentialProvider> MakeCachingProvider(std::unique_ptr<CredentialSource> source,
                                                        std::function<absl::Time()> clock) {
  return std::make_unique<CachingProvider>(std::move(source), std::move(clock));
}

}  // namespace weightd::source
