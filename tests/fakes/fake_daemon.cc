#include "tests/fakes/fake_daemon.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/fd_passing.h"
#include "tests/fakes/fake_admin_service.h"
#include "tests/fakes/require.h"

namespace weightd::fakes {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(10);

std::string MakeFolder() {
  // Not below TEST_TMPDIR, which is too long for the address of a socket.
  std::string folder = "/tmp/weightd_fake_XXXXXX";
  Require(mkdtemp(folder.data()) != nullptr, "mkdtemp");
  return folder;
}

Fd Listen(const std::string& path) {
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  Require(bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0,
          "bind");
  Require(listen(socket.get(), 64) == 0, "listen");
  return socket;
}

// Until the caller gives up; the fake's own end counts as that.
void WaitUntilCancelled(const grpc::ServerContext* context) {
  while (!context->IsCancelled()) {
    absl::SleepFor(absl::Milliseconds(2));
  }
}

v1::DeviceGrant GrantOf(const FakeModel& model, const v1::DeviceRequest& request) {
  v1::DeviceGrant grant;
  grant.set_gpu_uuid(request.gpu_uuid());
  grant.set_mode(request.mode());
  grant.set_nbytes(model.device_bytes);
  if (request.legacy()) {
    grant.set_legacy_handle(model.legacy_handle);
  }
  return grant;
}

std::string TokenOf(const grpc::ServerContext* context) {
  const auto found = context->client_metadata().find("weightd-session");
  return found == context->client_metadata().end()
             ? ""
             : std::string(found->second.data(), found->second.size());
}

}  // namespace

class FakeDaemon::WeightsService final : public v1::Weights::Service {
 public:
  explicit WeightsService(FakeDaemon* daemon) : daemon_(*daemon) {}

