#include "common/status.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace weightd {
namespace {

TEST(StatusTest, ErrorCarriesCodeReasonAndHint) {
  const absl::Status status = Error(Reason::kBudgetExceeded, "no room", "evict something");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(status), Reason::kBudgetExceeded);
  EXPECT_EQ(HintOf(status), "evict something");
}

TEST(StatusTest, AnnotateKeepsReasonAndHint) {
  const absl::Status status =
      Annotate(Error(Reason::kModelNotFound, "gone", "look again"), "http://h/m");
  EXPECT_EQ(status.message(), "http://h/m: gone");
  EXPECT_EQ(ReasonOf(status), Reason::kModelNotFound);
  EXPECT_EQ(HintOf(status), "look again");
  EXPECT_TRUE(Annotate(absl::OkStatus(), "x").ok());
}

TEST(StatusTest, ForeignErrorsGetTheClosestReason) {
  EXPECT_EQ(ReasonOf(absl::DeadlineExceededError("late")), Reason::kDeadline);
  EXPECT_EQ(ReasonOf(absl::OkStatus()), Reason::kUnspecified);
  EXPECT_EQ(HintOf(absl::InternalError("x")), "");
}

TEST(StatusTest, ErrnoIsTranslatedOnce) {
  EXPECT_EQ(ReasonOf(ErrnoError(ENOENT, "open")), Reason::kModelNotFound);
  EXPECT_EQ(ReasonOf(ErrnoError(ELOOP, "open")), Reason::kSourceDenied);
  EXPECT_EQ(ErrnoError(EIO, "read a").message(), "read a: Input/output error");
}

}  // namespace
}  // namespace weightd
