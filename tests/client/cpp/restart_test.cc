#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cpp/client.h"
#include "common/fd.h"
#include "common/status.h"
#include "tests/fakes/fake_daemon.h"

namespace weightd::client {
namespace {

using fakes::FakeDaemon;
using fakes::SmallModel;

class RestartTest : public testing::Test {
 protected:
  RestartTest() {
    daemon_.Add("m", SmallModel());
    daemon_.Add("n", SmallModel());
  }

  // From now on every claim is answered with the one segment.
  void KeepTheSegment() {
    FakeDaemon::Faults faults;
    const auto segment = std::make_shared<Fd>(fakes::MakeMemfd(SmallModel().bytes));
    faults.tamper = [segment](v1::HandleReply&, std::vector<Fd>& fds) {
      auto duplicate = segment->Duplicate();
      ASSERT_TRUE(duplicate.ok());
      fds[0] = *std::move(duplicate);
    };
    daemon_.Set(faults);
  }

  Client Connect() {
    auto client = Client::Connect({daemon_.socket_dir()});
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  // Acquires tell of a load, and end so.
  static FakeDaemon::Faults EndingWith(v1::ErrorReason reason, const char* message) {
    FakeDaemon::Faults faults;
    faults.progress.resize(1);
    faults.error_after_progress.set_reason(reason);
    faults.error_after_progress.set_message(message);
    return faults;
  }

  FakeDaemon daemon_;
};

TEST_F(RestartTest, AClientGoesOnWithTheNextDaemon) {
  const Client client = Connect();
  const auto held = client.Attach("m");
  ASSERT_TRUE(held.ok()) << held.status();
  daemon_.EndSessions();
  const auto model = client.Attach("m");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(held->tensor("a")->bytes()[3], model->tensor("a")->bytes()[3]);
}

TEST_F(RestartTest, WhatIsMappedGetsALeaseOfTheNextDaemon) {
  KeepTheSegment();
  const Client client = Connect();
  auto held = client.Attach("m");
  ASSERT_TRUE(held.ok()) << held.status();
  const std::byte* const place = held->bytes().data();
  daemon_.EndSessions();
  EXPECT_EQ(daemon_.leases(), 0u);
  ASSERT_TRUE(client.Attach("n").ok());
  EXPECT_EQ(daemon_.leases(), 1u);
  EXPECT_EQ(held->bytes().data(), place);
  ASSERT_TRUE(client.Attach("n").ok());
  EXPECT_EQ(daemon_.leases(), 1u) << "it was taken again";
  held = absl::CancelledError();
  EXPECT_EQ(daemon_.leases(), 0u);
}

TEST_F(RestartTest, AnotherSegmentIsNotWhatIsMapped) {
  const Client client = Connect();
  const auto held = client.Attach("m");
  ASSERT_TRUE(held.ok()) << held.status();
  daemon_.EndSessions();
  ASSERT_TRUE(client.Attach("n").ok());
  EXPECT_EQ(daemon_.leases(), 0u);
}

TEST_F(RestartTest, WhatItNoLongerHasStaysMapped) {
  const Client client = Connect();
  const auto held = client.Attach("m");
  ASSERT_TRUE(held.ok()) << held.status();
  daemon_.EndSessions();
  FakeDaemon::Faults faults;
  faults.error.set_reason(v1::MODEL_NOT_FOUND);
  faults.error.set_message("nothing is left");
  daemon_.Set(faults);
  EXPECT_EQ(ReasonOf(client.Attach("n").status()), Reason::kModelNotFound);
  EXPECT_TRUE(held->tensor("a").ok());
}

// An operator's load ended with its daemon, and nobody else may begin it.
TEST_F(RestartTest, ALoadThatCanOnlyBeJoinedIsWaitedFor) {
  const Client client = Connect();
  daemon_.Set(EndingWith(v1::SHUTTING_DOWN, "the daemon is stopping"));
  AttachOptions options;
  int daemons = 0;
  options.progress = [&](const LoadProgress&) {
    ++daemons;
    daemon_.Set(daemons < 3 ? EndingWith(v1::NOT_ALLOWED, "no strong validator")
                            : FakeDaemon::Faults());
  };
  EXPECT_TRUE(client.Attach("m", options).ok());
  EXPECT_EQ(daemons, 3);
}

TEST_F(RestartTest, WhatIsNotAllowedIsToldAtOnce) {
  const Client client = Connect();
  daemon_.Set(EndingWith(v1::NOT_ALLOWED, "no strong validator"));
  const absl::Time begin = absl::Now();
  EXPECT_EQ(ReasonOf(client.Attach("m").status()), Reason::kNotAllowed);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
}

TEST_F(RestartTest, WaitingEndsWithTheDeadline) {
  const Client client = Connect();
  FakeDaemon::Faults faults;
  faults.error.set_reason(v1::SHUTTING_DOWN);
  faults.error.set_message("the daemon is stopping");
  daemon_.Set(faults);
  AttachOptions options;
  options.timeout = absl::Seconds(1);
  const absl::Time begin = absl::Now();
  EXPECT_EQ(ReasonOf(client.Attach("m", options).status()), Reason::kShuttingDown);
  EXPECT_GT(absl::Now() - begin, absl::Milliseconds(900)) << "it had more time";
}

}  // namespace
}  // namespace weightd::client
