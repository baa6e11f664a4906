#ifndef WEIGHTD_DAEMON_SERVICE_MANAGER_H_
#define WEIGHTD_DAEMON_SERVICE_MANAGER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace weightd {

// Whoever started us and wants to know how we are: systemd, for a unit of Type=notify, or another
// that speaks the protocol of sd_notify(3). Nothing is said if nobody asked; what can't be said is
// logged once, and changes nothing.
class ServiceManager {
 public:
  // Says that we are alive as long as it lives.
  class Heartbeat {
   public:
    ~Heartbeat();
    Heartbeat(const Heartbeat&) = delete;

   private:
    friend class ServiceManager;
    Heartbeat(const ServiceManager* manager, std::function<std::string()> state);
    void Run();

    const ServiceManager* const manager_;
    const std::function<std::string()> state_;
    absl::Notification done_;
    std::thread thread_;
  };

  // Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no process
  // of ours takes them for its own. Before other threads start.
  static std::unique_ptr<ServiceManager> FromEnvironment();

  // That we serve; `state` says in a line what. If a watchdog is set, `state` is asked again in
  // half its time, from a thread of the heartbeat, and only its answer counts as a sign of life: it
  // takes the locks that everybody needs. The manager outlives the heartbeat.
  std::unique_ptr<Heartbeat> Ready(std::function<std::string()> state) const;

  // As in NOTIFY_SOCKET; empty if nobody asked.
  const std::string& address() const { return address_; }

  // That we are about to end.
  void Stopping() const;

 private:
  ServiceManager(std::string address, absl::Duration interval)
      : address_(std::move(address)), interval_(interval) {}
  void Say(absl::string_view message) const;

  const std::string address_;
  // Between signs of life; zero if none are wanted.
  const absl::Duration interval_;
  mutable std::atomic<bool> failed_{false};
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_SERVICE_MANAGER_H_
