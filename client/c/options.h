#ifndef WEIGHTD_CLIENT_C_OPTIONS_H_
#define WEIGHTD_CLIENT_C_OPTIONS_H_

#include <optional>

#include "absl/status/statusor.h"
#include "client/c/include/weightd.h"
#include "client/cpp/client.h"

namespace weightd::c {

// What a caller's weightd_options ask for, in the words of the C++ client.
struct Options {
  client::ConnectOptions connect;
  client::AttachOptions attach;
  // None: host memory.
  std::optional<client::DeviceOptions> device;
};

// Fields that the caller's struct, made with another header, doesn't have are the defaults.
// kUnsupported if it sets one that this library doesn't know, kInvalidArgument for values that
// mean nothing.
absl::StatusOr<Options> ReadOptions(const weightd_options* options);

}  // namespace weightd::c

#endif  // WEIGHTD_CLIENT_C_OPTIONS_H_
