#include "daemon/service/access.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status.h"

namespace weightd::service {
namespace {

bool Match(absl::string_view pattern, absl::string_view text) {
  const auto parsed = Pattern::Parse(pattern);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() && parsed->Matches(text);
}

Uri ParseUri(absl::string_view text) {
  auto uri = Uri::Parse(text);
  EXPECT_TRUE(uri.ok()) << uri.status();
  return *std::move(uri);
}

Access Limited(const AccessRules& rules) {
  auto access = Access::Limited(rules);
  EXPECT_TRUE(access.ok()) << access.status();
  return *std::move(access);
}

TEST(Pattern, StarStopsAtSlashes) {
  EXPECT_TRUE(Match("file:///models/*", "file:///models/a.safetensors"));
  EXPECT_TRUE(Match("file:///models/*", "file:///models/"));
  EXPECT_FALSE(Match("file:///models/*", "file:///models/a/b"));
  EXPECT_TRUE(Match("file:///models/*/b", "file:///models/a/b"));
  EXPECT_FALSE(Match("file:///models/*/b", "file:///models/b"));
  EXPECT_FALSE(Match("*", "a/b"));
}

TEST(Pattern, DoubleStarCrossesSlashes) {
  EXPECT_TRUE(Match("**", ""));
  EXPECT_TRUE(Match("**", "https://host/a/b"));
  EXPECT_TRUE(Match("https://host/**/x", "https://host/a/b/x"));
  EXPECT_FALSE(Match("https://host/**/x", "https://host/x"));
  EXPECT_TRUE(Match("https://host/***x", "https://host/x"));
  EXPECT_TRUE(Match("a**b*c", "a/x/b-c"));
  EXPECT_FALSE(Match("a**b*c", "a/x/b/c"));
}

TEST(Pattern, MatchesTheWholeTextAndNothingElse) {
  EXPECT_TRUE(Match("llama", "llama"));
  EXPECT_FALSE(Match("llama", "llama2"));
  EXPECT_FALSE(Match("llama", "allama"));
  EXPECT_FALSE(Match("llama", ""));
  EXPECT_FALSE(Match("https://host/*", "https://host.evil/x"));
  EXPECT_FALSE(Match("https://*.host/x", "https://evil/.host/x"));
  EXPECT_FALSE(Match("a.c", "abc"));
  EXPECT_FALSE(Match("[ab]?", "a1"));
  EXPECT_FALSE(Match("Llama", "llama"));
}

TEST(Pattern, RefusesNonsense) {
  for (const std::string& text : {std::string(), std::string("a\0b", 3), std::string("a\n"),
                                  std::string(kMaxPatternBytes + 1, 'a')}) {
    EXPECT_EQ(Pattern::Parse(text).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(Pattern, NeverTakesExponentialTime) {
  std::string pattern;
  for (int i = 0; i < 300; ++i) {
    pattern += "a**";
  }
  const absl::Time began = absl::Now();
  EXPECT_FALSE(Match(absl::StrCat(pattern, "b"), std::string(8000, 'a')));
  EXPECT_LT(absl::Now() - began, absl::Seconds(10));
}

TEST(Access, TheOwnUserMayDoAll) {
  const Decision decision = Access::Everything().Decide(ParseUri("file:///etc/passwd"), {});
  EXPECT_TRUE(decision.attach);
  EXPECT_TRUE(decision.load);
  EXPECT_TRUE(decision.policy.any_path);
  EXPECT_TRUE(decision.policy.any_address);
  EXPECT_FALSE(decision.policy.unpinned);
}

TEST(Access, NothingIsAllowedThatNoPatternNames) {
  const Decision decision = Limited({}).Decide(ParseUri("file:///m"), {"m"});
  EXPECT_FALSE(decision.attach);
  EXPECT_FALSE(decision.load);
  EXPECT_FALSE(decision.visible());
}

TEST(Access, RightsAreSeparate) {
  const Access access = Limited({.attach = {"https://host/a/**"},
                                 .load_configured = {"https://host/b/**"},
                                 .load = {"https://host/c/**"}});
  const Decision a = access.Decide(ParseUri("https://host/a/x"), {"x"});
  EXPECT_TRUE(a.attach);
  EXPECT_FALSE(a.load);
  const Decision b = access.Decide(ParseUri("https://host/b/x"), {"x"});
  EXPECT_FALSE(b.attach);
  EXPECT_TRUE(b.load);
  EXPECT_FALSE(access.Decide(ParseUri("https://host/b/x"), {}).load);
  const Decision c = access.Decide(ParseUri("https://host/c/x"), {});
  EXPECT_FALSE(c.attach);
  EXPECT_TRUE(c.load);
}

TEST(Access, LimitedListenersNeverReachBeyondTheConfig) {
  const Decision decision = Limited({.attach = {"**"}, .load_configured = {"**"}, .load = {"**"}})
                                .Decide(ParseUri("file:///x"), {"x"});
  EXPECT_TRUE(decision.load);
  EXPECT_FALSE(decision.policy.any_path);
  EXPECT_FALSE(decision.policy.any_address);
  EXPECT_FALSE(decision.policy.unpinned);
}

TEST(Access, AliasesMatchToo) {
  const Access access = Limited({.attach = {"team-*"}, .load_configured = {"team-*"}});
  const Uri uri = ParseUri("file:///m/x");
  EXPECT_TRUE(access.Decide(uri, {"other", "team-x"}).attach);
  EXPECT_TRUE(access.Decide(uri, {"other", "team-x"}).load);
  EXPECT_FALSE(access.Decide(uri, {"other"}).attach);
  EXPECT_FALSE(access.Decide(uri, {}).attach);
}

TEST(Access, FoldersMatchWithAndWithoutTheirSlash) {
  const Access access = Limited({.attach = {"file:///models/*"}});
  EXPECT_TRUE(access.Decide(ParseUri("file:///models/a/"), {}).attach);
  EXPECT_TRUE(access.Decide(ParseUri("file:///models/a"), {}).attach);
  EXPECT_FALSE(access.Decide(ParseUri("file:///models/a/b"), {}).attach);
}

TEST(Access, SecretsAndSpellingsDoNotCount) {
  const Access access = Limited({.attach = {"https://host/m*"}});
  EXPECT_TRUE(access.Decide(ParseUri("HTTPS://user:pw@HOST:443/%6d1?sig=/x"), {}).attach);
  EXPECT_FALSE(access.Decide(ParseUri("https://host@evil/m1"), {}).attach);
  EXPECT_FALSE(access.Decide(ParseUri("https://evil/?https://host/m1"), {}).attach);
}

TEST(Access, WhatIsDeniedIsNotThere) {
  const Access access = Limited({.attach = {"**"},
                                 .load_configured = {"**"},
                                 .load = {"**"},
                                 .deny = {"secret-*", "https://host/private/**"}});
  EXPECT_FALSE(access.Decide(ParseUri("https://host/private/m"), {}).visible());
  EXPECT_FALSE(access.Decide(ParseUri("https://host/private/m"), {"public"}).visible());
  EXPECT_FALSE(access.Decide(ParseUri("https://host/m"), {"public", "secret-m"}).visible());
  EXPECT_FALSE(access.Decide(ParseUri("https://host/m/a"), {}, {"secret-m"}).visible());
  EXPECT_TRUE(access.Decide(ParseUri("https://host/m"), {"public"}).attach);
  EXPECT_TRUE(access.Decide(ParseUri("https://host/m"), {}).load);
}

TEST(Access, WithAFolderAllInItIsDenied) {
  for (const char* pattern : {"file:///models/a", "file:///models/a/", "file:///models/*"}) {
    const Access access = Limited({.attach = {"**"}, .deny = {pattern}});
    for (const char* denied : {"file:///models/a", "file:///models/a/", "file:///models/a/b",
                               "file:///models/a/b/c.safetensors"}) {
      EXPECT_FALSE(access.Decide(ParseUri(denied), {}).visible()) << pattern << " " << denied;
    }
    EXPECT_TRUE(access.Decide(ParseUri("file:///model"), {}).visible()) << pattern;
  }
  const Access access = Limited({.attach = {"**"}, .deny = {"file:///models/a", "https://host"}});
  EXPECT_TRUE(access.Decide(ParseUri("file:///models/ab"), {}).visible());
  EXPECT_TRUE(access.Decide(ParseUri("file:///models"), {}).visible());
  EXPECT_FALSE(access.Decide(ParseUri("https://host/m"), {}).visible());
  EXPECT_TRUE(access.Decide(ParseUri("https://host.example/m"), {}).visible());
}

TEST(Access, DenyingEveryNameDeniesNoUri) {
  const Access access = Limited({.attach = {"**"}, .deny = {"*"}});
  EXPECT_TRUE(access.Decide(ParseUri("https://host/m"), {}).visible());
  EXPECT_FALSE(access.Decide(ParseUri("https://host/m"), {"m"}).visible());
}

TEST(Access, TheOwnUserMayDoAllButWhatIsDenied) {
  const absl::StatusOr<Access> access = Access::EverythingBut({"file:///etc/*"});
  ASSERT_TRUE(access.ok()) << access.status();
  EXPECT_FALSE(access->Decide(ParseUri("file:///etc/passwd"), {}).visible());
  const Decision decision = access->Decide(ParseUri("file:///m"), {});
  EXPECT_TRUE(decision.attach && decision.load && decision.policy.any_path);
  EXPECT_FALSE(access->everything());
  EXPECT_TRUE(Access::Everything().everything());
  EXPECT_FALSE(Access::EverythingBut({""}).ok());
}

TEST(Access, PatternsMatchHoweverTheyAreWritten) {
  const Access access =
      Limited({.attach = {"**"},
               .deny = {"/my models/a.safetensors", "HTTPS://Models.Example:443/%70rivate/**"}});
  EXPECT_FALSE(access.Decide(ParseUri("file:///my%20models/a.safetensors"), {}).visible());
  EXPECT_FALSE(access.Decide(ParseUri("https://models.example/private/x"), {}).visible());
  EXPECT_FALSE(access.Decide(ParseUri("https://models.example./private/x"), {}).visible());
  EXPECT_TRUE(access.Decide(ParseUri("https://models.example/public/x"), {}).visible());
}

TEST(Access, RefusesBadPatterns) {
  EXPECT_FALSE(Access::Limited({.deny = {"https://host/x?y"}}).ok());
  EXPECT_EQ(ReasonOf(Access::Limited({.deny = {""}}).status()), Reason::kInvalidArgument);
  EXPECT_EQ(ReasonOf(Access::Limited({.load = {""}}).status()), Reason::kInvalidArgument);
}

TEST(Access, CredentialsOfTheConfigTakeTheRightToConfiguredModels) {
  const Access access = Limited({.load_configured = {"public"}, .load = {"http://h/**"}});
  const absl::StatusOr<Uri> secret = Uri::Parse("http://user:word@h/m");
  const absl::StatusOr<Uri> plain = Uri::Parse("http://h/m");
  ASSERT_TRUE(secret.ok() && plain.ok());
  EXPECT_FALSE(access.Decide(*secret, {"private"}).load);
  EXPECT_TRUE(access.Decide(*secret, {"public"}).load);
  EXPECT_TRUE(access.Decide(*secret, {}).load) << "a client's own credentials";
  EXPECT_TRUE(access.Decide(*plain, {"private"}).load);
}

}  // namespace
}  // namespace weightd::service
