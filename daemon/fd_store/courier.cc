#include "daemon/fd_store/courier.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "daemon/fd_store/keeper_protocol.h"

namespace weightd::fd_store {
namespace {

// A daemon that starts is to serve within two seconds or so.
constexpr absl::Duration kTakeBackPatience = absl::Seconds(2);
// Between attempts to reach a keeper that is away.
constexpr absl::Duration kFirstPause = absl::Milliseconds(20);
constexpr absl::Duration kLongestPause = absl::Seconds(1);
// Between looks whether the keeper can still be found.
constexpr int kCheckMs = 1000;

absl::Status BadName() {
  return Error(Reason::kInvalidArgument, "its name is not 1-255 of A-Z a-z 0-9 . _ -");
}

// Whether there is nothing but the keeper to wait for.
bool EndsByItself(const absl::Status& away) {
  const Reason reason = ReasonOf(away);
  return reason != Reason::kNotAllowed && reason != Reason::kUnsupported &&
         reason != Reason::kTooManyRequests;
}

absl::Status NoRoom(size_t limit) {
  return Error(Reason::kTooManyRequests, absl::StrCat("the store holds ", limit, " descriptors"),
               "raise FileDescriptorStoreMax= of the unit, or the keeper's limit of open files");
}

absl::Status NotDuplicated(const absl::Status& why) {
  return Error(ReasonOf(why), absl::StrCat("its descriptor can't be duplicated: ", why.message()),
               "raise the daemon's limit of open files (ulimit -Hn, LimitNOFILE= of its unit)");
}

}  // namespace

Courier::Courier(std::unique_ptr<Carrier> carrier, IsOurs is_ours, Observer observer)
    : carrier_(std::move(carrier)),
      is_ours_(std::move(is_ours)),
      observer_(std::move(observer)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      journal_(carrier_->limit()),
      thread_([this] { Run(); }) {}

Courier::~Courier() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  carrier_->Interrupt();
  Wake();
  thread_.join();
}

std::vector<StoredFd> Courier::TakeBack() {
  absl::MutexLock lock(&mutex_);
  list_wanted_ = true;
  // It may be there again since the last attempt.
  attempt_wanted_ = lost_ ? attempt_ + 1 : 0;
  Wake();
  mutex_.AwaitWithTimeout(absl::Condition(this, &Courier::HasListed), kTakeBackPatience);
  taken_back_ = true;
  return std::exchange(found_, {});
}

void Courier::OnLate(Take take) {
  {
    absl::MutexLock late(&late_mutex_);
    take_late_ = std::move(take);
  }
  Wake();
}

void Courier::Store(absl::string_view name, const Fd& fd, absl::string_view model) {
  absl::StatusOr<Fd> copy = fd.Duplicate();
  absl::Status refused = IsName(std::string(name)) ? absl::OkStatus() : BadName();
  if (refused.ok() && !copy.ok()) {
    refused = NotDuplicated(copy.status());
    absl::MutexLock lock(&mutex_);
    journal_.TurnAway(name);
  } else if (refused.ok()) {
    absl::MutexLock lock(&mutex_);
    const Journal::Added added = journal_.Add(name, *std::move(copy), model);
    if (added == Journal::Added::kThereAlready) {
      return;
    }
    refused = added == Journal::Added::kFull ? NoRoom(journal_.size()) : absl::OkStatus();
    unsettled_ = unsettled_ || refused.ok();
  }
  if (refused.ok()) {
    Wake();
  } else {
    observer_.on_refused(name, model, refused);
  }
}

void Courier::Remove(absl::string_view name) {
  if (!IsName(std::string(name))) {
    return;
  }
  {
    absl::MutexLock lock(&mutex_);
    journal_.Remove(name);
    unsettled_ = true;
  }
  Wake();
}

bool Courier::Flush(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithDeadline(absl::Condition(this, &Courier::IsIdle), deadline);
}

StoreStatus Courier::status() const {
  absl::MutexLock lock(&mutex_);
  StoreStatus status = {.place = carrier_->place(), .reachable = reached_};
  status.pending = journal_.pending() + (storing_ ? 1 : 0);
  const size_t missing = status.pending + journal_.refused();
  status.stored = journal_.size() > missing ? journal_.size() - missing : 0;
  status.refused = journal_.refused() + journal_.turned_away();
  status.others = others_;
  return status;
}

StoredNames Courier::Confirmed() const {
  absl::MutexLock lock(&mutex_);
  if (!reached_) {
    return {};
  }
  StoredNames names = journal_.Done();
  for (const std::string& name : unconfirmed_) {
    names.erase(name);
  }
  return names;
}

void Courier::Run() {
  absl::Duration pause = kFirstPause;
  while (true) {
    const absl::Status ended = Serve();
    if (stopping()) {
      return;
    }
    pause = Lost(ended) ? kFirstPause : std::min(2 * pause, kLongestPause);
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &Courier::IsHurried), pause);
    if (stopping_) {
      return;
    }
  }
}

