#include "tests/servers/nginx.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/fd.h"

namespace weightd {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(20);
constexpr int kStartTries = 5;

[[noreturn]] void Give(absl::string_view what) {
  std::fprintf(stderr, "nginx for tests: %s\n", std::string(what).c_str());
  std::abort();
}

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

uint16_t FreePort() {
  const Fd probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = Loopback(0);
  socklen_t length = sizeof(address);
  if (bind(probe.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    Give("no free port");
  }
  return ntohs(address.sin_port);
}

bool Listens(uint16_t port) {
  const Fd probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = Loopback(port);
  return connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

}  // namespace

Nginx::Nginx(Scheme scheme, absl::string_view settings) : scheme_(scheme) {
  const char* const parent = std::getenv("TEST_TMPDIR");
  std::string pattern = absl::StrCat(parent == nullptr ? "/tmp" : parent, "/nginx-XXXXXX");
  if (mkdtemp(pattern.data()) == nullptr) {
    Give("no folder");
  }
  folder_ = pattern;
  std::filesystem::create_directories(root());
  if (scheme == Scheme::kHttps) {
    MakeCertificate();
  }
  for (int i = 0; i < kStartTries && pid_ < 0; ++i) {
    port_ = FreePort();
    WriteConfig(settings);
    // Somebody may take the port before nginx does.
    Start();
  }
  if (pid_ < 0) {
    Give("does not start");
  }
}

Nginx::~Nginx() {
  Stop();
  std::filesystem::remove_all(folder_);
}

std::string Nginx::Url(absl::string_view path) const {
  return absl::StrCat(scheme_ == Scheme::kHttps ? "https" : "http", "://127.0.0.1:", port_, path);
}

void Nginx::MakeCertificate() const {
  const std::string command = absl::StrCat(
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "
      "/CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout ",
      (folder_ / "key.pem").string(), " -out ", certificate().string(), " 2>/dev/null");
  if (std::system(command.c_str()) != 0) {
    Give("openssl makes no certificate");
  }
}

void Nginx::WriteConfig(absl::string_view settings) const {
  std::ofstream config(folder_ / "nginx.conf");
  config
      << (getuid() == 0 ? "user root;\n" : "") << "daemon off;\nworker_processes 1;\n"
      << "pid nginx.pid;\nerror_log error.log;\nevents {}\nhttp {\n"
      << "  access_log access.log;\n  sendfile on;\n  server {\n"
      << "    listen 127.0.0.1:" << port_ << (scheme_ == Scheme::kHttps ? " ssl" : "") << ";\n"
      << "    root root;\n    client_body_temp_path body;\n    proxy_temp_path proxy;\n"
      << "    fastcgi_temp_path fastcgi;\n    uwsgi_temp_path uwsgi;\n    scgi_temp_path scgi;\n";
  if (scheme_ == Scheme::kHttps) {
    config << "    ssl_certificate " << certificate().string() << ";\n    ssl_certificate_key "
           << (folder_ / "key.pem").string() << ";\n";
  }
  config << "    " << std::string(settings) << "\n  }\n}\n";
}

void Nginx::Start() {
  const std::string prefix = absl::StrCat(folder_.string(), "/");
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    // Debian's place for it is not in everybody's PATH.
    execl("/usr/sbin/nginx", "nginx", "-p", prefix.c_str(), "-c", "nginx.conf", "-e", "error.log",
          nullptr);
    _exit(127);
  }
  const absl::Time deadline = absl::Now() + kStartTimeout;
  while (pid_ > 0 && !Listens(port_)) {
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
    } else if (absl::Now() > deadline) {
      Stop();
    } else {
      // There is nothing to wait for but another try to connect.
      absl::SleepFor(absl::Milliseconds(5));
    }
  }
}

void Nginx::Stop() {
  if (pid_ > 0) {
    kill(pid_, SIGTERM);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
}

}  // namespace weightd
