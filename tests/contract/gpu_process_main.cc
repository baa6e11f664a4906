#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/cuda_driver.h"
#include "common/cuda_memory.h"
#include "common/fd_passing.h"
#include "common/status.h"
#include "tests/contract/gpu_scenarios.h"

// gpu_process_main SOCKET DRIVER: does what packets on the socket say until its other end closes;
// see gpu_process.h.

namespace weightd {
namespace {

struct Answer {
  std::string text;
  Fd fd;
};

class Worker {
 public:
  explicit Worker(std::shared_ptr<const CudaDriver> driver) : driver_(std::move(driver)) {}

  absl::StatusOr<Answer> Do(const Packet& request) {
    const std::vector<std::string> words =
        absl::StrSplit(request.bytes, absl::MaxSplits(' ', request.bytes[0] == 'p' ? 1 : 3));
    const std::string& verb = words[0];
    if (verb == "play") {
      ASSIGN_OR_RETURN(std::string outcome, PlayScenario(words[1], *driver_, context_));
      return Answer{std::move(outcome), Fd()};
    }
    if (verb == "retain") {
      return Retain(words[1]);
    }
    if (verb == "release") {
      memories_.clear();
      context_.reset();
      return Answer{};
    }
    if (verb == "free_bytes") {
      return FreeBytes();
    }
    uint64_t first = 0;
    uint64_t second = 0;
    if (words.size() < 2 || !absl::SimpleAtoi(words[1], &first)) {
      return Error(Reason::kInternal, absl::StrCat("what? ", request.bytes));
    }
    if (words.size() > 2 && !absl::SimpleAtoi(words[2], &second) && verb != "open") {
      return Error(Reason::kInternal, absl::StrCat("what? ", request.bytes));
    }
    if (verb == "create" || verb == "import" || verb == "take" || verb == "allocate" ||
        verb == "open") {
      return Get(verb, first, second, request, words.back());
    }
    return Use(verb, static_cast<int>(first), second);
  }

 private:
  absl::StatusOr<Answer> Retain(const std::string& gpu) {
    GpuId id;
    if (int index = 0; absl::SimpleAtoi(gpu, &index)) {
      ASSIGN_OR_RETURN(id, CudaContext::GpuAt(*driver_, index));
    } else {
      ASSIGN_OR_RETURN(id, GpuId::FromText(gpu));
    }
    ASSIGN_OR_RETURN(context_, CudaContext::Retain(driver_, id));
    return Answer{id.ToText(), Fd()};
  }

  absl::StatusOr<Answer> FreeBytes() {
    const CudaContext::Current current(*context_);
    size_t free = 0;
    size_t total = 0;
    RETURN_IF_ERROR(driver_->Check(driver_->cuMemGetInfo(&free, &total), "cuMemGetInfo"));
    return Answer{absl::StrCat(free), Fd()};
  }

  absl::StatusOr<Answer> Get(const std::string& verb, uint64_t bytes, uint64_t writable,
                             const Packet& request, const std::string& hex) {
    absl::StatusOr<CudaMemory> memory = absl::UnknownError("");
    if (verb == "create") {
      memory = CudaMemory::Create(context_, bytes);
    } else if (verb == "allocate") {
      memory = CudaMemory::Allocate(context_, bytes);
    } else if (verb == "import") {
      memory = CudaMemory::Import(
          context_, request.fds.at(0).get(), bytes,
          writable != 0 ? CudaMemory::Access::kReadWrite : CudaMemory::Access::kReadOnly);
    } else if (verb == "take") {
      memory = CudaMemory::ImportUnproven(context_, request.fds.at(0).get(), bytes);
    } else {
      cuda::CUipcMemHandle handle = {};
      const std::string raw = absl::HexStringToBytes(hex);
      std::memcpy(handle.reserved, raw.data(), std::min(raw.size(), sizeof(handle.reserved)));
      memory = CudaMemory::OpenLegacy(context_, handle, bytes);
    }
    RETURN_IF_ERROR(memory.status());
    memories_[next_] = *std::move(memory);
    return Answer{absl::StrCat(next_++), Fd()};
  }

