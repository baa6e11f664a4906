#include "common/uri.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/match.h"
#include "common/status.h"

namespace weightd {
namespace {

std::string Normal(absl::string_view text) {
  absl::StatusOr<Uri> uri = Uri::Parse(text);
  return uri.ok() ? uri->ToString() : std::string("refused");
}

TEST(UriTest, SpellingsOfOnePlaceAreEqual) {
  EXPECT_EQ(Normal("HTTP://Example.COM:80/a/./b//c.safetensors"),
            "http://example.com/a/b/c.safetensors");
  EXPECT_EQ(Normal("https://example.com:443"), "https://example.com/");
  EXPECT_EQ(Normal("http://example.com/%7Emodel%2a"), "http://example.com/~model%2A");
  EXPECT_EQ(Normal("file://localhost/models/a"), "file:///models/a");
  EXPECT_EQ(Normal("file:/models/a"), "file:///models/a");
  EXPECT_EQ(Normal("/models/a b%"), "file:///models/a%20b%25");
  EXPECT_EQ(Normal("/models/."), "file:///models/");
  EXPECT_EQ(Normal("http://[::1]:8080/x"), "http://[::1]:8080/x");
}

TEST(UriTest, ReservedCharactersKeepTheirSpelling) {
  EXPECT_NE(Normal("http://h/a+b"), Normal("http://h/a%2Bb"));
  EXPECT_EQ(Normal("http://h/a?X=%2f&Y=+"), "http://h/a?X=%2f&Y=+");
}

TEST(UriTest, LongOnesAreRefused) {
  const std::string longest = "http://h/" + std::string(8192 - 9, 'a');
  EXPECT_EQ(Normal(longest), longest);
  for (const std::string& text : {longest + "a", "/" + std::string(8192, 'a')}) {
    const absl::Status refused = Uri::Parse(text).status();
    EXPECT_EQ(ReasonOf(refused), Reason::kInvalidUri);
    EXPECT_NE(HintOf(refused), "");
    EXPECT_LT(refused.message().size(), 200u);
  }
}

TEST(UriTest, PathsThatCouldLeadElsewhereAreRefused) {
  for (absl::string_view text :
       {"/models/../etc/passwd", "file:///models/..", "file:///models/%2e%2e/x", "file:///a/.%2E/b",
        "file:///a%2fb", "file:///a%5Cb", "file:///a%00", "file:///a%0a", "http://h/a/%2E%2e/b",
        "/a\\b", "file:///a%", "file:///a%zz"}) {
    EXPECT_EQ(Normal(text), "refused") << text;
  }
}

TEST(UriTest, WhatIsNoUriIsRefused) {
  for (absl::string_view text :
       {"", "model", "ftp://h/x", "http://", "http:///x", "http://h:0/", "http://h:99999/",
        "http://h:+8/", "http://h/#f", "file://host/x", "file:x", "file:///x?y", "http://a b/",
        "http://h%2e/", "http://[::1/x", "http://h/\n"}) {
    absl::StatusOr<Uri> uri = Uri::Parse(text);
    ASSERT_FALSE(uri.ok()) << text;
    EXPECT_EQ(ReasonOf(uri.status()), Reason::kInvalidUri) << text;
    EXPECT_FALSE(HintOf(uri.status()).empty()) << text;
  }
}

TEST(UriTest, RedactedHasNoSecrets) {
  absl::StatusOr<Uri> uri =
      Uri::Parse("https://me:secret@h:8443/m.safetensors?X-Amz-Signature=secret");
  ASSERT_TRUE(uri.ok());
  EXPECT_EQ(uri->Redacted(), "https://h:8443/m.safetensors");
  EXPECT_EQ(uri->user_info(), "me:secret");
  EXPECT_EQ(uri->authority(), "h:8443");
}

TEST(UriTest, TheRootsDotNamesTheSameHost) {
  EXPECT_EQ(Uri::Parse("http://Host.:8080/m").value(), Uri::Parse("http://host:8080/m").value());
  EXPECT_EQ(Uri::Parse("http://host./m")->Redacted(), "http://host/m");
  EXPECT_FALSE(Uri::Parse("http://./m").ok());
  EXPECT_FALSE(Uri::Parse("http://host../m").ok());
}

TEST(UriTest, AnS3UriHasNoUserInfo) {
  const absl::Status status = Uri::Parse("s3://me:secret@bucket/key").status();
  EXPECT_EQ(ReasonOf(status), Reason::kInvalidUri);
  EXPECT_TRUE(absl::StrContains(status.message(), "user name")) << status;
  EXPECT_FALSE(absl::StrContains(status.ToString(), "secret")) << status;
  EXPECT_TRUE(absl::StrContains(HintOf(status), "configuration")) << status;
}

TEST(UriTest, ChildStaysInItsFolder) {
  absl::StatusOr<Uri> folder = Uri::Parse("http://h/models/llama?token=x");
  ASSERT_TRUE(folder.ok());
  absl::StatusOr<Uri> child = folder->Child("sub/model 1.safetensors");
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(child->ToString(), "http://h/models/llama/sub/model%201.safetensors?token=x");
  EXPECT_EQ(child->FileName(), "model 1.safetensors");
  EXPECT_EQ(child->DecodedPath(), "/models/llama/sub/model 1.safetensors");
  for (absl::string_view name : {"", "/x", "../x", "a/../x", "a//b", "./a", "a/", "a\\b"}) {
    EXPECT_FALSE(folder->Child(name).ok()) << name;
  }
}

}  // namespace
}  // namespace weightd