absl::Status Courier::Serve() {
  {
    absl::MutexLock lock(&mutex_);
    ++attempt_;
  }
  RETURN_IF_ERROR(carrier_->Open());
  while (!stopping()) {
    RETURN_IF_ERROR(carrier_->Check());
    RETURN_IF_ERROR(ListOnce());
    GiveLate();
    RETURN_IF_ERROR(DoAll());
    IsBack();
    RETURN_IF_ERROR(WaitForWork());
  }
  return absl::OkStatus();
}

absl::Status Courier::ListOnce() {
  {
    absl::MutexLock lock(&mutex_);
    if (listed_ || !list_wanted_) {
      return absl::OkStatus();
    }
  }
  absl::StatusOr<std::vector<StoredFd>> found = carrier_->List();
  if (IsRefusal(found.status())) {
    // Again and again, nothing new would be stored.
    absl::MutexLock lock(&mutex_);
    listed_ = true;
  }
  RETURN_IF_ERROR(found.status());
  LeaveOthers(*found);
  KeepFound(*std::move(found));
  return absl::OkStatus();
}

void Courier::LeaveOthers(std::vector<StoredFd>& found) {
  const size_t others =
      std::erase_if(found, [this](const StoredFd& stored) { return !is_ours_(stored.name); });
  {
    absl::MutexLock lock(&mutex_);
    others_ = others;
  }
  if (others > 0) {
    observer_.on_others(others);
  }
}

void Courier::KeepFound(std::vector<StoredFd> found) {
  absl::MutexLock lock(&mutex_);
  for (const StoredFd& stored : found) {
    if (absl::StatusOr<Fd> copy = stored.fd.Duplicate(); copy.ok()) {
      journal_.AddStored(stored.name, *std::move(copy));
    }
  }
  found_ = std::move(found);
  listed_ = true;
}

void Courier::GiveLate() {
  absl::MutexLock late(&late_mutex_);
  std::vector<StoredFd> found;
  {
    absl::MutexLock lock(&mutex_);
    if (take_late_ == nullptr || !taken_back_ || found_.empty()) {
      return;
    }
    found = std::exchange(found_, {});
  }
  observer_.on_late(found.size());
  take_late_(std::move(found));
}

absl::Status Courier::DoAll() {
  bool settled = true;
  while (true) {
    std::optional<Journal::Task> task;
    {
      absl::MutexLock lock(&mutex_);
      task = journal_.Next();
      storing_ = task.has_value() && task->entry != nullptr;
      if (storing_) {
        unconfirmed_.insert(task->name);
      }
      if (!task.has_value() && settled) {
        // At once: who waits for the one looks at the other.
        unsettled_ = false;
        reached_ = true;
        unconfirmed_.clear();
        return absl::OkStatus();
      }
    }
    settled = !task.has_value();
    RETURN_IF_ERROR(settled ? carrier_->Settle() : Do(*task));
  }
}

absl::Status Courier::Do(const Journal::Task& task) {
  absl::Status done = task.entry == nullptr ? carrier_->Remove(task.name)
                                            : carrier_->Store(task.name, task.entry->fd);
  if (IsRefusal(done)) {
    std::string model;
    {
      absl::MutexLock lock(&mutex_);
      model = journal_.ModelOf(task.name);
    }
    observer_.on_refused(task.name, model, done);
  }
  absl::MutexLock lock(&mutex_);
  storing_ = false;
  if (IsRefusal(done)) {
    journal_.Refuse(task);
    return absl::OkStatus();
  }
  if (!done.ok()) {
    journal_.Again(task);
  } else if (task.entry == nullptr) {
    journal_.TryRefused();
  }
  return done;
}

bool Courier::Lost(const absl::Status& why) {
  bool first = false;
  bool news = false;
  Charges ours;
  {
    absl::MutexLock lock(&mutex_);
    journal_.StoreAll();
    reached_ = false;
    attempt_failed_ = attempt_;
    unsettled_ = !journal_.done();
    first = !std::exchange(lost_, true);
    // One that is not trusted, say, after it was away: that ends by itself no more.
    news = first || (!EndsByItself(why) && ReasonOf(why) != told_);
    told_ = news ? ReasonOf(why) : told_;
    ours = OursLocked();
  }
  if (news) {
    observer_.on_away(why, ours);
  }
  return first;
}

void Courier::IsBack() {
  bool news = false;
  Charges ours;
  {
    absl::MutexLock lock(&mutex_);
    news = std::exchange(lost_, false);
    ours = OursLocked();
  }
  if (news) {
    observer_.on_back(ours);
  }
}

void Courier::Wake() const { eventfd_write(wake_.get(), 1); }

absl::Status Courier::WaitForWork() const {
  pollfd waits[] = {{wake_.get(), POLLIN, 0}, {carrier_->lost(), POLLIN, 0}};
  // One that shows nothing can't be looked for either.
  const int patience = carrier_->lost() < 0 ? -1 : kCheckMs;
  while (poll(waits, 2, patience) < 0 && errno == EINTR) {
  }
  if (waits[1].revents != 0) {
    return Error(Reason::kDaemonUnreachable, "it hung up",
                 "see that weightd-keeper runs: once it does, all is stored there");
  }
  eventfd_t times = 0;
  eventfd_read(wake_.get(), &times);
  return absl::OkStatus();
}

bool Courier::stopping() const {
  absl::MutexLock lock(&mutex_);
  return stopping_;
}

}  // namespace weightd::fd_store