  grpc::Status Acquire(grpc::ServerContext* context, const v1::AcquireRequest* request,
                       grpc::ServerWriter<v1::AcquireResponse>* writer) override {
    const Faults faults = daemon_.faults();
    const bool renews = request->has_device() && request->resident_only();
    if (faults.stalls_acquires || (faults.stalls_renewals && renews)) {
      WaitUntilCancelled(context);
      return grpc::Status::CANCELLED;
    }
    if (!faults.error.message().empty()) {
      return Refusal(context, faults.error, grpc::StatusCode::RESOURCE_EXHAUSTED);
    }
    v1::AcquireResponse response;
    for (const v1::LoadProgress& progress : faults.progress) {
      *response.mutable_progress() = progress;
      writer->Write(response);
    }
    if (!faults.error_after_progress.message().empty()) {
      return Refusal(context, faults.error_after_progress, grpc::StatusCode::UNAVAILABLE);
    }
    {
      const absl::MutexLock lock(&daemon_.mutex_);
      const std::string token = TokenOf(context);
      if (!daemon_.sessions_.contains(token)) {
        v1::ErrorDetail detail;
        detail.set_reason(v1::SESSION_INVALID);
        detail.set_message("no such session");
        return Refusal(context, detail, grpc::StatusCode::UNAUTHENTICATED);
      }
      if (!daemon_.models_.contains(request->model())) {
        v1::ErrorDetail detail;
        detail.set_reason(v1::MODEL_NOT_FOUND);
        detail.set_message("no such model");
        return Refusal(context, detail, grpc::StatusCode::NOT_FOUND);
      }
      const uint64_t id = daemon_.next_++;
      Lease& lease = daemon_.leases_[id] = {token, request->model(), std::nullopt};
      response.mutable_grant()->set_lease_id(id);
      response.mutable_grant()->mutable_model()->set_model(request->model());
      response.mutable_grant()->mutable_model()->set_revision(std::string(64, 'a'));
      if (request->has_device()) {
        lease.device = request->device();
        const FakeModel& model = daemon_.models_.at(request->model());
        *response.mutable_grant()->mutable_device() = GrantOf(model, request->device());
      }
    }
    if (faults.tamper_grant) {
      faults.tamper_grant(*response.mutable_grant());
    }
    writer->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status Release(grpc::ServerContext* context, const v1::ReleaseRequest* request,
                       v1::ReleaseResponse*) override {
    if (daemon_.faults().stalls_releases) {
      WaitUntilCancelled(context);
      return grpc::Status::CANCELLED;
    }
    const absl::MutexLock lock(&daemon_.mutex_);
    daemon_.leases_.erase(request->lease_id());
    return grpc::Status::OK;
  }

 private:
  FakeDaemon& daemon_;
};

FakeDaemon::FakeDaemon()
    : socket_dir_(MakeFolder()),
      listener_(Listen(absl::StrCat(socket_dir_, "/handles.sock"))),
      weights_(std::make_unique<WeightsService>(this)),
      admin_(std::make_unique<AdminService>(this)) {
  grpc::ServerBuilder builder;
  const auto credentials = grpc::InsecureServerCredentials();
  builder.AddListeningPort(absl::StrCat("unix:", socket_dir_, "/weightd.sock"), credentials);
  builder.AddListeningPort(absl::StrCat("unix:", socket_dir_, "/admin.sock"), credentials);
  builder.RegisterService(weights_.get());
  builder.RegisterService(admin_.get());
  server_ = builder.BuildAndStart();
  Require(server_ != nullptr, "start gRPC");
  acceptor_ = std::thread([this] { AcceptSessions(); });
}

FakeDaemon::~FakeDaemon() {
  shutdown(listener_.get(), SHUT_RDWR);
  acceptor_.join();
  std::vector<std::thread> threads;
  {
    const absl::MutexLock lock(&mutex_);
    for (const auto& [token, socket] : sessions_) {
      shutdown(socket.get(), SHUT_RDWR);
    }
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  server_->Shutdown(std::chrono::system_clock::now());
  server_.reset();
  if (tls_server_ != nullptr) {
    tls_server_->Shutdown(std::chrono::system_clock::now());
    tls_server_.reset();
  }
  std::error_code ignored;
  std::filesystem::remove_all(socket_dir_, ignored);
}

void FakeDaemon::EndSessions() {
  {
    const absl::MutexLock lock(&mutex_);
    for (const auto& [token, socket] : sessions_) {
      shutdown(socket.get(), SHUT_RDWR);
    }
  }
  Require(AwaitSessions(0), "end sessions");
}

void FakeDaemon::EndLeases() {
  const absl::MutexLock lock(&mutex_);
  leases_.clear();
}

void FakeDaemon::Add(const std::string& name, FakeModel model) {
  const absl::MutexLock lock(&mutex_);
  models_[name] = std::move(model);
}

void FakeDaemon::AddConfigured(v1::ConfiguredModel model) {
  const absl::MutexLock lock(&mutex_);
  configured_.push_back(std::move(model));
}

int FakeDaemon::ServeTls(const std::string& certificate, const std::string& key,
                         const std::string& authorities) {
  grpc::SslServerCredentialsOptions options(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = authorities;
  options.pem_key_cert_pairs.push_back({key, certificate});
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(options), &port);
  builder.RegisterService(admin_.get());
  tls_server_ = builder.BuildAndStart();
  Require(tls_server_ != nullptr && port != 0, "start gRPC with TLS");
  return port;
}

void FakeDaemon::Set(Faults faults) {
  const absl::MutexLock lock(&mutex_);
  faults_ = std::move(faults);
}

FakeDaemon::Faults FakeDaemon::faults() const {
  const absl::MutexLock lock(&mutex_);
  return faults_;
}

v1::Secret FakeDaemon::secret() const {
  const absl::MutexLock lock(&mutex_);
  return secret_;
}

void FakeDaemon::AddGpu(v1::GpuStatus gpu) {
  const absl::MutexLock lock(&mutex_);
  gpus_.push_back(std::move(gpu));
}

std::vector<std::string> FakeDaemon::named_gpus() const {
  const absl::MutexLock lock(&mutex_);
  return named_gpus_;
}

size_t FakeDaemon::leases() const {
  const absl::MutexLock lock(&mutex_);
  return leases_.size();
}

size_t FakeDaemon::sessions() const {
  const absl::MutexLock lock(&mutex_);
  return sessions_.size();
}

bool FakeDaemon::AwaitLeases(size_t count) const {
  const absl::MutexLock lock(&mutex_);
  const auto reached = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return leases_.size() == count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&reached), kPatience);
}

