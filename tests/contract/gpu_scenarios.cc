#include "tests/contract/gpu_scenarios.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/fd.h"
#include "common/status.h"

namespace weightd {
namespace {

constexpr uint64_t kPiece = 2 << 20;

struct Stage {
  const CudaDriver& driver;
  std::shared_ptr<const CudaContext> context;
  std::string argument;
};

using Outcome = absl::StatusOr<std::string>;

std::string Names(const CudaDriver& driver, const std::vector<cuda::CUresult>& results) {
  return absl::StrJoin(results, " ", [&driver](std::string* out, cuda::CUresult result) {
    const char* name = "?";
    driver.cuGetErrorName(result, &name);
    out->append(name);
  });
}

cuda::CUmemAllocationProp PropertiesOn(int device) {
  cuda::CUmemAllocationProp properties = {};
  properties.type = cuda::CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.requestedHandleTypes = cuda::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  properties.location = {cuda::CU_MEM_LOCATION_TYPE_DEVICE, device};
  return properties;
}

Outcome Uninitialized(const Stage& stage) {
  int count = 0;
  return Names(stage.driver, {stage.driver.cuDeviceGetCount(&count)});
}

Outcome NoContext(const Stage& stage) {
  const CudaDriver& driver = stage.driver;
  size_t bytes = 0;
  cuda::CUdeviceptr pointer = 0;
  cuda::CUstream stream = nullptr;
  cuda::CUevent event = nullptr;
  void* host = nullptr;
  driver.cuInit(0);
  return Names(driver, {driver.cuMemGetInfo(&bytes, &bytes), driver.cuMemAlloc(&pointer, kPiece),
                        driver.cuStreamCreate(&stream, 0), driver.cuEventCreate(&event, 0),
                        driver.cuMemAllocHost(&host, kPiece), driver.cuCtxSynchronize()});
}

Outcome RulesOfMapping(const Stage& stage) {
  const CudaDriver& driver = stage.driver;
  const cuda::CUmemAllocationProp properties = PropertiesOn(stage.context->device());
  std::vector<cuda::CUresult> refused;
  size_t unit = 0;
  RETURN_IF_ERROR(driver.Check(driver.cuMemGetAllocationGranularity(
                                   &unit, &properties, cuda::CU_MEM_ALLOC_GRANULARITY_MINIMUM),
                               "granularity"));
  cuda::CUmemGenericAllocationHandle handle = 0;
  refused.push_back(driver.cuMemCreate(&handle, unit - 1, &properties, 0));
  cuda::CUdeviceptr pointer = 0;
  refused.push_back(driver.cuMemAddressReserve(&pointer, unit - 1, 0, 0, 0));
  RETURN_IF_ERROR(driver.Check(driver.cuMemCreate(&handle, unit, &properties, 0), "create"));
  RETURN_IF_ERROR(driver.Check(driver.cuMemAddressReserve(&pointer, 2 * unit, 0, 0, 0), "reserve"));
  refused.push_back(driver.cuMemMap(pointer, 2 * unit, 0, handle, 0));  // more than there is
  RETURN_IF_ERROR(driver.Check(driver.cuMemMap(pointer, unit, 0, handle, 0), "map"));
  const cuda::CUmemAccessDesc access = {properties.location,
                                        cuda::CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  refused.push_back(driver.cuMemMap(pointer, unit, 0, handle, 0));             // mapped already
  refused.push_back(driver.cuMemSetAccess(pointer + unit, unit, &access, 1));  // not mapped
  refused.push_back(driver.cuMemAddressFree(pointer, 2 * unit));               // still mapped
  refused.push_back(driver.cuMemFree(pointer));                                // not cuMemAlloc's
  RETURN_IF_ERROR(
      driver.Check(driver.cuMemRelease(handle), "release, mapped"));  // the map holds on
  RETURN_IF_ERROR(driver.Check(driver.cuMemSetAccess(pointer, unit, &access, 1), "access"));
  RETURN_IF_ERROR(driver.Check(driver.cuMemsetD8(pointer, 7, unit), "set"));
  RETURN_IF_ERROR(driver.Check(driver.cuMemUnmap(pointer, unit), "unmap"));
  RETURN_IF_ERROR(driver.Check(driver.cuMemAddressFree(pointer, 2 * unit), "free"));
  return Names(driver, refused);
}

Outcome ImportGarbage(const Stage& stage) {
  const Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const Fd memfd(memfd_create("garbage", MFD_CLOEXEC));
  std::vector<std::string> outcomes;
  for (const int fd : {null.get(), memfd.get()}) {
    const auto memory =
        CudaMemory::Import(stage.context, fd, kPiece, CudaMemory::Access::kReadOnly);
    outcomes.emplace_back(memory.ok() ? "imported" : "refused");
  }
  return absl::StrJoin(outcomes, " ");
}

void* MapHost(int protection) {
  return mmap(nullptr, kPiece, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

Outcome RegisterHost(const Stage& stage) {
  const CudaDriver& driver = stage.driver;
  void* const memory = MapHost(PROT_READ | PROT_WRITE);
  const unsigned int portable = cuda::CU_MEMHOSTREGISTER_PORTABLE;
  return Names(driver, {driver.cuMemHostRegister(memory, kPiece, portable),
                        driver.cuMemHostRegister(memory, kPiece, portable),
                        driver.cuMemHostUnregister(memory), driver.cuMemHostUnregister(memory)});
}

Outcome RegisterReadOnly(const Stage& stage) {
  const CudaDriver& driver = stage.driver;
  const Fd file(memfd_create("read_only", MFD_CLOEXEC));
  if (ftruncate(file.get(), kPiece) != 0) {
    return Error(Reason::kInternal, "can't make a file");
  }
  void* const memory = mmap(nullptr, kPiece, PROT_READ, MAP_SHARED, file.get(), 0);
  const cuda::CUresult result =
      driver.cuMemHostRegister(memory, kPiece, cuda::CU_MEMHOSTREGISTER_PORTABLE);
  return result == cuda::CUDA_SUCCESS ? "registered" : "refused";
}

Outcome RegisterTooMuch(const Stage& stage) {
  const CudaDriver& driver = stage.driver;
  uint64_t bytes = 0;
  if (!absl::SimpleAtoi(stage.argument, &bytes)) {
    return Error(Reason::kInternal, "register_too_much: no number");
  }
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return Names(driver,
               {driver.cuMemHostRegister(memory, bytes, cuda::CU_MEMHOSTREGISTER_PORTABLE)});
}

Outcome PinnedHost(const Stage& stage) {
  const CudaDriver& driver = stage.driver;
  ASSIGN_OR_RETURN(const CudaMemory memory, CudaMemory::Create(stage.context, kPiece));
  void* host = nullptr;
  RETURN_IF_ERROR(driver.Check(driver.cuMemAllocHost(&host, kPiece), "cuMemAllocHost"));
  std::memset(host, 9, kPiece);
  RETURN_IF_ERROR(driver.Check(driver.cuMemcpyHtoD(memory.pointer(), host, kPiece), "to"));
  char last = 0;
  RETURN_IF_ERROR(
      driver.Check(driver.cuMemcpyDtoH(&last, memory.pointer() + kPiece - 1, 1), "from"));
  return absl::StrCat(static_cast<int>(last), " ",
                      Names(driver, {driver.cuMemFreeHost(host), driver.cuMemFreeHost(host)}));
}

// One asynchronous copy of memory that holds 1, with an event after it.
class LaterCopy {
 public:
  LaterCopy(const Stage& stage, CudaMemory memory, char* source)
      : driver_(stage.driver), memory_(std::move(memory)), source_(source) {}

  absl::Status Begin() {
    std::memset(source_, 1, kPiece);
    RETURN_IF_ERROR(driver_.Check(driver_.cuStreamCreate(&stream_, cuda::CU_STREAM_NON_BLOCKING),
                                  "cuStreamCreate"));
    RETURN_IF_ERROR(driver_.Check(driver_.cuEventCreate(&event_, cuda::CU_EVENT_DISABLE_TIMING),
                                  "cuEventCreate"));
    RETURN_IF_ERROR(
        driver_.Check(driver_.cuMemcpyHtoDAsync(memory_.pointer(), source_, kPiece, stream_),
                      "cuMemcpyHtoDAsync"));
    return driver_.Check(driver_.cuEventRecord(event_, stream_), "cuEventRecord");
  }
  cuda::CUresult Query() const { return driver_.cuEventQuery(event_); }
  // What the device holds after the event.
  absl::StatusOr<int> Finish() {
    RETURN_IF_ERROR(driver_.Check(driver_.cuEventSynchronize(event_), "cuEventSynchronize"));
    char last = 0;
    RETURN_IF_ERROR(
        driver_.Check(driver_.cuMemcpyDtoH(&last, memory_.pointer() + kPiece - 1, 1), "read"));
    RETURN_IF_ERROR(driver_.Check(driver_.cuEventDestroy(event_), "cuEventDestroy"));
    RETURN_IF_ERROR(driver_.Check(driver_.cuStreamDestroy(stream_), "cuStreamDestroy"));
    return last;
  }

 private:
  const CudaDriver& driver_;
  const CudaMemory memory_;
  char* const source_;
  cuda::CUstream stream_ = nullptr;
  cuda::CUevent event_ = nullptr;
};

Outcome Later(const Stage& stage) {
  ASSIGN_OR_RETURN(CudaMemory memory, CudaMemory::Create(stage.context, kPiece));
  void* host = nullptr;
  RETURN_IF_ERROR(stage.driver.Check(stage.driver.cuMemAllocHost(&host, kPiece), "host"));
  LaterCopy copy(stage, std::move(memory), static_cast<char*>(host));
  RETURN_IF_ERROR(copy.Begin());
  const cuda::CUresult before = copy.Query();
  ASSIGN_OR_RETURN(const int read, copy.Finish());
  return absl::StrCat(Names(stage.driver, {before}), " ", read);
}

Outcome Reused(const Stage& stage) {
  ASSIGN_OR_RETURN(CudaMemory memory, CudaMemory::Create(stage.context, kPiece));
  void* host = nullptr;
  RETURN_IF_ERROR(stage.driver.Check(stage.driver.cuMemAllocHost(&host, kPiece), "host"));
  LaterCopy copy(stage, std::move(memory), static_cast<char*>(host));
  RETURN_IF_ERROR(copy.Begin());
  std::memset(host, 2, kPiece);
  ASSIGN_OR_RETURN(const int read, copy.Finish());
  return read == 1 ? "as it was" : "changed";
}

Outcome Pageable(const Stage& stage) {
  ASSIGN_OR_RETURN(CudaMemory memory, CudaMemory::Create(stage.context, kPiece));
  std::vector<char> host(kPiece);
  LaterCopy copy(stage, std::move(memory), host.data());
  RETURN_IF_ERROR(copy.Begin());
  std::memset(host.data(), 2, kPiece);
  ASSIGN_OR_RETURN(const int read, copy.Finish());
  return read == 1 ? "as it was" : "changed";
}

Outcome DeviceToDevice(const Stage& stage) {
  const CudaDriver& driver = stage.driver;
  ASSIGN_OR_RETURN(const CudaMemory from, CudaMemory::Allocate(stage.context, 3 * kPiece));
  ASSIGN_OR_RETURN(const CudaMemory to, CudaMemory::Create(stage.context, 2 * kPiece));
  cuda::CUstream stream = nullptr;
  RETURN_IF_ERROR(driver.Check(driver.cuStreamCreate(&stream, 0), "stream"));
  RETURN_IF_ERROR(driver.Check(driver.cuMemsetD8(from.pointer(), 3, 3 * kPiece), "set"));
  RETURN_IF_ERROR(driver.Check(
      driver.cuMemcpyDtoDAsync(to.pointer() + 5, from.pointer() + 7, kPiece + 11, stream), "copy"));
  RETURN_IF_ERROR(driver.Check(driver.cuStreamSynchronize(stream), "synchronize"));
  std::vector<char> read(2 * kPiece);
  RETURN_IF_ERROR(
      driver.Check(driver.cuMemcpyDtoH(read.data() + 5, to.pointer() + 5, kPiece + 11), "read"));
  const std::vector<char> expected(kPiece + 11, 3);
  RETURN_IF_ERROR(driver.Check(driver.cuStreamDestroy(stream), "destroy"));
  return std::memcmp(read.data() + 5, expected.data(), expected.size()) == 0 ? "copied" : "wrong";
}

const std::map<std::string, std::function<Outcome(const Stage&)>>& Scenarios() {
  static const auto* const scenarios =
      new std::map<std::string, std::function<Outcome(const Stage&)>>{
          {"uninitialized", Uninitialized},
          {"no_context", NoContext},
          {"rules_of_mapping", RulesOfMapping},
          {"import_garbage", ImportGarbage},
          {"register_host", RegisterHost},
          {"register_read_only", RegisterReadOnly},
          {"register_too_much", RegisterTooMuch},
          {"pinned_host", PinnedHost},
          {"later", Later},
          {"reused", Reused},
          {"pageable", Pageable},
          {"device_to_device", DeviceToDevice},
      };
  return *scenarios;
}

}  // namespace

Outcome PlayScenario(absl::string_view name, const CudaDriver& driver,
                     std::shared_ptr<const CudaContext> context) {
  const std::vector<std::string> words = absl::StrSplit(name, absl::MaxSplits(' ', 1));
  const auto found = Scenarios().find(words[0]);
  if (found == Scenarios().end()) {
    return Error(Reason::kInternal, absl::StrCat("no scenario ", name));
  }
  const Stage stage = {driver, std::move(context), words.size() == 2 ? words[1] : ""};
  if (stage.context == nullptr) {
    return found->second(stage);
  }
  const CudaContext::Current current(*stage.context);
  return found->second(stage);
}

}  // namespace weightd
