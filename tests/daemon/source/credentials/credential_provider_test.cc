// Which place credentials come from, when several could give them.

#include "daemon/source/credentials/credential_provider.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "tests/daemon/source/credentials/fake_environment.h"
#include "tests/servers/handler_server.h"
#include "tests/servers/metadata_server.h"

namespace weightd::source {
namespace {

using testing::HasSubstr;

std::string Json(const std::string& key) {
  return absl::StrCat("{\"AccessKeyId\": \"", key, "\", \"SecretAccessKey\": \"hush\"}");
}

class CredentialProviderTest : public testing::Test {
 protected:
  std::string Get(CredentialProvider& provider) {
    Cancellation cancellation;
    const absl::StatusOr<std::optional<Credentials>> got = provider.Get(cancellation);
    if (!got.ok()) {
      return std::string(got.status().message());
    }
    return got->has_value() ? (*got)->access_key_id : "none";
  }
  std::string Get() { return Get(*MakeCredentialProvider(options_, environment_.Get())); }

  FakeEnvironment environment_;
  CredentialOptions options_;
  MetadataServer metadata_{{.credentials = {.body = Json("metadata")}}};
  HandlerServer service_{
      [](const ServiceRequest&) { return ServiceReply{.body = Json("container")}; }};
  HandlerServer sts_{[](const ServiceRequest&) {
    return ServiceReply{
        .body =
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
            "<AccessKeyId>web</AccessKeyId><SecretAccessKey>hush</SecretAccessKey>"
            "<SessionToken>T</SessionToken><Expiration>2130-01-02T03:04:05Z</Expiration>"
            "</Credentials></AssumeRoleWithWebIdentityResult>"
            "</AssumeRoleWithWebIdentityResponse>"};
  }};
};

TEST_F(CredentialProviderTest, TheFirstPlaceThatIsConfigured) {
  EXPECT_EQ(Get(), "none");
  environment_.Set("AWS_EC2_METADATA_DISABLED", "false");
  environment_.Set("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata_.Url());
  EXPECT_EQ(Get(), "metadata");
  environment_.Set("AWS_CONTAINER_CREDENTIALS_FULL_URI", service_.Url("/"));
  EXPECT_EQ(Get(), "container");
  environment_.Set("AWS_WEB_IDENTITY_TOKEN_FILE", environment_.Write("token", "hush"));
  environment_.Set("AWS_ROLE_ARN", "arn");
  environment_.Set("AWS_ENDPOINT_URL_STS", sts_.Url());
  EXPECT_EQ(Get(), "web");
  environment_.Write(".s3cfg", "[default]\naccess_key = s3cmd\nsecret_key = hush\n");
  EXPECT_EQ(Get(), "s3cmd");
  environment_.Write(".aws/credentials",
                     "[default]\naws_access_key_id = profile\naws_secret_access_key = hush\n");
  EXPECT_EQ(Get(), "profile");
  environment_.Set("AWS_ACCESS_KEY_ID", "environment");
  environment_.Set("AWS_SECRET_ACCESS_KEY", "hush");
  EXPECT_EQ(Get(), "environment");
  options_.given.access_key_id = "given";
  options_.given.secret_key_file = environment_.Write("secret", "hush");
  EXPECT_EQ(Get(), "given");
}

TEST_F(CredentialProviderTest, WhatIsConfiguredAndBrokenIsNotPassedOver) {
  environment_.Write(".s3cfg", "[default]\naccess_key = s3cmd\nsecret_key = hush\n");
  environment_.Write(".aws/credentials", "[default]\naws_access_key_id = profile\n");
  EXPECT_THAT(Get(), HasSubstr("AWS profile \"default\": the secret access key is missing"));
  environment_.Set("AWS_ACCESS_KEY_ID", "environment");
  EXPECT_THAT(Get(), HasSubstr("AWS_ACCESS_KEY_ID"));
  options_.given.access_key_id = "given";
  options_.given.secret_key_file = environment_.Path("secret");
  EXPECT_THAT(Get(), HasSubstr("the configuration's credentials"));
}

TEST_F(CredentialProviderTest, AMountedSecretThatChangesIsReadAgain) {
  options_.given.access_key_id = "given";
  options_.given.secret_key_file = environment_.Write("secret", "hush1");
  const auto provider = MakeCredentialProvider(options_, environment_.Get());
  Cancellation cancellation;
  EXPECT_EQ((*provider->Get(cancellation))->secret_access_key, "hush1");
  environment_.Write("secret", "hush2");
  EXPECT_EQ((*provider->Get(cancellation))->secret_access_key, "hush2");
}

TEST_F(CredentialProviderTest, ThePlaceStays) {
  environment_.Write(".s3cfg", "[default]\naccess_key = s3cmd\nsecret_key = hush\n");
  const auto provider = MakeCredentialProvider(options_, environment_.Get());
  EXPECT_EQ(Get(*provider), "s3cmd");
  environment_.Write(".aws/credentials",
                     "[default]\naws_access_key_id = profile\naws_secret_access_key = hush\n");
  Cancellation cancellation;
  const Credentials used = **provider->Get(cancellation);
  provider->Invalidate(used);
  EXPECT_EQ(Get(*provider), "s3cmd");
  environment_.Write(".s3cfg", "[default]\n");
  provider->Invalidate(used);
  EXPECT_THAT(Get(*provider), HasSubstr("gives no credentials any more"));
}

}  // namespace
}  // namespace weightd::source