bool FakeDaemon::AwaitSessions(size_t count) const {
  const absl::MutexLock lock(&mutex_);
  const auto reached = [&]()
                           ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return sessions_.size() == count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&reached), kPatience);
}

void FakeDaemon::AcceptSessions() {
  for (;;) {
    Fd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.valid()) {
      return;
    }
    const absl::MutexLock lock(&mutex_);
    const std::string token = absl::StrCat("token-", next_++);
    const int number = socket.get();
    sessions_[token] = std::move(socket);
    if (faults_.greets) {
      v1::HandleReply reply;
      reply.mutable_hello()->set_session_token(token);
      reply.mutable_hello()->set_protocol_version(1);
      reply.mutable_hello()->set_daemon_version("fake");
      static_cast<void>(SendPacket(number, reply.SerializeAsString()));
    }
    threads_.emplace_back([this, number, token] { ServeSession(number, token); });
  }
}

void FakeDaemon::ServeSession(int socket, const std::string& token) {
  for (;;) {
    const auto packet = ReceivePacket(socket, /*accept_fds=*/false);
    if (!packet.ok() || packet->bytes.empty()) {
      break;
    }
    v1::HandleRequest request;
    const Faults faults = this->faults();
    if (!request.ParseFromString(packet->bytes) || !faults.answers_claims) {
      continue;
    }
    std::vector<Fd> fds;
    v1::HandleReply reply = AnswerClaim(token, request.claim().lease_id(), fds);
    if (faults.tamper) {
      faults.tamper(reply, fds);
    }
    std::vector<int> numbers;
    numbers.reserve(fds.size());
    for (const Fd& fd : fds) {
      numbers.push_back(fd.get());
    }
    static_cast<void>(SendPacket(socket, reply.SerializeAsString(), numbers));
  }
  const absl::MutexLock lock(&mutex_);
  std::erase_if(leases_, [&](const auto& lease) { return lease.second.token == token; });
  sessions_.erase(token);
}

v1::HandleReply FakeDaemon::AnswerClaim(const std::string& token, uint64_t lease,
                                        std::vector<Fd>& fds) {
  const absl::MutexLock lock(&mutex_);
  v1::HandleReply reply;
  const auto found = leases_.find(lease);
  if (found == leases_.end() || found->second.token != token) {
    reply.mutable_failed()->set_lease_id(lease);
    reply.mutable_failed()->mutable_error()->set_reason(v1::LEASE_UNKNOWN);
    reply.mutable_failed()->mutable_error()->set_message("no such lease");
    return reply;
  }
  const FakeModel& model = models_.at(found->second.model);
  const std::string index = model.index.SerializeAsString();
  reply.mutable_handles()->set_lease_id(lease);
  const auto& device = found->second.device;
  if (!device.has_value()) {
    v1::Handle* segment = reply.mutable_handles()->add_handles();
    segment->set_kind(v1::Handle::HOST_SEGMENT);
    segment->set_nbytes(model.bytes.size());
    fds.push_back(MakeMemfd(model.bytes));
  } else if (!device->legacy()) {
    v1::Handle* segment = reply.mutable_handles()->add_handles();
    segment->set_kind(v1::Handle::DEVICE_SEGMENT);
    segment->set_nbytes(model.device_bytes);
    fds.push_back(model.export_from_device());
  }
  v1::Handle* description = reply.mutable_handles()->add_handles();
  description->set_kind(v1::Handle::TENSOR_INDEX);
  description->set_nbytes(index.size());
  fds.push_back(MakeMemfd(index));
  if (!model.small_files.empty()) {
    v1::Handle* beside = reply.mutable_handles()->add_handles();
    beside->set_kind(v1::Handle::SMALL_FILES);
    beside->set_nbytes(model.small_files.size());
    fds.push_back(MakeMemfd(model.small_files));
  }
  return reply;
}

}  // namespace weightd::fakes
