#include "daemon/service/proto_time.h"

#include <cstdint>

namespace weightd::service {
namespace {

constexpr int64_t kNanos = 1'000'000'000;

}  // namespace

google::protobuf::Timestamp ToProto(absl::Time time) {
  google::protobuf::Timestamp timestamp;
  const int64_t nanos = absl::ToUnixNanos(time);
  timestamp.set_seconds(nanos / kNanos);
  timestamp.set_nanos(static_cast<int32_t>(nanos % kNanos));
  return timestamp;
}

google::protobuf::Duration ToProto(absl::Duration duration) {
  google::protobuf::Duration proto;
  const int64_t nanos = absl::ToInt64Nanoseconds(duration);
  proto.set_seconds(nanos / kNanos);
  proto.set_nanos(static_cast<int32_t>(nanos % kNanos));
  return proto;
}

}  // namespace weightd::service
