// Credentials that services give: what they are asked, and what is made of their answers.

#include "daemon/source/credentials/credential_services.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "tests/daemon/source/credentials/fake_environment.h"
#include "tests/servers/handler_server.h"
#include "tests/servers/loopback_server.h"
#include "tests/servers/metadata_server.h"

namespace weightd::source {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr char kExpiration[] = "2030-01-02T03:04:05Z";

std::string Document(const std::string& key) {
  return absl::StrCat("{\"Code\": \"Success\", \"AccessKeyId\": \"", key,
                      "\", \"SecretAccessKey\": \"hush\", \"Token\": \"T\", \"Expiration\": \"",
                      kExpiration, "\"}");
}

class CredentialServicesTest : public testing::Test {
 protected:
  // "key secret token", "none", or the error's message. No error holds what the tests call hush.
  std::string Fetch(CredentialSource& source) {
    Cancellation cancellation;
    const absl::StatusOr<std::optional<FetchedCredentials>> got = source.Fetch(cancellation);
    status_ = got.status();
    if (!got.ok()) {
      EXPECT_THAT(got.status().ToString(), testing::Not(HasSubstr("hush")));
      EXPECT_FALSE(HintOf(got.status()).empty()) << got.status();
      return std::string(got.status().message());
    }
    if (!got->has_value()) {
      return "none";
    }
    const Credentials& credentials = (*got)->credentials;
    expires_ = credentials.expires;
    return absl::StrCat(credentials.access_key_id, " ", credentials.secret_access_key, " ",
                        credentials.session_token);
  }

