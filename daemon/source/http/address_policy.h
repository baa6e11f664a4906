#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_ADDRESS_POLICY_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_ADDRESS_POLICY_H_

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

// Which addresses a read on behalf of a client may connect to. Pure.

namespace weightd::source {

// An IPv4 address (the first four bytes) or an IPv6 address, in network order.
struct IpAddress {
  bool v6 = false;
  std::array<uint8_t, 16> bytes = {};

  // Nothing for text that is no address, or for another family.
  static std::optional<IpAddress> Parse(absl::string_view text);
  static std::optional<IpAddress> Of(const sockaddr& address);
};

// A network in CIDR notation; a bare address is a network of one.
class Network {
 public:
  static absl::StatusOr<Network> Parse(absl::string_view text);
  static absl::StatusOr<std::vector<Network>> ParseAll(absl::Span<const std::string> texts);

  bool Contains(const IpAddress& address) const;

 private:
  Network(IpAddress address, int bits) : address_(address), bits_(bits) {}

  IpAddress address_;
  int bits_;
};

// False for loopback, link-local, unspecified, multicast, reserved and cloud metadata addresses,
// and for the forms of IPv6 that lead to an IPv4 address behind our back; unless `allowed` holds
// them.
bool MayConnect(const IpAddress& address, absl::Span<const Network> allowed);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_ADDRESS_POLICY_H_
