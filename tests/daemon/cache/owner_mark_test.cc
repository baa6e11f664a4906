#include "daemon/cache/owner_mark.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace weightd::cache {
namespace {

std::string Name(absl::string_view mark, absl::string_view part = "weights") {
  return absl::StrCat("host.", mark, std::string(32 - mark.size(), '0'), ".", part);
}

TEST(OwnerMark, TellsFoldersApart) {
  const std::string ours = OwnerMark("/run/weightd");
  EXPECT_EQ(ours.size(), 16u);
  EXPECT_EQ(ours, OwnerMark("/run/weightd"));
  const std::string theirs = OwnerMark("/run/other");
  EXPECT_NE(ours, theirs);
  EXPECT_FALSE(IsOthers(Name(ours), {ours}));
  EXPECT_TRUE(IsOthers(Name(theirs), {ours}));
  EXPECT_TRUE(IsOthers(Name(theirs, "card"), {ours}));
  EXPECT_FALSE(IsOthers(Name(theirs), {ours, theirs}));
  EXPECT_TRUE(IsOthers(Name(theirs, "of-a-later-build"), {ours}));
}

TEST(OwnerMark, StaysTheSameFromBuildToBuild) {
  EXPECT_EQ(OwnerMark("/run/weightd"), "F66483B07FB3AB22");
}

TEST(OwnerMark, WhatHasNoneIsAnybodys) {
  const std::string ours = OwnerMark("/run/weightd");
  // As builds wrote them that gave no marks.
  EXPECT_FALSE(IsOthers("host.f0123456789abcdef0123456789abcde.weights", {ours}));
  for (const char* none : {"", "host", "host.F", "host.F.card", "x.y.z.w", "foreign"}) {
    EXPECT_FALSE(IsOthers(none, {ours})) << none;
  }
}

}  // namespace
}  // namespace weightd::cache
