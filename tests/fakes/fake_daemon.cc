#include "tests/fakes/fake_daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/fd_passing.h"

namespace weightd::fakes {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(10);

// A fake that can't start makes every test meaningless.
void Require(bool condition, const char* what) {
  if (!condition) {
    std::perror(what);
    std::abort();
  }
}

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

grpc::Status Fail(grpc::ServerContext* context, const v1::ErrorDetail& detail,
                  grpc::StatusCode code) {
  context->AddTrailingMetadata("weightd-error-bin", detail.SerializeAsString());
  return {code, detail.message()};
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

Fd MakeMemfd(absl::string_view bytes, bool sealed) {
  Fd file(memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  Require(file.valid(), "memfd_create");
  Require(write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
          "write");
  if (sealed) {
    Require(fcntl(file.get(), F_ADD_SEALS,
                  F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0,
            "F_ADD_SEALS");
  }
  auto reopened = file.ReopenReadOnly();
  Require(reopened.ok(), "re-open");
  return *std::move(reopened);
}

FakeModel SmallModel() {
  constexpr float kValues[] = {1, 2, 3, 4, 5};
  FakeModel model;
  model.bytes.resize(4096);
  std::memcpy(model.bytes.data(), kValues, sizeof(kValues));
  model.index.set_version(1);
  model.index.set_segment_bytes(model.bytes.size());
  (*model.index.mutable_metadata())["format"] = "pt";
  v1::TensorPiece* a = model.index.mutable_layout()->add_pieces();
  a->set_name("a");
  a->set_dtype(v1::F32);
  a->add_shape(2);
  a->add_shape(2);
  a->set_nbytes(16);
  v1::TensorPiece* b = model.index.mutable_layout()->add_pieces();
  b->set_name("b");
  b->set_dtype(v1::F32);
  b->set_offset(16);
  b->set_nbytes(4);
  return model;
}

void AddSmallFile(FakeModel& model, absl::string_view name, uint64_t offset, uint64_t bytes) {
  v1::SmallFile* file = model.index.add_small_files();
  file->set_name(std::string(name));
  file->set_offset(offset);
  file->set_nbytes(bytes);
}

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
      return Fail(context, faults.error, grpc::StatusCode::RESOURCE_EXHAUSTED);
    }
    v1::AcquireResponse response;
    for (const v1::LoadProgress& progress : faults.progress) {
      *response.mutable_progress() = progress;
      writer->Write(response);
    }
    if (!faults.error_after_progress.message().empty()) {
      return Fail(context, faults.error_after_progress, grpc::StatusCode::UNAVAILABLE);
    }
    {
      const absl::MutexLock lock(&daemon_.mutex_);
      const std::string token = TokenOf(context);
      if (!daemon_.sessions_.contains(token)) {
        v1::ErrorDetail detail;
        detail.set_reason(v1::SESSION_INVALID);
        detail.set_message("no such session");
        return Fail(context, detail, grpc::StatusCode::UNAUTHENTICATED);
      }
      if (!daemon_.models_.contains(request->model())) {
        v1::ErrorDetail detail;
        detail.set_reason(v1::MODEL_NOT_FOUND);
        detail.set_message("no such model");
        return Fail(context, detail, grpc::StatusCode::NOT_FOUND);
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

class FakeDaemon::AdminService final : public v1::Admin::Service {
 public:
  explicit AdminService(FakeDaemon* daemon) : daemon_(*daemon) {}

  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest*,
                         v1::GetStatusResponse* response) override {
    const v1::ErrorDetail error = daemon_.faults().error;
    if (!error.message().empty()) {
      return Fail(context, error, grpc::StatusCode::RESOURCE_EXHAUSTED);
    }
    response->set_version("fake");
    response->mutable_host()->set_budget(1 << 30);
    response->set_leases(static_cast<uint32_t>(daemon_.leases()));
    const absl::MutexLock lock(&daemon_.mutex_);
    response->mutable_gpus()->Add(daemon_.gpus_.begin(), daemon_.gpus_.end());
    response->set_source_revision("0123abc");
    response->set_log_level(daemon_.log_level_);
    response->MergeFrom(daemon_.faults_.status);
    return grpc::Status::OK;
  }

  grpc::Status ListConfiguredModels(grpc::ServerContext*, const v1::ListConfiguredModelsRequest*,
                                    v1::ListConfiguredModelsResponse* response) override {
    const absl::MutexLock lock(&daemon_.mutex_);
    response->mutable_models()->Add(daemon_.configured_.begin(), daemon_.configured_.end());
    return grpc::Status::OK;
  }

  grpc::Status ReloadConfig(grpc::ServerContext*, const v1::ReloadConfigRequest*,
                            v1::ReloadConfigResponse* response) override {
    *response = daemon_.faults().reloaded;
    return grpc::Status::OK;
  }

  grpc::Status SetLogLevel(grpc::ServerContext*, const v1::SetLogLevelRequest* request,
                           v1::SetLogLevelResponse* response) override {
    const absl::MutexLock lock(&daemon_.mutex_);
    response->set_previous(daemon_.log_level_);
    daemon_.log_level_ = request->level();
    return grpc::Status::OK;
  }

  grpc::Status GetMetrics(grpc::ServerContext*, const v1::GetMetricsRequest*,
                          v1::GetMetricsResponse* response) override {
    response->set_text("# TYPE weightd_sessions gauge\nweightd_sessions 0\n");
    return grpc::Status::OK;
  }

  grpc::Status Preload(grpc::ServerContext*, const v1::PreloadRequest* request,
                       grpc::ServerWriter<v1::PreloadResponse>* writer) override {
    {
      const absl::MutexLock lock(&daemon_.mutex_);
      daemon_.secret_ = request->secret();
      daemon_.named_gpus_.assign(request->gpus().begin(), request->gpus().end());
    }
    v1::PreloadResponse response;
    for (const v1::LoadProgress& progress : daemon_.faults().progress) {
      *response.mutable_progress() = progress;
      writer->Write(response);
    }
    response.mutable_model()->set_model(request->model());
    response.mutable_model()->set_state(v1::RESIDENT);
    response.mutable_model()->set_pinned(request->pin());
    for (const std::string& gpu : request->gpus()) {
      response.mutable_model()->add_gpu_copies()->set_gpu(gpu);
    }
    writer->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status Evict(grpc::ServerContext*, const v1::EvictRequest* request,
                     v1::EvictResponse* response) override {
    const absl::MutexLock lock(&daemon_.mutex_);
    daemon_.named_gpus_ = {request->gpu()};
    response->set_freed_bytes(1 << 20);
    return grpc::Status::OK;
  }

  grpc::Status WatchEvents(grpc::ServerContext*, const v1::WatchEventsRequest*,
                           grpc::ServerWriter<v1::WatchEventsResponse>* writer) override {
    for (const v1::Event& event : daemon_.faults().events) {
      v1::WatchEventsResponse response;
      *response.mutable_event() = event;
      writer->Write(response);
    }
    return grpc::Status::OK;
  }

  grpc::Status DrainGpu(grpc::ServerContext* context, const v1::DrainGpuRequest* request,
                        v1::DrainGpuResponse* response) override {
    response->set_freed_bytes(request->force() ? 1 << 20 : 0);
    return SetState(context, request->gpu(), v1::GpuStatus::DRAINED, *response->mutable_gpu());
  }

  grpc::Status ResumeGpu(grpc::ServerContext* context, const v1::ResumeGpuRequest* request,
                         v1::ResumeGpuResponse* response) override {
    return SetState(context, request->gpu(), v1::GpuStatus::IDLE, *response->mutable_gpu());
  }

  // A load for each second that it may go on.
  grpc::Status DrainNode(grpc::ServerContext*, const v1::DrainNodeRequest* request,
                         v1::DrainNodeResponse* response) override {
    if (const v1::DrainNodeResponse told = daemon_.faults().drained; told.ByteSizeLong() > 0) {
      *response = told;
      return grpc::Status::OK;
    }
    response->set_loads_ended(static_cast<uint64_t>(request->wait().seconds()));
    response->set_loads_stopped(1);
    response->set_kept_models(2);
    response->set_kept_bytes(3 << 20);
    response->set_handed_over(true);
    response->mutable_keeper()->set_place("/run/weightd/keeper");
    return grpc::Status::OK;
  }

  grpc::Status ResumeNode(grpc::ServerContext*, const v1::ResumeNodeRequest*,
                          v1::ResumeNodeResponse* response) override {
    response->set_was_draining(true);
    return grpc::Status::OK;
  }

  // One model a page.
  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest* request,
                          v1::ListModelsResponse* response) override {
    const absl::MutexLock lock(&daemon_.mutex_);
    auto next = request->page_token().empty() ? daemon_.models_.begin()
                                              : daemon_.models_.find(request->page_token());
    if (next != daemon_.models_.end()) {
      v1::ModelSummary* model = response->add_models();
      model->set_model(next->first);
      model->set_state(v1::RESIDENT);
      model->set_host_bytes(next->second.bytes.size());
      model->set_tensor_count(next->second.index.layout().pieces_size());
      if (++next != daemon_.models_.end()) {
        response->set_next_page_token(next->first);
      }
    }
    return grpc::Status::OK;
  }

  // One tensor a page.
  grpc::Status DescribeModel(grpc::ServerContext* context, const v1::DescribeModelRequest* request,
                             v1::DescribeModelResponse* response) override {
    const absl::MutexLock lock(&daemon_.mutex_);
    if (!daemon_.models_.contains(request->model())) {
      v1::ErrorDetail detail;
      detail.set_reason(v1::MODEL_NOT_RESIDENT);
      detail.set_message("no such model");
      return Fail(context, detail, grpc::StatusCode::FAILED_PRECONDITION);
    }
    const v1::TensorIndex& index = daemon_.models_.at(request->model()).index;
    const int next = request->page_token().empty() ? 0 : std::stoi(request->page_token());
    response->mutable_model()->set_model(request->model());
    response->mutable_model()->set_state(v1::RESIDENT);
    *response->add_tensors() = index.layout().pieces(next);
    if (next + 1 < index.layout().pieces_size()) {
      response->set_next_page_token(std::to_string(next + 1));
    }
    return grpc::Status::OK;
  }

 private:
  grpc::Status SetState(grpc::ServerContext* context, const std::string& named,
                        v1::GpuStatus::State state, v1::GpuStatus& result) {
    const absl::MutexLock lock(&daemon_.mutex_);
    daemon_.named_gpus_ = {named};
    for (v1::GpuStatus& gpu : daemon_.gpus_) {
      if (absl::StrCat(gpu.index()) == named) {
        gpu.set_state(state);
        result = gpu;
        return grpc::Status::OK;
      }
    }
    v1::ErrorDetail detail;
    detail.set_reason(v1::DEVICE_UNAVAILABLE);
    detail.set_message("no such GPU");
    return Fail(context, detail, grpc::StatusCode::UNAVAILABLE);
  }

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
