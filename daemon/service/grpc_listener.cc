#include "daemon/service/grpc_listener.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>

#include <utility>

#include "absl/base/call_once.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "daemon/service/connection_guard.h"

namespace weightd::service {
namespace {

// Requests are a name and a few numbers.
constexpr int kMaxRequestBytes = 1 << 20;
constexpr int kMaxStreamsPerConnection = 64;
// A session token, and what gRPC adds.
constexpr int kMaxMetadataBytes = 4096;
// Of all connections of one listener: what gRPC counts, which is not all that it takes.
constexpr size_t kMaxMemory = 64 << 20;
// Reflection is served with gRPC's synchronous interface, a thread for each open stream.
constexpr int kMaxThreads = 32;
// A peer that doesn't speak HTTP/2 answers no ping, and loses its connection.
constexpr int kPingEveryMs = 60'000;
constexpr int kPingTimeoutMs = 20'000;

// Both are switches of the whole process that must be on before the first server is built.
void EnableHealthAndReflection() {
  static absl::once_flag once;
  absl::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

std::unique_ptr<grpc::Server> BuildServer(grpc::Service* service,
                                          grpc::CallbackGenericService* others) {
  EnableHealthAndReflection();
  grpc::ResourceQuota quota("weightd");
  quota.Resize(kMaxMemory);
  quota.SetMaxThreads(kMaxThreads);
  grpc::ServerBuilder builder;
  builder.SetResourceQuota(quota);
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  // Receive windows stay at 64 KiB, which they would outgrow.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kPingEveryMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.RegisterService(service);
  if (others != nullptr) {
    builder.RegisterCallbackGenericService(others);
  }
  return builder.BuildAndStart();
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcListener>> GrpcListener::Start(
    Fd listening, ConnectionAcceptor::Limits limits, grpc::Service* service, Reception reception,
    grpc::CallbackGenericService* others) {
  std::unique_ptr<grpc::Server> server = BuildServer(service, others);
  if (server == nullptr) {
    return Error(Reason::kInternal, "gRPC could not build a server");
  }
  std::unique_ptr<GrpcListener> listener(new GrpcListener(std::move(server)));
  ASSIGN_OR_RETURN(listener->acceptor_,
                   ConnectionAcceptor::Start(std::move(listening), limits, std::move(reception),
                                             [self = listener.get()](Fd connection) {
                                               self->Serve(std::move(connection));
                                             }));
  return listener;
}

void GrpcListener::Serve(Fd connection) {
  GuardConnection(connection.get(), kMaxStreamsPerConnection);
  grpc::AddInsecureChannelFromFd(server_.get(), connection.Release());
}

GrpcListener::GrpcListener(std::unique_ptr<grpc::Server> server) : server_(std::move(server)) {}

GrpcListener::~GrpcListener() { Shutdown(absl::Now()); }

void GrpcListener::Shutdown(absl::Time deadline) {
  if (acceptor_ == nullptr) {
    return;
  }
  acceptor_.reset();
  server_->Shutdown(absl::ToChronoTime(deadline));
}

}  // namespace weightd::service
