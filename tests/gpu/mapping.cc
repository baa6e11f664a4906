#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdio>

#include "common/fd_passing.h"
#include "common/status.h"
#include "tests/gpu/figures.h"

namespace weightd::figures {
namespace {

// The other process: exports memory, and holds it until the socket closes.
absl::Status Export(int socket, const std::string& driver, uint64_t bytes) {
  ASSIGN_OR_RETURN(const auto context, OpenGpu(driver));
  ASSIGN_OR_RETURN(const CudaMemory memory, CudaMemory::Create(context, bytes));
  ASSIGN_OR_RETURN(const Fd exported, memory.Export());
  RETURN_IF_ERROR(SendPacket(socket, "memory", {exported.get()}));
  return ReceivePacket(socket, /*accept_fds=*/false).status();
}

// What a client does with a descriptor, each call timed: common/cuda_memory.cc does the same.
absl::Status ImportOnce(const CudaContext& context, const Fd& exported, uint64_t bytes,
                        Round& round) {
  const CudaDriver& driver = context.driver();
  cuda::CUmemGenericAllocationHandle handle = 0;
  cuda::CUdeviceptr pointer = 0;
  const cuda::CUmemAccessDesc access = {{cuda::CU_MEM_LOCATION_TYPE_DEVICE, context.device()},
                                        cuda::CU_MEM_ACCESS_FLAGS_PROT_READ};
  const auto timed = [&](const std::string& name, const auto& call) {
    return Timed(round, name, [&] { return driver.Check(call(), name); });
  };
  RETURN_IF_ERROR(timed("import", [&] {
    return driver.cuMemImportFromShareableHandle(
        &handle, std::bit_cast<void*>(static_cast<intptr_t>(exported.get())),
        cuda::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  }));
  RETURN_IF_ERROR(
      timed("reserve", [&] { return driver.cuMemAddressReserve(&pointer, bytes, 0, 0, 0); }));
  RETURN_IF_ERROR(timed("map", [&] { return driver.cuMemMap(pointer, bytes, 0, handle, 0); }));
  RETURN_IF_ERROR(
      timed("set_access", [&] { return driver.cuMemSetAccess(pointer, bytes, &access, 1); }));
  RETURN_IF_ERROR(timed("unmap", [&] { return driver.cuMemUnmap(pointer, bytes); }));
  RETURN_IF_ERROR(driver.Check(driver.cuMemAddressFree(pointer, bytes), "cuMemAddressFree"));
  return driver.Check(driver.cuMemRelease(handle), "cuMemRelease");
}

absl::Status Import(int socket, const std::string& driver, uint64_t bytes, int rounds) {
  ASSIGN_OR_RETURN(const Packet packet, ReceivePacket(socket, /*accept_fds=*/true));
  if (packet.fds.size() != 1) {
    return Error(Reason::kDeviceUnavailable, "the other process exported nothing");
  }
  ASSIGN_OR_RETURN(const auto context, OpenGpu(driver));
  const CudaContext::Current current(*context);
  return RunRounds(
      {{"import", [&](Round& round) { return ImportOnce(*context, packet.fds[0], bytes, round); }}},
      rounds);
}

}  // namespace

absl::Status MeasureMapping(const std::string& driver, uint64_t bytes, int rounds) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoError(errno, "make a pair of sockets");
  }
  const pid_t exporter = fork();
  if (exporter == 0) {
    close(ends[0]);
    const absl::Status status = Export(ends[1], driver, bytes);
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
    }
    _exit(status.ok() ? 0 : 1);
  }
  close(ends[1]);
  const absl::Status measured = Import(ends[0], driver, bytes, rounds);
  close(ends[0]);
  waitpid(exporter, nullptr, 0);
  return measured;
}

}  // namespace weightd::figures
