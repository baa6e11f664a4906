#include "daemon/source/http/address_policy.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::source {
namespace {

constexpr absl::string_view kRefused[] = {
    "0.0.0.0/8",           // "this host"
    "127.0.0.0/8",         // loopback
    "169.254.0.0/16",      // link-local: metadata of most clouds
    "100.100.100.200/32",  // metadata of Alibaba Cloud
    "168.63.129.16/32",    // platform services of Azure
    "192.0.0.192/32",      // metadata of Oracle Cloud (classic)
    "224.0.0.0/4",         // multicast
    "240.0.0.0/4",         // reserved, and broadcast
    "::/96",               // unspecified, loopback, IPv4-compatible
    "::ffff:0:0/96",       // IPv4-mapped
    "64:ff9b:1::/48",      // local NAT64
    "2001::/32",           // Teredo
    "fe80::/10",           // link-local
    "ff00::/8",            // multicast
    "fd00:ec2::/32",       // metadata and services of AWS
    "fd20:ce::254/128",    // metadata of Google Cloud
};

const std::vector<Network>& RefusedNetworks() {
  static const auto* const networks = [] {
    auto* parsed = new std::vector<Network>;
    for (absl::string_view text : kRefused) {
      parsed->push_back(*Network::Parse(text));
    }
    return parsed;
  }();
  return *networks;
}

// The IPv4 address to which a translator or tunnel forwards: NAT64 (RFC 6052), 6to4 (RFC 3056).
std::optional<IpAddress> Embedded(const IpAddress& address) {
  static const Network* const nat64 = new Network(*Network::Parse("64:ff9b::/96"));
  static const Network* const six_to_four = new Network(*Network::Parse("2002::/16"));
  size_t at = 0;
  if (nat64->Contains(address)) {
    at = 12;
  } else if (six_to_four->Contains(address)) {
    at = 2;
  } else {
    return std::nullopt;
  }
  IpAddress inner;
  std::copy_n(address.bytes.begin() + at, 4, inner.bytes.begin());
  return inner;
}

bool IsIn(const IpAddress& address, absl::Span<const Network> networks) {
  return std::any_of(networks.begin(), networks.end(),
                     [&](const Network& network) { return network.Contains(address); });
}

}  // namespace

std::optional<IpAddress> IpAddress::Parse(absl::string_view text) {
  IpAddress address;
  const std::string terminated(text);
  if (inet_pton(AF_INET, terminated.c_str(), address.bytes.data()) == 1) {
    return address;
  }
  address.v6 = true;
  if (inet_pton(AF_INET6, terminated.c_str(), address.bytes.data()) == 1) {
    return address;
  }
  return std::nullopt;
}

std::optional<IpAddress> IpAddress::Of(const sockaddr& address) {
  IpAddress result;
  if (address.sa_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    std::memcpy(result.bytes.data(), &v4.sin_addr, sizeof(v4.sin_addr));
    return result;
  }
  if (address.sa_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    result.v6 = true;
    std::memcpy(result.bytes.data(), &v6.sin6_addr, sizeof(v6.sin6_addr));
    return result;
  }
  return std::nullopt;
}

absl::StatusOr<Network> Network::Parse(absl::string_view text) {
  const size_t slash = std::min(text.find('/'), text.size());
  const std::optional<IpAddress> address = IpAddress::Parse(text.substr(0, slash));
  const int most = address.has_value() && address->v6 ? 128 : 32;
  int bits = most;
  if (!address.has_value() ||
      (slash < text.size() && !absl::SimpleAtoi(text.substr(slash + 1), &bits)) || bits < 0 ||
      bits > most) {
    return Error(Reason::kInvalidArgument, absl::StrCat("\"", text, "\" is no network"),
                 "write networks as 10.0.0.0/8 or fd00::/8");
  }
  return Network(*address, bits);
}

absl::StatusOr<std::vector<Network>> Network::ParseAll(absl::Span<const std::string> texts) {
  std::vector<Network> networks;
  for (const std::string& text : texts) {
    ASSIGN_OR_RETURN(Network network, Parse(text));
    networks.push_back(network);
  }
  return networks;
}

bool Network::Contains(const IpAddress& address) const {
  if (address.v6 != address_.v6) {
    return false;
  }
  const int whole = bits_ / 8;
  if (!std::equal(address.bytes.begin(), address.bytes.begin() + whole, address_.bytes.begin())) {
    return false;
  }
  const int rest = bits_ % 8;
  return rest == 0 || (address.bytes[whole] ^ address_.bytes[whole]) >> (8 - rest) == 0;
}

bool MayConnect(const IpAddress& address, absl::Span<const Network> allowed) {
  if (IsIn(address, allowed)) {
    return true;
  }
  if (IsIn(address, RefusedNetworks())) {
    return false;
  }
  const std::optional<IpAddress> embedded = Embedded(address);
  return !embedded.has_value() || MayConnect(*embedded, allowed);
}

}  // namespace weightd::source
