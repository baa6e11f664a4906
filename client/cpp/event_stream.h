#ifndef WEIGHTD_CLIENT_CPP_EVENT_STREAM_H_
#define WEIGHTD_CLIENT_CPP_EVENT_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "weightd/v1/admin.grpc.pb.h"

namespace weightd::client {

// Events of a daemon as they come. Read by one thread at a time; Cancel is for any.
class EventStream {
 public:
  // `stub` outlives it. `where` as for FromRpc.
  EventStream(v1::Admin::Stub& stub, std::string where);
  // Cancels what is not over.
  ~EventStream();
  EventStream(const EventStream&) = delete;

  // Waits for the next; false if there will be none.
  bool Next(v1::WatchEventsResponse& event);
  // Ends a Next that waits.
  void Cancel();
  // After Next was false, once: why. OK if the daemon ended it in order.
  absl::Status Finish();

 private:
  const std::string where_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::WatchEventsResponse>> reader_;
  bool finished_ = false;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_EVENT_STREAM_H_
