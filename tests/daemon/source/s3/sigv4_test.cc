#include "daemon/source/s3/sigv4.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/source/credentials.h"
#include "daemon/source/percent_encoding.h"

// The expected signatures are those of the examples in the "Amazon S3 API Reference", sections
// "Signature Calculations for the Authorization Header" and "Authenticating Requests: Using Query
// Parameters". Published test vectors, and far more requests, are in test_signatures.py.

namespace weightd::source {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

Credentials Example() {
  Credentials credentials;
  credentials.access_key_id = "AKIAIOSFODNN7EXAMPLE";
  credentials.secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
  return credentials;
}

RequestToSign Get(absl::string_view path, absl::string_view query = "") {
  RequestToSign request;
  request.method = "GET";
  request.host = "examplebucket.s3.amazonaws.com";
  request.path = std::string(path);
  request.query = std::string(query);
  request.payload_hash = std::string(kEmptyPayload);
  request.scope = {"us-east-1", "s3",
                   absl::FromCivil(absl::CivilSecond(2013, 5, 24), absl::UTCTimeZone())};
  return request;
}

std::string Authorization(const RequestToSign& request, const Credentials& credentials) {
  return SignInHeaders(request, credentials).back().value;
}

std::vector<std::string> Names(const std::vector<Header>& headers) {
  std::vector<std::string> names;
  names.reserve(headers.size());
  for (const Header& header : headers) {
    names.push_back(header.name);
  }
  return names;
}

TEST(SignInHeaders, SignsARangeOfAnObject) {
  RequestToSign request = Get("/test.txt");
  request.headers = {{"Range", "bytes=0-9"}};
  EXPECT_THAT(
      SignInHeaders(request, Example()),
      ElementsAre(
          Header{"X-Amz-Date", "20130524T000000Z"},
          Header{"X-Amz-Content-Sha256", std::string(kEmptyPayload)},
          Header{"Authorization",
                 "AWS4-HMAC-SHA256 "
                 "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
                 "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
                 "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"}));
}

TEST(SignInHeaders, SignsAnUpload) {
  RequestToSign request = Get(PathOfKey("test$file.text"));
  request.method = "PUT";
  request.headers = {{"Date", "Fri, 24 May 2013 00:00:00 GMT"},
                     {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
  request.payload_hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
  EXPECT_THAT(
      Authorization(request, Example()),
      EndsWith("Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"));
}

TEST(SignInHeaders, SignsAParameterWithoutValue) {
  EXPECT_THAT(
      Authorization(Get("/", "lifecycle"), Example()),
      EndsWith("Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"));
}

TEST(SignInHeaders, SignsAListing) {
  EXPECT_THAT(
      Authorization(Get("/", "max-keys=2&prefix=J"), Example()),
      EndsWith("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
}

TEST(SignInHeaders, DependsNeitherOnTheOrderNorOnTheSpellingOfAQuery) {
  EXPECT_EQ(Authorization(Get("/", "max-keys=2&prefix=J"), Example()),
            Authorization(Get("/", "prefix=%4a&&max-keys=2"), Example()));
}

TEST(SignInHeaders, SignsTheSessionTokenOnlyIfThereIsOne) {
  Credentials credentials = Example();
  EXPECT_THAT(Names(SignInHeaders(Get("/"), credentials)),
              ElementsAre("X-Amz-Date", "X-Amz-Content-Sha256", "Authorization"));
  credentials.session_token = "token";
  const std::vector<Header> headers = SignInHeaders(Get("/"), credentials);
  EXPECT_THAT(Names(headers), ElementsAre("X-Amz-Date", "X-Amz-Content-Sha256",
                                          "X-Amz-Security-Token", "Authorization"));
  EXPECT_EQ(headers[2].value, "token");
  EXPECT_THAT(headers.back().value, HasSubstr(";x-amz-date;x-amz-security-token,"));
}

TEST(SignInHeaders, SendsThePayloadsHashToS3Only) {
  RequestToSign request = Get("/");
  request.scope.service = "sts";
  EXPECT_THAT(Names(SignInHeaders(request, Example())), ElementsAre("X-Amz-Date", "Authorization"));
}

TEST(SignInHeaders, NeverHoldsTheSecretKey) {
  Credentials credentials = Example();
  credentials.session_token = "token";
  for (const Header& header : SignInHeaders(Get("/"), credentials)) {
    EXPECT_THAT(header.value, Not(HasSubstr(credentials.secret_access_key)));
  }
}

TEST(SignInHeaders, TakesAPathForS3AsItIs) {
  EXPECT_NE(Authorization(Get("/a/../b"), Example()), Authorization(Get("/b"), Example()));
  EXPECT_NE(Authorization(Get("//b"), Example()), Authorization(Get("/b"), Example()));
}

TEST(SignInHeaders, NormalisesAPathForOtherServices) {
  const auto sign = [](absl::string_view path) {
    RequestToSign request = Get(path);
    request.path_form = PathForm::kNormalised;
    return Authorization(request, Example());
  };
  EXPECT_EQ(sign("/a/.././/b"), sign("/b"));
  EXPECT_EQ(sign("/a/.."), sign("/"));
  EXPECT_EQ(sign("/../../a/."), sign("/a"));
  EXPECT_EQ(sign("/a//"), sign("/a/"));
  EXPECT_NE(sign("/a/"), sign("/a"));
  EXPECT_NE(sign("/%61"), sign("/a"));
}

TEST(SignInQuery, SignsAnObjectForADay) {
  RequestToSign request = Get("/test.txt");
  request.payload_hash = std::string(kUnsignedPayload);
  EXPECT_EQ(SignInQuery(request, Example(), absl::Hours(24)),
            "X-Amz-Algorithm=AWS4-HMAC-SHA256"
            "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
            "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
            "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
}

TEST(SignInQuery, KeepsTheQueryInFront) {
  Credentials credentials = Example();
  credentials.session_token = "a+/b=";
  const std::string query =
      SignInQuery(Get("/test.txt", "versionId=x%20y"), credentials, absl::Minutes(1));
  EXPECT_TRUE(absl::StartsWith(query, "versionId=x%20y&X-Amz-Algorithm=")) << query;
  EXPECT_THAT(query, HasSubstr("&X-Amz-Expires=60&"));
  EXPECT_THAT(query, HasSubstr("&X-Amz-Security-Token=a%2B%2Fb%3D&"));
}

TEST(PathOfKey, EscapesAllButUnreservedBytesAndSlashes) {
  EXPECT_EQ(PathOfKey("a/b-c_d.e~f"), "/a/b-c_d.e~f");
  EXPECT_EQ(PathOfKey("a b+c=d@e:f%"), "/a%20b%2Bc%3Dd%40e%3Af%25");
  EXPECT_EQ(PathOfKey("\xe1\x88\xb4"), "/%E1%88%B4");
  EXPECT_EQ(PathOfKey("/a//../b/"), "//a//../b/");
}

TEST(PercentEncode, EscapesSlashes) { EXPECT_EQ(PercentEncode("a/b~"), "a%2Fb~"); }

TEST(PercentDecode, LeavesWhatIsNoEscape) {
  EXPECT_EQ(PercentDecode("%41%2f%e1%88%b4+%4%zz%"), "A/\xe1\x88\xb4+%4%zz%");
}

TEST(FormDecode, TakesAPlusForASpaceAndRefusesStrayPercents) {
  EXPECT_EQ(FormDecode("a+b%2Bc%2f"), "a b+c/");
  EXPECT_EQ(FormDecode("a%"), std::nullopt);
  EXPECT_EQ(FormDecode("a%4"), std::nullopt);
  EXPECT_EQ(FormDecode("a%4g"), std::nullopt);
}

}  // namespace
}  // namespace weightd::source
