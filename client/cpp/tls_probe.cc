#include "client/cpp/tls_probe.h"

#include <fcntl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "common/status.h"

namespace weightd::client {
namespace {

// What gRPC asks for (ALPN, RFC 7301): "h2" with its length before it.
constexpr unsigned char kHttp2[] = {2, 'h', '2'};
constexpr absl::Duration kLeastPatience = absl::Seconds(1);
constexpr char kAddressHint[] =
    "check --address, and that the daemon's config has admin.tcp with this address";

// OpenSSL writes to sockets without MSG_NOSIGNAL.
class WithoutSigpipe {
 public:
  WithoutSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~WithoutSigpipe() {
    const timespec at_once = {};
    while (sigtimedwait(&pipe_, nullptr, &at_once) > 0) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  WithoutSigpipe(const WithoutSigpipe&) = delete;

 private:
  sigset_t pipe_ = {};
  sigset_t before_ = {};
};

// The newest of OpenSSL's errors, and no other afterwards.
std::string TakeError() {
  const unsigned long error = ERR_peek_last_error();  // NOLINT(google-runtime-int): OpenSSL's
  ERR_clear_error();
  const char* const reason = ERR_reason_error_string(error);
  return reason == nullptr ? "no reason given" : reason;
}

absl::Status BadFile(absl::string_view what, const std::string& path) {
  // Of what can't be opened the newest error says no more than "system lib", the first one why.
  const auto first = ERR_peek_error();
  const std::string newest = TakeError();
  const absl::Status why = ERR_SYSTEM_ERROR(first)
                               ? ErrnoError(ERR_GET_REASON(first), path)
                               : Error(Reason::kInvalidArgument, absl::StrCat(path, ": ", newest));
  return Error(Reason::kInvalidArgument, absl::StrCat(what, " ", why.message()),
               "name a PEM file that this user may read");
}

// Otherwise OpenSSL asks for one at the terminal.
int NoPassword(char* /*buffer*/, int /*size*/, int /*writes*/, void* /*data*/) { return 0; }

bool IsAddress(const std::string& host) {
  return absl::StrContains(host, ':') || host.find_first_not_of("0123456789.") == std::string::npos;
}

// "HOST:PORT" or "[HOST]:PORT".
absl::StatusOr<std::pair<std::string, std::string>> SplitAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size() ||
      address.find_first_not_of("0123456789", colon + 1) != std::string::npos) {
    return Error(Reason::kInvalidArgument, absl::StrCat("address ", address, " has no port"),
                 "write it as HOST:PORT");
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return std::pair(std::move(host), address.substr(colon + 1));
}

// connect(2), for as long as it takes until the deadline; errno or 0.
int ConnectUntil(int socket, const addrinfo& address, absl::Time deadline) {
  if (connect(socket, address.ai_addr, address.ai_addrlen) == 0) {
    return 0;
  }
  if (errno != EINPROGRESS) {
    return errno;
  }
  pollfd wait = {socket, POLLOUT, 0};
  const auto left = std::max(kLeastPatience, deadline - absl::Now());
  if (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(left))) <= 0) {
    return ETIMEDOUT;
  }
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

// Reads and writes block, but not for long.
void Block(int socket, absl::Duration most) {
  fcntl(socket, F_SETFL, 0);
  const timeval timeout = absl::ToTimeval(most);
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

}  // namespace

TlsProbe::TlsProbe(RemoteAddress remote, std::string host, std::string port,
                   std::unique_ptr<SSL_CTX, Free> context)
    : remote_(std::move(remote)),
      host_(std::move(host)),
      port_(std::move(port)),
      context_(std::move(context)) {}

absl::StatusOr<TlsProbe> TlsProbe::Make(const RemoteAddress& remote) {
  ASSIGN_OR_RETURN(auto place, SplitAddress(remote.address));
  ERR_clear_error();
  std::unique_ptr<SSL_CTX, Free> context(SSL_CTX_new(TLS_client_method()));
  if (context == nullptr) {
    return Error(Reason::kInternal, absl::StrCat("make a TLS context: ", TakeError()));
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_default_passwd_cb(context.get(), NoPassword);
  SSL_CTX_set_alpn_protos(context.get(), kHttp2, sizeof(kHttp2));
  if (SSL_CTX_load_verify_file(context.get(), remote.ca_file.c_str()) != 1) {
    return BadFile("read the authorities in", remote.ca_file);
  }
  if (SSL_CTX_use_certificate_chain_file(context.get(), remote.certificate_file.c_str()) != 1) {
    return BadFile("read the certificate in", remote.certificate_file);
  }
  if (SSL_CTX_use_PrivateKey_file(context.get(), remote.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return BadFile("read the key in", remote.key_file);
  }
  return TlsProbe(remote, std::move(place.first), std::move(place.second), std::move(context));
}

absl::StatusOr<Fd> TlsProbe::OpenSocket(absl::Time deadline) const {
  addrinfo wanted = {};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host_.c_str(), port_.c_str(), &wanted, &found); error != 0) {
    return Error(Reason::kDaemonUnreachable,
                 absl::StrCat("look up ", host_, ": ", gai_strerror(error)), kAddressHint);
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
  int last_error = ENOENT;
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    Fd socket(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    last_error = socket.valid() ? ConnectUntil(socket.get(), *address, deadline) : errno;
    if (last_error == 0) {
      Block(socket.get(), std::max(kLeastPatience, deadline - absl::Now()));
      return socket;
    }
  }
  return Error(Reason::kDaemonUnreachable,
               ErrnoError(last_error, absl::StrCat("connect to ", remote_.address)).message(),
               kAddressHint);
}

absl::Status TlsProbe::Silent() const {
  return Error(Reason::kDaemonUnreachable,
               absl::StrCat(remote_.address, " takes connections but does not answer"),
               kAddressHint);
}

absl::Status TlsProbe::Handshake(SSL* connection) const {
  const int connected = SSL_connect(connection);
  if (connected == 1) {
    return absl::OkStatus();
  }
  if (SSL_get_error(connection, connected) == SSL_ERROR_WANT_READ) {
    return Silent();
  }
  const long verified = SSL_get_verify_result(connection);  // NOLINT(google-runtime-int): OpenSSL's
  const std::string error = TakeError();
  const std::string expected = remote_.server_name.empty() ? host_ : remote_.server_name;
  if (verified == X509_V_ERR_HOSTNAME_MISMATCH || verified == X509_V_ERR_IP_ADDRESS_MISMATCH) {
    return Error(Reason::kNotAllowed,
                 absl::StrCat("the certificate of ", remote_.address, " is not for ", expected),
                 "name it as its certificate does, in --address or --server-name");
  }
  if (verified != X509_V_OK) {
    return Error(Reason::kNotAllowed,
                 absl::StrCat("the certificate of ", remote_.address,
                              " is not trusted: ", X509_verify_cert_error_string(verified)),
                 absl::StrCat("is ", remote_.ca_file, " the authority of that daemon (--ca)?"));
  }
  return Error(Reason::kDaemonUnreachable,
               absl::StrCat("no TLS connection with ", remote_.address, ": ", error), kAddressHint);
}

absl::Status TlsProbe::AwaitFirstByte(SSL* connection) const {
  char byte = 0;
  const int read = SSL_read(connection, &byte, 1);
  if (read == 1) {
    return absl::OkStatus();
  }
  const int kind = SSL_get_error(connection, read);
  if (kind == SSL_ERROR_WANT_READ) {
    return Silent();
  }
  return Error(Reason::kNotAllowed,
               absl::StrCat(remote_.address, " refuses the certificate ", remote_.certificate_file,
                            kind == SSL_ERROR_SSL ? absl::StrCat(": ", TakeError()) : ""),
               "is it valid, of an authority in the daemon's admin.tcp.client_ca_file, and its "
               "name among admin.tcp.allowed_names?");
}

absl::Status TlsProbe::Connect(absl::Time deadline) const {
  const WithoutSigpipe without_sigpipe;
  ASSIGN_OR_RETURN(const Fd socket, OpenSocket(deadline));
  ERR_clear_error();
  const std::unique_ptr<SSL, Free> connection(SSL_new(context_.get()));
  const std::string& name = remote_.server_name.empty() ? host_ : remote_.server_name;
  if (IsAddress(name)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(connection.get()), name.c_str());
  } else {
    SSL_set1_host(connection.get(), name.c_str());
    SSL_set_tlsext_host_name(connection.get(), name.c_str());
  }
  SSL_set_fd(connection.get(), socket.get());
  RETURN_IF_ERROR(Handshake(connection.get()));
  return AwaitFirstByte(connection.get());
}

}  // namespace weightd::client
