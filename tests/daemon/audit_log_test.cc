#include "daemon/audit_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/time/time.h"
#include "common/status.h"
#include "daemon/line_meter.h"
#include "daemon/logging.h"
#include "daemon/service/call_record.h"

namespace weightd {
namespace {

using service::Caller;
using service::CallRecord;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

std::string LineOf(const CallRecord& call) {
  const AuditLine line = AuditLineOf(call);
  return LogLine(LogFormat::kText, "T", LogLevel::kInfo, line.event, line.fields);
}

CallRecord CallOf(absl::string_view method, absl::Status outcome = absl::OkStatus()) {
  return {.request_id = "00ff",
          .caller = {.listener = "tenants", .uid = 1000, .gid = 100},
          .method = method,
          .model = "https://host/m",
          .details = "",
          .outcome = std::move(outcome),
          .took = absl::Microseconds(1500)};
}

TEST(AuditLine, SaysWhoAttachedToWhat) {
  EXPECT_EQ(LineOf(CallOf("Acquire")),
            "T info    audit.attach request_id=\"00ff\" listener=\"tenants\" uid=1000 gid=100 "
            "method=\"Acquire\" model=\"https://host/m\" outcome=\"OK\" duration_ms=1.5");
}

TEST(AuditLine, SaysWhyNot) {
  const CallRecord call =
      CallOf("Acquire", Error(Reason::kNotAllowed, "not allowed or unknown", "ask"));
  EXPECT_EQ(AuditLineOf(call).kind, AuditLine::Kind::kRefused);
  EXPECT_THAT(LineOf(call), AllOf(HasSubstr("audit.attach"), HasSubstr("outcome=\"NOT_ALLOWED\""),
                                  HasSubstr("error=\"not allowed or unknown\"")));
}

TEST(AuditLine, OfOperatorsOverTcpSaysTheirCertificate) {
  CallRecord call = CallOf("Evict");
  call.caller = {.listener = "admin-tcp", .certificate = "ops.example", .address = "10.0.0.1:5"};
  call.details = "gpu=0 force";
  EXPECT_THAT(LineOf(call),
              AllOf(HasSubstr("audit.admin"), HasSubstr("certificate=\"ops.example\""),
                    HasSubstr("address=\"10.0.0.1:5\""), HasSubstr("details=\"gpu=0 force\""),
                    Not(HasSubstr("uid="))));
}

TEST(AuditLine, TellsWhatChangesSomethingFromWhatReads) {
  for (const char* const action : {"Preload", "Evict", "Pin", "Unpin", "DrainGpu", "ResumeGpu",
                                   "DrainNode", "ResumeNode", "ReloadConfig", "SetLogLevel"}) {
    EXPECT_EQ(AuditLineOf(CallOf(action)).kind, AuditLine::Kind::kAdmin) << action;
  }
  for (const char* const read : {"ListModels", "GetStatus", "Release", "Claim", "WatchEvents"}) {
    EXPECT_EQ(AuditLineOf(CallOf(read)).kind, AuditLine::Kind::kOther) << read;
  }
  EXPECT_EQ(AuditLineOf(CallOf("Claim", Error(Reason::kLeaseUnknown, "no"))).event,
            "audit.refused");
  EXPECT_EQ(AuditLineOf(CallOf("Connect", Error(Reason::kTooManyRequests, "no"))).event,
            "audit.refused");
  EXPECT_EQ(AuditLineOf(CallOf("GetModel", Error(Reason::kSessionInvalid, "no"))).event,
            "audit.refused");
  EXPECT_EQ(AuditLineOf(CallOf("GetModel", Error(Reason::kModelNotFound, "no"))).event,
            "audit.call");
}

TEST(LineMeter, LetsABurstThroughAndThenSoManyASecond) {
  LineMeter meter({.burst = 3, .per_second = 2});
  const absl::Time start = absl::UnixEpoch();
  const auto admitted = [&meter](absl::Time now) {
    int lines = 0;
    for (int i = 0; i < 10; ++i) {
      lines += meter.Admit("a", now) ? 1 : 0;
    }
    return lines;
  };
  EXPECT_EQ(admitted(start), 3);
  EXPECT_EQ(admitted(start + absl::Seconds(1)), 2);
  EXPECT_EQ(admitted(start), 0) << "the clock was set back";
  EXPECT_EQ(admitted(start + absl::Hours(1)), 3);
}

TEST(LineMeter, CountsWhatIsLeftOutOnce) {
  LineMeter meter({.burst = 1, .per_second = 1});
  const absl::Time start = absl::UnixEpoch();
  EXPECT_TRUE(meter.Admit("a", start));
  EXPECT_FALSE(meter.Admit("a", start));
  EXPECT_FALSE(meter.Admit("a", start));
  EXPECT_TRUE(meter.Admit("b", start));
  EXPECT_THAT(meter.TakeLeftOut(start), ElementsAre(Pair("a", 2)));
  EXPECT_THAT(meter.TakeLeftOut(start), IsEmpty());
}

TEST(ClientLineMeter, HoldsEachUserAndAllOfAListener) {
  ClientLineMeter meter({.burst = 2, .per_second = 0}, {.burst = 3, .per_second = 0});
  const absl::Time start = absl::UnixEpoch();
  for (const uint32_t uid : {1, 1, 1, 2, 2, 2}) {
    meter.Admit("jobs", uid, start);
  }
  EXPECT_TRUE(meter.Admit("others", 1, start));
  EXPECT_THAT(meter.TakeLeftOut(start),
              UnorderedElementsAre(Pair("jobs uid 1", 1), Pair("jobs uid 2", 1), Pair("jobs", 1)));
  EXPECT_THAT(meter.TakeLeftOut(start), IsEmpty());
}

TEST(LeftOutClock, StrikesAtOnceAndEveryTenSeconds) {
  LeftOutClock clock;
  const absl::Time start = absl::UnixEpoch();
  EXPECT_TRUE(clock.Strikes(start));
  EXPECT_FALSE(clock.Strikes(start + absl::Seconds(9)));
  EXPECT_TRUE(clock.Strikes(start + absl::Seconds(10)));
}

}  // namespace
}  // namespace weightd
