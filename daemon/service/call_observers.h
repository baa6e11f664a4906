#ifndef WEIGHTD_DAEMON_SERVICE_CALL_OBSERVERS_H_
#define WEIGHTD_DAEMON_SERVICE_CALL_OBSERVERS_H_

#include <vector>

#include "daemon/service/call_record.h"

namespace weightd::service {

// Tells several observers of each call, in the order they were added. All are added before the
// first call and outlive the last.
class CallObservers final : public CallObserver {
 public:
  void Add(CallObserver* observer) { observers_.push_back(observer); }

  void Ended(const CallRecord& call) override {
    for (CallObserver* const observer : observers_) {
      observer->Ended(call);
    }
  }

 private:
  std::vector<CallObserver*> observers_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_CALL_OBSERVERS_H_
