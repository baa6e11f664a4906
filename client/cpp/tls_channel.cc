#include "client/cpp/tls_channel.h"

#include <cerrno>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/rpc.h"
#include "client/cpp/tls_probe.h"
#include "common/status.h"
#include "common/wipe.h"

namespace weightd::client {
namespace {

// Servers of gRPC end a connection that is asked more often than every five minutes for a sign of
// life. A host that vanished is found out by then; calls have deadlines of their own.
constexpr int kKeepaliveMilliseconds = 6 * 60 * 1000;

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file.is_open() || file.bad()) {
    return Error(Reason::kInvalidArgument, ErrnoError(errno, absl::StrCat("read ", path)).message(),
                 "name a PEM file that this user may read");
  }
  return text;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> CredentialsOf(
    const RemoteAddress& remote) {
  grpc::SslCredentialsOptions options;
  ASSIGN_OR_RETURN(options.pem_root_certs, ReadFile(remote.ca_file));
  ASSIGN_OR_RETURN(options.pem_cert_chain, ReadFile(remote.certificate_file));
  ASSIGN_OR_RETURN(options.pem_private_key, ReadFile(remote.key_file));
  auto credentials = grpc::SslCredentials(options);
  Wipe(options.pem_private_key);
  return credentials;
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenTlsChannel(const RemoteAddress& remote,
                                                              absl::Time deadline) {
  ASSIGN_OR_RETURN(const TlsProbe probe, TlsProbe::Make(remote));
  ASSIGN_OR_RETURN(const auto credentials, CredentialsOf(remote));
  grpc::ChannelArguments arguments = ChannelArgumentsOfAll();
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMilliseconds);
  if (!remote.server_name.empty()) {
    arguments.SetSslTargetNameOverride(remote.server_name);
  }
  auto channel = grpc::CreateCustomChannel(remote.address, credentials, arguments);
  absl::Status connected = AwaitConnection(*channel, deadline, remote.address);
  if (!connected.ok()) {
    // gRPC says no more than that it failed.
    RETURN_IF_ERROR(probe.Connect(deadline));
    return connected;
  }
  return channel;
}

}  // namespace weightd::client
