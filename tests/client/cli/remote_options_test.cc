#include "client/cli/remote_options.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "common/status.h"

namespace weightd::cli {
namespace {

constexpr const char* kVariables[] = {"WEIGHTD_ADDRESS", "WEIGHTD_CA", "WEIGHTD_CERT",
                                      "WEIGHTD_KEY", "WEIGHTD_SERVER_NAME"};

class RemoteOptionsTest : public testing::Test {
 protected:
  RemoteOptionsTest() { Forget(); }
  ~RemoteOptionsTest() override { Forget(); }

  static void Forget() {
    for (const char* const name : kVariables) {
      unsetenv(name);
    }
  }
  static void SetAll() {
    for (const char* const name : kVariables) {
      setenv(name, name, 1);
    }
  }
};

TEST_F(RemoteOptionsTest, NothingMeansThisNode) {
  client::RemoteAddress remote;
  EXPECT_TRUE(CompleteRemote("", remote).ok());
  EXPECT_EQ(remote.address, "");
}

TEST_F(RemoteOptionsTest, TheEnvironmentFillsIn) {
  SetAll();
  client::RemoteAddress remote = {.ca_file = "mine"};
  EXPECT_TRUE(CompleteRemote("", remote).ok());
  EXPECT_EQ(remote.address, "WEIGHTD_ADDRESS");
  EXPECT_EQ(remote.ca_file, "mine");
  EXPECT_EQ(remote.certificate_file, "WEIGHTD_CERT");
  EXPECT_EQ(remote.key_file, "WEIGHTD_KEY");
  EXPECT_EQ(remote.server_name, "WEIGHTD_SERVER_NAME");
}

TEST_F(RemoteOptionsTest, AFolderMeansThisNode) {
  SetAll();
  client::RemoteAddress remote;
  EXPECT_TRUE(CompleteRemote("/run/weightd", remote).ok());
  EXPECT_EQ(remote.address, "");
  remote.address = "host:1";
  EXPECT_EQ(ReasonOf(CompleteRemote("/run/weightd", remote)), Reason::kInvalidArgument);
}

TEST_F(RemoteOptionsTest, WhatIsMissingIsNamed) {
  client::RemoteAddress remote = {.address = "host:1", .ca_file = "ca"};
  const absl::Status status = CompleteRemote("", remote);
  EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument);
  EXPECT_NE(status.message().find("--cert (WEIGHTD_CERT)"), std::string::npos) << status;
}

}  // namespace
}  // namespace weightd::cli
