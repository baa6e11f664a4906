#ifndef WEIGHTD_DAEMON_SERVICE_PROTO_TIME_H_
#define WEIGHTD_DAEMON_SERVICE_PROTO_TIME_H_

#include "absl/time/time.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"

namespace weightd::service {

// Both to the nanosecond, and finite.
google::protobuf::Timestamp ToProto(absl::Time time);
google::protobuf::Duration ToProto(absl::Duration duration);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_PROTO_TIME_H_
