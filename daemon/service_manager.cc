#include "daemon/service_manager.h"

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/notify.h"
#include "common/status.h"
#include "daemon/logging.h"

namespace weightd {
namespace {

std::string TakeVariable(const char* name) {
  const char* const value = std::getenv(name);
  std::string taken = value == nullptr ? "" : value;
  unsetenv(name);
  return taken;
}

// Zero unless a watchdog waits for this very process.
absl::Duration WatchdogOf(absl::string_view microseconds, absl::string_view pid) {
  int64_t number = 0;
  if (!absl::SimpleAtoi(microseconds, &number) || number <= 0 ||
      (!pid.empty() && pid != absl::StrCat(getpid()))) {
    return absl::ZeroDuration();
  }
  return absl::Microseconds(number);
}

absl::Status Send(const std::string& address, absl::string_view message) {
  const int error_number = Notify(address, std::string(message));
  if (error_number == EAFNOSUPPORT) {
    return Error(Reason::kInvalidArgument, "neither a path nor '@' and a name");
  }
  return error_number == 0 ? absl::OkStatus() : ErrnoError(error_number, "send to it");
}

}  // namespace

std::unique_ptr<ServiceManager> ServiceManager::FromEnvironment() {
  std::string address = TakeVariable("NOTIFY_SOCKET");
  const std::string microseconds = TakeVariable("WATCHDOG_USEC");
  const std::string pid = TakeVariable("WATCHDOG_PID");
  return std::unique_ptr<ServiceManager>(
      new ServiceManager(std::move(address), WatchdogOf(microseconds, pid) / 2));
}

std::unique_ptr<ServiceManager::Heartbeat> ServiceManager::Ready(
    std::function<std::string()> state) const {
  Say(absl::StrCat("READY=1\nSTATUS=", state()));
  return std::unique_ptr<Heartbeat>(new Heartbeat(this, std::move(state)));
}

void ServiceManager::Stopping() const { Say("STOPPING=1\nSTATUS=stopping"); }

void ServiceManager::Say(absl::string_view message) const {
  if (address_.empty()) {
    return;
  }
  const absl::Status sent = Send(address_, message);
  if (!sent.ok() && !failed_.exchange(true)) {
    Log(LogLevel::kWarning, "service_manager.unreachable",
        {{"notify_socket", address_}, {"message", sent.message()}});
  }
}

ServiceManager::Heartbeat::Heartbeat(const ServiceManager* manager,
                                     std::function<std::string()> state)
    : manager_(manager), state_(std::move(state)) {
  if (manager_->interval_ > absl::ZeroDuration() && !manager_->address_.empty()) {
    thread_ = std::thread([this] { Run(); });
  }
}

ServiceManager::Heartbeat::~Heartbeat() {
  done_.Notify();
  if (thread_.joinable()) {
    thread_.join();
  }
}

void ServiceManager::Heartbeat::Run() {
  while (!done_.WaitForNotificationWithTimeout(manager_->interval_)) {
    manager_->Say(absl::StrCat("WATCHDOG=1\nSTATUS=", state_()));
  }
}

}  // namespace weightd