  FakeEnvironment environment_;
  absl::Status status_;
  absl::Time expires_;
};

// What all services may do wrong; `fetch` asks one whose answer is `reply`.
void ExpectFaultsRefused(const std::function<std::string(ServiceReply reply)>& fetch) {
  EXPECT_THAT(fetch({.body = "hush"}), HasSubstr("the answer is no"));
  EXPECT_THAT(fetch({.body = ""}), HasSubstr("the answer is no"));
  EXPECT_THAT(fetch({.body = "\xff\xfe"}), HasSubstr("the answer is no"));
  EXPECT_THAT(fetch({.body = std::string(100'000, 'x')}), HasSubstr("more than 65536 bytes"));
  EXPECT_THAT(fetch({.status = 302, .headers = {"Location: http://127.0.0.1:1/hush"}}),
              HasSubstr("answers 302"));
  EXPECT_THAT(fetch({.status = 401, .body = "hush"}), HasSubstr("answers 401"));
  EXPECT_THAT(fetch({.status = 500, .body = "hush"}), HasSubstr("answers 500"));
}

class MetadataTest : public CredentialServicesTest {
 protected:
  MetadataTest() {
    environment_.Set("AWS_EC2_METADATA_DISABLED", "");
    environment_.Set("AWS_EC2_METADATA_SERVICE_ENDPOINT", server_.Url() + "/");
    environment_.Set("http_proxy", "http://127.0.0.1:1");
  }
  std::string FromMetadata() { return Fetch(*MakeMetadataSource(environment_.Get())); }

  MetadataServer::Behaviour behaviour_ = {.credentials = {.body = Document("M")}};
  MetadataServer server_{behaviour_};
};

TEST_F(MetadataTest, TheInstancesRoleByVersion2) {
  EXPECT_EQ(FromMetadata(), "M hush T");
  EXPECT_EQ(absl::FormatTime(expires_, absl::UTCTimeZone()), "2030-01-02T03:04:05+00:00");
  ASSERT_EQ(server_.server().requests().size(), 3);
  EXPECT_EQ(server_.server().requests()[0].method, "PUT");
}

TEST_F(MetadataTest, Version1IsNotAsked) {
  behaviour_.version_1_only = true;
  server_.Become(behaviour_);
  EXPECT_THAT(FromMetadata(), AllOf(HasSubstr("gives no token (version 2)"), HasSubstr("405")));
  EXPECT_THAT(HintOf(status_), HasSubstr("AWS_EC2_METADATA_DISABLED=true"));
  for (const ServiceRequest& request : server_.server().requests()) {
    EXPECT_EQ(request.path, "/latest/api/token");
  }
}

TEST_F(MetadataTest, ATokenThatGetsLostIsNotWaitedForLong) {
  behaviour_.lose_token = true;
  server_.Become(behaviour_);
  const absl::Time begin = absl::Now();
  EXPECT_THAT(FromMetadata(), HasSubstr("doesn't answer a request for a token"));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
  EXPECT_THAT(HintOf(status_), HasSubstr("HttpPutResponseHopLimit"));
  EXPECT_EQ(ReasonOf(status_), Reason::kSourceUnavailable);
}

TEST_F(MetadataTest, WhatNobodyConfiguredIsNone) {
  behaviour_.role = "";
  server_.Become(behaviour_);
  EXPECT_EQ(FromMetadata(), "none") << "no role";
  behaviour_.switched_off = true;
  server_.Become(behaviour_);
  EXPECT_EQ(FromMetadata(), "none") << "switched off";
  const size_t before = server_.server().requests().size();
  environment_.Set("AWS_EC2_METADATA_DISABLED", "TRUE");
  EXPECT_EQ(FromMetadata(), "none") << "forbidden";
  EXPECT_EQ(server_.server().requests().size(), before);
}

TEST_F(MetadataTest, ANamedServiceThatIsNotThereIsAnError) {
  environment_.Set("AWS_EC2_METADATA_SERVICE_ENDPOINT",
                   absl::StrCat("http://127.0.0.1:", UnusedPort()));
  EXPECT_THAT(FromMetadata(), HasSubstr("the instance metadata service"));
  EXPECT_EQ(ReasonOf(status_), Reason::kSourceUnavailable);
  environment_.Set("AWS_EC2_METADATA_SERVICE_ENDPOINT", "file:///etc/hush");
  EXPECT_THAT(FromMetadata(), HasSubstr("AWS_EC2_METADATA_SERVICE_ENDPOINT is no http"));
}

TEST_F(MetadataTest, FaultyAnswers) {
  ExpectFaultsRefused([this](ServiceReply reply) {
    behaviour_.credentials = std::move(reply);
    server_.Become(behaviour_);
    return FromMetadata();
  });
  behaviour_.credentials = {.body = "{\"Code\": \"AssumeRoleUnauthorizedAccess\"}"};
  server_.Become(behaviour_);
  EXPECT_THAT(FromMetadata(), HasSubstr("its code is \"AssumeRoleUnauthorizedAccess\""));
  behaviour_.credentials = {.body = "{\"Code\": \"hush hush\"}"};
  server_.Become(behaviour_);
  EXPECT_THAT(FromMetadata(), HasSubstr("its code is \"\""));
  behaviour_.role = "../../token";
  server_.Become(behaviour_);
  EXPECT_THAT(FromMetadata(), HasSubstr("no role's name"));
}

TEST_F(MetadataTest, ACancellationEndsIt) {
  behaviour_.credentials.silent = true;
  server_.Become(behaviour_);
  Cancellation cancellation;
  absl::Time cancelled;
  std::thread canceller([&] {
    EXPECT_TRUE(server_.server().AwaitRequests(3));
    cancelled = absl::Now();
    cancellation.Cancel(Error(Reason::kCancelled, "nobody waits"));
  });
  const absl::Status status = MakeMetadataSource(environment_.Get())->Fetch(cancellation).status();
  canceller.join();
  EXPECT_EQ(status.message(), "nobody waits");
  EXPECT_LT(absl::Now() - cancelled, absl::Milliseconds(500)) << "its own patience is a second";
}

class ContainerTest : public CredentialServicesTest {
 protected:
  std::string FromContainer() {
    return Fetch(*MakeContainerSource(environment_.Get(), server_.Url()));
  }

  HandlerServer server_{ServiceReply{.body = Document("C")}};
};

TEST_F(ContainerTest, ByTheRelativeUri) {
  EXPECT_EQ(FromContainer(), "none");
  environment_.Set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1");
  environment_.Set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/");
  environment_.Set("http_proxy", "http://127.0.0.1:1");
  EXPECT_EQ(FromContainer(), "C hush T");
  EXPECT_EQ(server_.requests()[0].path, "/v2/credentials/1");
  EXPECT_EQ(server_.requests()[0].Header("authorization"), "");
  environment_.Set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@elsewhere/");
  EXPECT_THAT(FromContainer(), HasSubstr("does not begin with"));
}

TEST_F(ContainerTest, TheTokenFileIsReadEachTimeAndGoesFirst) {
  environment_.Set("AWS_CONTAINER_CREDENTIALS_FULL_URI", server_.Url("/creds"));
  environment_.Set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Bearer hush0");
  EXPECT_EQ(FromContainer(), "C hush T");
  environment_.Set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                   environment_.Write("token", "hush1\n"));
  const std::unique_ptr<CredentialSource> source = MakeContainerSource(environment_.Get());
  EXPECT_EQ(Fetch(*source), "C hush T");
  environment_.Write("token", "hush2");
  EXPECT_EQ(Fetch(*source), "C hush T");
  std::vector<std::string> sent;
  for (const ServiceRequest& request : server_.requests()) {
    EXPECT_EQ(request.path, "/creds");
    sent.push_back(request.Header("authorization"));
  }
  EXPECT_THAT(sent, testing::ElementsAre("Bearer hush0", "hush1", "hush2"));
  environment_.Write("token", "hush\r\nHost: elsewhere");
  EXPECT_THAT(Fetch(*source), HasSubstr("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: holds no token"));
  environment_.Set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", environment_.Path("missing"));
  EXPECT_THAT(FromContainer(), HasSubstr("missing"));
  environment_.Set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "");
  environment_.Set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hush\r\nHost: elsewhere");
  EXPECT_THAT(FromContainer(), HasSubstr("more than one line"));
}

TEST_F(ContainerTest, WithoutTlsOnlyAddressesOfAgentsAreAsked) {
  environment_.Set("AWS_CONTAINER_CREDENTIALS_FULL_URI",
                   absl::StrCat("http://localhost:", server_.port(), "/creds"));
  EXPECT_EQ(FromContainer(), "C hush T");
  // Addresses for documentation (RFC 5737), which would take seconds to fail.
  for (const char* const url :
       {"http://192.0.2.1/creds", "http://169.254.169.254/creds", "HTTP://[fd00:ec2::254]/creds"}) {
    environment_.Set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
    EXPECT_THAT(FromContainer(), HasSubstr("an address that may not be asked")) << url;
    EXPECT_EQ(ReasonOf(status_), Reason::kAddressRefused);
  }
  for (const char* const url : {"ftp://127.0.0.1/", "127.0.0.1/creds", "http://hush@127.0.0.1/"}) {
    environment_.Set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
    EXPECT_THAT(FromContainer(), HasSubstr("AWS_CONTAINER_CREDENTIALS_FULL_URI is no http"));
  }
}

TEST_F(ContainerTest, WithoutTlsNoProxyIsAsked) {
  environment_.Set("http_proxy", server_.Url());
  environment_.Set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/creds");
  EXPECT_THAT(FromContainer(), HasSubstr("an address that may not be asked"));
  EXPECT_TRUE(server_.requests().empty()) << "it would see the token";
}

TEST_F(ContainerTest, FaultyAnswers) {
  environment_.Set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/creds");
  ExpectFaultsRefused([this](ServiceReply reply) {
    server_.Reply(std::move(reply));
    return FromContainer();
  });
  server_.Reply({.body = "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"hush\\r\\n\"}"});
  EXPECT_THAT(FromContainer(), HasSubstr("the secret access key is none"));
  server_.Reply({.body = "{\"AccessKeyId\": \"A\"}"});
  EXPECT_THAT(FromContainer(), HasSubstr("the secret access key is missing"));
  server_.Reply({.body = "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"hush\", "
                         "\"Expiration\": \"hush\"}"});
  EXPECT_THAT(FromContainer(), HasSubstr("the expiration is no time"));
  server_.Reply({.body = "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"hush\"}"});
  EXPECT_EQ(FromContainer(), "A hush ");
  EXPECT_EQ(expires_, absl::InfiniteFuture());
}

std::string StsDocument(absl::string_view key) {
  return absl::StrCat(
      "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"
      "<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>",
      key, "</AccessKeyId><SecretAccessKey>hush&amp;</SecretAccessKey><SessionToken>T\n",
      "</SessionToken><Expiration>", kExpiration,
      "</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
      "</AssumeRoleWithWebIdentityResponse>");
}

class WebIdentityTest : public CredentialServicesTest {
 protected:
  WebIdentityTest() {
    environment_.Set("AWS_WEB_IDENTITY_TOKEN_FILE", environment_.Write("token", "hush.1\n"));
    environment_.Set("AWS_ROLE_ARN", "arn:aws:iam::1:role/r");
    environment_.Set("AWS_ENDPOINT_URL_STS", server_.Url("/"));
  }
  std::string FromWebIdentity(const std::string& region = "") {
    return Fetch(*MakeWebIdentitySource(environment_.Get(), region));
  }

  HandlerServer server_{ServiceReply{.body = StsDocument("W")}};
};

TEST_F(WebIdentityTest, TheTokenIsReadEachTime) {
  // Nothing that is local is asked through a proxy.
  environment_.Set("http_proxy", "http://127.0.0.1:1");
  const std::unique_ptr<CredentialSource> source = MakeWebIdentitySource(environment_.Get(), "");
  EXPECT_EQ(Fetch(*source), "W hush& T");
  EXPECT_EQ(absl::FormatTime(expires_, absl::UTCTimeZone()), "2030-01-02T03:04:05+00:00");
  server_.Reply({.status = 400,
                 .body =
                     "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code>"
                     "<Message>hush</Message></Error></ErrorResponse>"});
  EXPECT_THAT(Fetch(*source), HasSubstr("400: ExpiredTokenException"));
  EXPECT_EQ(ReasonOf(status_), Reason::kSourceDenied);
  environment_.Write("token", "hush.2+/");
  environment_.Set("AWS_ROLE_SESSION_NAME", "node 1");
  server_.Reply({.body = StsDocument("X")});
  EXPECT_EQ(Fetch(*source), "X hush& T");
  const std::vector<ServiceRequest> requests = server_.requests();
  ASSERT_EQ(requests.size(), 3);
  EXPECT_EQ(requests[0].method, "POST");
  EXPECT_EQ(requests[0].Header("content-type"), "application/x-www-form-urlencoded");
  EXPECT_EQ(requests[0].body,
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1"
            "%3Arole%2Fr&RoleSessionName=weightd&WebIdentityToken=hush.1");
  EXPECT_TRUE(
      absl::EndsWith(requests[2].body, "&RoleSessionName=node%201&WebIdentityToken=hush.2%2B%2F"));
}

TEST_F(WebIdentityTest, TheStsOfTheRegionThroughTheProxy) {
  // The server is the proxy: CONNECT names who would be asked.
  environment_.Set("AWS_ENDPOINT_URL_STS", "");
  environment_.Set("https_proxy", server_.Url());
  server_.Reply({.status = 502});
  for (const std::string region : {"eu-west-1", "cn-north-1", ""}) {
    FromWebIdentity(region);
  }
  environment_.Set("AWS_DEFAULT_REGION", "us-west-2");
  FromWebIdentity();
  environment_.Set("AWS_REGION", "us-east-2");
  FromWebIdentity();
  std::vector<std::string> asked;
  for (const ServiceRequest& request : server_.requests()) {
    EXPECT_EQ(request.method, "CONNECT");
    if (asked.empty() || asked.back() != request.path) {
      asked.push_back(request.path);
    }
  }
  EXPECT_THAT(asked, testing::ElementsAre(
                         "sts.eu-west-1.amazonaws.com:443", "sts.cn-north-1.amazonaws.com.cn:443",
                         "sts.amazonaws.com:443", "sts.us-west-2.amazonaws.com:443",
                         "sts.us-east-2.amazonaws.com:443"));
}

TEST_F(WebIdentityTest, WhatIsMissing) {
  environment_.Set("AWS_ROLE_ARN", "");
  EXPECT_THAT(FromWebIdentity(), HasSubstr("AWS_ROLE_ARN is not set"));
  environment_.Set("AWS_ROLE_ARN", "arn");
  environment_.Write("token", "");
  EXPECT_THAT(FromWebIdentity(), HasSubstr("AWS_WEB_IDENTITY_TOKEN_FILE: holds no token"));
  environment_.Set("AWS_WEB_IDENTITY_TOKEN_FILE", environment_.Path("missing"));
  EXPECT_THAT(FromWebIdentity(), HasSubstr("missing"));
  environment_.Set("AWS_WEB_IDENTITY_TOKEN_FILE", "");
  EXPECT_EQ(FromWebIdentity(), "none");
  EXPECT_TRUE(server_.requests().empty());
}

TEST_F(WebIdentityTest, FaultyAnswers) {
  ExpectFaultsRefused([this](ServiceReply reply) {
    server_.Reply(std::move(reply));
    return FromWebIdentity();
  });
  server_.Reply({.body = "<AssumeRoleWithWebIdentityResponse/>"});
  EXPECT_THAT(FromWebIdentity(), HasSubstr("the expiration is no time"));
  server_.Reply({.body = "<!DOCTYPE a [<!ENTITY b \"hush\">]><a>&b;</a>"});
  EXPECT_THAT(FromWebIdentity(), HasSubstr("the answer is no XML"));
}

TEST_F(WebIdentityTest, WhatPassesIsTriedAgain) {
  std::atomic<int> calls = 0;
  HandlerServer flaky([&](const ServiceRequest&) {
    return ++calls < 3 ? ServiceReply{.status = 503} : ServiceReply{.body = StsDocument("W")};
  });
  environment_.Set("AWS_ENDPOINT_URL_STS", flaky.Url());
  EXPECT_EQ(FromWebIdentity(), "W hush& T");
  EXPECT_EQ(calls, 3);
}

}  // namespace
}  // namespace weightd::source
