// Debian's Abseil is built without ThreadSanitizer's annotations, so TSan sees no order between
// what threads do under an absl::Mutex and reports races where there are none. These definitions
// come before the library's, tell TSan what a mutex orders, and call the library's. Only for TSan
// builds.

#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
}

namespace absl {
ABSL_NAMESPACE_BEGIN
namespace {

// Conditions run inside the library, on whichever thread holds the mutex: between its unlocking and
// locking, which TSan would see in the wrong order.
class IgnoreConditions {
 public:
  IgnoreConditions() { AnnotateIgnoreReadsBegin(__FILE__, __LINE__); }
  ~IgnoreConditions() { AnnotateIgnoreReadsEnd(__FILE__, __LINE__); }
};

template <typename Function>
Function Library(const char* symbol) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, symbol));
}

}  // namespace

// Calls the library's function of this mangled name with `this` and the arguments.
#define LIBRARY(result, symbol, arguments, ...)                       \
  [&]() -> result {                                                   \
    static const auto library = Library<result(*) arguments>(symbol); \
    const IgnoreConditions ignore;                                    \
    return library(__VA_ARGS__);                                      \
  }()

void Mutex::Lock() {
  LIBRARY(void, "_ZN4absl7debian35Mutex4LockEv", (Mutex*), this);
  __tsan_acquire(this);
}

void Mutex::Unlock() {
  __tsan_release(this);
  LIBRARY(void, "_ZN4absl7debian35Mutex6UnlockEv", (Mutex*), this);
}

bool Mutex::TryLock() {
  const bool locked = LIBRARY(bool, "_ZN4absl7debian35Mutex7TryLockEv", (Mutex*), this);
  if (locked) {
    __tsan_acquire(this);
  }
  return locked;
}

void Mutex::ReaderLock() {
  LIBRARY(void, "_ZN4absl7debian35Mutex10ReaderLockEv", (Mutex*), this);
  __tsan_acquire(this);
}

void Mutex::ReaderUnlock() {
  __tsan_release(this);
  LIBRARY(void, "_ZN4absl7debian35Mutex12ReaderUnlockEv", (Mutex*), this);
}

void Mutex::LockWhen(const Condition& condition) {
  LIBRARY(void, "_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE", (Mutex*, const Condition&),
          this, condition);
  __tsan_acquire(this);
}

bool Mutex::LockWhenWithTimeout(const Condition& condition, Duration timeout) {
  const bool held =
      LIBRARY(bool, "_ZN4absl7debian35Mutex19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE",
              (Mutex*, const Condition&, Duration), this, condition, timeout);
  __tsan_acquire(this);
  return held;
}

bool Mutex::LockWhenWithDeadline(const Condition& condition, Time deadline) {
  const bool held =
      LIBRARY(bool, "_ZN4absl7debian35Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE",
              (Mutex*, const Condition&, Time), this, condition, deadline);
  __tsan_acquire(this);
  return held;
}

void Mutex::Await(const Condition& condition) {
  __tsan_release(this);
  LIBRARY(void, "_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE", (Mutex*, const Condition&), this,
          condition);
  __tsan_acquire(this);
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  __tsan_release(this);
  const bool held =
      LIBRARY(bool, "_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE",
              (Mutex*, const Condition&, Duration), this, condition, timeout);
  __tsan_acquire(this);
  return held;
}

bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  __tsan_release(this);
  const bool held =
      LIBRARY(bool, "_ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE",
              (Mutex*, const Condition&, Time), this, condition, deadline);
  __tsan_acquire(this);
  return held;
}

void CondVar::Wait(Mutex* mutex) {
  __tsan_release(mutex);
  LIBRARY(void, "_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE", (CondVar*, Mutex*), this, mutex);
  __tsan_acquire(mutex);
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  __tsan_release(mutex);
  const bool timed_out =
      LIBRARY(bool, "_ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE",
              (CondVar*, Mutex*, Duration), this, mutex, timeout);
  __tsan_acquire(mutex);
  return timed_out;
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  __tsan_release(mutex);
  const bool timed_out =
      LIBRARY(bool, "_ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE",
              (CondVar*, Mutex*, Time), this, mutex, deadline);
  __tsan_acquire(mutex);
  return timed_out;
}

// HasBeenNotified is an inline atomic load, so the flag's own address orders too; it lies behind
// the mutex.
void Notification::Notify() {
  __tsan_release(this);
  __tsan_release(reinterpret_cast<char*>(this) + sizeof(Mutex));
  LIBRARY(void, "_ZN4absl7debian312Notification6NotifyEv", (Notification*), this);
}

void Notification::WaitForNotification() const {
  LIBRARY(void, "_ZNK4absl7debian312Notification19WaitForNotificationEv", (const Notification*),
          this);
  __tsan_acquire(const_cast<Notification*>(this));
}

bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  const bool notified = LIBRARY(
      bool, "_ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE",
      (const Notification*, Duration), this, timeout);
  __tsan_acquire(const_cast<Notification*>(this));
  return notified;
}

ABSL_NAMESPACE_END
}  // namespace absl
