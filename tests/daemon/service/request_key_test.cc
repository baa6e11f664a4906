#include "daemon/service/request_key.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "common/status.h"

namespace weightd::service {
namespace {

TEST(RequestKeyTest, MostRequestsHaveNone) {
  v1::PreloadRequest request;
  const auto key = TakeKey(request);
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_FALSE(key->has_value());
}

TEST(RequestKeyTest, TakesKeysAndPasswords) {
  v1::PreloadRequest request;
  request.mutable_secret()->set_key(std::string(32, '\0'));
  const auto key = TakeKey(request);
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_EQ((*key)->secret.bytes(), std::string(32, '\0'));
  EXPECT_FALSE((*key)->password);
  request.mutable_secret()->set_password("correct horse");
  const auto password = TakeKey(request);
  ASSERT_TRUE(password.ok()) << password.status();
  EXPECT_EQ((*password)->secret.bytes(), "correct horse");
  EXPECT_TRUE((*password)->password);
}

TEST(RequestKeyTest, LeavesNothingOfItInTheMessage) {
  for (const size_t size : {32, 33}) {
    v1::PreloadRequest request;
    request.mutable_secret()->set_key(std::string(size, 'k'));
    const std::string& left = request.secret().key();
    const char* const begin = left.data();
    EXPECT_EQ(TakeKey(request).ok(), size == 32);
    EXPECT_EQ(left.data(), begin);
    EXPECT_TRUE(left.empty());
    // What an empty string keeps is its own.
    EXPECT_TRUE(std::all_of(begin, begin + left.capacity(), [](char c) { return c != 'k'; }));
  }
}

TEST(RequestKeyTest, RefusesOthersAndDoesNotShowThem) {
  const auto refusal = [](const v1::Secret& secret) {
    v1::PreloadRequest request;
    *request.mutable_secret() = secret;
    const absl::Status status = TakeKey(request).status();
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument) << status;
    EXPECT_FALSE(HintOf(status).empty());
    EXPECT_FALSE(absl::StrContains(status.ToString(), "kkk"));
    return std::string(status.message());
  };
  v1::Secret secret;
  EXPECT_EQ(refusal(secret), "the secret of the request is empty");
  for (const size_t size : {0, 31, 33, 64}) {
    secret.set_key(std::string(size, 'k'));
    EXPECT_TRUE(absl::StrContains(refusal(secret), "key of the request has"));
  }
  for (const size_t size : {0, 4097}) {
    secret.set_password(std::string(size, 'k'));
    EXPECT_TRUE(absl::StrContains(refusal(secret), "password of the request has"));
  }
}

}  // namespace
}  // namespace weightd::service
