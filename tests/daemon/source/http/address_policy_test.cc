#include "daemon/source/http/address_policy.h"

#include <gtest/gtest.h>

#include "common/status.h"

namespace weightd::source {
namespace {

bool Reaches(absl::string_view address, const std::vector<std::string>& allowed = {}) {
  const std::optional<IpAddress> parsed = IpAddress::Parse(address);
  EXPECT_TRUE(parsed.has_value()) << address;
  return parsed.has_value() && MayConnect(*parsed, *Network::ParseAll(allowed));
}

TEST(AddressPolicyTest, PublicAndPrivateAddressesAreReached) {
  for (const char* const address :
       {"8.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "126.255.255.255",
        "169.253.255.255", "2606:4700::1", "fd00::1", "64:ff9b::808:808", "2002:808:808::1"}) {
    EXPECT_TRUE(Reaches(address)) << address;
  }
}

TEST(AddressPolicyTest, WhatLeadsToThisNodeOrItsCloudIsNot) {
  for (const char* const address : {"127.0.0.1",
                                    "127.255.255.254",
                                    "0.0.0.0",
                                    "169.254.169.254",
                                    "169.254.170.2",
                                    "100.100.100.200",
                                    "168.63.129.16",
                                    "224.0.0.1",
                                    "255.255.255.255",
                                    "::",
                                    "::1",
                                    "::ffff:127.0.0.1",
                                    "::ffff:8.8.8.8",
                                    "::127.0.0.1",
                                    "fe80::1",
                                    "febf::1",
                                    "ff02::1",
                                    "fd00:ec2::254",
                                    "fd20:ce::254",
                                    "64:ff9b::7f00:1",
                                    "64:ff9b::169.254.169.254",
                                    "64:ff9b:1::7f00:1",
                                    "2002:7f00:1::",
                                    "2001::1"}) {
    EXPECT_FALSE(Reaches(address)) << address;
  }
}

TEST(AddressPolicyTest, AllowedNetworksAreReached) {
  EXPECT_TRUE(Reaches("127.0.0.5", {"10.0.0.0/8", "127.0.0.0/30", "127.0.0.4/30"}));
  EXPECT_FALSE(Reaches("127.0.0.8", {"127.0.0.4/30"}));
  EXPECT_TRUE(Reaches("::1", {"::1"}));
  EXPECT_FALSE(Reaches("::ffff:127.0.0.1", {"127.0.0.0/8"}));
  EXPECT_TRUE(Reaches("64:ff9b::7f00:1", {"127.0.0.0/8"}));
}

TEST(AddressPolicyTest, MalformedNetworksAreRefused) {
  for (const char* const text :
       {"", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0/8", "::/129", "host", "1.2.3.4/x"}) {
    EXPECT_EQ(ReasonOf(Network::Parse(text).status()), Reason::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace weightd::source
