// attach_figures SOCKET_DIR MODEL DRIVER shared|private ROUNDS: attaches to a model on the first
// GPU, whose context is there before, and prints for each round, as JSON, the seconds of "attach"
// and, if private, of raw copies of as many bytes: "bus" and "on_device".

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "client/cpp/client.h"
#include "common/status.h"
#include "tests/gpu/figures.h"

namespace weightd::figures {
namespace {

// Raw copies of as many bytes as the model has.
class Ceiling {
 public:
  static absl::StatusOr<Ceiling> Make(const std::shared_ptr<const CudaContext>& context,
                                      uint64_t bytes) {
    Ceiling ceiling;
    ASSIGN_OR_RETURN(ceiling.raw_, RawCopies::Make(context, std::min(bytes, 1024 * kMiB)));
    ASSIGN_OR_RETURN(ceiling.from_, CudaMemory::Create(context, bytes));
    ASSIGN_OR_RETURN(ceiling.to_, CudaMemory::Create(context, bytes));
    return ceiling;
  }

  absl::Status Bus() const { return raw_->FromHost(to_.pointer(), to_.bytes()); }
  absl::Status OnDevice() const {
    return raw_->OnDevice(to_.pointer(), from_.pointer(), to_.bytes());
  }

 private:
  std::unique_ptr<RawCopies> raw_;
  CudaMemory from_;
  CudaMemory to_;
};

absl::Status Measure(const client::Client& client, const std::string& model,
                     const client::DeviceOptions& options, int rounds) {
  ASSIGN_OR_RETURN(const auto context, OpenGpu(options.driver));
  const CudaContext::Current current(*context);
  std::map<std::string, Contender> contenders;
  contenders["attach"] = [&](Round& round) -> absl::Status {
    std::optional<client::DeviceModel> attached;
    return Timed(round, "attach", [&]() -> absl::Status {
      ASSIGN_OR_RETURN(attached, client.AttachToDevice(model, options));
      return absl::OkStatus();
    });
  };
  std::optional<Ceiling> ceiling;
  if (options.mode == client::DeviceMode::kPrivate) {
    ASSIGN_OR_RETURN(const client::DeviceModel first, client.AttachToDevice(model, options));
    ASSIGN_OR_RETURN(ceiling, Ceiling::Make(context, first.nbytes()));
    contenders["bus"] = [&](Round& round) {
      return Timed(round, "bus", [&] { return ceiling->Bus(); });
    };
    contenders["on_device"] = [&](Round& round) {
      return Timed(round, "on_device", [&] { return ceiling->OnDevice(); });
    };
  }
  return RunRounds(contenders, rounds);
}

absl::Status Run(char** arguments, int rounds) {
  ASSIGN_OR_RETURN(const client::Client client,
                   client::Client::Connect({.socket_dir = arguments[1]}));
  const client::DeviceMode mode = std::string(arguments[4]) == "private"
                                      ? client::DeviceMode::kPrivate
                                      : client::DeviceMode::kShared;
  return Measure(client, arguments[2], {.mode = mode, .driver = arguments[3]}, rounds);
}

}  // namespace
}  // namespace weightd::figures

int main(int argc, char** argv) {
  int rounds = 0;
  if (argc != 6 || !absl::SimpleAtoi(argv[5], &rounds)) {
    return 64;
  }
  const absl::Status status = weightd::figures::Run(argv, rounds);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 70;
  }
  return 0;
}