  absl::StatusOr<Answer> Use(const std::string& verb, int number, uint64_t argument) {
    const auto found = memories_.find(number);
    if (found == memories_.end()) {
      return Error(Reason::kInternal, absl::StrCat("no memory ", number));
    }
    const CudaMemory& memory = found->second;
    if (verb == "free") {
      memories_.erase(found);
      return Answer{};
    }
    if (verb == "export") {
      ASSIGN_OR_RETURN(Fd exported, memory.Export());
      return Answer{"", std::move(exported)};
    }
    if (verb == "handle") {
      return Handle(memory, argument);
    }
    return verb == "fill" ? Fill(memory, static_cast<int>(argument)) : Read(memory);
  }

  absl::StatusOr<Answer> Handle(const CudaMemory& memory, uint64_t offset) {
    const CudaContext::Current current(*context_);
    cuda::CUipcMemHandle handle = {};
    RETURN_IF_ERROR(driver_->Check(driver_->cuIpcGetMemHandle(&handle, memory.pointer() + offset),
                                   "cuIpcGetMemHandle"));
    return Answer{absl::BytesToHexString({handle.reserved, sizeof(handle.reserved)}), Fd()};
  }

  absl::StatusOr<Answer> Fill(const CudaMemory& memory, int value) {
    const CudaContext::Current current(*context_);
    const std::string bytes(memory.bytes(), static_cast<char>(value));
    RETURN_IF_ERROR(driver_->Check(
        driver_->cuMemcpyHtoD(memory.pointer(), bytes.data(), bytes.size()), "cuMemcpyHtoD"));
    RETURN_IF_ERROR(driver_->Check(driver_->cuCtxSynchronize(), "cuCtxSynchronize"));
    return Answer{};
  }

  absl::StatusOr<Answer> Read(const CudaMemory& memory) {
    const CudaContext::Current current(*context_);
    std::string bytes(memory.bytes(), 0);
    RETURN_IF_ERROR(driver_->Check(
        driver_->cuMemcpyDtoH(bytes.data(), memory.pointer(), bytes.size()), "cuMemcpyDtoH"));
    if (bytes.find_first_not_of(bytes[0]) != std::string::npos) {
      return Error(Reason::kInternal, "its bytes differ");
    }
    return Answer{absl::StrCat(static_cast<int>(bytes[0])), Fd()};
  }

  const std::shared_ptr<const CudaDriver> driver_;
  std::shared_ptr<const CudaContext> context_;
  std::map<int, CudaMemory> memories_;
  int next_ = 0;
};

std::string ErrorText(const absl::Status& status) {
  return absl::StrCat("error ", static_cast<int>(ReasonOf(status)), " ",
                      CudaDriver::NeedsProcessExit(status) ? 1 : 0, " ", status.message());
}

int Serve(int socket, const std::string& library) {
  absl::StatusOr<std::shared_ptr<const CudaDriver>> driver = CudaDriver::Load(library);
  while (true) {
    const auto request = ReceivePacket(socket, /*accept_fds=*/true);
    if (!request.ok() || request->bytes.empty()) {
      return 0;
    }
    if (!driver.ok()) {
      SendPacket(socket, ErrorText(driver.status())).IgnoreError();
      continue;
    }
    static Worker worker(*driver);
    const absl::StatusOr<Answer> answer = worker.Do(*request);
    if (!answer.ok()) {
      SendPacket(socket, ErrorText(answer.status())).IgnoreError();
    } else if (answer->fd.valid()) {
      SendPacket(socket, absl::StrCat("ok ", answer->text), {answer->fd.get()}).IgnoreError();
    } else {
      SendPacket(socket, absl::StrCat("ok ", answer->text)).IgnoreError();
    }
  }
}

}  // namespace
}  // namespace weightd

int main(int argc, char** argv) {
  int socket = -1;
  if (argc != 3 || !absl::SimpleAtoi(argv[1], &socket)) {
    return 2;
  }
  return weightd::Serve(socket, argv[2]);
}
