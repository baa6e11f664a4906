// HTTP against a real nginx.

#include "daemon/source/http/http_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "tests/daemon/source/contract/source_contract.h"
#include "tests/servers/nginx.h"

namespace weightd::source {
namespace {

const ReadPolicy kAnywhere = {.any_path = false, .any_address = true, .unpinned = false};

void WriteFile(const std::filesystem::path& path, absl::string_view bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::unique_ptr<Source> MakeSource(HttpSourceOptions options) {
  return *MakeHttpSource(std::move(options));
}

class NginxPlace final : public Place {
 public:
  NginxPlace(Nginx::Scheme scheme, absl::string_view settings, int connections,
             uint64_t chunk_bytes)
      : nginx_(scheme, settings) {
    HttpSourceOptions options;
    options.connections = connections;
    options.chunk_bytes = chunk_bytes;
    if (scheme == Nginx::Scheme::kHttps) {
      options.ca_file = nginx_.certificate();
    }
    source_ = MakeSource(std::move(options));
  }

  void Put(absl::string_view name, absl::string_view bytes) override {
    WriteFile(nginx_.root() / std::string(name), bytes);
  }
  Uri UriOf(absl::string_view name) override {
    return *Uri::Parse(nginx_.Url(absl::StrCat("/", name)));
  }
  Source& source() override { return *source_; }

 private:
  Nginx nginx_;
  std::unique_ptr<Source> source_;
};

PlaceKind Kind(std::string name, Nginx::Scheme scheme, std::string settings, int connections,
               uint64_t chunk_bytes) {
  return {std::move(name), [=]() -> std::unique_ptr<Place> {
            return std::make_unique<NginxPlace>(scheme, settings, connections, chunk_bytes);
          }};
}

INSTANTIATE_TEST_SUITE_P(
    Http, SourceContract,
    testing::Values(Kind("Http", Nginx::Scheme::kHttp, "", 8, 32 << 20),
                    Kind("SmallChunks", Nginx::Scheme::kHttp, "", 3, 100'000),
                    Kind("OneConnection", Nginx::Scheme::kHttp, "", 1, 1 << 20),
                    Kind("WithoutRanges", Nginx::Scheme::kHttp, "max_ranges 0;", 4, 1 << 20),
                    Kind("Https", Nginx::Scheme::kHttps, "", 4, 1 << 20)),
    [](const auto& info) { return info.param.name; });

TEST(HttpSourceTest, ACertificateThatNobodyVouchesForIsSaidClearlyAndNotTriedAgain) {
  Nginx nginx(Nginx::Scheme::kHttps);
  WriteFile(nginx.root() / "model", "weights");
  Cancellation cancellation;
  const absl::Status status =
      MakeSource({})->Stat(*Uri::Parse(nginx.Url("/model")), kAnywhere, cancellation).status();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceUnavailable);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("certificate is not trusted"),
                             testing::Not(testing::HasSubstr("gave up"))));
  EXPECT_THAT(HintOf(status), testing::HasSubstr("ca_file"));
}

TEST(HttpSourceTest, ACertificateOfAnotherHostIsNotTrusted) {
  Nginx nginx(Nginx::Scheme::kHttps);
  WriteFile(nginx.root() / "model", "weights");
  HttpSourceOptions options;
  options.ca_file = nginx.certificate();
  std::string url = nginx.Url("/model");
  url.replace(url.find("127.0.0.1"), 9, "localhost");
  Cancellation cancellation;
  const absl::Status status =
      MakeSource(options)->Stat(*Uri::Parse(url), kAnywhere, cancellation).status();
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("certificate is not trusted"));
}

TEST(HttpSourceTest, CredentialsAreSentAndNeverShown) {
  Nginx nginx(
      Nginx::Scheme::kHttp,
      "location /closed { if ($http_authorization != \"Basic dTpwQHNz\") { return 401; } }");
  std::filesystem::create_directories(nginx.root() / "closed");
  WriteFile(nginx.root() / "closed" / "model", "weights");
  const auto stat = [&](absl::string_view user) {
    std::string url = nginx.Url("/closed/model?token=secret");
    url.insert(7, std::string(user));
    Cancellation cancellation;
    return MakeSource({})->Stat(*Uri::Parse(url), kAnywhere, cancellation).status();
  };
  EXPECT_EQ(stat("u:p%40ss@"), absl::OkStatus());
  const absl::Status denied = stat("u:wrong@");
  EXPECT_EQ(ReasonOf(denied), Reason::kSourceDenied);
  EXPECT_THAT(denied.ToString(), testing::Not(testing::AnyOf(testing::HasSubstr("wrong"),
                                                             testing::HasSubstr("secret"))));
}

TEST(HttpSourceTest, ANameThatDoesNotResolveIsAnUnavailableSource) {
  HttpSourceOptions options;
  options.attempts = 2;
  Cancellation cancellation;
  EXPECT_EQ(ReasonOf(MakeSource(options)
                         ->Stat(*Uri::Parse("http://nowhere.invalid/m"), {}, cancellation)
                         .status()),
            Reason::kSourceUnavailable);
}

TEST(HttpSourceTest, ListingIsNotSupported) {
  Cancellation cancellation;
  EXPECT_EQ(ReasonOf(MakeSource({})->List(*Uri::Parse("http://h/f/"), {}, cancellation).status()),
            Reason::kUnsupported);
}

TEST(HttpSourceTest, AMalformedNetworkIsRefused) {
  HttpSourceOptions options;
  options.allowed_networks = {"10.0.0.0/33"};
  EXPECT_EQ(ReasonOf(MakeHttpSource(options).status()), Reason::kInvalidArgument);
}

}  // namespace
}  // namespace weightd::source
