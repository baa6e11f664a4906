#include "tests/contract/gpu_process.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "absl/strings/cord.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/fd_passing.h"
#include "common/status.h"

namespace weightd {
namespace {

constexpr const char* kProgram = "tests/contract/gpu_process_main";
// How long an answer may take.
constexpr timeval kPatience = {60, 0};

// "error REASON NEEDS_EXIT MESSAGE".
absl::Status ParseError(absl::string_view answer) {
  const std::vector<absl::string_view> words = absl::StrSplit(answer, absl::MaxSplits(' ', 3));
  int reason = 0;
  if (words.size() != 4 || words[0] != "error" || !absl::SimpleAtoi(words[1], &reason)) {
    return Error(Reason::kInternal, absl::StrCat("no answer: ", answer));
  }
  absl::Status status = Error(static_cast<Reason>(reason), words[3]);
  if (words[2] == "1") {
    status.SetPayload("weightd.needs_process_exit", absl::Cord("1"));
  }
  return status;
}

}  // namespace

GpuProcess::GpuProcess(const std::string& driver, const Environment& environment) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    std::abort();
  }
  socket_ = Fd(ends[0]);
  const Fd theirs(ends[1]);
  setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof(kPatience));
  const std::string number = absl::StrCat(theirs.get());
  pid_ = fork();
  if (pid_ == 0) {
    fcntl(theirs.get(), F_SETFD, 0);
    for (const auto& [name, value] : environment) {
      setenv(name.c_str(), value.c_str(), 1);
    }
    execl(kProgram, kProgram, number.c_str(), driver.c_str(), nullptr);
    _exit(127);
  }
}

void GpuProcess::Kill() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    AwaitEnd();
  }
}

int GpuProcess::AwaitEnd() {
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

absl::Status GpuProcess::Retain(absl::string_view gpu) {
  return Ask(absl::StrCat("retain ", gpu)).status();
}

absl::Status GpuProcess::Release() { return Ask("release").status(); }

absl::StatusOr<int> GpuProcess::Create(uint64_t bytes) {
  return AskNumber(absl::StrCat("create ", bytes));
}

absl::StatusOr<Fd> GpuProcess::Export(int memory) {
  ASSIGN_OR_RETURN(Answer answer, Ask(absl::StrCat("export ", memory)));
  return std::move(answer.fd);
}

absl::StatusOr<int> GpuProcess::Import(const Fd& exported, uint64_t bytes, bool writable) {
  return AskNumber(absl::StrCat("import ", bytes, " ", writable ? 1 : 0), exported.get());
}

absl::StatusOr<int> GpuProcess::ImportUnproven(const Fd& exported, uint64_t bytes) {
  return AskNumber(absl::StrCat("take ", bytes), exported.get());
}

absl::StatusOr<int> GpuProcess::Allocate(uint64_t bytes) {
  return AskNumber(absl::StrCat("allocate ", bytes));
}

absl::StatusOr<std::string> GpuProcess::LegacyHandle(int memory, uint64_t offset) {
  ASSIGN_OR_RETURN(const Answer answer, Ask(absl::StrCat("handle ", memory, " ", offset)));
  return absl::HexStringToBytes(answer.text);
}

absl::StatusOr<int> GpuProcess::OpenLegacy(absl::string_view handle, uint64_t bytes) {
  return AskNumber(absl::StrCat("open ", bytes, " ", absl::BytesToHexString(handle)));
}

absl::Status GpuProcess::Free(int memory) { return Ask(absl::StrCat("free ", memory)).status(); }

absl::Status GpuProcess::Fill(int memory, int value) {
  return Ask(absl::StrCat("fill ", memory, " ", value)).status();
}

absl::StatusOr<int> GpuProcess::Read(int memory) {
  return AskNumber(absl::StrCat("read ", memory));
}

absl::StatusOr<uint64_t> GpuProcess::FreeBytes() {
  ASSIGN_OR_RETURN(const Answer answer, Ask("free_bytes"));
  uint64_t bytes = 0;
  return absl::SimpleAtoi(answer.text, &bytes) ? absl::StatusOr<uint64_t>(bytes)
                                               : ParseError(answer.text);
}

absl::StatusOr<std::string> GpuProcess::Play(absl::string_view scenario) {
  ASSIGN_OR_RETURN(Answer answer, Ask(absl::StrCat("play ", scenario)));
  return std::move(answer.text);
}

absl::StatusOr<GpuProcess::Answer> GpuProcess::Ask(const std::string& request, int fd) {
  RETURN_IF_ERROR(fd < 0 ? SendPacket(socket_.get(), request)
                         : SendPacket(socket_.get(), request, {fd}));
  ASSIGN_OR_RETURN(Packet packet, ReceivePacket(socket_.get(), /*accept_fds=*/true));
  absl::string_view text = packet.bytes;
  if (!absl::ConsumePrefix(&text, "ok ")) {
    return ParseError(text);
  }
  return Answer{std::string(text), packet.fds.empty() ? Fd() : std::move(packet.fds[0])};
}

absl::StatusOr<int> GpuProcess::AskNumber(const std::string& request, int fd) {
  ASSIGN_OR_RETURN(const Answer answer, Ask(request, fd));
  int number = 0;
  return absl::SimpleAtoi(answer.text, &number) ? absl::StatusOr<int>(number)
                                                : ParseError(answer.text);
}

}  // namespace weightd
