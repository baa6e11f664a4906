#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cpp/admin_client.h"
#include "common/status.h"
#include "tests/fakes/fake_daemon.h"

namespace weightd::client {
namespace {

// Two authorities, a daemon's certificate for 127.0.0.1, and operators' certificates, by
// openssl(1).
class TlsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new std::string(testing::TempDir() + "/tls");
    Run(absl::StrCat("mkdir -p ", *folder_));
    for (const char* const authority : {"ca", "other-ca"}) {
      Run(absl::StrCat(
          "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
          "-days 2 -subj /CN=",
          authority, " -keyout ", Path(authority, ".key"), " -out ", Path(authority, ".pem")));
    }
    Issue("daemon", "ca", "-days 2", "subjectAltName=IP:127.0.0.1,DNS:node.example");
    Issue("named", "ca", "-days 2", "subjectAltName=DNS:node.example");
    Issue("operator", "ca", "-days 2", "subjectAltName=DNS:operator");
    Issue("stranger", "other-ca", "-days 2", "subjectAltName=DNS:operator");
    Issue("expired", "ca", "-days -1", "subjectAltName=DNS:operator");
  }

  static std::string Path(const std::string& name, const std::string& suffix) {
    return absl::StrCat(*folder_, "/", name, suffix);
  }

  static void Run(const std::string& command) {
    ASSERT_EQ(std::system(absl::StrCat("{ ", command, "; } >/dev/null 2>&1").c_str()), 0)
        << command;
  }

  static void Issue(const std::string& name, const std::string& authority, const std::string& days,
                    const std::string& extension) {
    const std::string request = Path(name, ".csr");
    Run(absl::StrCat(
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=", name,
        " -keyout ", Path(name, ".key"), " -out ", request));
    Run(absl::StrCat("echo '", extension, "' > ", Path(name, ".ext")));
    Run(absl::StrCat("openssl x509 -req -in ", request, " -CA ", Path(authority, ".pem"),
                     " -CAkey ", Path(authority, ".key"), " -CAcreateserial ", days, " -extfile ",
                     Path(name, ".ext"), " -out ", Path(name, ".pem")));
  }

  static std::string Text(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  void Serve(const std::string& certificate = "daemon") {
    const int port = daemon_.ServeTls(Text(Path(certificate, ".pem")),
                                      Text(Path(certificate, ".key")), Text(Path("ca", ".pem")));
    remote_.address = absl::StrCat("127.0.0.1:", port);
    As("operator");
    remote_.ca_file = Path("ca", ".pem");
  }

  void As(const std::string& name) {
    remote_.certificate_file = Path(name, ".pem");
    remote_.key_file = Path(name, ".key");
  }

  absl::StatusOr<AdminClient> Connect() {
    AdminClient::Options options;
    options.timeout = absl::Seconds(20);
    options.remote = remote_;
    return AdminClient::Connect(options);
  }

  void ExpectError(Reason reason, absl::string_view what) {
    const absl::Status status = Connect().status();
    EXPECT_EQ(ReasonOf(status), reason) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), what)) << status;
  }

  static std::string* folder_;
  fakes::FakeDaemon daemon_;
  RemoteAddress remote_;
};

std::string* TlsTest::folder_ = nullptr;

TEST_F(TlsTest, ReachesADaemon) {
  Serve();
  const auto client = Connect();
  ASSERT_TRUE(client.ok()) << client.status();
  const auto status = client->GetStatus();
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->version(), "fake");
}

TEST_F(TlsTest, SendsNoSecret) {
  Serve();
  const auto client = Connect();
  ASSERT_TRUE(client.ok()) << client.status();
  const absl::Status status =
      client->Preload("m", {.password = "horse"}, [](const auto&) { return true; }).status();
  EXPECT_EQ(ReasonOf(status), Reason::kUnsupported) << status;
  EXPECT_EQ(daemon_.secret().kind_case(), v1::Secret::KIND_NOT_SET);
}

TEST_F(TlsTest, AnotherNameIsNamed) {
  Serve("named");
  ExpectError(Reason::kNotAllowed, "is not for 127.0.0.1");
  remote_.server_name = "node.example";
  EXPECT_TRUE(Connect().ok()) << Connect().status();
}

TEST_F(TlsTest, AnotherAuthorityIsNamed) {
  Serve();
  remote_.ca_file = Path("other-ca", ".pem");
  ExpectError(Reason::kNotAllowed, "is not trusted");
}

TEST_F(TlsTest, OurCertificateIsNamedIfItIsRefused) {
  Serve();
  As("stranger");
  ExpectError(Reason::kNotAllowed, "refuses the certificate");
  As("expired");
  ExpectError(Reason::kNotAllowed, "refuses the certificate");
}

TEST_F(TlsTest, TheAddressIsNamed) {
  Serve();
  remote_.address = "127.0.0.1:1";
  ExpectError(Reason::kDaemonUnreachable, "connect to 127.0.0.1:1: Connection refused");
  remote_.address = "127.0.0.1";
  ExpectError(Reason::kInvalidArgument, "has no port");
  remote_.address = "no.such.host.invalid:7443";
  ExpectError(Reason::kDaemonUnreachable, "look up no.such.host.invalid");
}

TEST_F(TlsTest, FilesAreNamed) {
  Serve();
  remote_.ca_file = "/nonexistent/ca.pem";
  ExpectError(Reason::kInvalidArgument, "/nonexistent/ca.pem: No such file or directory");
  remote_.ca_file = Path("ca", ".pem");
  remote_.certificate_file = Path("ca", ".key");
  ExpectError(Reason::kInvalidArgument, "ca.key");
  As("operator");
  remote_.key_file = Path("stranger", ".key");
  ExpectError(Reason::kInvalidArgument, "stranger.key");
}

// It takes the connection and says nothing.
TEST_F(TlsTest, ADaemonThatHangsIsLeft) {
  Serve();
  const int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(listen(silent, 1), 0);
  sockaddr_in address = {};
  socklen_t size = sizeof(address);
  ASSERT_EQ(getsockname(silent, reinterpret_cast<sockaddr*>(&address), &size), 0);
  AdminClient::Options options = {"", absl::Seconds(1), remote_};
  options.remote.address = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  const absl::Time begin = absl::Now();
  EXPECT_EQ(ReasonOf(AdminClient::Connect(options).status()), Reason::kDaemonUnreachable);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
  close(silent);
}

}  // namespace
}  // namespace weightd::client
