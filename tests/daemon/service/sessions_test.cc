#include "daemon/service/sessions.h"

#include <gtest/gtest.h>

#include <string>

#include "common/status.h"

namespace weightd::service {
namespace {

TEST(SessionsTest, TokenIsValidForItsListenerAndUserOnly) {
  Sessions sessions;
  const Sessions::Opened opened = *sessions.Open("default", 7);

  EXPECT_EQ(opened.token.size(), 32);
  EXPECT_EQ(*sessions.Find(opened.token, "default", 7), opened.id);
  const absl::Status other_listener = sessions.Find(opened.token, "other", 7).status();
  const absl::Status other_user = sessions.Find(opened.token, "default", 8).status();
  const absl::Status unknown = sessions.Find(std::string(32, '0'), "default", 7).status();
  EXPECT_EQ(ReasonOf(unknown), Reason::kSessionInvalid);
  // Nothing tells one from the other.
  EXPECT_EQ(other_listener, unknown);
  EXPECT_EQ(other_user, unknown);
}

TEST(SessionsTest, TokensDiffer) {
  Sessions sessions;
  EXPECT_NE(sessions.Open("default", 7)->token, sessions.Open("default", 7)->token);
}

TEST(SessionsTest, ClosedSessionProvesNothing) {
  Sessions sessions;
  const Sessions::Opened opened = *sessions.Open("default", 7);
  sessions.Close(opened.id);
  EXPECT_FALSE(sessions.IsOpen(opened.id));
  EXPECT_FALSE(sessions.Find(opened.token, "default", 7).ok());
  EXPECT_EQ(ReasonOf(sessions.BeginCall(opened.id)), Reason::kSessionInvalid);
}

TEST(SessionsTest, LimitsWaitingCallsOfEachSession) {
  Sessions sessions;
  const SessionId greedy = sessions.Open("default", 7)->id;
  const SessionId modest = sessions.Open("default", 7)->id;
  for (int i = 0; i < Sessions::kMaxCalls; ++i) {
    ASSERT_TRUE(sessions.BeginCall(greedy).ok());
  }
  EXPECT_EQ(ReasonOf(sessions.BeginCall(greedy)), Reason::kTooManyRequests);
  EXPECT_TRUE(sessions.BeginCall(modest).ok());
  sessions.EndCall(greedy);
  EXPECT_TRUE(sessions.BeginCall(greedy).ok());
}

}  // namespace
}  // namespace weightd::service
